"""Draw: result objects to matplotlib figures. Nothing is computed here and no file is read.

Every function takes result objects of `summary` or `trajectories` and gives a matplotlib
Figure that belongs to no pyplot state. Matrices are drawn in `heatmaps`, cells in
`cell_drawing`, tuning trials in `tuning_figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.compute.summary import ARCHITECTURE_MOVED, TRANSITION_MOVED, SettingSummary
from analysis.compute.trajectories import Curve, EdgeCurve, OperationCurves
from analysis.figures.palette import (
    INTERVAL,
    QUANTITY_COLOURS,
    QUANTITY_NAMES,
    QUANTITY_STYLES,
    drawing,
    grid,
    legend,
    operation_colour,
    operation_name,
    operation_style,
    setting_style,
    wrapped,
)
from analysis.statistics.metrics import Estimate


def accuracy_by_setting(summaries: Sequence[SettingSummary]) -> Figure:
    """Every seed as a dot with mean and interval: relaxed, derived, benchmark where known."""
    quantities = ["valid_accuracy", "derived_accuracy"]
    if any(s.has_benchmark for s in summaries):
        quantities.append("benchmark_test")
    with drawing():
        figure, axes = _rows_per_setting(summaries, quantities)
        legend(figure, axes, 2)
    return figure


def displacement_by_setting(summaries: Sequence[SettingSummary]) -> Figure:
    """How far edges and matrices moved, every seed a dot, with the lines of `hardly moved`."""
    quantities = ["architecture_displacement", "transition_displacement"]
    with drawing():
        figure, axes = _rows_per_setting(summaries, quantities)
        for ax, threshold in zip(axes, (ARCHITECTURE_MOVED, TRANSITION_MOVED), strict=True):
            ax.axvline(
                threshold,
                color="#cc3311",
                linestyle="--",
                linewidth=1.2,
                zorder=1,
                label="hardly moved if the mean is left of this",
            )
            # a little wider, so that the last label does not meet the next panel's first
            ax.set_xlim(0, max(1.06 * ax.get_xlim()[1], 1.25 * threshold))
            ax.set_title(f"dashed line at {threshold:g}", fontsize=8.5)
        legend(figure, axes, 3)
    return figure


def _rows_per_setting(
    summaries: Sequence[SettingSummary], quantities: Sequence[str]
) -> tuple[Figure, list[Axes]]:
    size = (3.1, 0.35 + 0.5 * len(summaries))
    figure, axes = grid(len(quantities), len(quantities), size, left=2.6, bottom=0.95, sharey=True)
    for ax, quantity in zip(axes, quantities, strict=True):
        for row, summary in enumerate(summaries):
            _dots(ax, row, summary.estimates[quantity], setting_style(row)["color"])
        ax.set_xlabel(_axis_name(quantity))
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.grid(axis="y", visible=False)
    names = [f"{wrapped(s.setting, 34, 2)} (n={s.n})" for s in summaries]
    axes[0].set_yticks(range(len(summaries)), names, fontsize=8.5)
    axes[0].set_ylim(len(summaries) - 0.4, -0.6)
    return figure, axes


def _dots(ax: Axes, row: int, e: Estimate, colour: object) -> None:
    if e.n == 0:
        ax.text(
            0.5,
            row,
            "not applicable",
            transform=ax.get_yaxis_transform(),
            ha="center",
            va="center",
            fontsize=8,
            color="#777777",
            style="italic",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
        return
    # Dots are spread vertically in seed order: the same seed lies at the same height.
    offsets = np.linspace(-0.13, 0.13, e.n) if e.n > 1 else np.zeros(1)
    ax.plot(
        e.values,
        row - 0.12 + offsets,
        "o",
        color=colour,
        alpha=0.6,
        markersize=4,
        markeredgewidth=0,
        label="one seed" if row == 0 else None,
    )
    error = [[e.mean - e.low], [e.high - e.mean]] if e.n > 1 else None
    ax.errorbar(
        [e.mean],
        [row + 0.24],
        xerr=error,
        fmt="D",
        color="#222222",
        markersize=4.5,
        capsize=3,
        linewidth=1.4,
        label=f"mean, {INTERVAL}" if row == 0 else None,
    )


def _axis_name(quantity: str) -> str:
    name = QUANTITY_NAMES.get(quantity, quantity.replace("_", " "))
    return name if "(" in name else f"{name} (0..1)"


def curves_by_setting(
    curves: Mapping[str, Sequence[Curve]], y_label: str, columns: int = 3
) -> Figure:
    """One panel per setting, its quantities as lines with the interval as a band.

    curves: setting to its curves; all panels share both axes.
    """
    with drawing():
        figure, axes = grid(
            len(curves), columns, (3.3, 1.9), top=0.55, gap=(0.25, 0.6), sharex=True, sharey=True
        )
        for ax, (setting, lines) in zip(axes, curves.items(), strict=True):
            for curve in lines:
                name = QUANTITY_NAMES.get(curve.quantity, curve.quantity)
                colour = QUANTITY_COLOURS.get(curve.quantity, "#222222")
                style = QUANTITY_STYLES.get(curve.quantity, "-")
                _line_with_band(ax, curve, name, color=colour, linestyle=style)
            ax.set_title(f"{wrapped(setting, 46, 2)} ({_n(lines)})", fontsize=8.5)
        _label_borders(axes, columns, "epoch", y_label)
        legend(figure, axes, 3)
    return figure


def curves_together(panels: Mapping[str, Sequence[Curve]]) -> Figure:
    """One panel per quantity, all settings as lines; bands while they can be told apart."""
    settings = max(len(lines) for lines in panels.values())
    foot = 0.75 + 0.2 * -(-settings // 2)
    with drawing():
        figure, axes = grid(len(panels), 2, (4.6, 2.3), top=0.15, bottom=foot, gap=(0.75, 0.5))
        for ax, (quantity, lines) in zip(axes, panels.items(), strict=True):
            for index, curve in enumerate(lines):
                if curve.epochs.size:
                    label = f"{wrapped(curve.setting, 60, 1)} ({_n([curve])})"
                    band = len(lines) <= 6
                    _line_with_band(ax, curve, label, band=band, **setting_style(index))
            ax.set(xlabel="epoch", ylabel=QUANTITY_NAMES.get(quantity, quantity))
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        legend(figure, axes, 2)
    return figure


def _line_with_band(ax: Axes, curve: Curve, label: str, band: bool = True, **style: Any) -> None:
    marker = "o" if curve.epochs.size == 1 else None
    ax.plot(curve.epochs, curve.mean, label=label, marker=marker, linewidth=1.6, **style)
    if band:
        ax.fill_between(
            curve.epochs, curve.low, curve.high, color=style.get("color"), alpha=0.16, linewidth=0
        )


def _n(lines: Sequence[Curve | EdgeCurve]) -> str:
    counts = [n for line in lines for n in line.n]
    if not counts:
        return "n=0"
    low, high = min(counts), max(counts)
    return f"n={high}" if low == high else f"n={low} to {high}"


def operation_probabilities(curves: OperationCurves, cell: str, columns: int = 3) -> Figure:
    """One panel per edge of a cell kind: mean probability per operation, band of one sd."""
    edges = [e for e in curves.edges if e.cell == cell]
    with drawing():
        figure, axes = grid(len(edges), columns, (3.3, 1.75), top=0.75, sharex=True, sharey=True)
        # Limits first: shared axes would else be fitted anew at every line.
        axes[0].set(xlim=_epoch_limits([e.epochs for e in edges]), ylim=(-0.02, 1.02))
        for ax, edge in zip(axes, edges, strict=True):
            for k, operation in enumerate(edge.operations):
                mean, sd = edge.mean[:, k], edge.sd[:, k]
                colour, style = operation_colour(operation), operation_style(operation)
                marker = "o" if edge.epochs.size == 1 else None
                ax.plot(
                    edge.epochs,
                    mean,
                    style,
                    color=colour,
                    linewidth=1.6,
                    marker=marker,
                    label=operation_name(operation),
                )
                ax.fill_between(
                    edge.epochs, mean - sd, mean + sd, color=colour, alpha=0.13, linewidth=0
                )
            kind = "inner" if edge.inner else "outer"
            ax.set_title(f"{kind} edge {edge.source}→{edge.target}")
        start = " (−1: start)" if edges[0].epochs[0] == -1 else ""
        _label_borders(axes, columns, f"epoch{start}", "probability")
        legend(figure, axes, 8)
        figure.suptitle(
            f"{wrapped(curves.setting, 90, 1)} · {cell} cell · {_n(edges)}",
            y=1 - 0.12 / figure.get_figheight(),
            va="top",
            fontsize=10.5,
        )
    return figure


def _epoch_limits(epochs: Sequence[np.ndarray]) -> tuple[float, float]:
    """The span of all epochs with a small margin at both ends."""
    low, high = min(e[0] for e in epochs), max(e[-1] for e in epochs)
    margin = 0.03 * (high - low) or 0.5
    return low - margin, high + margin


def _label_borders(axes: Sequence[Axes], columns: int, x: str, y: str) -> None:
    """Label the left column and, in every column, the lowest panel; epochs are integers."""
    for index, ax in enumerate(axes):
        if index % columns == 0:
            ax.set_ylabel(y)
        if index + columns >= len(axes):
            ax.set_xlabel(x)
            ax.tick_params(labelbottom=True)
    axes[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))


def genotype_counts(summaries: Sequence[SettingSummary]) -> Figure:
    """One bar per setting, split into its distinct genotypes, the most frequent first."""
    with drawing():
        size = (6.2, 0.3 + 0.4 * len(summaries))
        figure, (ax,) = grid(1, 1, size, left=2.6, top=0.15, bottom=0.6)
        for row, summary in enumerate(summaries):
            left = 0
            for item in summary.genotypes:
                size_of = len(item.run_ids)
                shade = "#0072b2" if size_of > 1 else "#b8c9d6"
                ax.barh(row, size_of, left=left, height=0.6, color=shade, edgecolor="white")
                if size_of > 1:
                    ax.text(
                        left + size_of / 2,
                        row,
                        str(size_of),
                        color="white",
                        ha="center",
                        va="center",
                        fontsize=8,
                    )
                left += size_of
            distinct = len(summary.genotypes)
            ax.text(left, row, f"  {distinct} distinct of {summary.n}", va="center", fontsize=8.5)
        names = [wrapped(s.setting, 40, 2) for s in summaries]
        ax.set_yticks(range(len(summaries)), names, fontsize=8.5)
        ax.set_ylim(len(summaries) - 0.4, -0.6)
        ax.set_xlim(0, max(1, *(s.n for s in summaries)) * 1.25)
        ax.set_xlabel("runs (dark: a genotype that several runs derived; light: derived once)")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.grid(axis="y", visible=False)
    return figure
