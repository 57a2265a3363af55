"""The report's sentences, made of tables: nothing is said that no number says.

Every sentence carries its n or its interval. No conclusion is drawn from settings with
reservations, which are named, and an interval that holds 0 is never turned into "no difference".
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.verdict import COLUMNS, NOTHING, ROWS, UNKNOWN
from analysis.quantities import label_of, used
from analysis.report import text
from analysis.statistics.inference import SIGNIFICANT, SMALL_N, holm
from analysis.statistics.metrics import detectable_difference
from analysis.statistics.transfer import SHARES
from analysis.statistics.trials import ARCHITECTURE_MOVED

MOST_TOLD = 6  # settings or comparisons that are told one by one; the tables have all of them
FEW = 10  # seeds under which it is said what so few cannot show

Frames = Mapping[str, pd.DataFrame]


def compared(settings: pd.DataFrame) -> list[str]:
    """Quantities in which comparisons of these settings are told, the one accuracy first."""
    benchmark = (settings["benchmark_test_n"] > 0).any()
    other = "derived_accuracy" if benchmark else "benchmark_test"
    return [quantity for quantity in used("compared") if quantity != other]


def _usable(tables: Frames) -> pd.DataFrame:
    return tables["settings"][tables["settings"]["reservations"] == ""]


def _placebo_first(tables: Frames, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with those of placebos first: what is told of a transition is told of its control."""
    models = tables["settings"].set_index("setting")["model"]
    rank = frame["setting"].map(models) != "placebo"
    return frame.loc[rank.sort_values(kind="stable").index]


def _told(*sentences: tuple[object, str]) -> list[str]:
    """Those sentences that hold."""
    return [sentence for holds, sentence in sentences if holds]


def _each(told: list[str], where: str) -> list[str]:
    """The first sentences, and where the others are."""
    more = len(told) - MOST_TOLD
    return told[:MOST_TOLD] + [f"{more} more are in tables/{where}.csv."] * (more > 0)


def _held(tables: Frames) -> str:
    """That nothing is concluded from settings with reservations, and why; empty without any."""
    held = tables["settings"][tables["settings"]["reservations"] != ""].to_dict("records")
    why = text.listed(f"“{s['setting']}” ({s['reservations']}; n={s['n']})" for s in held)
    return f"No conclusion is drawn from {why}." if held else ""


def few(tables: Frames) -> str:
    """What stands beside intervals of few seeds; empty where no setting has so few."""
    return SMALL_N * bool((tables["settings"]["n"] < FEW).any())


def coverage(tables: Frames, here: int, planned: int | None, crossed: str = "") -> list[str]:
    """How much of the study is there, and what is missing from it.

    here: runs that the folder holds. planned: how many were planned, None where nothing says so.
    """
    settings, missing = tables["settings"], here < (planned or 0)
    whole = ", all that were planned" if planned == here else ""
    span = " to ".join(map(str, sorted({settings["runs"].min(), settings["runs"].max()})))
    of = f"{len(settings)} settings, {span} runs each" if len(settings) > 1 else "1 setting"
    left_out = []
    for column, word in (
        ("diverged", "diverged (counted, and left out of every mean and figure)"),
        ("stopped_early", "stopped early (the last epoch reached counts)"),
    ):
        having = settings[settings[column] > 0]
        named = text.listed("“" + having["setting"] + "” (" + having[f"{column}_runs"] + ")")
        left_out.append((len(having), f"{text.runs(int(having[column].sum()))} {word}: {named}."))
    return _told(
        (missing, f"The study is incomplete: {here} of {planned} planned runs are here. "
         "What follows may change with the rest."),
        (not missing, f"{text.runs(here)} {'is' if here == 1 else 'are'} here{whole}."),
        (settings["runs"].sum() == here, f"They are of {of}."),
        *left_out,
        (crossed, f"The three seeds are not always equal ({crossed}): quantities of a setting are "
         "over these runs alone, so that no two share a seed; the variance decomposition is over "
         "all."),
    )  # fmt: skip


