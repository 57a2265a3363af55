"""The page: computed numbers and finished pictures to one self-contained HTML text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis import findings, narrative
from analysis.compute import Computed
from analysis.narrative import Coverage
from analysis.results import Results
from analysis.samples import SEEDS
from analysis.seeds_needed import MOST_SEEDS
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
        "headline": findings.headline(summaries, computed.stabilities, computed.comparisons),
        "seeds": findings.seeds(computed.widths),
        "variance": findings.variance(computed.variance),
        "stability": _stability_table(computed),
        "controls": _controls_table(computed),
        "variances": _variance_table(computed),
        "targets": _targets_table(computed),
        "reliability": _reliability_table(computed),
        "crossed": computed.crossed,
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
        "limits": narrative.limits(summaries, coverage, computed.crossed),
        "cite": _cite(results, tuned),
        "command": (results.study or {}).get("command", "launch"),
        "location": results.location,
    }
    return environment.get_template("report.html.j2").render(context)


def _summary(computed: Computed, coverage: Coverage) -> list[tuple[str, list[str]]]:
    summaries = computed.summaries
    items, compared = computed.stabilities, computed.comparisons
    parts = [
        ("The headline", findings.headline(summaries, items, compared)),
        ("Runs", narrative.coverage(summaries, coverage, computed.crossed)),
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
        "what is possible; collapse rates with exact 95% intervals. n counts runs that did not "
        "diverge."
    )
    if benchmark:
        caption += " Benchmark means can be bimodal: read them beside the collapse rate."
    return Table(header, rows, caption)


_STABILITIES = (
    "operation_agreement",
    "edge_agreement",
    "probability_divergence",
    "dependence_stability",
    "learned_dependence_stability",
    "link_specificity",
    "attention_agreement",
    "dobrushin_coefficient",
)


def _stability_table(computed: Computed) -> Table:
    rows = []
    for item in computed.stabilities:
        for cell in item.sample.cells:
            row = [item.setting, cell, str(item.sample.n)]
            for name in _STABILITIES:
                q = item.get(cell, name)
                known = np.isfinite(q.p_value) and name != "probability_divergence"
                star = "*" if known and q.p_value < findings.SIGNIFICANT else ""
                row.append(findings.quantity(q) + star)
            rows.append(row)
    return Table(
        ["setting", "cell", "n", *(findings.NAMES[name] for name in _STABILITIES)],
        rows,
        "Estimates with 95% intervals over seeds; an asterisk marks p < 0.05 against chance, one "
        "by one (Holm-corrected p-values of single links are in tables/links.csv). A p-value asks "
        "whether these very seeds agree by chance, an interval where other seeds would put the "
        "estimate: with few seeds the first can be small while the second holds 0. Agreements and "
        "stabilities: 0 is chance, 1 is the same in every seed; a divergence of 0 bits is the "
        "same in every seed. A dash: tables/stability.csv says why in its note.",
    )


def _controls_table(computed: Computed) -> Table:
    wanted = ("learned_dependence_stability", "dependence_stability", "operation_agreement")
    accuracy = "benchmark_test"
    if not any(s.has_benchmark for s in computed.summaries):
        accuracy = "derived_accuracy"
    chosen = [c for c in computed.comparisons if c.quantity in (*wanted, accuracy)]
    chosen = [c for c in chosen if c.difference.n]
    order = {name: i for i, name in enumerate((*wanted, accuracy))}
    chosen.sort(key=lambda c: order[c.quantity])
    rows = [
        [
            f"{c.setting} − {c.reference}",
            c.quantity.replace("_", " "),
            c.cell,
            findings.number(c.difference.difference, 3),
            findings.with_interval(c.difference.low, c.difference.high, 3),
            findings.p_text(c.difference.p_value).removeprefix("p = "),
            findings.p_text(c.corrected).removeprefix("p = "),
            "—" if np.isnan(c.improvement) else findings.number(c.improvement),
            str(c.difference.n),
        ]
        for c in chosen[:MOST_ROWS]
    ]
    header = ["difference", "quantity", "cell", "estimate", "95% interval", "p", "p (Holm)"]
    more = f" {len(chosen) - MOST_ROWS} more rows are there." if len(chosen) > MOST_ROWS else ""
    return Table(
        [*header, "P(improvement)", "n"],
        rows,
        "Paired by seed. Quantities of single runs: Student's interval, p by swapping labels "
        "within a seed, and the probability that a run of the first has the larger value. "
        "Quantities of whole settings: the paired delete-one-seed jackknife-t. Holm's correction "
        "is over all comparisons of one quantity with one kind of control. All quantities are in "
        f"tables/comparisons.csv.{more}",
    )


MOST_ROWS = 60
"""Rows of a table on the page; the tables beside it have all of them."""


def _variance_table(computed: Computed) -> Table | None:
    if computed.variance.reason:
        return None
    found = [("all", name, c.shares, c.n) for name, c in computed.variance.scalars.items()]
    found += [(cell, what, c.shares, c.n) for (cell, what), c in computed.variance.objects.items()]
    sources = ["setting", *SEEDS, "residual"]
    rows = [
        [
            name.replace("_", " "),
            cell,
            *(f"{s:.0%}" if np.isfinite(s := shares.get(x, np.nan)) else "—" for x in sources),
            str(n),
        ]
        for cell, name, shares, n in found
    ]
    return Table(
        ["quantity", "cell", *(x.replace("_", " ") for x in sources), "n"],
        rows,
        "Shares of variance. Of single runs: REML of a mixed model with crossed random effects "
        "(intervals in tables/variance.csv; with four or five seeds of a kind they are wide). Of "
        "edges and matrices: squared distances are mean Jensen-Shannon divergences, decomposed "
        "as in a distance-based analysis of variance.",
    )


def _targets_table(computed: Computed) -> Table:
    shown = {
        "learned_dependence_stability",
        "dependence_stability",
        "operation_agreement",
        "edge_agreement",
        "derived_accuracy",
        "benchmark_test",
    }
    rows = [
        [
            c.setting,
            c.quantity.replace("_", " "),
            c.cell,
            findings.number(float(c.width[c.seeds == c.now][0]), 3),
            str(c.now),
            "; ".join(f"{w:g}: {n or f'over {MOST_SEEDS}'}" for w, n in c.targets.items()),
        ]
        for c in computed.widths
        if c.quantity in shown
    ]
    more = f" The first {MOST_ROWS} of {len(rows)} rows." if len(rows) > MOST_ROWS else ""
    return Table(
        ["setting", "quantity", "cell", "width now", "n", "seeds for an interval of width"],
        rows[:MOST_ROWS],
        "Width of the 95% interval (high minus low), and the seeds that narrower ones take by "
        f"projection. All are in tables/seeds_for_width.csv.{more}",
    )


def _reliability_table(computed: Computed) -> Table:
    parts = {"matrix": "the matrices", "learned": "what was learned", "link": "a link's own part"}
    rows = [
        [
            r.setting,
            r.cell,
            parts[r.part],
            findings.number(r.correlation),
            f"{findings.number(r.reliability)} {findings.with_interval(r.low, r.high)}",
            str(r.n),
        ]
        for r in computed.reliabilities
    ]
    return Table(
        ["setting", "cell", "of", "split-half correlation", "reliability", "n"],
        rows[:MOST_ROWS],
        "How well the mean matrices of two random halves of the seeds agree (mean of 64 splits), "
        "and, stepped up after Spearman and Brown, how reliable the mean over all n seeds is "
        "(quartiles over splits). “Learned” divides by the start; “a link's own part” takes off "
        "the mean over links.",
    )


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
