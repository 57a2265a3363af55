"""Draw: what is measured of settings and of their controls, on the rows of `forest`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.compute.cell import TRANSITION_MOVED
from analysis.compute.settings import ARCHITECTURE_MOVED
from analysis.figures.forest import ESTIMATE, SEED, WITHOUT, panels_of
from analysis.figures.palette import wrapped
from analysis.figures.study import Study, Tables, rows, said
from analysis.quantities import label_of

TRANSFER = ("dependence_transfer", "column_transfer", "learned_effect", "flow_effect",
            "choice_transfer")  # fmt: skip
CONTROLLED = ("dependence_transfer", "learned_dependence_stability", "dependence_stability")
MOVED = {"architecture_displacement": ARCHITECTURE_MOVED,
         "transition_displacement": TRANSITION_MOVED}  # fmt: skip
PSEUDO = "points: one a seed, its jackknife pseudo-value (its own value where a run has one)"
DRAWN = ["setting", "cell", "quantity", "estimate", "low", "high", "null_mean", "collapsed"]


def _panels(
    tables: Tables, quantities: Sequence[str], cells: bool = True, remark: str = "", **options: Any
) -> Figure:
    """A panel for each quantity, by cell kind or (`cells` false) of whole runs."""
    study, found = Study(tables), []
    of = {ESTIMATE: "stability", WITHOUT: "without_collapsed", SEED: "seed_values"}
    for kind, table in of.items():
        frame = rows(tables, table, "value", *DRAWN, quantity=quantities)
        if kind == SEED:
            frame = frame.assign(**dict.fromkeys(("estimate", "low", "high"), frame["value"]))
        found.append(frame[(frame["cell"] != "all") == cells][DRAWN].assign(kind=kind))
    every = pd.concat([frame for frame in found if len(frame)])
    shown, frame, first = study.shown(every.assign(row=every["setting"], panel=every["quantity"]))
    remark = said(first, PSEUDO * (cells and len(found[2]) > 0))
    labels = {q: label_of(q) for q in quantities}
    return panels_of(study, frame, _names(study, shown), labels, remark=remark, **options)


def _names(study: Study, shown: Sequence[str]) -> dict[str, str]:
    """Names of rows: in two lines where there is room for them."""
    few = len(shown) <= 12
    return {s: study.name(s, 32 if few else 44, 1 + few) for s in shown}


def _known(tables: Tables) -> dict[str, set[str]]:
    """Every quantity with an estimate, in the table's order, to the cell kinds that it is of."""
    found = rows(tables, "stability", "quantity", "cell", "estimate").dropna(subset="estimate")
    return found.groupby("quantity", sort=False)["cell"].agg(set).to_dict()


def accuracy(tables: Tables) -> Figure:
    """Accuracy at the last epoch: relaxed, derived and, where a table knows it, benchmark."""
    names = ["valid_accuracy", "derived_accuracy"]
    names += ["benchmark_test"] * ("benchmark_test" in _known(tables))
    return _panels(tables, names, cells=False, wide=2.6)


def displacement(tables: Tables) -> Figure:
    """How far architecture and matrices moved from their start."""
    note = "hardly moved, if the mean is left of this"
    return _panels(tables, list(MOVED), cells=False, wide=3.0, lines=MOVED, note=note)


def stability(tables: Tables) -> Figure:
    """Agreement and stability over seeds: every quantity of cells, with chance values."""
    known = {q: cells for q, cells in _known(tables).items() if q not in TRANSFER}
    return _panels(tables, [q for q, cells in known.items() if cells - {"all"}])


def transfer(tables: Tables) -> Figure:
    """What other seeds learned, and how far it foretells a seed's flow and choices."""
    known, lines = _known(tables), dict.fromkeys(TRANSFER[:2], 0.0)
    return _panels(tables, [q for q in TRANSFER if q in known], columns=3, wide=2.4, lines=lines)


def controls(tables: Tables) -> Figure:
    """Differences to the controls, paired by seed."""
    study = Study(tables)
    frame = rows(tables, "comparisons", "reference", "kind", "difference", "seeds", *DRAWN,
                 quantity=CONTROLLED).dropna(subset="difference")  # fmt: skip
    shown, frame, remark = study.shown(frame)
    frame = frame.assign(place=frame["setting"].map(shown.index))
    frame = frame.sort_values(["kind", "place"], kind="stable")
    row = frame["setting"] + " − " + frame["reference"] + frame["seeds"].map(" (n={:g})".format)
    known = [q for q in CONTROLLED if q in set(frame["quantity"])]
    labels = {f"difference in {q}": f"difference in {label_of(q)}" for q in known}
    frame = frame.assign(row=row, panel="difference in " + frame["quantity"], kind=ESTIMATE,
                         estimate=frame["difference"], null_mean=np.nan)  # fmt: skip
    remark = said(remark, "right of 0: more in the setting than in its control")
    return panels_of(study, frame, {r: wrapped(r, 44, 2) for r in row.unique()}, labels, columns=3,
                     wide=2.4, lines=dict.fromkeys(labels, 0.0), remark=remark)  # fmt: skip


def seeds_needed(tables: Tables) -> Figure:
    """About how many seeds an interval of a width, or a difference, would take."""
    study, numbers = Study(tables), ["seeds", "seeds_low", "seeds_high"]
    frame = rows(tables, "seeds_needed", "goal", "target", "note", "seeds_here", *numbers, *DRAWN)
    frame = frame.dropna(subset="target").sort_values("goal", ascending=False, kind="stable")
    # The middle one of the widths: others are in the table. A difference has one target.
    targets = frame[frame["goal"] == "width"].groupby("quantity")["target"].unique()
    middle = frame["quantity"].map({q: sorted(t)[len(t) // 2] for q, t in targets.items()})
    frame = frame[(frame["goal"] == "difference") | (frame["target"] == middle)]
    shown, frame, remark = study.shown(frame)
    labels = [
        f"seeds to see the difference {row.note} in {label_of(row.quantity, False)}"
        if row.goal == "difference"
        else f"seeds for width {row.target:g} of the interval of {label_of(row.quantity, False)}"
        for row in frame.itertuples()
    ]
    known = frame[numbers].astype("Float64").fillna(np.inf).astype(float)  # more than most
    frame = frame.assign(row=frame["setting"], panel=labels, kind=ESTIMATE,
                         null_mean=frame["seeds_here"].astype(float), estimate=known["seeds"],
                         low=known["seeds_low"], high=known["seeds_high"])  # fmt: skip
    return panels_of(
        study, frame, _names(study, shown), {label: label for label in labels}, columns=3, wide=2.4,
        log=True, remark=remark, mark="the seeds there are",
        estimate="about so many seeds, with the range that these seeds leave",
    )  # fmt: skip
