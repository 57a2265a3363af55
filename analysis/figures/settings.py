"""Draw: what is measured of settings and of their controls, on the rows of `forest`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.forest import Forest, panels_of
from analysis.figures.layout import letters
from analysis.figures.palette import wrapped
from analysis.figures.study import Study, Tables, label, rows, said
from analysis.quantities import label_of

TRANSFER = ("dependence_transfer", "column_transfer", "learned_effect", "flow_effect",
            "choice_transfer")  # fmt: skip
CONTROLLED = ("dependence_transfer", "learned_dependence_stability", "dependence_stability")
# Below these mean displacements a setting hardly moved.
MOVED = {"architecture_displacement": 0.2, "transition_displacement": 0.02}
PSEUDO = "points: one a seed, its jackknife pseudo-value (its own value where a run has one)"
NEEDED = ("setting", "cell", "quantity", "estimate", "low", "high", "null_mean")


def _forest(study: Study, names: Sequence[str], cells: bool) -> tuple[Forest, str]:
    """The rows of these quantities, by cell kind or (`cells` false) of whole runs."""
    found = []
    for table in ("stability", "seed_values", "without_collapsed"):
        frame = rows(study.tables, table, *NEEDED, "value", "collapsed", quantity=names)
        frame = frame[(frame["cell"] != "all") == cells]
        found.append(frame.assign(row=frame["setting"], panel=frame["quantity"]))
    shown, estimates, remark = study.shown(found[0])
    points, without = (f[f["setting"].isin(shown)] for f in found[1:])
    remark = said(remark, PSEUDO * (cells and len(points) > 0))
    return Forest(estimates, points, without, _names(study, shown)), remark


def _names(study: Study, shown: Sequence[str]) -> dict[str, str]:
    """Names of rows: in two lines where there is room for them."""
    few = len(shown) <= 12
    return {s: study.name(s, 32 if few else 44, 1 + few) for s in shown}


NOTHING = rows({}, "", "row", "panel", *NEEDED, "value", "collapsed")


def accuracy(tables: Tables) -> Figure:
    """Accuracy at the last epoch: relaxed, derived and, where a table knows it, benchmark."""
    study, known = Study(tables), rows(tables, "stability", "estimate", quantity="benchmark_test")
    names = ["valid_accuracy", "derived_accuracy"]
    names += ["benchmark_test"] * bool(known["estimate"].notna().any())
    forest, remark = _forest(study, names, cells=False)
    return panels_of(study, forest, names, wide=2.6, remark=remark)


def displacement(tables: Tables) -> Figure:
    """How far architecture and matrices moved from their start."""
    study = Study(tables)
    forest, remark = _forest(study, list(MOVED), cells=False)
    note = "hardly moved, if the mean is left of this"
    return panels_of(study, forest, list(MOVED), wide=3.0, lines=MOVED, note=note, remark=remark)


def stability(tables: Tables) -> Figure:
    """Agreement and stability over seeds: every quantity of cells, with chance values."""
    study, found = Study(tables), rows(tables, "stability", *NEEDED).dropna(subset="estimate")
    names = [q for q in found.loc[found["cell"] != "all", "quantity"].unique() if q not in TRANSFER]
    forest, remark = _forest(study, names, cells=True)
    return panels_of(study, forest, names, remark=remark)


def transfer(tables: Tables) -> Figure:
    """What other seeds learned, and how far it foretells a seed's flow and choices."""
    study, found = Study(tables), rows(tables, "stability", "estimate").dropna(subset="estimate")
    names = [name for name in TRANSFER if name in set(found["quantity"])]
    forest, remark = _forest(study, names, cells=True)
    lines = dict.fromkeys(TRANSFER[:2], 0.0)
    return panels_of(study, forest, names, columns=3, wide=2.4, lines=lines, remark=remark)


def controls(tables: Tables) -> Figure:
    """Differences to the controls, paired by seed."""
    study = Study(tables)
    frame = rows(tables, "comparisons", "cell", "reference", "kind", "low", "high", "difference",
                 "seeds", quantity=CONTROLLED).dropna(subset="difference")  # fmt: skip
    shown, frame, remark = study.shown(frame)
    frame = frame.assign(
        row=frame["setting"] + " − " + frame["reference"] + frame["seeds"].map(" (n={:g})".format),
        panel=frame["quantity"], estimate=frame["difference"], null_mean=np.nan,
        place=frame["setting"].map(shown.index),
    ).sort_values(["kind", "place"], kind="stable")  # fmt: skip
    names = {row: wrapped(row, 44, 2) for row in frame["row"].unique()}
    panels = [q for q in CONTROLLED if q in set(frame["quantity"])]
    labels = {q: wrapped(f"difference in {label(q)}", letters(2.4), 3) for q in panels}
    return panels_of(
        study, Forest(frame, NOTHING, NOTHING, names), panels, columns=3, wide=2.4,
        labels=labels, quantities=False, lines=dict.fromkeys(panels, 0.0),
        remark=said(remark, "right of 0: more in the setting than in its control"),
    )  # fmt: skip


def seeds_needed(tables: Tables) -> Figure:
    """About how many seeds an interval of a width, or a difference, would take."""
    study, ranges = Study(tables), {"estimate": "seeds", "low": "seeds_low", "high": "seeds_high"}
    frame = rows(tables, "seeds_needed", "setting", "cell", "quantity", "goal", "target",
                 "seeds_here", "note", *ranges.values()).dropna(subset="target")  # fmt: skip
    frame = frame[frame["note"].fillna("") == ""]
    targets = frame.groupby(["quantity", "goal"])["target"]
    # The middle one of the targets: others are in the table.
    frame = frame[frame["target"] == targets.transform(lambda t: sorted(set(t))[t.nunique() // 2])]
    shown, frame, remark = study.shown(frame)
    numbers = frame[[*ranges.values()]].astype("Float64").fillna(np.inf)  # more than most
    frame = frame.assign(
        row=frame["setting"], panel=frame["quantity"] + " " + frame["goal"],
        null_mean=frame["seeds_here"].astype(float),
        **{name: numbers[column].astype(float) for name, column in ranges.items()},
    )  # fmt: skip
    what = {"width": "width {:g} of the interval of {}", "difference": "difference of {:g} in {}"}
    labels = {}
    for panel, own in frame.groupby("panel", sort=False):
        q, goal, target = own[["quantity", "goal", "target"]].iloc[0]
        text = f"seeds for {what[goal].format(target, label_of(q, False))}"
        labels[str(panel)] = wrapped(text, letters(2.4), 3)
    forest = Forest(frame, NOTHING, NOTHING, _names(study, shown))
    return panels_of(
        study, forest, list(labels), columns=3, wide=2.4, log=True, labels=labels,
        quantities=False, remark=remark, mark="the seeds there are",
        estimate="about so many seeds, with the range that these seeds leave",
    )  # fmt: skip
