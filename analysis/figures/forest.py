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
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.layout import (
    Study,
    cells_of,
    clipped,
    entry,
    finish,
    grid,
    label,
    of_text,
    span,
)
from analysis.figures.palette import DARK, GREY, WARNING

CELL_MARKERS = {"reduce": "s"}
NEEDED = ("setting", "cell", "quantity", "estimate", "low", "high", "null_mean", "seeds")
SEED, ESTIMATE, WITHOUT = "one seed", "estimate", "without the seeds that collapsed"


class Forest(NamedTuple):
    """What is drawn: frames with the columns `row`, `panel`, `setting`, `cell` and their numbers.

    estimates (estimate, low, high, null_mean) are of all seeds, without of those that did not
    collapse; points (value, collapsed) are one a seed. names: row to its name on the axis.
    """

    estimates: pd.DataFrame
    points: pd.DataFrame
    without: pd.DataFrame
    names: Mapping[str, str]

    def of(self, panel: str) -> Forest:
        """Only this panel's rows."""
        return Forest(*(f[f["panel"] == panel] for f in self[:3]), self.names)


def panels_of(
    study: Study,
    forest: Forest,
    panels: Sequence[str],
    *,
    columns: int = 4,
    wide: float = 1.75,
    labels: Mapping[str, str] | None = None,
    lines: Mapping[str, float] | None = None,
    log: bool = False,
    remark: str = "",
    note: str = "",
    mark: str = "by chance",
    estimate: str = "estimate with its 95% interval over seeds",
) -> Figure:
    """A panel for each quantity, all with the same rows; see `Forest` and the module.

    labels: of panels, else the quantities' own; lines: values marked by a line; log: a logarithmic
    axis of numbers of seeds. In the legend, note, mark and estimate say what the lines, the
    `null_mean` and the estimates are.
    """
    names, cells = forest.names, [c for c in cells_of(forest.estimates) if c != "all"]
    strip = 0.4 if len(names) <= 8 else 0.31 if len(names) <= 12 else 0.23
    twice = any("\n" in name for name in names.values())
    high = 0.1 + max(strip * (0.4 + 0.6 * max(1, len(cells))), 0.31 * twice) * len(names)
    longest = max(len(line) for name in names.values() for line in name.split("\n"))
    figure, axes = grid(
        len(panels), columns, (wide, of_text(high)), left=0.3 + 0.06 * longest, sharey=True,
        between=(0.15, 0.75),
    )  # fmt: skip
    axes[0].set_yticks(range(len(names)), list(names.values()))
    axes[0].set_ylim(len(names) - 0.45, -0.55)  # before anything is drawn: shared axes fit anew
    at = {row: float(i) for i, row in enumerate(names)}
    beyond = False
    for ax, panel in zip(axes, panels, strict=True):
        own, line = forest.of(panel), (lines or {}).get(panel)
        if log:
            ax.set(xscale="log", xlim=(2.5, 400))
            ax.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
            ax.minorticks_off()
        else:
            ax.set_xlim(*_limits(panel, own, line))
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if line is not None:
            style = {"color": DARK} if line == 0 else {"color": WARNING, "linestyle": "--"}
            ax.axvline(line, linewidth=1, zorder=1, **style)
        kinds = cells_of(own.estimates)
        for k, cell in enumerate(kinds):
            beyond |= _strip(ax, study, own, panel, at, cell, (k, len(kinds)))
        for row in at.keys() - set(own.estimates.dropna(subset="estimate")["row"]):
            ax.text(0.5, at[row], "n/a", transform=ax.get_yaxis_transform(), ha="center",
                    va="center", color=GREY, fontsize="small")  # fmt: skip
        ax.set_xlabel(labels[panel] if labels else label(panel, wide))
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", labelsize="small")
    entries = _legend(forest, cells, note, mark, estimate)
    if beyond:
        entries.append(entry("goes on beyond the axis", marker=">", color=GREY))
    return finish(figure, entries, remark)


def _limits(panel: str, own: Forest, line: float | None) -> tuple[float, float]:
    e = own.estimates
    middle = [*e["estimate"], *own.without["estimate"], *([] if line is None else [line])]
    low, high = (clipped(panel, e[c]) for c in ("low", "high"))
    return span(middle, low, high, own.points["value"], e["null_mean"])


