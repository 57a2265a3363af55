"""The report's sentences on stability: what the controls, intervals and nulls allow to be said.

No conclusion is drawn from settings with reservations (`SettingSummary.reservations`), and an
interval that holds 0 is never turned into "no difference".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from analysis.compute.comparisons import Comparison
from analysis.compute.seeds_needed import MOST_SEEDS, WidthCurve
from analysis.compute.stability import HEADLINE, SettingStability
from analysis.compute.summary import SettingSummary
from analysis.compute.variance import RESIDUAL_MEANS, StudyVariance
from analysis.report.narrative import listed, quoted
from analysis.statistics.quantities import Quantity

SIGNIFICANT = 0.05
MOST_TOLD = 6
"""Comparisons that are told one by one in the headline."""

NAMES = {
    "operation_agreement": "operation agreement (Fleiss' kappa)",
    "edge_agreement": "edge agreement (Jaccard)",
    "probability_divergence": "probability divergence (bits)",
    "transition_divergence": "transition divergence (bits)",
    "dependence_stability": "dependence stability",
    HEADLINE: "learned dependence stability",
    "link_specificity": "link specificity",
    "attention_agreement": "attention agreement",
    "dobrushin_coefficient": "Dobrushin coefficient",
}


def number(x: float, digits: int = 2) -> str:
    """A number as text; no minus before zeros."""
    return f"{round(x, digits) + 0.0:.{digits}f}"


def with_interval(low: float, high: float, digits: int = 2) -> str:
    """`[low, high]`, or a remark where there is none."""
    if not np.isfinite([low, high]).all():
        return "(too few seeds for an interval)"
    return f"[{number(low, digits)},\u00a0{number(high, digits)}]"


def quantity(q: Quantity, digits: int = 2) -> str:
    """`0.61 [0.50, 0.72]`, or a dash."""
    if not q.known:
        return "—"
    return f"{number(q.estimate, digits)} {with_interval(q.interval.low, q.interval.high, digits)}"


def p_text(p: float) -> str:
    """`p = 0.03`, `p < 0.001`."""
    return "p unknown" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _usable(summaries: Iterable[SettingSummary]) -> set[str]:
    return {s.setting for s in summaries if not s.reservations}


def headline(
    summaries: Sequence[SettingSummary],
    items: Sequence[SettingStability],
    comparisons: Sequence[Comparison],
) -> list[str]:
    """Is what was learned about the dependence reproducible beyond what a placebo's is?"""
    usable = _usable(summaries)
    sentences = []
    learners = [s for s in summaries if s.model == "transition" and s.trainable is not False]
    if not learners:
        return ["No setting here learns transition matrices, so the study's question is not asked."]
    compared: list[Comparison] = []
    for s in learners:
        if s.setting not in usable:
            continue
        own = [
            c
            for c in comparisons
            if c.setting == s.setting and c.kind == "placebo" and c.quantity == HEADLINE
        ]
        compared += own
        item = next(i for i in items if i.setting == s.setting)
        if not own:
            reasons = {
                item.get(cell, HEADLINE).note
                for cell in item.sample.cells
                if not item.get(cell, HEADLINE).known
            }
            why = listed(sorted(filter(None, reasons))) or "its placebo has no such quantity"
            sentences.append(f"“{s.setting}” has no learned dependence stability: {why}.")
    still = {c.reference for c in compared if c.reference and c.reference not in usable}
    told = [c for c in compared if c.reference not in still]
    if len(told) <= MOST_TOLD:
        several = len({c.cell for c in told}) > 1
        sentences = [*(_headline_of(c, several) for c in told), *sentences]
    else:
        sentences = [*_headlines(told), *sentences[:MOST_TOLD]]
    if still:
        sentences.append(f"Placebos that hardly moved are no controls: {quoted(sorted(still))}.")
    out = [s.setting for s in learners if s.setting not in usable]
    if out:
        sentences.append(f"Nothing is concluded for {quoted(out)} (see Movement).")
    return sentences


