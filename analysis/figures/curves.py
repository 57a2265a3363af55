"""Draw: what changes over epochs, and the ladder of D, as lines.

A line has its setting's colour; where a panel is one setting, quantities differ in their dashes.
Only the probabilities of operations have the operations' colours, dashed without parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from analysis.data.genotypes import PARAMETERLESS
from analysis.figures.layout import entry, finish, grid, letters, scale
from analysis.figures.palette import GREY, operation_colour, operation_name, wrapped
from analysis.figures.study import Study, Tables, clipped, label, rows, span
from analysis.quantities import label_of
from analysis.statistics.inference import said

ACCURACIES = {"train_accuracy": ":", "valid_accuracy": "-", "derived_accuracy": "--"}
LOSSES = {"train_loss": ":", "valid_loss": "-"}
DYNAMICS = ("architecture_entropy", "architecture_displacement", "transition_displacement",
            "dependence_strength")  # fmt: skip
STEPS = {"d_start": "start", "d_columns": "columns", "d_full": "full"}

MOST_BANDS = 6  # of lines of one panel; more bands hide each other
MOST_LADDERS = 6
BANDS = "bands: 95% intervals over seeds"
NUMBERS = ("setting", "cell", "quantity", "epoch", "estimate", "low", "high", "null_mean")


def _panels(
    frame: pd.DataFrame, panel: str, titles: Mapping[Any, str], line: str,
    style: Callable[[Any], dict[str, Any]], *, band: bool = True, what: str = "",
    limits: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """A panel for each value of one column, a line for each of another, bands, chance dotted.

    style: of a line from its first row; what: a label of one y axis that all panels share.
    """
    figure, axes = grid(len(titles), 3, (2.7, 1.6), between=(0.2 if what else 0.45, 0.6),
                        sharex=bool(what), sharey=bool(what))  # fmt: skip
    first, last = frame["epoch"].min(), frame["epoch"].max()
    margin = 0.03 * (last - first) or 0.5
    ends = ["low", "high"] if band else ["estimate", "estimate"]
    for ax, (key, title) in zip(axes, titles.items(), strict=True):
        own = frame[frame[panel] == key]
        if ax is axes[0] or not what:  # first, as shared axes would be fitted anew at every line
            of = frame if what else own
            seen = (of[column] for column in ("estimate", *ends, "null_mean"))
            ax.set_ylim(limits or span(str(of["quantity"].iloc[0]), *seen))
            ax.set_xlim(first - margin, last + margin)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for _, points in own.groupby(line, sort=False):
            row, x = next(points.itertuples()), points["epoch"]
            look = {"marker": "o" if len(x) == 1 else None, "linewidth": 1.6} | style(row)
            ax.plot(x, points["estimate"], **look)
            if band:
                ax.fill_between(x, *clipped(row.quantity, points[ends]).T, color=look["color"],
                                alpha=0.14, lw=0)  # fmt: skip
            if points["null_mean"].notna().any():
                ax.plot(x, points["null_mean"], ":", color=look["color"], linewidth=1)
        ax.set_title(title)
    for ax in axes[-3:]:
        ax.set_xlabel("epoch (−1: start)" if first < 0 else "epoch")
    figure.supylabel(what, fontsize="small")
    return figure


def _by_setting(tables: Tables, dashes: Mapping[str, str], what: str) -> Figure:
    """A panel for each setting in its colour, a line for each quantity."""
    study = Study(tables)
    frame = rows(tables, "trajectories", *NUMBERS, cell="all", quantity=dashes)
    shown, frame, remark = study.shown(frame)
    figure = _panels(
        frame, "setting", {s: wrapped(study.names[s], letters(2.6), 2) for s in shown}, "quantity",
        lambda row: {"color": study.looks[row.setting]["color"], "linestyle": dashes[row.quantity]},
        what=what,
    )  # fmt: skip
    drawn = [q for q in dashes if q in set(frame["quantity"])]
    entries = [entry(label_of(q, False), linestyle=dashes[q], color=GREY) for q in drawn]
    return finish(figure, entries, said(remark, BANDS))


def accuracy_over_epochs(tables: Tables) -> Figure:
    """Training, relaxed and derived accuracy over epochs."""
    return _by_setting(tables, ACCURACIES, "accuracy (0..1)")


def loss_over_epochs(tables: Tables) -> Figure:
    """Training and relaxed loss over epochs."""
    return _by_setting(tables, LOSSES, "cross-entropy (nats)")


def _together(tables: Tables, frame: pd.DataFrame) -> Figure:
    """A panel for each quantity, a line for each setting and cell kind."""
    study = Study(tables)
    shown, frame, remark = study.shown(frame)
    dashes = dict(zip(sorted(frame["cell"].unique()), ("-", "--", "-."), strict=False))
    band = len(shown) * len(dashes) <= MOST_BANDS
    figure = _panels(
        frame.assign(line=frame["setting"] + "\n" + frame["cell"]), "quantity",
        {q: label(q, letters(2.7)) for q in frame["quantity"].unique()}, "line",
        lambda row: study.looks[row.setting] | {"linestyle": dashes[row.cell]}, band=band,
    )  # fmt: skip
    entries = study.entries(shown)
    if len(dashes) > 1:
        entries += [entry(f"{cell} cell", linestyle=dash) for cell, dash in dashes.items()]
    if frame["null_mean"].notna().any():
        entries.append(entry("by chance", color=GREY, linestyle=":", linewidth=1))
    return finish(figure, entries, said(remark, BANDS * band))


def dynamics(tables: Tables) -> Figure:
    """Entropy, displacements and dependence strength over epochs."""
    return _together(tables, rows(tables, "trajectories", *NUMBERS, cell="all", quantity=DYNAMICS))


def stability_over_epochs(tables: Tables) -> Figure:
    """Agreement and stability over epochs, with what chance gives."""
    frame = rows(tables, "trajectories", *NUMBERS).dropna(subset="estimate")
    return _together(tables, frame[frame["cell"] != "all"])


def operations(tables: Tables, setting: str, cell: str) -> Figure:
    """Probabilities of the operations of every edge over epochs."""
    frame = rows(tables, "operation_probabilities", "sd", setting=setting, cell=cell)
    frame = frame.sort_values(["target", "source"], kind="stable")
    mean, sd = frame["mean"], frame["sd"]
    part = frame["inner"].map({True: "inner", False: "outer"})
    edge = part + " edge " + frame["source"].astype(str) + "→" + frame["target"].astype(str)
    frame = frame.assign(edge=edge, quantity="", estimate=mean, low=mean - sd, high=mean + sd,
                         null_mean=np.nan)  # fmt: skip
    looks = {o: {"color": operation_colour(o), "linestyle": "--" if o in PARAMETERLESS else "-"}
             for o in frame["operation"].unique()}  # fmt: skip
    titles = {edge: edge for edge in frame["edge"].unique()}
    figure = _panels(frame, "edge", titles, "operation", lambda row: looks[row.operation],
                     what="probability (0..1)", limits=(-0.02, 1.02))  # fmt: skip
    entries = [entry(operation_name(o), **look) for o, look in looks.items()]
    n, what = int(frame["n"].max()), "bands: one standard deviation over seeds"
    return finish(figure, entries, f"{setting} · {cell} cell · n={n} · {what}")


def ladder(tables: Tables) -> Figure:
    """How much of a seed's flow the other seeds foretell: start, columns, full.

    Cell kinds are pooled: a seed's D is the mean over them, as both have as many inner edges.
    """
    study, steps = Study(tables), list(STEPS)
    frame = rows(tables, "transfer", "setting", "cell", "run_id", *steps)
    if (frame["cell"] == "pooled").any():
        frame = frame[frame["cell"] == "pooled"]
    collapsed = set(rows(tables, "seed_values", "run_id", collapsed=True)["run_id"])
    frame = frame.groupby(["setting", "run_id"], sort=False)[steps].mean().dropna().reset_index()
    shown, frame, remark = study.shown(frame, MOST_LADDERS, study.primary(frame))
    figure, axes = grid(len(shown), 3, (1.55, 1.7), sharey=True)
    axes[0].set_ylim(0, 1.1 * frame[steps].to_numpy().max())
    thin: dict[str, Any] = {"linewidth": 0.8, "marker": "o", "markersize": 3.5, "linestyle": "-"}
    for ax, setting in zip(axes, shown, strict=True):
        seeds, color = frame[frame["setting"] == setting], study.looks[setting]["color"]
        for run, *values in seeds[["run_id", *steps]].itertuples(index=False):
            face = "white" if run in collapsed else color
            ax.plot(range(3), values, color=color, alpha=0.6, markerfacecolor=face, **thin)
        mean = seeds[steps].mean()
        ax.plot(range(3), mean, color=color, linewidth=3.2, zorder=3, label="mean over seeds",
                path_effects=[withStroke(linewidth=6 * scale(), foreground="white")])  # fmt: skip
        texts = [f"{name}\n{x:.3f}" for name, x in zip(STEPS.values(), mean, strict=True)]
        ax.set_xticks(range(3), texts, fontsize="small")
        ax.set_title(f"{wrapped(setting, letters(1.55), 3)}\n(n={len(seeds)})")
        ax.set_xlim(-0.4, 2.4)
        ax.grid(axis="x", visible=False)
    for ax in axes[::3]:
        ax.set_ylabel("bits to the\nseed's own flow,\nsmaller is better")
    thin["color"] = GREY
    thick, what = thin | {"linewidth": 3.2, "marker": ""}, "mean over seeds (its numbers beneath)"
    entries = [entry(what, **thick), entry("one seed", **thin)]
    if collapsed & set(frame["run_id"]):
        entries.append(entry("one that collapsed", markerfacecolor="white", **thin))
    return finish(figure, entries, remark)