def _strip(
    ax: Axes, study: Study, own: Forest, panel: str, at: Mapping[str, float], cell: str,
    place: tuple[int, int],
) -> bool:  # fmt: skip
    """One cell kind's strips of all rows; gives whether anything lies beyond the axis."""
    height = 1 / (0.25 + place[1])
    middle = height * (place[0] - (place[1] - 1) / 2)
    estimates, points, without = (
        f[f["cell"] == cell].assign(
            y=f["row"].map(at) + middle, colour=f["setting"].map(lambda s: study.looks[s].color)
        )
        for f in own[:3]
    )
    marker = CELL_MARKERS.get(cell, "o")
    # From top to bottom in the order of seeds: a seed has one height in all panels.
    seeds = points.groupby("row", sort=False)["row"]
    order = (seeds.cumcount() + 1) / (seeds.transform("size") + 1)
    points["y"] += height * 0.42 * (order.astype(float) - 1)
    beyond = _points(ax, points.dropna(subset="value"), marker)
    known = estimates.dropna(subset="estimate")
    beyond |= _intervals(ax, known.assign(y=known["y"] + 0.14 * height), panel, marker, False)
    known = without.dropna(subset="estimate")
    beyond |= _intervals(ax, known.assign(y=known["y"] + 0.34 * height), panel, "D", True)
    ax.plot(estimates["null_mean"], estimates["y"] + 0.14 * height, "|", color=GREY, markersize=9,
            markeredgewidth=2, clip_on=True, zorder=1.5)  # fmt: skip
    return beyond


def _points(ax: Axes, frame: pd.DataFrame, marker: str) -> bool:
    """One point a seed, hollow if collapsed; those beyond the axis are arrow heads at its border."""
    low, high = ax.get_xlim()
    x = frame["value"].to_numpy(float)
    signs = np.where(x < low, "<", np.where(x > high, ">", marker))
    faces = frame["colour"].where(~frame["collapsed"].eq(True), "white").to_numpy()
    size = 13 if len(frame) <= 12 * frame["row"].nunique() else 7
    for sign in dict.fromkeys(signs):
        these = signs == sign
        ax.scatter(x[these].clip(low, high), frame["y"][these], s=size, marker=sign, label=SEED,
                   facecolors=faces[these], edgecolors=frame["colour"][these], linewidths=0.8,
                   alpha=0.8, clip_on=False, zorder=2.5)  # fmt: skip
    return bool((signs != marker).any())


def _intervals(ax: Axes, frame: pd.DataFrame, panel: str, marker: str, hollow: bool) -> bool:
    """Estimates with intervals in their settings' colours; arrow heads where they go on."""
    least, most = ax.get_xlim()
    y, colours, name = frame["y"], frame["colour"], WITHOUT if hollow else ESTIMATE
    low, high = (clipped(panel, frame[c]) for c in ("low", "high"))
    if len(frame):  # where there is no interval, hlines draws nothing of NaN
        ax.hlines(y, low.clip(least, most), high.clip(least, most), colors=colours, linewidth=1.6,
                  linestyles=":" if hollow else "-", label=name)  # fmt: skip
    for far, end, sign in ((low < least, least, "<"), (high > most, most, ">")):
        ax.scatter([end] * far.sum(), y[far], marker=sign, s=22, clip_on=False, zorder=3,
                   c=colours[far])  # fmt: skip
    ax.scatter(frame["estimate"].clip(least, most), y, s=26, marker=marker, zorder=4, label=name,
               facecolors="white" if hollow else colours, edgecolors=colours if hollow else DARK,
               linewidths=1.2 if hollow else 0.7, clip_on=False)  # fmt: skip
    return bool(((low < least) | (high > most)).any())


def _legend(
    forest: Forest, cells: Sequence[str], note: str, mark: str, estimate: str
) -> list[Line2D]:
    grey: dict[str, Any] = {"color": GREY, "markersize": 4.5}
    entries = [entry(estimate, marker="o", linestyle="-", color=GREY, markeredgecolor=DARK)]
    if len(forest.points):
        entries.append(entry(SEED, marker="o", **grey))
    if forest.points["collapsed"].eq(True).any():
        entries.append(entry("one that collapsed", marker="o", markerfacecolor="white", **grey))
    if len(forest.without):
        entries.append(entry(WITHOUT, marker="D", markerfacecolor="white", linestyle=":", **grey))
    if forest.estimates["null_mean"].notna().any():
        entries.append(entry(mark, marker="|", color=GREY, markersize=9, markeredgewidth=2))
    if len(cells) > 1:
        entries += [entry(f"{c} cell", marker=CELL_MARKERS.get(c, "o")) for c in cells]
    if note:
        entries.append(entry(note, color=WARNING, linestyle="--"))
    return entries
