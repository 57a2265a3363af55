"""The page's tables: result objects to rows of texts, each with its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.compute.seeds_needed import MOST_SEEDS
from analysis.compute.study import Computed
from analysis.compute.summary import SettingSummary
from analysis.compute.tuning import Tuning
from analysis.data.samples import SEEDS
from analysis.report import findings, narrative


class Table(NamedTuple):
    """A table of texts; the first column is a row's heading."""

    header: list[str]
    rows: list[list[str]]
    caption: str


def plain(value: Any) -> str:
    """A value of the study file in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


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


def settings_table(runs: pd.DataFrame, summaries: Sequence[SettingSummary]) -> Table:
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
        caption += " The same wherever it has an effect: " + plain(shared) + "."
    return Table(["setting", *varied, "runs", "diverged"], rows, caption)


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "—"
    if pd.api.types.is_bool(value):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return f"{value:.4g}"


def accuracy_table(summaries: Sequence[SettingSummary]) -> Table:
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


def stability_table(computed: Computed) -> Table:
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


def controls_table(computed: Computed) -> Table:
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


def variance_table(computed: Computed) -> Table | None:
    if computed.variance.reason:
        return None
    found = [(*key, c.shares, c.n) for key, c in computed.variance.found.items()]
    sources = ["setting", *SEEDS, *(f"setting:{seed}" for seed in SEEDS), "residual"]
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
        ["quantity", "cell", *(findings.source(x) for x in sources), "n"],
        rows,
        "Shares of variance, by expected mean squares; estimates below 0 are set to 0. Intervals "
        "are in tables/variance.csv: with four or five seeds of a kind they are wide. Of edges and "
        "matrices: squared distances are mean Jensen-Shannon divergences."
        + (f" {computed.variance.note}." if computed.variance.note else ""),
    )


def targets_table(computed: Computed) -> Table:
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


def reliability_table(computed: Computed) -> Table:
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


def movement_table(summaries: Sequence[SettingSummary]) -> Table:
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


def genotype_table(summaries: Sequence[SettingSummary]) -> Table:
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


def trials_table(tuned: Tuning) -> Table:
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
