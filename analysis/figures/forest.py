"""Draw: quantities by setting, an estimate with its interval and every seed as a point.

Each row of a panel is a setting (or a setting and its control), with a strip per cell kind: the
seeds' points above, the estimate with its 95% interval beneath, and beneath that, where some
seeds collapsed, the estimate over those that did not. Seeds that collapsed are hollow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
    rows,
    span,
)
from analysis.figures.palette import DARK, GREY, WARNING

CELL_MARKERS = {"reduce": "s"}
NEEDED = ("setting", "cell", "quantity", "estimate", "low", "high", "null_mean", "seeds")
WITHOUT = "without the seeds that collapsed"


class Forest(NamedTuple):
    """What is drawn: frames with the columns `row`, `panel`, `setting`, `cell` and their numbers.

    estimates (estimate, low, high, null_mean) are of all seeds, without of those that did not
    collapse; points (value, collapsed) are one a seed. names: row to its name on the axis.
    """

    estimates: pd.DataFrame
    points: pd.DataFrame
    without: pd.DataFrame
    names: Mapping[str, str]


def panels_of(
    study: Study, forest: Forest, panels: Sequence[str], *, columns: int = 4, wide: float = 1.75,
    labels: Mapping[str, str] | None = None, lines: Mapping[str, float] | None = None,
    note: str = "", remark: str = "", log: bool = False, mark: str = "by chance",
) -> Figure:  # fmt: skip
    """A panel for each quantity, all with the same rows; see `Forest` and the module.

    labels: of panels, else the quantities' own; lines: values marked by a dashed line, which
    `note` explains; log: a logarithmic axis of numbers of seeds; mark: what `null_mean` is.
    """
    names, cells = forest.names, cells_of(forest.estimates)
    strip = 0.4 if len(names) <= 8 else 0.3 if len(names) <= 15 else 0.23
    high = 0.1 + strip * len(names) * (0.4 + 0.6 * len(cells))
    longest = max(len(line) for name in names.values() for line in name.split("\n"))
    figure, axes = grid(
        len(panels), columns, (wide, high), left=0.3 + 0.066 * longest, sharey=True,
        between=(0.15, 0.75),
    )  # fmt: skip
    at = {row: float(i) for i, row in enumerate(names)}
    for ax, panel in zip(axes, panels, strict=True):
        own = Forest(*(f[f["panel"] == panel] for f in forest[:3]), names)
        if log:
            ax.set(xscale="log", xlim=(2.5, 400))
            ax.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
            ax.minorticks_off()
        else:
            ax.set_xlim(*_limits(panel, own, (lines or {}).get(panel)))
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if lines and panel in lines:
            zero = lines[panel] == 0
            ax.axvline(lines[panel], color=DARK if zero else WARNING, linewidth=1,
                       linestyle="-" if zero else "--", zorder=1)  # fmt: skip
        _panel(ax, study, own, panel, at, cells)
        ax.set_xlabel(labels[panel] if labels else label(panel, wide))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), list(names.values()))
    axes[0].set_ylim(len(names) - 0.45, -0.55)
    for ax in axes:
        ax.tick_params(axis="y", labelsize="small")
    return finish(figure, _legend(forest, cells, note, mark, estimate), remark)


def _limits(panel: str, own: Forest, line: float | None) -> tuple[float, float]:
    e = own.estimates
    middle = [*e["estimate"], *own.without["estimate"], *([] if line is None else [line])]
    low, high = (clipped(panel, e[c]) for c in ("low", "high"))
    return span(middle, low, high, own.points["value"], e["null_mean"])


def _panel(
    ax: Axes, study: Study, own: Forest, panel: str, at: Mapping[str, float], cells: Sequence[str]
) -> None:
    strip = 1 / (0.25 + len(cells))
    for k, cell in enumerate(cells):
        below = strip * (k - (len(cells) - 1) / 2)
        marker = CELL_MARKERS.get(cell, "o")
        points = own.points[own.points["cell"] == cell].dropna(subset="value")
        for row, group in points.groupby("row", sort=False):
            # In seed order from top to bottom: a seed has one height in all panels.
            heights = at[row] + below + strip * (np.linspace(-0.42, 0.0, len(group) + 2)[1:-1])
            colour = study.looks[group["setting"].iloc[0]].color
            hollow = group["collapsed"].eq(True).to_numpy()
            _points(ax, group["value"].to_numpy(float), heights, colour, hollow, marker)
        estimates = own.estimates[own.estimates["cell"] == cell]
        known = estimates["estimate"].notna()
        _intervals(ax, study, estimates[known], panel, at, below + 0.14 * strip, marker)
        without = own.without[own.without["cell"] == cell].dropna(subset="estimate")
        _intervals(ax, study, without, panel, at, below + 0.34 * strip, "D", hollow=True)
        nulls = estimates.dropna(subset=["null_mean"])
        heights = nulls["row"].map(at).to_numpy(float) + below + 0.14 * strip
        ax.plot(nulls["null_mean"], heights, "|", color=GREY, markersize=9, markeredgewidth=2)
        absent = [row for row in at if row not in set(estimates["row"][known])]
        for row in absent:
            ax.text(0.5, at[row] + below, "n/a", transform=ax.get_yaxis_transform(), ha="center",
                    va="center", color=GREY, fontsize="small")  # fmt: skip


def _points(
    ax: Axes, x: np.ndarray, y: np.ndarray, colour: str, hollow: np.ndarray, marker: str
) -> None:
    """Points of one setting; those beyond the axis lie at its border as arrow heads."""
    low, high = ax.get_xlim()
    signs = np.where(x < low, "<", np.where(x > high, ">", marker))
    size = 13 if len(x) <= 12 else 8
    for sign in dict.fromkeys(signs):
        these = signs == sign
        faces = ["none" if h else colour for h in hollow[these]]
        ax.scatter(np.clip(x[these], low, high), y[these], s=size, marker=sign, facecolors=faces,
                   edgecolors=colour, linewidths=0.8, alpha=0.75, clip_on=False, label=SEED)  # fmt: skip


SEED, ESTIMATE = "one seed", "estimate"


def _intervals(
    ax: Axes, study: Study, frame: pd.DataFrame, panel: str, at: Mapping[str, float],
    below: float, marker: str, hollow: bool = False,
) -> None:  # fmt: skip
    """Estimates with intervals in their settings' colours; arrow heads where they go on."""
    if frame.empty:
        return
    y = frame["row"].map(at).to_numpy(float) + below
    colours = [study.looks[s].color for s in frame["setting"]]
    least, most = ax.get_xlim()
    x = frame["estimate"].to_numpy(float)
    low, high = (clipped(panel, frame[c]) for c in ("low", "high"))
    both = ~np.isnan(low) & ~np.isnan(high)
    ends = (np.clip(low, least, most), np.clip(high, least, most))
    ax.hlines(y[both], ends[0][both], ends[1][both], colors=[c for c, b in zip(colours, both, strict=True) if b],
              linewidth=1.6, linestyles=":" if hollow else "-", label=WITHOUT if hollow else ESTIMATE)  # fmt: skip
    for beyond, end, sign in ((low < least, least, "<"), (high > most, most, ">")):
        far = both & beyond
        ax.scatter(np.full(far.sum(), end), y[far], marker=sign, s=22, clip_on=False, zorder=3,
                   c=[c for c, b in zip(colours, far, strict=True) if b])  # fmt: skip
    ax.scatter(np.clip(x, least, most), y, s=26, marker=marker, zorder=4, clip_on=False,
               facecolors="white" if hollow else colours, edgecolors=colours if hollow else DARK,
               linewidths=1.2 if hollow else 0.7, label=WITHOUT if hollow else ESTIMATE)  # fmt: skip


def _legend(forest: Forest, cells: Sequence[str], note: str, mark: str, estimate: str) -> list[Any]:
    grey: dict[str, Any] = {"color": GREY, "markersize": 4.5}
    found = [
        entry(estimate, marker="o", linestyle="-", color=GREY, markeredgecolor=DARK, markersize=5.5)
    ]
    if len(forest.points):
        found.append(entry(SEED, marker="o", **grey))
    if forest.points["collapsed"].eq(True).any():
        found.append(entry("one seed that collapsed", marker="o", markerfacecolor="none", **grey))
    if len(forest.without):
        found.append(entry(WITHOUT, marker="D", markerfacecolor="white", linestyle=":", **grey))
    if forest.estimates["null_mean"].notna().any():
        found.append(entry(mark, marker="|", color=GREY, markersize=9, markeredgewidth=2))
    if len(cells) > 1:
        found += [
            entry(f"{c} cell", marker=CELL_MARKERS.get(c, "o"), markersize=5.5) for c in cells
        ]
    if note:
        found.append(entry(note, color=WARNING, linestyle="--"))
    found.append(entry("< >  goes on beyond the axis"))
    return found