def _headline_of(c: Comparison, several: bool) -> str:
    where = f" in the {c.cell} cell" if several else ""
    if c.note and not c.difference.n:
        return (
            f"For “{c.setting}” there is {c.note}: whether what it learns about the dependence "
            "comes out again beyond what weight decay and the optimiser bring cannot be said."
        )
    d = c.difference
    text = (
        f"The learned dependence stability of “{c.setting}” minus that of its placebo "
        f"“{c.reference}”{where} is {number(d.difference)} {with_interval(d.low, d.high)} "
        f"(n={d.n} paired seeds, {p_text(d.p_value)}, Holm-corrected {p_text(c.corrected)})"
    )
    if not np.isfinite(d.low):
        return f"{text}: nothing can be said from so few seeds."
    if c.corrected < SIGNIFICANT and d.low > 0:
        return (
            f"{text}: what it learns comes out again in other seeds, more than where nothing "
            "can flow."
        )
    if c.corrected < SIGNIFICANT and d.high < 0:
        return f"{text}: what it learns is less reproducible than where nothing can flow."
    return (
        f"{text}: these seeds do not show that what it learns is reproducible beyond what the "
        "placebo's is. That is no evidence that it is not; the interval says how large the "
        "difference may be."
    )


def _headlines(compared: Sequence[Comparison]) -> list[str]:
    """Many settings in a few sentences; all of them are in the table of comparisons."""
    known = [c for c in compared if np.isfinite(c.corrected)]
    more = [c for c in known if c.corrected < SIGNIFICANT and c.difference.difference > 0]
    less = [c for c in known if c.corrected < SIGNIFICANT and c.difference.difference < 0]
    missing = len(compared) - len(known)
    more_named = sorted(more, key=lambda c: -c.difference.difference)[:3]
    sentences = [
        f"Of {len(known)} comparisons of learned dependence stability with a placebo (settings and "
        f"cell kinds), {len(more)} are larger and {len(less)} smaller than the placebo's at "
        "Holm-corrected p < 0.05; the others decide nothing."
    ]
    if more_named:
        named = [
            f"“{c.setting}” ({c.cell} cell) {number(c.difference.difference)} "
            f"{with_interval(c.difference.low, c.difference.high)}, n={c.difference.n}"
            for c in more_named
        ]
        sentences.append(f"The largest: {listed(named)}.")
    if missing:
        sentences.append(f"{missing} have no such placebo, or too few seeds.")
    return sentences


def stabilities(
    summaries: Sequence[SettingSummary], items: Sequence[SettingStability]
) -> list[str]:
    """How far seeds agree on operations and on the matrices, against chance."""
    usable = _usable(summaries)
    sentences = []
    found = [i for i in items if i.setting in usable and i.n > 1]
    agreed = [
        (q.estimate, i, cell, q)
        for i in found
        for cell in i.sample.cells
        if (q := i.get(cell, "operation_agreement")).known
    ]
    if agreed:
        agreed.sort(key=lambda entry: entry[0])
        worst, best = agreed[0], agreed[-1]
        text = (
            f"Seeds agree on the chosen operations with kappa {quantity(best[3])} "
            f"(“{best[1].setting}”, {best[2]} cell, n={best[3].interval.n})"
        )
        if len(agreed) > 1:
            text += (
                f" at most and {quantity(worst[3])} (“{worst[1].setting}”, {worst[2]} cell, "
                f"n={worst[3].interval.n}) at least; 0 is chance, 1 is the same cell in every seed"
            )
        beyond = sum(q.p_value < SIGNIFICANT for _, _, _, q in agreed)
        sentences.append(
            f"{text}. Beyond chance (p < 0.05, one by one): {beyond} of {len(agreed)}."
        )
    for i in found:
        for cell in i.sample.cells:
            q, links = i.get(cell, "dependence_stability"), i.get(cell, "link_specificity")
            if i.model != "transition" or not q.known:
                continue
            text = (
                f"“{i.setting}”, {cell} cell: dependence stability {quantity(q)} "
                f"({p_text(q.p_value)}, n={q.interval.n})"
            )
            if links.known:
                text += f", link specificity {quantity(links)} ({p_text(links.p_value)})"
            sentences.append(text + ".")
    if len(sentences) > 7:
        more = len(sentences) - 7
        sentences = [*sentences[:7], f"{more} more settings and cells are in the table."]
    return sentences


