"""Sentences on the settings: movement, stability, controls, accuracy, genotypes, dependence."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from analysis.quantities import label_of
from analysis.report import text
from analysis.report.sentences.shared import (
    MOST_TOLD,
    Frames,
    compared,
    first_ones,
    held_back,
    holding,
    placebo_first,
    usable_settings,
)
from analysis.statistics.inference import SIGNIFICANT, holm
from analysis.statistics.metrics import detectable_difference
from analysis.statistics.trials import ARCHITECTURE_MOVED


def movement(tables: Frames) -> list[str]:
    """Whether the searches moved at all: without that, everything else is noise."""
    settings, moved = tables["settings"], usable_settings(tables)
    held, least = held_back(tables), f"{ARCHITECTURE_MOVED:g}"
    same = settings.loc[(settings["n"] > 1) & (settings["distinct_genotypes"] == 1), "setting"]
    single = settings.loc[settings["n"] == 1, "setting"]
    every = not held and single.empty
    more = ", and its seeds derived more than one genotype" * same.empty
    few_moved = text.quoted(moved["setting"])
    who = few_moved if len(moved) < 4 else f"{len(moved)} of {len(settings)} settings"
    return holding(
        (every, f"Every setting moved: its mean architecture displacement is at least {least}"
         f"{more}."),
        (len(moved) and not every, f"{who} moved by at least {least} on average (architecture "
         "displacement)."),
        (held, held),
        (moved.empty, "So this study says nothing about stability yet: it takes longer searches or "
         "larger architecture rates."),
        (len(same), f"In {text.quoted(same)} all seeds derived one genotype: they agree, or "
         "the setting leaves them no choice; compare with the controls."),
        (len(single), f"{text.quoted(single)}: one run says nothing about stability."),
    )  # fmt: skip


def stabilities(tables: Frames) -> list[str]:
    """How far seeds agree on operations and on the matrices, against chance."""
    frame = tables["stability"]
    if frame.empty:
        return []
    usable = frame[frame["setting"].isin(usable_settings(tables)["setting"]) & (frame["seeds"] > 1)]
    usable = usable.dropna(subset="estimate")
    agreed = usable[usable["quantity"] == "operation_agreement"].sort_values("estimate")
    told = [
        f"{text.of_row(r, digits=2)} (“{r['setting']}”, {r['cell']} cell, n={r['seeds']})"
        for r in agreed.to_dict("records")
    ]
    rest = f" at most and {told[0]} at least; 0 is chance, 1 the same cell" if told[1:] else ""
    beyond = sum(holm(agreed["p_value"]) < SIGNIFICANT) if told else 0
    rows = usable[usable["quantity"] == "dependence_stability"]
    stable = [
        f"“{row['setting']}”, {row['cell']} cell: dependence stability "
        f"{text.of_row(row, digits=2)} ({text.p_value(row['p_value'])}, n={row['seeds']})."
        for row in placebo_first(tables, rows).to_dict("records")
    ]
    return [
        f"Seeds agree on the chosen operations with kappa {most}{rest}. Beyond chance "
        f"(Holm-corrected p < 0.05): {beyond} of {len(told)}."
        for most in told[-1:]
    ] + first_ones(stable, "stability")


def controls(tables: Frames) -> list[str]:
    """Whether the learned dependence does anything for accuracy and agreement.

    Holm's correction is over all the comparisons that are counted, of whatever quantity.
    """
    usable, frame = usable_settings(tables), tables["comparisons"]
    quantities = compared(usable)
    learners = usable[(usable["model"] == "transition") & usable["trainable"].eq(True)]
    chosen = frame[
        frame["quantity"].isin(quantities) & frame["setting"].isin(learners["setting"])
        & frame["reference"].isin(usable["setting"]) & frame["p_value"].notna()
    ]  # fmt: skip
    if chosen.empty:
        return []
    chosen = chosen.assign(corrected=holm(chosen["p_value"]))
    apart = chosen[chosen["corrected"] < SIGNIFICANT].sort_values("corrected")
    named = [
        f"“{c['setting']}” against “{c['reference']}” in {label_of(c['quantity'], unit=False)} "
        f"({text.estimate(c['difference'], c['low'], c['high'], 3)}, "
        f"corrected {text.p_value(c['corrected'])}, n={c['seeds']})"
        for c in apart.head(4).to_dict("records")
    ]
    more = f" and {len(apart) - 4} more" if len(apart) > 4 else ""
    of = f"of {len(chosen)} paired comparisons of "
    of += text.listed(label_of(q, unit=False) for q in quantities)
    after = "significant after Holm's correction over all of them:"
    return holding(
        (apart.empty, f"Against the controls, none {of} is {after} these seeds do not show that a "
         "learned dependence does anything there, nor that it does not."),
        (len(apart), f"Against the controls, {len(apart)} {of} are {after} {text.listed(named)}"
         f"{more}. A difference to independent alone may be built in: inner edges are derived from "
         "their predecessors whether or not anything was learned."),
    )  # fmt: skip


def accuracy(tables: Frames) -> list[str]:
    """The range of derived accuracies, whether intervals overlap, and what n could show."""
    mean, low, high, sd, n = (f"derived_accuracy_{k}" for k in ("mean", "low", "high", "sd", "n"))
    frame = usable_settings(tables)
    frame = frame[frame[n] > 1].sort_values(mean, kind="stable")
    if frame.empty:
        return []
    usable = frame.to_dict("records")
    worst, best = usable[0], usable[-1]
    least, most = (text.of_row(s, "derived_accuracy") for s in (worst, best))
    if len(usable) == 1:
        return [f"Derived accuracy of “{best['setting']}”: {most}, n={best[n]}."]
    pairs = list(combinations(usable, 2))
    apart = [f"“{b['setting']}” over “{a['setting']}”" for a, b in pairs if a[high] < b[low]]
    more = f" and {len(apart) - 3} more" if len(apart) > 3 else ""
    freedom, fewest = frame[n] - 1, frame[n].min()
    pooled = float(np.sqrt((freedom * frame[sd] ** 2).sum() / freedom.sum()))
    found = detectable_difference(pooled, fewest)
    return holding(
        (True, f"Mean derived accuracy runs from {least} (“{worst['setting']}”, n={worst[n]}) to "
         f"{most} (“{best['setting']}”, n={best[n]})."),
        (not apart, "The intervals of all settings overlap: these seeds do not separate any two of "
         "them, which is not evidence that they are equal."),
        (apart, f"Of {len(pairs)} pairs of settings, {len(apart)} have intervals that do not "
         f"overlap ({text.listed(apart[-3:])}{more}). This describes the seeds seen; it is no "
         "test, and is not corrected for looking at many pairs."),
        (np.isfinite(found), f"Within a setting, seeds spread by {pooled:.3f} (pooled standard "
         f"deviation); with n={fewest} per setting, a two-sample t test would find a true "
         f"difference of {found:.3f} four times out of five, and smaller ones less often."),
    )  # fmt: skip


def genotypes(tables: Frames) -> list[str]:
    """How many different genotypes the seeds derived, and how often they collapsed."""
    several = usable_settings(tables)
    several = several[several["n"] > 1]
    rows, count = several.to_dict("records"), len(several)
    own = count > 0 and (several["distinct_genotypes"] == several["n"]).all()
    where = "every setting" if count == len(tables["settings"]) else text.quoted(several["setting"])
    counts = [f"{s['distinct_genotypes']} of {s['n']} (“{s['setting']}”)" for s in rows]
    rates = [f"“{s['setting']}” {text.collapsed(s)}" for s in rows if s["collapsed"]]
    return holding(
        (own, f"In {where} each seed derived a genotype of its own."),
        (not own and 0 < count <= MOST_TOLD,
         f"Distinct genotypes per setting: {text.listed(counts)}."),
        (rates, "Collapsed runs (most kept edges without parameters): "
         f"{text.listed(rates[:MOST_TOLD])}."),
        *((more, more) for more in first_ones(rates, "settings")[MOST_TOLD:]),
        (several["collapsed"].between(1, several["n"] - 1).any(), "Seeds are of two kinds there: "
         "figures draw the collapsed ones hollow, and tables/without_collapsed.csv has every "
         "quantity of the others alone."),
        (count and not rates, f"None of {text.runs(int(several['n'].sum()))} collapsed to "
         "parameterless cells."),
    )  # fmt: skip


def dependence(tables: Frames) -> list[str]:
    """How strong the dependence is, and how far the matrices moved, controls included."""
    usable = usable_settings(tables)
    usable = placebo_first(tables, usable[usable["model"] != "independent"])
    lines = []
    for s in usable.to_dict("records"):
        placebo = s["model"] == "placebo"
        strength = "0 by definition" if placebo else text.of_row(s, "dependence_strength")
        line = f"“{s['setting']}”: dependence strength {strength} (0..1, n={s['n']})"
        if s["trainable"] and s["transition_displacement_n"]:
            moved = text.of_row(s, "transition_displacement")
            line += f"; the matrices' rows moved by {moved} from their start"
        lines.append(line + ".")
    identity = (usable["init"] == "identity").any()
    also = ", and an identity start is the same in every seed" if identity else ""
    return first_ones(lines, "settings") + holding(
        (lines, "Part of this is built in: inner edges are derived from their predecessors"
         f"{also}."),
        (lines and (usable["model"] != "placebo").all(),
         "This study has no placebo, where nothing can flow, to compare with."),
    )  # fmt: skip


def seeds(needed: pd.DataFrame) -> list[str]:
    """How many seeds the headline and an agreement would take, as rough ranges."""
    if needed.empty or not needed["told"].any():
        return ["Fewer than six seeds per setting: nothing can be projected from so few."]
    sentences = []
    for row in needed[needed["told"]].head(MOST_TOLD).to_dict("records"):
        what = f"{label_of(row['quantity'], unit=False)} (“{row['setting']}”)"
        goal = f"An interval of width {row['target']:g} on {what}"
        if row["goal"] == "difference":
            size = f"{row['target']:.3g}, in 80% of studies"
            goal = f"To see the difference {row['note']} in {what}, {size}"
        range_ = text.seed_range(row["seeds_low"], row["seeds_high"])
        sentences.append(f"{goal} takes roughly {range_} seeds; there are {row['seeds_here']}.")
    return sentences


def variance(frame: pd.DataFrame) -> list[str]:
    """Where the variance comes from, or why that cannot be said."""
    if "note" in frame and frame["quantity"].eq("none").all():
        return [str(frame["note"].iloc[0])]
    sentences = []
    for name in ("derived_accuracy", "benchmark_test", "dependence_strength"):
        own = frame[(frame["quantity"] == name) & (frame["share"] >= 0.005)]
        if len(own):
            own = own.sort_values("share", ascending=False)
            source = own["source"].str.replace("seed_", "seed of ").str.replace(":", " x ")
            parts = text.listed(source + own["share"].map(" {:.0%}".format))
            what = f"{label_of(name, unit=False)} (n={own['runs'].iloc[0]} runs)"
            sentences.append(f"Of the variance of {what}: {parts}.")
    return sentences
