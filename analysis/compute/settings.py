"""What every setting did over its seeds, as one row each; and who replicates whom.

Diverged runs are counted and named, and left out of every mean, since their numbers may be NaN.
Reservations are attached to a setting so that no text can forget them: that it hardly moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.compute.cell import TRANSITION_MOVED
from analysis.data import genotypes
from analysis.data.samples import SEEDS, seed_label
from analysis.quantities import SUMMARISED, of_run
from analysis.statistics.inference import interquartile, rate, said
from analysis.statistics.trials import ARCHITECTURE_MOVED

RATES = ("architecture_lr", "transition_lr", "attention_lr")

CHARACTERISTICS = (
    "sharing", "attention", "init", "init_strength", "own_weight", "temperature",
    "stop_gradient", *RATES,
)  # fmt: skip
"""Columns of `runs` that make settings differ, beside model and trainable."""


def replicates(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """One setting's runs that replicate each other, and a remark on those left out.

    Those with three equal seeds; where only one of the three seeds varies over the runs, all of
    them, since then no two share the one that varies; where none has equal seeds, the first ones
    of which no two share a varying seed. Diverged runs are among them.
    """
    runs = runs.sort_values([*SEEDS, "run_id"], ignore_index=True)
    equal = runs[list(SEEDS)].nunique(axis=1) == 1
    if equal.all():
        return runs, ""
    levels = runs[list(SEEDS)].nunique()
    varying = levels[levels > 1].index.tolist()
    if len(varying) <= 1:
        return runs, f"only {varying[0]} varies over these runs" if varying else ""
    if equal.any():
        note = f"crossed seeds: the {int(equal.sum())} of {len(runs)} runs with three equal seeds"
        return runs[equal].reset_index(drop=True), note
    chosen: list[int] = []
    taken: set[tuple[str, int]] = set()
    for index, row in enumerate(runs[varying].to_numpy(int).tolist()):
        seeds = set(zip(varying, row, strict=True))
        if taken.isdisjoint(seeds):
            chosen.append(index)
            taken |= seeds
    note = f"crossed seeds: {len(chosen)} of {len(runs)} runs, no two of which share a seed"
    return runs.iloc[chosen].reset_index(drop=True), note


def settings_table(groups: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per setting, in the order given: counts, every quantity's mean, interval, sd, IQM.

    groups: setting to its replicates. Raises ResultsError where the genotype of a run that did
    not diverge cannot be read.
    """
    return pd.DataFrame([_row(name, group) for name, group in groups.items()])


def _row(setting: str, group: pd.DataFrame) -> dict[str, Any]:
    first, good = group.iloc[0], group[group["status"] != "diverged"]
    parsed = [genotypes.parse(text) for text in good["genotype"]]
    happened = [genotypes.is_collapsed(g) for g in parsed]
    collapsed = rate(happened)
    row: dict[str, Any] = {
        "setting": setting, "model": first["model"],
        "trainable": None if pd.isna(first["trainable"]) else bool(first["trainable"]),
        **{name: first[name] for name in CHARACTERISTICS},
        "runs": len(group), "n": len(good), "diverged": len(group) - len(good),
        "stopped_early": int((group["status"] == "stopped_early").sum()),
        "crossed": bool(group[list(SEEDS)].nunique(axis=1).gt(1).any()),
        "distinct_genotypes": len({str(g) for g in parsed}), "collapsed": sum(happened),
        "collapse_rate": collapsed.estimate, "collapse_rate_low": collapsed.low,
        "collapse_rate_high": collapsed.high,
    }  # fmt: skip
    for name in SUMMARISED:
        values = good[name].to_numpy(float)
        q = of_run(name, values)
        numbers = {
            "mean": q.estimate, "low": q.low, "high": q.high, "sd": pd.Series(values).std(),
            "n": q.n, "iqm": interquartile(values).estimate,
        }  # fmt: skip
        row |= {f"{name}_{of}": x for of, x in numbers.items()}
    for status in ("diverged", "stopped_early"):
        labels = group.loc[group["status"] == status, list(SEEDS)].itertuples(index=False)
        row[f"{status}_runs"] = ", ".join(map(seed_label, labels))
    row["reservations"] = _reservations(row)
    one = row["n"] >= 2 and row["distinct_genotypes"] == 1
    remarks = [f"one genotype only over {row['n']} runs"] * one + ["one run only"] * (row["n"] == 1)
    row["remarks"] = said(row["reservations"], *remarks)
    return row


def _reservations(row: Mapping[str, Any]) -> str:
    """Why no conclusion is to be drawn from a setting."""
    if not row["n"]:
        return "every run diverged"
    found = []
    moved = row["architecture_displacement_mean"]
    if not moved >= ARCHITECTURE_MOVED:
        what = f"mean architecture displacement {moved:.3f}, under {ARCHITECTURE_MOVED:g}"
        found.append(f"hardly moved: {what}")
    moved = row["transition_displacement_mean"]
    if row["trainable"] and moved < TRANSITION_MOVED:
        what = f"mean displacement {moved:.3f}, under {TRANSITION_MOVED:g}"
        found.append(f"transition matrices hardly moved: {what}")
    return said(*found)


def genotypes_table(groups: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per setting and distinct genotype (`whole`) or cell, the most frequent first.

    code: the genotype string of the first run that has it.
    """
    rows = []
    for setting, group in groups.items():
        good = group[group["status"] != "diverged"]
        parsed = [genotypes.parse(text) for text in good["genotype"]]
        kinds = sorted({kind for g in parsed for kind in g})
        labels = [seed_label(s) for s in good[list(SEEDS)].itertuples(index=False)]
        for part in ["whole", *kinds]:
            texts = [genotypes.describe_all(g, part) for g in parsed]
            for text, count in Counter(texts).most_common():
                runs = ", ".join(s for s, other in zip(labels, texts, strict=True) if other == text)
                code = good["genotype"].iloc[texts.index(text)]
                rows.append((setting, part, text, code, count, len(good), runs))
    columns = ["setting", "part", "genotype", "code", "count", "n", "runs"]
    return pd.DataFrame(rows, columns=columns)


def in_order(models: Mapping[str, str], known: Sequence[str]) -> list[str]:
    """Settings (to their models) in the study file's order, which `known` has; else by model."""
    rank = {"independent": 0, "placebo": 1, "transition": 2}
    place = {name: index for index, name in enumerate(known)}
    end = len(place)
    return sorted(models, key=lambda s: (place.get(s, end), rank.get(models[s], 3), s))