def backends(names: pd.Series) -> list[str]:
    """That the runs' backends differ, where they do; nothing is said of older runs, of no name."""
    counts = names.value_counts().sort_index()
    told = text.listed(f"{name} ({text.runs(count)})" for name, count in counts.items())
    return _told(
        (len(counts) > 1, f"This study mixes backends: {told}. Their numbers agree within "
         "rounding, not bit by bit, and a long search can part on that."),
    )  # fmt: skip


def mixtures(launches: Sequence[Mapping[str, Any]], runs: pd.DataFrame) -> list[str]:
    """What not all runs were computed with: versions and commits of the launches, GPUs, devices.

    launches: those of study.yaml, in order (started, software, git_commit); a run is of the last
    one that had started when it did.
    """
    times = [str(one.get("started", "")) for one in launches]
    known = pd.to_datetime(times, utc=True, errors="coerce", format="ISO8601")
    began = list(known.fillna(pd.Timestamp(0, tz="UTC")))
    before = [bisect.bisect_right(began, time) for time in runs["started"] if began]
    of_runs = [launches[max(n - 1, 0)] for n in before]
    columns: dict[str, list[Any]] = {"git commit": [one.get("git_commit") for one in of_runs]}
    for name in dict.fromkeys(name for one in of_runs for name in one.get("software") or {}):
        columns[name] = [(one.get("software") or {}).get(name) for one in of_runs]
    columns |= {name: runs[name].to_list() for name in ("gpu", "device")}
    counted = {name: pd.Series(values, dtype=object).dropna().astype(str).value_counts(sort=False)
               for name, values in columns.items()}  # fmt: skip
    mixed = [
        f"{name} {' and '.join(f'{str(v)[:20]} ({text.runs(n)})' for v, n in counts.items())}"
        for name, counts in counted.items() if len(counts) > 1
    ]  # fmt: skip
    return _told(
        (mixed, f"Not all runs were computed with the same: {'; '.join(mixed)}. What that changes "
         "is in the spread over seeds, and between settings where one was computed apart."),
    )  # fmt: skip


def movement(tables: Frames) -> list[str]:
    """Whether the searches moved at all: without that, everything else is noise."""
    settings, moved = tables["settings"], _usable(tables)
    held, least = _held(tables), f"{ARCHITECTURE_MOVED:g}"
    same = settings.loc[(settings["n"] > 1) & (settings["distinct_genotypes"] == 1), "setting"]
    single = settings.loc[settings["n"] == 1, "setting"]
    every = not held and single.empty
    more = ", and its seeds derived more than one genotype" * same.empty
    few_moved = text.quoted(moved["setting"])
    who = few_moved if len(moved) < 4 else f"{len(moved)} of {len(settings)} settings"
    return _told(
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
    usable = frame[frame["setting"].isin(_usable(tables)["setting"]) & (frame["seeds"] > 1)]
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
        for row in _placebo_first(tables, rows).to_dict("records")
    ]
    return [
        f"Seeds agree on the chosen operations with kappa {most}{rest}. Beyond chance "
        f"(Holm-corrected p < 0.05): {beyond} of {len(told)}."
        for most in told[-1:]
    ] + _each(stable, "stability")


def controls(tables: Frames) -> list[str]:
    """Whether the learned dependence does anything for accuracy and agreement.

    Holm's correction is over all the comparisons that are counted, of whatever quantity.
    """
    usable, frame = _usable(tables), tables["comparisons"]
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
    return _told(
        (apart.empty, f"Against the controls, none {of} is {after} these seeds do not show that a "
         "learned dependence does anything there, nor that it does not."),
        (len(apart), f"Against the controls, {len(apart)} {of} are {after} {text.listed(named)}"
         f"{more}. A difference to independent alone may be built in: inner edges are derived from "
         "their predecessors whether or not anything was learned."),
    )  # fmt: skip


