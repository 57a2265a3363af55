"""The report's sentences, made of result objects: nothing is said that no number says.

Every sentence carries its n or its interval, settings with reservations are named and no
conclusion is drawn from them, and "no difference seen" is never turned into "no difference".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.compute.summary import ARCHITECTURE_MOVED, TRANSITION_MOVED, SettingSummary, pooled_sd
from analysis.compute.transitions import Transitions
from analysis.compute.tuning import Tuning
from analysis.statistics.metrics import Estimate, Rate, detectable_difference


def interval(e: Estimate, digits: int = 3) -> str:
    """`0.612 [0.590, 0.634]`, or the value alone where one seed leaves no interval."""
    if e.n == 0:
        return "—"
    mean, low, high = (f"{round(x, digits) + 0.0:.{digits}f}" for x in e[:3])
    # The space within the brackets does not break.
    return f"{mean} [{low},\u00a0{high}]" if e.n > 1 else f"{mean} (one seed: no interval)"


def rate(r: Rate) -> str:
    """`3 of 12, 25% [9%, 53%]`."""
    if r.n == 0:
        return "—"
    return f"{r.successes} of {r.n}, {r.rate:.0%} [{r.low:.0%},\u00a0{r.high:.0%}]"


def listed(items: Iterable[str]) -> str:
    """`a, b and c`."""
    items = list(items)
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def quoted(names: Iterable[str]) -> str:
    """Setting names in quotation marks, as a list."""
    return listed(f"“{name}”" for name in names)


def runs(count: int) -> str:
    """`1 run`, `4 runs`."""
    return f"{count} run" if count == 1 else f"{count} runs"


class Coverage(NamedTuple):
    """How many runs the folder holds, and how many were planned (None: nothing says so)."""

    here: int
    planned: int | None

    @property
    def missing(self) -> int:
        """Planned runs that are not here; 0 where the plan is unknown."""
        return max(0, self.planned - self.here) if self.planned is not None else 0


def coverage(summaries: Sequence[SettingSummary], study: Coverage, crossed: str = "") -> list[str]:
    """How much of the study is there, and what is missing from it."""
    if study.missing:
        sentences = [
            f"The study is incomplete: {study.here} of {study.planned} planned runs are here. "
            "What follows may change with the rest."
        ]
    else:
        all_of_them = ", all that were planned" if study.planned == study.here else ""
        sentences = [f"{runs(study.here)} {'is' if study.here == 1 else 'are'} here{all_of_them}."]
    shown = sum(s.runs for s in summaries)
    counts = sorted({s.runs for s in summaries})
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    settings = (
        "1 setting" if len(summaries) == 1 else f"{len(summaries)} settings, {each} runs each"
    )
    if shown == study.here:
        sentences.append(f"They are of {settings}.")
    for word, chosen in (
        ("diverged (counted, and left out of every mean and figure)", "diverged"),
        ("stopped early (the last epoch reached counts)", "stopped_early"),
    ):
        named = [
            f"“{s.setting}” ({', '.join(getattr(s, chosen))})"
            for s in summaries
            if getattr(s, chosen)
        ]
        if named:
            count = sum(len(getattr(s, chosen)) for s in summaries)
            sentences.append(f"{runs(count)} {word}: {listed(named)}.")
    if crossed:
        sentences.append(
            f"The three seeds are not always equal ({crossed}): quantities of a setting are over "
            "these runs alone, so that no two share a seed; the variance decomposition is over all."
        )
    return sentences


def backends(names: pd.Series) -> list[str]:
    """That runs were computed by unlike operations, where they were; `names` of all runs.

    Runs of before the column was written name none, and nothing is said of them.
    """
    counts = names.value_counts().sort_index()
    if len(counts) < 2:
        return []
    told = listed(f"{name} ({runs(count)})" for name, count in counts.items())
    return [
        f"This study mixes backends: {told}. Their numbers agree within rounding, not bit by bit, "
        "and a long search can part on that."
    ]


def movement(summaries: Sequence[SettingSummary]) -> list[str]:
    """Whether the searches moved at all: without that, everything else is noise."""
    held = [s for s in summaries if s.reservations]
    same = [s for s in summaries if s.one_genotype]
    single = [s for s in summaries if s.n == 1]
    moved = [s for s in summaries if not s.reservations]
    sentences = []
    if not held and not single:
        more = "" if same else ", and its seeds derived more than one genotype"
        sentences.append(
            "Every setting moved: its mean architecture displacement is at least "
            f"{ARCHITECTURE_MOVED:g}{more}."
        )
    elif moved:
        who = quoted(s.setting for s in moved)
        if len(moved) > 3:
            who = f"{len(moved)} of {len(summaries)} settings"
        sentences.append(
            f"{who} moved by at least {ARCHITECTURE_MOVED:g} on "
            "average (architecture displacement)."
        )
    if held:
        named = [f"“{s.setting}” ({'; '.join(s.reservations)}; n={s.n})" for s in held]
        sentences.append(f"No conclusion is drawn from {listed(named)}.")
    if not moved:
        sentences.append(
            "So this study says nothing about stability yet: it takes longer searches or larger "
            "architecture rates."
        )
    if same:
        sentences.append(
            f"In {quoted(s.setting for s in same)} all seeds derived one genotype: they agree, "
            "or the setting leaves them no choice; compare with the controls."
        )
    if single:
        sentences.append(
            f"{quoted(s.setting for s in single)}: one run says nothing about stability."
        )
    return sentences


def accuracy(summaries: Sequence[SettingSummary]) -> list[str]:
    """The range of derived accuracies, whether intervals overlap, and what n could show."""
    usable = [s for s in summaries if not s.reservations]
    usable = [s for s in usable if s.estimates["derived_accuracy"].n > 1]
    usable.sort(key=lambda s: s.estimates["derived_accuracy"].mean)
    if not usable:
        return []
    estimates = [s.estimates["derived_accuracy"] for s in usable]
    worst, best = estimates[0], estimates[-1]
    if len(usable) == 1:
        return [f"Derived accuracy of “{usable[0].setting}”: {interval(best)}, n={best.n}."]
    sentences = [
        f"Mean derived accuracy runs from {interval(worst)} (“{usable[0].setting}”, "
        f"n={worst.n}) to {interval(best)} (“{usable[-1].setting}”, n={best.n})."
    ]
    apart = [
        (a, b)
        for a, b in combinations(range(len(usable)), 2)
        if estimates[a].high < estimates[b].low
    ]
    pairs = len(usable) * (len(usable) - 1) // 2
    if not apart:
        sentences.append(
            "The intervals of all settings overlap: these seeds do not separate any two of them, "
            "which is not evidence that they are equal."
        )
    else:
        named = listed(f"“{usable[b].setting}” over “{usable[a].setting}”" for a, b in apart[-3:])
        more = f" and {len(apart) - 3} more" if len(apart) > 3 else ""
        sentences.append(
            f"Of {pairs} pairs of settings, {len(apart)} have intervals that do not overlap "
            f"({named}{more}). This describes the seeds seen; it is no test, and is not corrected "
            "for looking at many pairs."
        )
    sd, n = pooled_sd(estimates), min(e.n for e in estimates)
    difference = detectable_difference(sd, n)
    if np.isfinite(difference):
        sentences.append(
            f"Within a setting, seeds spread by {sd:.3f} (pooled standard deviation); with n={n} "
            f"per setting, a two-sample t test would find a true difference of {difference:.3f} "
            "four times out of five, and smaller ones less often."
        )
    return sentences


def genotypes(summaries: Sequence[SettingSummary]) -> list[str]:
    """How many different genotypes the seeds derived, and how often they collapsed."""
    several = [s for s in summaries if s.n > 1 and not s.reservations]
    sentences = []
    if several:
        counts = [f"{len(s.genotypes)} of {s.n} (“{s.setting}”)" for s in several]
        if all(len(s.genotypes) == s.n for s in several):
            every = len(several) == len(summaries)
            where = "every setting" if every else quoted(s.setting for s in several)
            sentences.append(f"In {where} each seed derived a genotype of its own.")
        elif len(counts) <= 6:
            sentences.append(f"Distinct genotypes per setting: {listed(counts)}.")
    collapsed = [s for s in several if s.collapsed.successes]
    if collapsed:
        rates = [f"“{s.setting}” {rate(s.collapsed)}" for s in collapsed[:6]]
        more = "" if len(collapsed) <= 6 else f" and {len(collapsed) - 6} more (table below)"
        sentences.append(
            f"Collapsed runs (most kept edges without parameters): {listed(rates)}{more}."
        )
    elif several:
        total = sum(s.n for s in several)
        sentences.append(f"None of {runs(total)} collapsed to parameterless cells.")
    return sentences


def dependence(
    summaries: Sequence[SettingSummary], transitions: Mapping[str, Transitions]
) -> list[str]:
    """How strong the dependence is, how far its matrices moved, and how much seeds differ."""
    sentences = []
    for s in summaries:
        strength, moved = (
            s.estimates[q] for q in ("dependence_strength", "transition_displacement")
        )
        if s.model != "transition" or s.reservations or strength.n == 0:
            continue
        text = f"“{s.setting}”: dependence strength {interval(strength)} (0..1, n={strength.n})"
        sd = transitions[s.setting].mean_sd if s.setting in transitions else float("nan")
        if s.trainable and moved.n:
            text += f"; the matrices' rows moved by {moved.mean:.3f} on average from their start"
        if np.isfinite(sd):
            text += f", and a matrix entry differs between seeds by {sd:.3f} (mean sd)"
        sentences.append(text + ".")
    if sentences:
        controls = [s.setting for s in summaries if s.model == "placebo"]
        sentences.append(
            "Part of this is built in: inner edges are derived from their predecessors, and an "
            "identity start is the same in every seed. "
            + (
                f"Compare with {quoted(controls)}, where nothing can flow."
                if controls
                else "This study has no placebo to compare with."
            )
        )
    return sentences


def tuning_summary(tuning: Tuning) -> list[str]:
    """The best trial, and why its value is too good."""
    best = tuning.best
    failed = sum(not np.isfinite(t.objective) for t in tuning.trials)
    if best is None:
        return [f"None of {len(tuning.trials)} tuning trials has an objective: runs diverged."]
    rates = listed(f"{name} {value:.3g}" for name, value in best.rates.items())
    sentences = [
        f"Trial {best.number} is the best of {len(tuning.trials)}: mean derived accuracy "
        f"{best.objective:.3f} over n={best.n} runs, with {rates}.",
        "The best of many noisy trials looks better than it is, by chance: confirm its rates "
        "with fresh seeds before reporting a number.",
    ]
    if failed:
        sentences.append(
            f"{failed} of {len(tuning.trials)} trials had a diverged run and have no objective."
        )
    return sentences


def limits(summaries: Sequence[SettingSummary], study: Coverage, crossed: str = "") -> list[str]:
    """What this page cannot say, the study's own gaps first."""
    sentences = []
    if study.planned is None:
        sentences.append(
            "The folder does not say how many runs were planned, so whether it is complete "
            "cannot be said here."
        )
    elif study.missing:
        sentences.append(f"{study.missing} of {study.planned} planned runs are missing.")
    if crossed:
        sentences.append("Crossed seeds: quantities of a setting use a part of the runs only.")
    held = [f"“{s.setting}” ({'; '.join(s.reservations)})" for s in summaries if s.reservations]
    if held:
        sentences.append(f"No conclusion is drawn from {listed(held)}.")
    short = [f"“{s.setting}” ({', '.join(s.stopped_early)})" for s in summaries if s.stopped_early]
    if short:
        sentences.append(f"Runs that stopped early count with their last epoch: {listed(short)}.")
    diverged = [f"“{s.setting}” ({', '.join(s.diverged)})" for s in summaries if s.diverged]
    if diverged:
        sentences.append(
            f"Diverged runs are in no mean: {listed(diverged)}. Means over the "
            "remaining runs of a setting leave out where it fails."
        )
    if any(s.n < 5 for s in summaries):
        sentences.append(
            "Some settings have fewer than five runs: their intervals are wide and lean on a "
            "normal distribution that so few seeds cannot show."
        )
    if any(s.model != "independent" and s.trainable is False for s in summaries):
        sentences.append("Settings with frozen matrices are controls: their T cannot move.")
    return [
        *sentences,
        "This is a reconstruction of ITNAS (arXiv 2011.14525), whose authors published no code. "
        "Points that the paper leaves undetermined are settings here, and no number on this page "
        "is presented as matching the paper.",
        "The search is a proxy task: accuracies are of the shared supernet on held-out data "
        "after a short search, not of networks trained from scratch.",
        "Intervals are over seeds, of one setting at a time, and not corrected for the number of "
        "settings or quantities; comparisons with controls and p-values of links are. With ten "
        "seeds they cover about 95% in simulated studies, with five or fewer they lean on "
        "assumptions that so few cannot check. "
        f" “Moved” means a mean architecture displacement of at least "
        f"{ARCHITECTURE_MOVED:g}, and of at least {TRANSITION_MOVED:g} for trainable matrices.",
    ]
