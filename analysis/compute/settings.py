"""What every setting did over its seeds, as one row each (design, sections 1 and 5).

A setting's runs are its replicates. Diverged runs are counted and named, and left out of every
mean, since their numbers may be NaN. Reservations are attached to a setting so that no text can
forget them: that it hardly moved (then no conclusion is drawn from it).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.compute.cell import TRANSITION_MOVED
from analysis.data import genotypes
from analysis.data.samples import SEEDS, seed_label
from analysis.quantities import SUMMARISED
from analysis.statistics.inference import interquartile, of_runs, rate, said

ARCHITECTURE_MOVED = 0.2
"""Mean architecture_displacement under which a setting hardly moved."""

CHARACTERISTICS = (
    "sharing", "attention", "init", "init_strength", "own_weight", "temperature",
    "stop_gradient", "architecture_lr", "transition_lr", "attention_lr",
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
    trainable = None if pd.isna(first["trainable"]) else bool(first["trainable"])
    row: dict[str, Any] = {"setting": setting, "model": first["model"], "trainable": trainable}
    row |= {name: first[name] for name in CHARACTERISTICS}
    row |= {"runs": len(group), "n": len(good), "diverged": len(group) - len(good)}
    row["stopped_early"] = int((group["status"] == "stopped_early").sum())
    row["crossed"] = bool(group[list(SEEDS)].nunique(axis=1).gt(1).any())
    row["distinct_genotypes"] = len({str(g) for g in parsed})
    row["collapsed"] = sum(happened)
    row |= {"collapse_rate": collapsed.estimate, "collapse_rate_low": collapsed.low}
    row["collapse_rate_high"] = collapsed.high
    for name in SUMMARISED:
        values = good[name].to_numpy(float)
        q = of_runs(values)
        row |= {f"{name}_mean": q.estimate, f"{name}_low": q.low, f"{name}_high": q.high}
        row |= {f"{name}_sd": pd.Series(values).std(), f"{name}_n": q.n}
        row[f"{name}_iqm"] = interquartile(values).estimate
    for status in ("diverged", "stopped_early"):
        labels = group.loc[group["status"] == status, list(SEEDS)].itertuples(index=False)
        row[f"{status}_runs"] = ", ".join(map(seed_label, labels))
    row["reservations"] = "; ".join(_reservations(row))
    one = row["n"] >= 2 and row["distinct_genotypes"] == 1
    remarks = [f"one genotype only over {row['n']} runs"] * one + ["one run only"] * (row["n"] == 1)
    row["remarks"] = said(row["reservations"], *remarks)
    return row


def _reservations(row: Mapping[str, Any]) -> list[str]:
    """Why no conclusion is to be drawn from a setting."""
    if not row["n"]:
        return ["every run diverged"]
    found = []
    moved = row["architecture_displacement_mean"]
    if not moved >= ARCHITECTURE_MOVED:
        found.append(
            f"hardly moved: mean architecture displacement {moved:.3f}, "
            f"under {ARCHITECTURE_MOVED:g}"
        )
    moved = row["transition_displacement_mean"]
    if row["trainable"] and moved < TRANSITION_MOVED:
        found.append(
            f"transition matrices hardly moved: mean displacement {moved:.3f}, "
            f"under {TRANSITION_MOVED:g}"
        )
    return found


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
                having = [i for i, other in enumerate(texts) if other == text]
                code, runs = good["genotype"].iloc[having[0]], ", ".join(labels[i] for i in having)
                rows.append((setting, part, text, code, count, len(good), runs))
    columns = ["setting", "part", "genotype", "code", "count", "n", "runs"]
    return pd.DataFrame(rows, columns=columns)


def in_order(models: Mapping[str, str], known: Sequence[str]) -> list[str]:
    """Settings (to their models) in the study file's order, which `known` has; else by model."""
    rank = {"independent": 0, "placebo": 1, "transition": 2}
    place = {name: index for index, name in enumerate(known)}
    end = len(place)
    return sorted(models, key=lambda s: (place.get(s, end), rank.get(models[s], 3), s))
