"""The page: computed numbers and finished pictures to one self-contained HTML text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.compute.study import Computed
from analysis.compute.summary import SettingSummary
from analysis.compute.tuning import Tuning
from analysis.data.results import Results
from analysis.report import findings, narrative, page_tables
from analysis.report.narrative import Coverage


class Picture(NamedTuple):
    """A figure as the page shows it: embedded, width in CSS pixels."""

    name: str
    uri: str
    width: int
    alt: str
    caption: str


@dataclass
class Detail:
    """The heavy figures of one setting, folded up on the page."""

    summary: SettingSummary
    anchor: str
    opened: bool
    operations: list[Picture] = field(default_factory=list)
    transitions: list[Picture] = field(default_factory=list)
    cells: list[Picture] = field(default_factory=list)


def render(
    results: Results,
    computed: Computed,
    pictures: Mapping[str, Picture],
    details: Sequence[Detail],
) -> str:
    """The HTML text of the report."""
    # The template is ours, so an undefined name in it is a mistake to be seen at once.
    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    summaries, tuned = computed.summaries, computed.tuning
    shown = results.runs["run_id"].isin([r for s in summaries for r in s.run_labels])
    coverage = Coverage(len(results.runs), results.planned_runs)
    context = {
        "name": results.name,
        "summary": _summary(computed, coverage, results),
        "headline": findings.headline(summaries, computed.stabilities, computed.comparisons),
        "seeds": findings.seeds(computed.widths),
        "variance": findings.variance(computed.variance),
        "stability": page_tables.stability_table(computed),
        "controls": page_tables.controls_table(computed),
        "variances": page_tables.variance_table(computed),
        "targets": page_tables.targets_table(computed),
        "reliability": page_tables.reliability_table(computed),
        "crossed": computed.crossed,
        "design": _design(results),
        "settings": page_tables.settings_table(results.runs[shown], summaries),
        "software": _software(results.study or {}),
        "study": _study_text(results.study),
        "accuracy": page_tables.accuracy_table(summaries),
        "movement": page_tables.movement_table(summaries),
        "genotypes": page_tables.genotype_table(summaries),
        "pictures": pictures,
        "details": details,
        "undrawn": sum(s.n > 0 for s in summaries) - len(details),
        "tuning": tuned,
        "trials": page_tables.trials_table(tuned) if tuned else None,
        "limits": narrative.limits(summaries, coverage, computed.crossed),
        "cite": _cite(results, tuned),
        "command": (results.study or {}).get("command", "launch"),
        "location": results.location,
    }
    return environment.get_template("report.html.j2").render(context)


def _summary(
    computed: Computed, coverage: Coverage, results: Results
) -> list[tuple[str, list[str]]]:
    summaries = computed.summaries
    items, compared = computed.stabilities, computed.comparisons
    here = narrative.coverage(summaries, coverage, computed.crossed)
    parts = [
        ("The headline", findings.headline(summaries, items, compared)),
        ("Runs", here + narrative.backends(results.runs["backend"])),
        ("Movement", narrative.movement(summaries)),
        ("Stability", findings.stabilities(summaries, items)),
        ("Controls", findings.against_controls(summaries, compared)),
        ("Accuracy", narrative.accuracy(summaries)),
        ("Genotypes", narrative.genotypes(summaries)),
        ("Dependence", narrative.dependence(summaries, computed.transitions)),
        ("Seeds", findings.seeds(computed.widths)),
        ("Variance", findings.variance(computed.variance)),
    ]
    if computed.tuning is not None and computed.tuning.best is not None:
        about = f"What follows is about the runs of trial {computed.tuning.best.number} alone."
        parts[1][1].append(about)
        parts.insert(0, ("Tuning", narrative.tuning_summary(computed.tuning)))
    return [(title, sentences) for title, sentences in parts if sentences]


def _design(results: Results) -> list[tuple[str, str]]:
    """Facts of the study's design, from its study file where it has one, else from its runs."""
    runs, study = results.runs, results.study or {}
    epochs = sorted(runs["epochs"].dropna().astype(int).unique())
    facts: list[tuple[str, Any]] = [
        ("Search space", ", ".join(sorted(runs["space"].unique()))),
        ("Data", study.get("data")),
        ("Search", study.get("search")),
        ("Epochs", ", ".join(map(str, epochs))),
        ("Seeds", study.get("seeds")),
        ("Runs here", len(runs)),
        ("Runs planned", results.planned_runs),
        ("Benchmark table", study.get("benchmark")),
        ("Devices", ", ".join(sorted(runs["device"].dropna().unique()))),
        ("Computing time", f"{runs['seconds'].sum() / 3600:.2f} h, all runs added up"),
        ("Last run finished", _date(runs["finished"].max())),
        ("Git commit", study.get("git_commit")),
    ]
    return [
        (name, page_tables.plain(value)) for name, value in facts if value not in (None, "", {}, [])
    ]


def _date(moment: Any) -> str | None:
    return None if pd.isna(moment) else f"{moment:%Y-%m-%d %H:%M} UTC"


def _software(study: Mapping[str, Any]) -> str:
    return page_tables.plain(study.get("software") or {})


def _study_text(study: Mapping[str, Any] | None) -> str | None:
    """The resolved study file for the page; JSON is YAML too, and keeps its order here."""
    return json.dumps(study, indent=2, default=str, ensure_ascii=False) if study else None


def _cite(results: Results, tuned: Tuning | None) -> str:
    runs = results.runs
    finished = runs["finished"].max()
    year = "" if pd.isna(finished) else f" ({finished:%Y})"
    tuning = "a tuning study of " if tuned else ""
    return (
        f"“{results.name}”{year}: {tuning}{len(runs)} searches, "
        f"{runs['setting'].nunique()} settings, space {', '.join(sorted(runs['space'].unique()))}; "
        "analysed with itnas-study, a reconstruction of ITNAS."
    )
