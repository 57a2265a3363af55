"""The page: computed numbers and finished pictures to one self-contained HTML text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis import narrative
from analysis.compute import Computed
from analysis.narrative import Coverage
from analysis.results import Results
from analysis.summary import SettingSummary
from analysis.tuning import Tuning


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


class Table(NamedTuple):
    """A table of texts; the first column is a row's heading."""

    header: list[str]
    rows: list[list[str]]
    caption: str


def render(
    results: Results,
    computed: Computed,
    pictures: Mapping[str, Picture],
    details: Sequence[Detail],
) -> str:
    """The HTML text of the report."""
    # The template is ours, so an undefined name in it is a mistake to be seen at once.
    environment = Environment(
        loader=PackageLoader("analysis"),
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
        "summary": _summary(computed, coverage),
        "design": _design(results),
        "settings": _settings_table(results.runs[shown], summaries),
        "software": _software(results.study or {}),
        "study": _study_text(results.study),
        "accuracy": _accuracy_table(summaries),
        "movement": _movement_table(summaries),
        "genotypes": _genotype_table(summaries),
        "pictures": pictures,
        "details": details,
        "undrawn": sum(s.n > 0 for s in summaries) - len(details),
        "tuning": tuned,
        "trials": _trials_table(tuned) if tuned else None,
        "limits": narrative.limits(summaries, coverage),
        "command": (results.study or {}).get("command", "launch"),
        "location": results.location,
    }
    return environment.get_template("report.html.j2").render(context)


def _summary(computed: Computed, coverage: Coverage) -> list[tuple[str, list[str]]]:
    summaries = computed.summaries
    parts = [
        ("Runs", narrative.coverage(summaries, coverage)),
        ("Movement", narrative.movement(summaries)),
        ("Accuracy", narrative.accuracy(summaries)),
        ("Genotypes", narrative.genotypes(summaries)),
        ("Dependence", narrative.dependence(summaries, computed.transitions)),
    ]
    if computed.tuning is not None and computed.tuning.best is not None:
        about = f"What follows is about the runs of trial {computed.tuning.best.number} alone."
        parts[0][1].append(about)
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
    return [(name, _plain(value)) for name, value in facts if value not in (None, "", {}, [])]


def _date(moment: Any) -> str | None:
    return None if pd.isna(moment) else f"{moment:%Y-%m-%d %H:%M} UTC"


def _plain(value: Any) -> str:
    """A value of the study file in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _software(study: Mapping[str, Any]) -> str:
    return _plain(study.get("software") or {})


def _study_text(study: Mapping[str, Any] | None) -> str | None:
    """The resolved study file for the page; JSON is YAML too, and keeps its order here."""
    return json.dumps(study, indent=2, default=str, ensure_ascii=False) if study else None


_SETTING_COLUMNS = {
    "model": "model",
    "sharing": "sharing",
    "attention": "attention",
    "init": "init",
    "init_strength": "init strength",
    "trainable": "trainable",
    "own_weight": "own weight",
    "temperature": "temperature",
    "stop_gradient": "stop gradient",
    "architecture_lr": "architecture lr",
    "transition_lr": "transition lr",
    "attention_lr": "attention lr",
}


def _settings_table(runs: pd.DataFrame, summaries: Sequence[SettingSummary]) -> Table:
    """What distinguishes the settings as columns; what they share is said once beneath."""
    of_setting = runs.drop_duplicates("setting").set_index("setting")
    texts = {
        title: [_cell(of_setting.loc[s.setting, column]) for s in summaries]
        for column, title in _SETTING_COLUMNS.items()
    }
    kinds = {title: sorted(set(values) - {"—"}) for title, values in texts.items()}
    shared = {title: found[0] for title, found in kinds.items() if len(found) == 1}
    if len(summaries) == 1:
        shared = {}
    varied = [title for title in texts if len(kinds[title]) > 1 or len(summaries) == 1]
    rows = [
        [s.setting, *(texts[title][i] for title in varied), str(s.runs), str(len(s.diverged))]
        for i, s in enumerate(summaries)
    ]
    caption = "A dash: without effect under this model. Rates (lr) are logits per step of Adam."
    if shared:
        caption += " The same wherever it has an effect: " + _plain(shared) + "."
    return Table(["setting", *varied, "runs", "diverged"], rows, caption)


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "—"
    if pd.api.types.is_bool(value):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return f"{value:.4g}"


def _accuracy_table(summaries: Sequence[SettingSummary]) -> Table:
    benchmark = any(s.has_benchmark for s in summaries)
    rows = []
    for s in summaries:
        e = s.estimates
        row = [s.setting, str(s.n), narrative.interval(e["valid_accuracy"])]
        row.append(narrative.interval(e["derived_accuracy"]))
        if benchmark:
            row.append(narrative.interval(e["benchmark_test"], 2))
        row += [str(len(s.genotypes)), narrative.rate(s.collapsed)]
        row += [narrative.interval(e["skip_connections"], 1)]
        row += [narrative.interval(e["inner_edges_kept"], 1)]
        rows.append(row)
    header = ["setting", "n", "relaxed accuracy", "derived accuracy"]
    header += ["benchmark test (%)"] * benchmark
    header += ["distinct genotypes", "collapsed", "skip connections", "inner edges kept"]
    caption = (
        "Means over seeds with 95% t intervals in brackets, which for few seeds may reach beyond "
        "what is possible; collapse rates with 95% Wilson intervals. n counts runs that did not "
        "diverge."
    )
    if benchmark:
        caption += " Benchmark means can be bimodal: read them beside the collapse rate."
    return Table(header, rows, caption)


def _movement_table(summaries: Sequence[SettingSummary]) -> Table:
    quantities = ("architecture_displacement", "transition_displacement", "dependence_strength")
    rows = [
        [
            s.setting,
            str(s.n),
            *(narrative.interval(s.estimates[q]) for q in quantities),
            "; ".join(s.remarks) or "—",
        ]
        for s in summaries
    ]
    return Table(
        ["setting", "n", *(q.replace("_", " ") for q in quantities), "remarks"],
        rows,
        "Movement from the start (total variation, 0..1) and dependence strength (0..1): means "
        "with 95% t intervals. Under independent and placebo, dependence strength is 0 by "
        "definition.",
    )


def _genotype_table(summaries: Sequence[SettingSummary]) -> Table:
    """The three most frequent genotypes of every setting; tables/genotypes.csv has all."""
    rows = [
        [
            s.setting,
            f"{len(c.run_ids)} of {s.n}",
            c.text,
            ", ".join(s.run_labels[r] for r in c.run_ids[:8]) + ("…" if len(c.run_ids) > 8 else ""),
        ]
        for s in summaries
        for c in s.genotypes[:3]
    ]
    return Table(
        ["setting", "count", "genotype", "runs"],
        rows,
        "The most frequent genotypes, at most three per setting (all in tables/genotypes.csv).",
    )


def _trials_table(tuned: Tuning) -> Table:
    """The ten best trials."""
    rates = list(dict.fromkeys(rate for t in tuned.trials for rate in t.rates))
    judged = [t for t in tuned.trials if t.objective == t.objective]
    best = sorted(judged, key=lambda t: -t.objective)[:10]
    rows = [
        [str(t.number), f"{t.objective:.3f}", str(t.n)]
        + [_cell(t.rates.get(rate)) for rate in rates]
        for t in best
    ]
    return Table(
        ["trial", "mean derived accuracy", "n", *rates],
        rows,
        "The best trials, at most ten (all in tables/tuning.csv).",
    )
