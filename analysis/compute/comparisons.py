"""Every setting against its controls, paired by seed.

Three references: `independent` (DARTS: no dependence at all), `placebo` (the same capacity, but
nothing flows) and `frozen` (matrices that cannot learn). A setting's placebo and frozen control
must have its sharing, initialisation and rates; where there is none, `Comparison.note` says so
and nothing is compared. Per-run quantities are compared by swapping labels within a seed,
quantities of whole settings by the paired jackknife-t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.compute.stability import ALL, HEADLINE, LINK_QUANTITIES, SettingStability
from analysis.statistics.inference import (
    NAN,
    Difference,
    holm,
    jackknife_difference,
    paired_difference,
    probability_of_improvement,
)
from analysis.statistics.quantities import Quantity

REFERENCES = ("independent", "placebo", "frozen")

MATRIX_COLUMNS = ("sharing", "init", "init_strength", "architecture_lr", "transition_lr")
"""A control of the matrices has these in common with the setting, else it is no control."""

FROZEN_COLUMNS = ("sharing", "init", "init_strength", "architecture_lr")
"""The rate of frozen matrices means nothing."""

OTHER_COLUMNS = (
    "attention",
    "attention_lr",
    "own_weight",
    "temperature",
    "stop_gradient",
    "architecture_lr",
)
"""Among several controls, the one that has most of these in common is taken."""

_NO_MATRICES = (*LINK_QUANTITIES, "transition_displacement", "dependence_strength")


class Comparison(NamedTuple):
    """setting minus its reference, in one quantity of one cell kind.

    kind: which of REFERENCES. improvement: the probability that a run of the setting has the
    larger value, NaN for quantities of whole settings. corrected: the p-value after Holm's
    correction over all comparisons of this quantity with this kind of reference.
    """

    setting: str
    reference: str
    kind: str
    cell: str
    quantity: str
    difference: Difference
    corrected: float
    improvement: float
    note: str


def controls(settings: pd.DataFrame, setting: str) -> dict[str, str | None]:
    """Each kind of reference to the setting that is it, None where the study has none.

    settings: one row per setting with the contract's columns of `runs`, indexed by setting.
    """
    own = settings[settings.index == setting].iloc[0]
    others = settings.drop(index=setting)
    found: dict[str, str | None] = {}
    frozen = others["trainable"].eq(False) & others["model"].eq("transition")
    candidates = {
        "independent": others[others["model"] == "independent"],
        "placebo": _alike(others[others["model"] == "placebo"], own, MATRIX_COLUMNS),
        "frozen": _alike(others[frozen], own, FROZEN_COLUMNS),
    }
    if own["model"] == "independent":
        candidates = {"independent": candidates["independent"]}
    elif own["model"] == "placebo":
        candidates.pop("placebo")
    for kind, frame in candidates.items():
        common = sum(
            (frame[c].eq(own[c]) | (frame[c].isna() & pd.isna(own[c]))).astype(int)
            for c in OTHER_COLUMNS
        )
        # Among equals the smallest run_id decides, not the name: renaming changes nothing.
        best = frame.assign(common=common).sort_values(
            ["common", "run_id"], ascending=[False, True]
        )
        found[kind] = str(best.index[0]) if len(best) else None
    return found


def _alike(frame: pd.DataFrame, own: pd.Series, columns: Sequence[str]) -> pd.DataFrame:
    keep = pd.Series(True, index=frame.index)
    for column in columns:
        keep &= frame[column].eq(own[column]) | (frame[column].isna() & pd.isna(own[column]))
    # What learns is compared with a placebo that could learn as well.
    learns = pd.isna(own["trainable"]) or bool(own["trainable"])
    if not frame.empty and frame["model"].iloc[0] == "placebo" and learns:
        keep &= ~frame["trainable"].eq(False)
    return frame[keep]


def compare(items: Sequence[SettingStability], runs: pd.DataFrame) -> tuple[Comparison, ...]:
    """Every setting against each of its controls, in every quantity that both have.

    runs: rows of `runs` of these settings, for what distinguishes them. A control that is
    missing gives one Comparison of the headline quantity with its note and no numbers.
    """
    settings = runs.drop_duplicates("setting").set_index("setting").sort_index()
    by_name = {item.setting: item for item in items}
    found: list[Comparison] = []
    for item in items:
        for kind, reference in controls(settings, item.setting).items():
            if reference is None:
                if item.model == "transition" and settings.loc[item.setting, "trainable"]:
                    found += [_absent(item, kind)] if kind == "placebo" else []
                continue
            found += _pair(item, by_name[reference], kind)
    corrected = np.full(len(found), NAN)
    families: dict[tuple[str, str], list[int]] = {}
    for index, c in enumerate(found):
        families.setdefault((c.kind, c.quantity), []).append(index)
    for indices in families.values():
        corrected[indices] = holm([found[i].difference.p_value for i in indices])
    return tuple(c._replace(corrected=float(p)) for c, p in zip(found, corrected, strict=True))


def _absent(item: SettingStability, kind: str) -> Comparison:
    note = "no placebo with the same sharing, init and rates in this study"
    nothing = Difference(NAN, NAN, NAN, NAN, 0)
    cell = item.sample.cells[0] if item.sample.cells else "normal"
    return Comparison(item.setting, "", kind, cell, HEADLINE, nothing, NAN, NAN, note)


def _pair(item: SettingStability, reference: SettingStability, kind: str) -> list[Comparison]:
    found = []
    for (cell, name), first in item.quantities.items():
        second = reference.get(cell, name)
        if not (first.known and second.known) or name.endswith("_iqm"):
            continue
        if kind == "independent" and name in _NO_MATRICES:
            continue
        compared = paired(item, first, reference, second, cell)
        if compared is None:
            continue
        difference, improvement = compared
        note = "" if difference.n else "no seed in common"
        found.append(
            Comparison(
                item.setting, reference.setting, kind, cell, name,
                difference, NAN, improvement, note,
            )
        )  # fmt: skip
    return found


def paired(
    item: SettingStability,
    first: Quantity,
    reference: SettingStability,
    second: Quantity,
    cell: str,
) -> tuple[Difference, float] | None:
    """The difference over the seeds that both settings have, and the improvement's probability."""
    seeds = [
        [tuple(s) for s in (x.seeds if cell == ALL else x.sample.seeds).tolist()]
        for x in (item, reference)
    ]
    places = [{seed: i for i, seed in enumerate(of)} for of in seeds]
    common = [s for s in places[0] if s in places[1]]
    index = [np.array([p[s] for s in common], dtype=int) for p in places]
    if first.values is not None and second.values is not None:
        x, y = first.values[index[0]], second.values[index[1]]
        return paired_difference(x, y), probability_of_improvement(x, y)
    if first.agreement is not None and second.agreement is not None:
        a, b = first.agreement.take(index[0]), second.agreement.take(index[1])
        return jackknife_difference(a, b), NAN
    return None


def table(items: Sequence[Comparison]) -> pd.DataFrame:
    """The `comparisons` table: one row per setting, reference, cell and quantity."""
    columns = [
        "setting", "reference", "kind", "cell", "quantity", "difference", "low", "high",
        "p_value", "p_holm", "probability_of_improvement", "seeds", "note",
    ]  # fmt: skip
    rows = [
        (*c[:5], *c.difference[:4], c.corrected, c.improvement, c.difference.n, c.note)
        for c in items
    ]
    return pd.DataFrame(rows, columns=columns)
