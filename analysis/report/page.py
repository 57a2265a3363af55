"""The page: tables and finished pictures to one self-contained HTML text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.compute.study import Study
from analysis.data.results import Results
from analysis.report import html, sentences, text
from analysis.report.sentences import Coverage


class Picture(NamedTuple):
    """A figure as the page shows it: embedded, width in CSS pixels.

    tables: names of those it is drawn from, the first one shown. call: what remakes it.
    """

    name: str
    uri: str
    width: int
    title: str
    tables: Sequence[str]
    call: str


class Detail(NamedTuple):
    """The figures of one setting, folded up on the page."""

    setting: str
    anchor: str
    opened: bool
    pictures: Sequence[Picture]


def render(
    results: Results, study: Study, pictures: Mapping[str, Picture], details: Sequence[Detail]
) -> str:
    """The HTML text of the report."""
    # The template is ours, so an undefined name in it is a mistake to be seen at once.
    environment = Environment(
        loader=PackageLoader("analysis.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    tables, file = study.tables, results.study or {}
    coverage = Coverage(len(results.runs), results.planned_runs)
    settings, shared = html.settings(tables)
    stability, marked = html.stability(tables)
    context = {
        "name": results.name, "location": results.location, "files": sorted(tables),
        "verdicts": sentences.verdict(tables),
        "summary": _summary(study, coverage, results.runs["backend"]),
        "few": sentences.few(tables),
        "design": _design(results), "software": text.plain(file.get("software") or {}),
        "study": json.dumps(file, indent=2, default=str, ensure_ascii=False) if file else None,
        "command": file.get("command", "launch"),
        "settings": settings, "shared": shared,
        "stability": stability, "marked": marked, "transfers": html.transfer(tables),
        "here": sentences.coverage(tables, coverage, study.crossed),
        "movement": html.movement(tables), "accuracy": html.accuracy(tables),
        "controls": html.controls(tables),
        "seeds": sentences.seeds(tables["seeds_needed"]),
        "needed": html.seeds(tables["seeds_needed"]),
        "variance": sentences.variance(tables["variance"]),
        "variances": html.variance(tables["variance"]),
        "genotypes": html.genotypes(tables["genotypes"]),
        "trials": html.trials(tables["tuning"]) if len(tables["tuning"]) else None,
        "excerpts": {name: html.table(frame, name, 8) for name, frame in tables.items()},
        "pictures": pictures, "details": details,
        "about": {str(r["setting"]): r for r in tables["settings"].to_dict("records")},
        "undrawn": int((tables["settings"]["n"] > 0).sum()) - len(details),
        "limits": sentences.limits(tables, coverage, study.crossed), "cite": _cite(results),
    }  # fmt: skip
    return environment.get_template("report.html.j2").render(context)


def _summary(study: Study, coverage: Coverage, backends: pd.Series) -> list[tuple[str, list[str]]]:
    tables = study.tables
    trials, here = tables["tuning"], sentences.coverage(tables, coverage, study.crossed)
    parts = {
        "Tuning": sentences.tuning(trials, study.best_trial) if len(trials) else [],
        "Runs": here + sentences.backends(backends),
        "Movement": sentences.movement(tables),
        "Stability": sentences.stabilities(tables),
        "Controls": sentences.controls(tables),
        "Accuracy": sentences.accuracy(tables),
        "Genotypes": sentences.genotypes(tables),
        "Dependence": sentences.dependence(tables),
    }
    return [(title, told) for title, told in parts.items() if told]


def _design(results: Results) -> list[tuple[str, str]]:
    """Facts of the study's design, from its study file where it has one, else from its runs."""
    runs, study = results.runs, results.study or {}
    facts = {
        "Search space": text.each(runs["space"]),
        "Data": study.get("data"),
        "Search": study.get("search"),
        "Epochs": text.each(runs["epochs"].dropna().astype(int)),
        "Seeds": study.get("seeds"),
        "Runs here": len(runs),
        "Runs planned": results.planned_runs,
        "Benchmark table": study.get("benchmark"),
        "Devices": text.each(runs["device"].dropna()),
        "Computing time": f"{runs['seconds'].sum() / 3600:.2f} h, all runs added up",
        "Last run finished": _finished(runs, "%Y-%m-%d %H:%M UTC"),
        "Git commit": study.get("git_commit"),
    }
    known = {name: value for name, value in facts.items() if value not in (None, "", {}, [])}
    return [(name, text.plain(value)) for name, value in known.items()]


def _finished(runs: pd.DataFrame, form: str) -> str:
    last = runs["finished"].max()
    return "" if pd.isna(last) else format(last, form)


def _cite(results: Results) -> str:
    runs = results.runs
    tuning = "a tuning study of " if runs["tune_trial"].notna().any() else ""
    return (
        f"“{results.name}”{_finished(runs, ' (%Y)')}: {tuning}{len(runs)} searches, "
        f"{runs['setting'].nunique()} settings, space {text.each(runs['space'])}; "
        "analysed with itnas-study, a reconstruction of ITNAS."
    )
