"""Draw: what changes over epochs, and the ladder of D, as lines.

A line has its setting's colour; where a panel is one setting, quantities differ in their dashes.
Only the probabilities of operations have the operations' colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from analysis.figures.layout import (
    Study,
    Tables,
    cells_of,
    clipped,
    entry,
    finish,
    grid,
    label,
    letters,
    rows,
    said,
    scale,
    span,
)
from analysis.figures.palette import (
    DARK,
    GREY,
    operation_colour,
    operation_name,
    operation_style,
    wrapped,
)
from analysis.quantities import label_of

ACCURACIES = {"train_accuracy": ":", "valid_accuracy": "-", "derived_accuracy": "--"}
LOSSES = {"train_loss": ":", "valid_loss": "-"}
DYNAMICS = (
    "architecture_entropy",
    "architecture_displacement",
    "transition_displacement",
    "dependence_strength",
)

MOST_BANDS = 6
"""Lines of one panel that have their bands; more bands hide each other."""

MOST_LADDERS = 6
STEPS = {"d_start": "start", "d_columns": "columns", "d_full": "full"}

_NUMBERS = ("setting", "cell", "epoch", "estimate", "low", "high", "null_mean", "seeds")


def _line(ax: Axes, frame: pd.DataFrame, style: Mapping[str, Any], band: bool) -> None:
    """One line over epochs with its band, and dotted what chance gives where that is known."""
    x, quantity = frame["epoch"], frame["quantity"].iloc[0]
    single = {"marker": "o"} if len(frame) == 1 else {}
    ax.plot(x, frame["estimate"], **({"linewidth": 1.6} | dict(style) | single))
    if band:
        ends = (clipped(quantity, frame[end]) for end in ("low", "high"))
        ax.fill_between(x, *ends, color=style["color"], alpha=0.14, linewidth=0)
    if frame["null_mean"].notna().any():
        ax.plot(x, frame["null_mean"], ":", color=style["color"], linewidth=1, alpha=0.8)


def _ends(ax: Axes, epochs: pd.Series) -> None:
    margin = 0.03 * float(np.ptp(epochs)) or 0.5
    ax.set_xlim(epochs.min() - margin, epochs.max() + margin)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _label_epochs(axes: Sequence[Axes], columns: int, epochs: pd.Series) -> None:
    for ax in axes[-columns:]:
        ax.set_xlabel("epoch (−1: start)" if epochs.min() < 0 else "epoch")


def by_setting(tables: Tables, dashes: Mapping[str, str], what: str) -> Figure:
    """A panel for each setting in its colour, a line for each quantity, with 95% bands."""
    study = Study(tables)
    frame = rows(tables, "trajectories", *_NUMBERS, cell="all", quantity=dashes)
    shown, remark = study.shown(frame)
    frame = frame[frame["setting"].isin(shown)]
    figure, axes = grid(len(shown), 3, (2.7, 1.6), sharex=True, sharey=True)
    # Limits first: shared axes would else be fitted anew at every line.
    _ends(axes[0], frame["epoch"])
    ends = (clipped(next(iter(dashes)), frame[end]) for end in ("low", "high"))
    axes[0].set_ylim(*span(frame["estimate"], *ends))
    for ax, (setting, lines) in zip(axes, _groups(frame, "setting", shown), strict=True):
        color = study.looks[setting].color
        for quantity, line in _groups(lines, "quantity", dashes):
            _line(ax, line, {"color": color, "linestyle": dashes[quantity]}, band=True)
        ax.set_title(study.name(setting, letters(2.6), 2), fontsize="small")
    _label_epochs(axes, 3, frame["epoch"])
    figure.supylabel(what, fontsize="small")
    entries = [
        entry(label_of(quantity, False), color=GREY, linestyle=dash)
        for quantity, dash in dashes.items()
        if quantity in set(frame["quantity"])
    ]
    return finish(figure, entries, said(remark, "bands: 95% intervals over seeds"))


def accuracy_over_epochs(tables: Tables) -> Figure:
    """Training, relaxed and derived accuracy, a panel for each setting."""
    return by_setting(tables, ACCURACIES, "accuracy (0..1)")


def loss_over_epochs(tables: Tables) -> Figure:
    """Training and relaxed loss, a panel for each setting."""
    return by_setting(tables, LOSSES, "cross-entropy (nats)")


def together(tables: Tables, frame: pd.DataFrame, quantities: Sequence[str]) -> Figure:
    """A panel for each quantity, a line for each setting and cell kind."""
    study = Study(tables)
    shown, remark = study.shown(frame)
    frame = frame[frame["setting"].isin(shown)]
    cells = cells_of(frame)
    dashes = dict(zip(cells, ("-", "--", "-."), strict=False))
    figure, axes = grid(len(quantities), 3, (2.7, 1.8), between=(0.45, 0.6))
    banded = len(shown) * len(cells) <= MOST_BANDS
    for ax, (quantity, lines) in zip(axes, _groups(frame, "quantity", quantities), strict=True):
        _ends(ax, frame["epoch"])
        ends = [clipped(quantity, lines[c]) for c in ("low", "high")] if banded else [[], []]
        ax.set_ylim(*span(lines["estimate"], *ends, lines["null_mean"]))
        for setting, of_setting in _groups(lines, "setting", shown):
            for cell, line in of_setting.groupby("cell"):
                style = study.looks[setting].line() | {"linestyle": dashes[cell]}
                _line(ax, line, style, banded)
        ax.set_title(label(quantity, 2.7), fontsize="small")
    _label_epochs(axes, 3, frame["epoch"])
    entries: list[Line2D] = study.entries(shown)
    if len(cells) > 1:
        entries += [entry(f"{cell} cell", linestyle=dash) for cell, dash in dashes.items()]
    if frame["null_mean"].notna().any():
        entries.append(entry("by chance", color=GREY, linestyle=":", linewidth=1))
    return finish(figure, entries, said(remark, "bands: 95% intervals over seeds" * banded))


def dynamics(tables: Tables) -> Figure:
    """Entropy, displacements and dependence strength over epochs."""
    frame = rows(tables, "trajectories", *_NUMBERS, cell="all", quantity=DYNAMICS)
    return together(tables, frame, [q for q in DYNAMICS if q in set(frame["quantity"])])


def stability_over_epochs(tables: Tables) -> Figure:
    """Every agreement and stability over epochs, with what chance gives."""
    frame = rows(tables, "trajectories", *_NUMBERS, "quantity").dropna(subset="estimate")
    frame = frame[frame["cell"] != "all"]
    return together(tables, frame, list(frame["quantity"].unique()))


def _groups(
    frame: pd.DataFrame, column: str, order: Sequence[str] | Mapping[str, Any]
) -> list[tuple[str, pd.DataFrame]]:
    """Groups of rows in a given order; those without rows are left out."""
    groups = dict(list(frame.groupby(column)))
    return [(name, groups[name]) for name in order if name in groups]


def operations(tables: Tables, setting: str, cell: str) -> Figure:
    """A panel for each edge of a cell kind: mean probability of every operation, band of one sd."""
    frame = rows(tables, "operation_probabilities", "sd", "null_mean", setting=setting, cell=cell)
    frame = frame.assign(quantity="", estimate=frame["mean"], low=frame["mean"] - frame["sd"],
                         high=frame["mean"] + frame["sd"])  # fmt: skip
    edges = list(frame.groupby(["target", "source", "inner"]))
    figure, axes = grid(len(edges), 3, (2.7, 1.4), sharex=True, sharey=True)
    _ends(axes[0], frame["epoch"])
    axes[0].set_ylim(-0.02, 1.02)
    names = list(frame["operation"].unique())
    looks = {o: {"color": operation_colour(o), "linestyle": operation_style(o)} for o in names}
    for ax, ((target, source, inner), lines) in zip(axes, edges, strict=True):
        for operation, line in _groups(lines, "operation", names):
            _line(ax, line, looks[operation], band=True)
        ax.set_title(f"{'inner' if inner else 'outer'} edge {source}→{target}", fontsize="small")
    _label_epochs(axes, 3, frame["epoch"])
    figure.supylabel("probability (0..1)", fontsize="small")
    entries = [entry(operation_name(o), **look) for o, look in looks.items()]
    seeds = f"n={int(frame['n'].max())}"
    remark = f"{setting} · {cell} cell · {seeds} · bands: one standard deviation over seeds"
    return finish(figure, entries, remark)


def ladder(tables: Tables) -> Figure:
    """D of every seed under start, columns and full: how much of its flow others foretell.

    Cell kinds are pooled: a seed's D is the mean over them, as both have as many inner edges.
    """
    study = Study(tables)
    frame = rows(tables, "transfer", "setting", "cell", "run_id", *STEPS)
    if (frame["cell"] == "pooled").any():
        frame = frame[frame["cell"] == "pooled"]
    collapsed = rows(tables, "seed_values", "run_id", collapsed=True)["run_id"]
    frame = frame.groupby(["setting", "run_id"], sort=False)[list(STEPS)].mean().reset_index()
    shown, remark = study.shown(frame.dropna(), MOST_LADDERS, study.primary(tables, frame))
    figure, axes = grid(len(shown), 3, (1.55, 1.7), sharey=True)
    for ax, setting in zip(axes, shown, strict=True):
        seeds = frame[frame["setting"] == setting].dropna()
        color = study.looks[setting].color
        for run, *values in seeds[["run_id", *STEPS]].itertuples(index=False):
            face = "white" if run in set(collapsed) else color
            ax.plot(range(3), values, color=color, linewidth=0.8, alpha=0.6, marker="o",
                    markersize=3.5, markerfacecolor=face, label="one seed")  # fmt: skip
        mean = seeds[list(STEPS)].mean()
        ax.plot(range(3), mean, color=color, linewidth=3.2, zorder=3, label="mean over seeds",
                path_effects=[withStroke(linewidth=6 * scale(), foreground="white")])  # fmt: skip
        name = wrapped(setting, letters(1.45), 3)
        ax.set_title(f"{name}\n(n={len(seeds)})", fontsize="small")
        steps = [f"{name}\n{value:.3f}" for name, value in zip(STEPS.values(), mean, strict=True)]
        ax.set_xticks(range(3), steps, fontsize="small")
        ax.set_xlim(-0.4, 2.4)
        ax.grid(axis="x", visible=False)
    axes[0].set_ylim(
        0, 1.12 * float(frame.loc[frame["setting"].isin(shown), list(STEPS)].max().max())
    )
    figure.supylabel("D in bits to the seed's own flow\n(smaller is better)", fontsize="small")
    entries: list[Artist] = [
        entry("mean over seeds (its numbers beneath)", color=GREY, linestyle="-", linewidth=3.2),
        entry("one seed", color=GREY, linestyle="-", linewidth=0.8, marker="o", markersize=3.5),
    ]
    if frame["run_id"].isin(collapsed).any():
        entries.append(entry("one that collapsed", color=GREY, linestyle="-", linewidth=0.8,
                             marker="o", markersize=3.5, markerfacecolor="white"))  # fmt: skip
    return finish(figure, entries, remark)