def against_controls(
    summaries: Sequence[SettingSummary], comparisons: Sequence[Comparison]
) -> list[str]:
    """Whether the learned dependence does anything for accuracy and agreement."""
    usable = _usable(summaries)
    benchmark = any(s.has_benchmark for s in summaries)
    quantities = ["benchmark_test"] if benchmark else ["derived_accuracy"]
    quantities += ["operation_agreement", "edge_agreement"]
    learners = {s.setting for s in summaries if s.model == "transition" and s.trainable}
    chosen = [
        c
        for c in comparisons
        if c.quantity in quantities
        and c.setting in usable & learners
        and c.reference in usable
        and np.isfinite(c.difference.p_value)
    ]
    if not chosen:
        return []
    apart = [c for c in chosen if c.corrected < SIGNIFICANT]
    what = listed(q.replace("_", " ") for q in quantities)
    if not apart:
        return [
            f"Against the controls, none of {len(chosen)} paired comparisons of {what} is "
            "significant after Holm's correction: these seeds do not show that a learned "
            "dependence does anything there beyond what is built in, nor that it does not."
        ]
    named = [
        f"“{c.setting}” against “{c.reference}” in {c.quantity.replace('_', ' ')} "
        f"({number(c.difference.difference, 3)} "
        f"{with_interval(c.difference.low, c.difference.high, 3)}, "
        f"corrected {p_text(c.corrected)}, n={c.difference.n})"
        for c in apart[:4]
    ]
    more = f" and {len(apart) - 4} more" if len(apart) > 4 else ""
    return [
        f"Against the controls, {len(apart)} of {len(chosen)} paired comparisons of {what} are "
        f"significant after Holm's correction: {listed(named)}{more}. A difference to "
        "independent alone may be built in: inner edges are derived from their predecessors "
        "whether or not anything was learned."
    ]


def seeds(curves: Sequence[WidthCurve], width: float = 0.2) -> list[str]:
    """How many seeds an interval of a useful width takes."""
    sentences = []
    for name in (HEADLINE, "dependence_stability", "operation_agreement"):
        needs = [c.targets[width] for c in curves if c.quantity == name and width in c.targets]
        if not needs:
            continue
        known = sorted(n for n in needs if n is not None)
        if not known:
            span = f"more than {MOST_SEEDS}"
        elif len(known) < len(needs):
            span = f"{known[0]} to more than {MOST_SEEDS}"
        else:
            span = f"{known[0]}" if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
        what = NAMES[name]
        sentences.append(
            f"An interval of width {width:g} on {what} takes {span} seeds per setting."
        )
    if sentences:
        here = sorted({c.now for c in curves})
        span = f"{here[0]}" if len(here) == 1 else f"{here[0]} to {here[-1]}"
        sentences.append(f"There are {span}; beyond them the numbers are projections.")
    return sentences


def variance(item: StudyVariance) -> list[str]:
    """Where the variance comes from, or why that cannot be said."""
    if item.reason:
        return [item.reason]
    sentences = []
    for name in ("derived_accuracy", "benchmark_test", "dependence_strength"):
        c = item.found.get(("all", name))
        if c is None or not np.isfinite(list(c.shares.values())).any():
            continue
        parts = [
            f"{source(s)} {v:.0%}"
            for s, v in sorted(c.shares.items(), key=lambda x: -np.nan_to_num(x[1]))
            if v >= 0.005  # NaN is not
        ]
        sentences.append(
            f"Of the variance of {name.replace('_', ' ')} (n={c.n} runs): {listed(parts)}."
        )
    return [*sentences, RESIDUAL_MEANS]


def source(name: str) -> str:
    """A source of variance in words: `setting:seed_data` is `setting x data seed`."""
    first, _, seed = name.rpartition(":")
    words = f"{seed.removeprefix('seed_')} seed" if seed.startswith("seed_") else seed
    return f"{first} x {words}" if first else words
