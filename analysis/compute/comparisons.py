"""Every setting against its controls, paired by seed.

Three references: `independent` (DARTS: no dependence at all), `placebo` (the same capacity, but
nothing flows) and `frozen` (matrices that cannot learn); the last two must have the setting's
sharing, initialisation and rates. It is the paired jackknife-t: of single runs Student's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.setting import SettingResult
from analysis.quantities import ALL, DEFINITIONS, HEADLINE
from analysis.statistics.inference import NAN, difference, holm, probability_of_improvement
from analysis.statistics.projection import LEAST_SEEDS, for_difference
from analysis.statistics.seeds import Paired

_NOTHING_FLOWS = ("transition_displacement", "dependence_strength")
"""Quantities of single runs that say nothing of `independent`."""

MATRIX_COLUMNS = ("sharing", "init", "init_strength", "architecture_lr")
"""A control of the matrices has these in common with the setting, else it is no control.

A placebo has transition_lr too; the rate of frozen matrices means nothing.
"""

OTHER_COLUMNS = (
    "attention", "attention_lr", "own_weight", "temperature", "stop_gradient", "architecture_lr",
)  # fmt: skip
"""Among several controls, the one that has most of these in common is taken."""


def controls(settings: pd.DataFrame, setting: str) -> dict[str, str | None]:
    """Each kind of reference to the setting that is it, None where the study has none.

    settings: one row per setting with the contract's columns of `runs`, indexed by setting.
    """
    own = settings[settings.index == setting].iloc[0]
    others = settings.drop(index=setting)
    frozen, model = others["trainable"].eq(False), others["model"]
    # What learns is compared with a placebo that could learn as well.
    learns = pd.isna(own["trainable"]) or bool(own["trainable"])
    alike = _common(others, own, MATRIX_COLUMNS) == len(MATRIX_COLUMNS)
    same_rate = _common(others, own, ["transition_lr"]) == 1
    candidates = {
        "independent": model.eq("independent"),
        "placebo": model.eq("placebo") & alike & same_rate & ~(frozen & learns),
        "frozen": model.eq("transition") & alike & frozen,
    }
    if own["model"] == "independent":
        candidates = {"independent": candidates["independent"]}
    elif own["model"] == "placebo":
        candidates.pop("placebo")
    found: dict[str, str | None] = {}
    for kind, fits in candidates.items():
        # Among equals the smallest run_id decides, not the name: renaming changes nothing.
        best = (
            others[fits]
            .assign(common=_common(others[fits], own, OTHER_COLUMNS))
            .sort_values(["common", "run_id"], ascending=[False, True])
        )
        found[kind] = str(best.index[0]) if len(best) else None
    return found


def _common(frame: pd.DataFrame, own: pd.Series, columns: Sequence[str]) -> pd.Series:
    """How many of the columns are as `own` has them, both missing included, row by row."""
    of = frame[list(columns)]
    return (of.eq(own[of.columns]) | (of.isna() & own[of.columns].isna())).sum(axis=1)


COLUMNS = (
    "setting", "reference", "kind", "cell", "quantity", "difference", "low", "high",
    "p_value", "p_holm", "probability_of_improvement", "seeds", "needed_low", "needed",
    "needed_high", "note",
)  # fmt: skip


def comparisons_table(items: Sequence[SettingResult], runs: pd.DataFrame) -> pd.DataFrame:
    """Every setting against each of its controls, in every quantity that both have.

    runs: rows of `runs` of these settings, for what distinguishes them. p_holm is corrected over
    all comparisons of one quantity with one kind of control. needed: the seeds that tell the
    difference seen from 0 at 80% power, roughly (see `projection`). A placebo that is missing
    gives one row of the headline with its note and no numbers.
    """
    settings = runs.drop_duplicates("setting").set_index("setting").sort_index()
    by_name = {item.setting: item for item in items}
    rows: list[tuple[Any, ...]] = []
    for item in items:
        for kind, reference in controls(settings, item.setting).items():
            if reference is not None:
                rows += _pair(item, by_name[reference], kind)
            elif kind == "placebo" and settings.loc[item.setting, "trainable"]:
                note = "no placebo with the same sharing, init and rates in this study"
                nothing = (*(NAN,) * 6, 0, *(None,) * 3, note)
                rows.append((item.setting, "", kind, ALL, HEADLINE, *nothing))
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    found = found.astype(dict.fromkeys(("needed_low", "needed", "needed_high"), "Int64"))
    families = found.groupby(["kind", "quantity"])["p_value"]
    found["p_holm"] = families.transform(holm) if len(found) else NAN
    return found


def _pair(item: SettingResult, reference: SettingResult, kind: str) -> list[tuple[Any, ...]]:
    rows = []
    for (cell, name), first in item.quantities.items():
        second = reference.get(cell, name)
        if first.statistic is None or second.statistic is None:
            continue
        definition = DEFINITIONS[name]
        if kind == "independent" and (definition.needs_links or name in _NOTHING_FLOWS):
            continue
        own, other = item.places[cell], reference.places[cell]
        common = [seed for seed in own if seed in other]
        a = first.statistic.take([own[seed] for seed in common])
        b = second.statistic.take([other[seed] for seed in common])
        d = difference(a, b)
        if d.n < definition.least:
            d = replace(d, low=NAN, high=NAN)
        better = NAN
        if definition.level == "run":
            better = probability_of_improvement(a.pseudo_values(), b.pseudo_values())
        enough = d.n >= LEAST_SEEDS and np.isfinite(d.low)
        needed = for_difference(Paired(a, b)) if enough else (None,) * 3
        numbers = (d.estimate, d.low, d.high, d.p_value, NAN, better, d.n, *needed)
        note = "" if d.n else "no seed in common"
        rows.append((item.setting, reference.setting, kind, cell, name, *numbers, note))
    return rows