def accuracy(tables: Frames) -> list[str]:
    """The range of derived accuracies, whether intervals overlap, and what n could show."""
    mean, low, high, sd, n = (f"derived_accuracy_{k}" for k in ("mean", "low", "high", "sd", "n"))
    frame = _usable(tables)
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
    return _told(
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
    several = _usable(tables)
    several = several[several["n"] > 1]
    rows, count = several.to_dict("records"), len(several)
    own = count > 0 and (several["distinct_genotypes"] == several["n"]).all()
    where = "every setting" if count == len(tables["settings"]) else text.quoted(several["setting"])
    counts = [f"{s['distinct_genotypes']} of {s['n']} (“{s['setting']}”)" for s in rows]
    rates = [f"“{s['setting']}” {text.collapsed(s)}" for s in rows if s["collapsed"]]
    return _told(
        (own, f"In {where} each seed derived a genotype of its own."),
        (not own and 0 < count <= MOST_TOLD,
         f"Distinct genotypes per setting: {text.listed(counts)}."),
        (rates, "Collapsed runs (most kept edges without parameters): "
         f"{text.listed(rates[:MOST_TOLD])}."),
        *((more, more) for more in _each(rates, "settings")[MOST_TOLD:]),
        (several["collapsed"].between(1, several["n"] - 1).any(), "Seeds are of two kinds there: "
         "figures draw the collapsed ones hollow, and tables/without_collapsed.csv has every "
         "quantity of the others alone."),
        (count and not rates, f"None of {text.runs(int(several['n'].sum()))} collapsed to "
         "parameterless cells."),
    )  # fmt: skip


def dependence(tables: Frames) -> list[str]:
    """How strong the dependence is, and how far the matrices moved, controls included."""
    usable = _usable(tables)
    usable = _placebo_first(tables, usable[usable["model"] != "independent"])
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
    return _each(lines, "settings") + _told(
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


def tuning(tables: Frames) -> list[str]:
    """Who is ahead, how much of that lead is luck, and what fresh seeds said of it."""
    if tables["tuning"].empty:
        return []
    trials, asked = tables["tuning"].set_index("trial"), tables["tuning_summary"].iloc[0]
    best, default, n = asked["incumbent"], asked["default"], len(trials)
    if pd.isna(best):
        return [f"None of {n} tuning trials is feasible and had all seeds: runs diverged, hardly "
                "moved or are missing."]  # fmt: skip
    row, what = trials.loc[best], label_of(asked["objective"], unit=False)
    chosen = [f"{p} {text.plain(row[p])}" for p in tables["tuning_parameters"]["parameter"]
              if pd.notna(row.get(p))]  # fmt: skip
    less = f" less {asked['penalty']:g} standard errors" * bool(asked["penalty"])
    front = trials.index[trials.get("front", trials["feasible"]).astype(bool)]
    return _told(
        (True, f"Trial {best:.0f} is the best of {n} by shrunken mean{less}: mean {what} "
         f"{row['mean']:.3f} over n={row['n']} seeds, with {text.listed(chosen)}."),
        (best == default, "That is the default setting: no trial is ahead of it."),
        (best != default and asked["lead_n"], f"On n={asked['lead_n']} common seeds it leads the "
         f"default (trial {text.plain(default)}) by {asked['lead']:.3f}, standard error "
         f"{text.number(asked['lead_error'], 3)}; drawn in among the trials with all seeds, by "
         f"{text.number(asked['shrunken_lead'], 3)}."),
        (asked["largest"] != best, f"The largest mean is trial {asked['largest']:.0f}'s, "
         f"{trials['objective'].get(asked['largest'], np.nan):.3f}."),
        (asked["raced_out"], f"{asked['raced_out']} trials raced out with fewer seeds."),
        (asked["infeasible"], f"{asked['infeasible']} are infeasible: a run diverged, or it hardly "
         "moved."),
        (pd.notna(asked["second"]), f"The front of both: trials {text.listed(map(str, front))}."),
        (True, _confirmed(tables.get("tuning_confirmation", pd.DataFrame()))),
        (True, f"What follows is about the runs of trial {best:.0f} alone."),
    )  # fmt: skip


def _confirmed(frame: pd.DataFrame) -> str:
    """What fresh seeds said of the settings that they were asked about."""
    told = []
    for row in frame.to_dict("records"):
        known, n = np.isfinite(row["low"]), f"n={row['pairs']}"
        found = "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "no better"
        more = text.estimate(row["difference"], row["low"], row["high"], 3)
        n += f" of {row['planned']} planned" * (row["pairs"] < row["planned"])
        found = f"{found} than the default" if known else "cannot tell"
        told += [f"trial {row['trial']} {more}, {n}, {found}"] * (row["role"] != "default")
    if told:
        return f"Fresh seeds, less the default's on the same: {'; '.join(told)}."
    return ("The best of many noisy trials looks better than it is, and no setting ran on fresh "
            "seeds: this lead is not confirmed.")  # fmt: skip


def limits(tables: Frames, here: int, planned: int | None, crossed: str = "") -> list[str]:
    """What the page cannot say of this very study; see `coverage` for the arguments."""
    settings, held, few_runs = tables["settings"], _held(tables), few(tables)
    missing = max(0, (planned or 0) - here)
    frozen = (settings["model"] != "independent") & settings["trainable"].eq(False)
    return _told(
        (planned is None, "The folder does not say how many runs were planned, so whether it is "
         "complete cannot be said here."),
        (missing, f"{missing} of {planned} planned runs are missing."),
        (crossed, "Crossed seeds: quantities of a setting use a part of the runs only."),
        (held, held),
        (settings["diverged"].any(), "Diverged runs are in no mean: means over the remaining runs "
         "of a setting leave out where it fails."),
        (few_runs, "Some settings have fewer than ten runs: their intervals are wide and lean on "
         f"assumptions that so few seeds cannot show. {few_runs}"),
        (frozen.any(), "Settings with frozen matrices are controls: their T cannot move."),
    )  # fmt: skip


HEADLINES = {
    ROWS: "rows come out again: which operation the predecessor chose matters, in the same way in "
    "other seeds",
    COLUMNS: "only columns come out again: other seeds foretell where this one goes, but not from "
    "which predecessor operation",
    NOTHING: "nothing comes out again in other seeds",
    UNKNOWN: "these seeds cannot tell whether a dependence comes out again",
}


def verdict(tables: Frames) -> list[dict[str, Any]]:
    """What is to be said first, setting by setting: primary, headline and sentence of each."""
    found = []
    for row in tables["verdict"].to_dict("records"):
        corrected = "" if row["primary"] else ", Holm-corrected over the settings below"
        rows = text.estimate(row["dependence_transfer"], row["low"], row["high"])
        columns = text.estimate(row["column_transfer"], row["column_low"], row["column_high"])
        told = _told(
            (np.isfinite(row["dependence_transfer"]), f"Dependence transfer {rows} "
             f"({text.p_value(row['p_holm'])}{corrected}), column transfer {columns}, "
             f"n={row['seeds']} seeds; learning moved the flow by {row['d_start']:.3f} bits."),
            (row["missing"], f"What is missing: {row['missing']}."),
        )  # fmt: skip
        headline = f"“{row['setting']}”: {HEADLINES[row['verdict']]}."
        told += _placebo(tables, row["setting"])
        found.append({"primary": row["primary"], "headline": headline, "sentence": " ".join(told)})
    return found


def _placebo(tables: Frames, setting: str) -> list[str]:
    """The same of a setting's placebo, cell by cell."""
    of, frame = tables["comparisons"], tables["stability"]
    name = of.loc[(of["setting"] == setting) & (of["kind"] == "placebo"), "reference"].max()
    own = frame[(frame["setting"] == name) & frame["quantity"].isin(SHARES)]
    several = own["cell"].nunique() > 1
    shares = [
        f"{label_of(r['quantity'])} {text.of_row(r, digits=2, short=True)}"
        + f" ({r['cell']} cell)" * several
        for r in own.dropna(subset="estimate").to_dict("records")
    ]
    return _told((shares, f"Of its placebo, where nothing can flow: {text.listed(shares)}."))
