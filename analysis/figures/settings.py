"""Draw: what is measured of settings and of their controls, on the rows of `forest`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.forest import NEEDED, Forest, panels_of
from analysis.figures.layout import Study, Tables, label, letters, rows
from analysis.figures.palette import wrapped
from analysis.quantities import label_of

TRANSFER = (
    "dependence_transfer",
    "column_transfer",
    "learned_effect",
    "flow_effect",
    "choice_transfer",
)
MOVED = {"architecture_displacement": 0.2, "transition_displacement": 0.02}
"""Below these mean displacements a setting hardly moved."""


def of_stability(
    tables: Tables, study: Study, quantities: Sequence[str], cells: bool
) -> tuple[Forest, str]:
    """The rows of these quantities, by cell kind or (`cells` false) of whole runs."""
    found = []
    for table in ("stability", "seed_values", "without_collapsed"):
        frame = rows(tables, table, *NEEDED, "value", "collapsed", quantity=quantities)
        frame = frame[(frame["cell"] != "all") == cells]
        found.append(frame.assign(row=frame["setting"], panel=frame["quantity"]))
    shown, remark = study.shown(found[0])
    frames = [frame[frame["setting"].isin(shown)] for frame in found]
    return Forest(*frames, names_of(study, shown)), remark


def names_of(study: Study, shown: Sequence[str]) -> dict[str, str]:
    """Names of rows: in two lines where there is room for them."""
    few = len(shown) <= 12
    return {s: study.name(s, 32 if few else 44, 1 + few) for s in shown}


def accuracy(tables: Tables) -> Figure:
    """Relaxed, derived and, where a table knows them, benchmark accuracies by setting."""
    known = rows(tables, "stability", "estimate", quantity="benchmark_test")["estimate"]
    names = ["valid_accuracy", "derived_accuracy"] + ["benchmark_test"] * bool(known.notna().any())
    study = Study(tables)
    forest, remark = of_stability(tables, study, names, cells=False)
    return panels_of(study, forest, names, wide=2.6, remark=remark)


def displacement(tables: Tables) -> Figure:
    """How far edges and matrices moved, with the lines left of which they hardly did."""
    study = Study(tables)
    forest, remark = of_stability(tables, study, list(MOVED), cells=False)
    note = "hardly moved, if the mean is left of the dashed line"
    return panels_of(study, forest, list(MOVED), wide=3.0, lines=MOVED, note=note, remark=remark)


def stability_quantities(tables: Tables) -> list[str]:
    """All agreements and stabilities of cells that any setting has, but those of transfer."""
    found = rows(tables, "stability", *NEEDED).dropna(subset="estimate")
    names = found.loc[found["cell"] != "all", "quantity"].unique()
    return [name for name in names if name not in TRANSFER]


def stability(tables: Tables) -> Figure:
    """Every agreement and stability by setting, with chance values and jackknife pseudo-values."""
    study, names = Study(tables), stability_quantities(tables)
    forest, remark = of_stability(tables, study, names, cells=True)
    said = "points are jackknife pseudo-values, one a seed" if len(forest.points) else ""
    return panels_of(study, forest, names, remark="; ".join(filter(None, [remark, said])))


def transfer(tables: Tables) -> Figure:
    """How far others' tables foretell a seed's flow: the headline and what stands beside it."""
    study = Study(tables)
    present = set(rows(tables, "stability", "estimate").dropna(subset="estimate")["quantity"])
    names = [name for name in TRANSFER if name in present]
    forest, remark = of_stability(tables, study, names, cells=True)
    said = "points are jackknife pseudo-values, one a seed" if len(forest.points) else ""
    lines = dict.fromkeys(TRANSFER[:2], 0.0)
    return panels_of(study, forest, names, columns=3, wide=2.4, lines=lines,
                     remark="; ".join(filter(None, [remark, said])))  # fmt: skip


CONTROLLED = ("dependence_transfer", "learned_dependence_stability", "dependence_stability")


def controls(tables: Tables) -> Figure:
    """Differences to the controls, of the headline and of both stabilities, with Holm's p."""
    study = Study(tables)
    frame = rows(tables, "comparisons", "cell", "reference", "kind", "low", "high", "p_holm",
                 "difference", "seeds", quantity=CONTROLLED).dropna(subset="difference")  # fmt: skip
    shown, remark = study.shown(frame)
    frame = frame[frame["setting"].isin(shown)]
    order = {name: i for i, name in enumerate(shown)}
    frame = frame.sort_values(
        ["kind", "setting"], key=lambda c: c.map(order) if c.name == "setting" else c, kind="stable"
    )
    frame = frame.assign(
        row=frame["setting"] + " − " + frame["reference"] + " (n=" + frame["seeds"].astype(str) + ")", panel=frame["quantity"],
        estimate=frame["difference"], null_mean=np.nan,
    )  # fmt: skip
    names = {row: wrapped(row, 44, 2) for row in frame["row"].unique()}
    present = [q for q in CONTROLLED if q in set(frame["quantity"])]
    nothing = rows({}, "", "row", "panel", *NEEDED, "value", "collapsed")
    said = "right of 0: more in the setting than in its control"
    return panels_of(
        study, Forest(frame, nothing, nothing, names), present, columns=3, wide=2.4,
        lines=dict.fromkeys(present, 0.0), remark="; ".join(filter(None, [remark, said])),
        labels={q: wrapped(f"difference in {label(q)}", letters(2.4), 3) for q in present},
    )  # fmt: skip


def seeds_needed(tables: Tables) -> Figure:
    """The range of seeds that a width of interval, or a difference, would take."""
    study = Study(tables)
    frame = rows(tables, "seeds_needed", "setting", "cell", "quantity", "goal", "target", "seeds_low",
                 "seeds", "seeds_high", "seeds_here", "note")  # fmt: skip
    frame = frame[frame["note"].fillna("").eq("") & frame["target"].notna()]
    targets = frame.groupby(["quantity", "goal"], sort=False)["target"].agg(
        lambda t: sorted(set(t))[len(set(t)) // 2]
    )
    chosen = frame.join(targets.rename("chosen"), on=["quantity", "goal"])
    frame = chosen[chosen["target"] == chosen["chosen"]]
    shown, remark = study.shown(frame)
    frame = frame[frame["setting"].isin(shown)]
    frame = frame.assign(
        row=frame["setting"], panel=frame["quantity"] + " " + frame["goal"],
        null_mean=frame["seeds_here"].astype(float),
        **{  # what is not known is more than most
            name: frame[column].astype("Float64").fillna(np.inf).astype(float)
            for name, column in (("estimate", "seeds"), ("low", "seeds_low"), ("high", "seeds_high"))
        },
    )  # fmt: skip
    what = {"width": "width {:g} of the interval of {}", "difference": "difference of {:g} in {}"}
    labels = {
        panel: wrapped(f"seeds for {what[goal].format(target, label_of(q, False))}", letters(2.4), 3)
        for panel, q, goal, target in frame[["panel", "quantity", "goal", "target"]]
        .drop_duplicates("panel").itertuples(index=False)
    }  # fmt: skip
    nothing = rows({}, "", "row", "panel", *NEEDED, "value", "collapsed")
    names = names_of(study, shown)
    return panels_of(
        study, Forest(frame, nothing, nothing, names), list(labels), columns=3, wide=2.4,
        labels=labels, remark=remark, log=True, mark="the seeds there are",
        estimate="about so many seeds, with the range that these seeds leave",
    )  # fmt: skip
