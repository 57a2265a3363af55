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

from analysis.figures.layout import entry, finish, grid, letters, of_text
from analysis.figures.palette import DARK, GREY, WARNING
from analysis.figures.study import Study, clipped, label, span

CELL_MARKERS = {"reduce": "s"}
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

    def of(self, column: str, value: str) -> Forest:
        """Only the rows with this value in a column."""
        found = (frame[frame[column] == value] for frame in self[:3])
        return Forest(*found, names=self.names)  # type: ignore[misc, arg-type]


def panels_of(
    study: Study, forest: Forest, panels: Sequence[str], *, columns: int = 4, wide: float = 1.75,
    quantities: bool = True, labels: Mapping[str, str] | None = None,
    lines: Mapping[str, float] | None = None, log: bool = False, remark: str = "", note: str = "",
    mark: str = "by chance", estimate: str = "estimate with its 95% interval over seeds",
) -> Figure:  # fmt: skip
    """A panel for each quantity, all with the same rows; see `Forest` and the module.

    quantities: whether panels are quantities, whose intervals end at what is possible; labels: of
    panels, else the quantities' own; lines: values marked by a line; log: a logarithmic axis of
    numbers of seeds. In the legend, note, mark and estimate say what the lines, the `null_mean`
    and the estimates are.
    """
    names, kinds = forest.names, sorted(set(forest.estimates["cell"]) - {"all"})
    strip = 0.4 if len(names) <= 8 else 0.31 if len(names) <= 12 else 0.23
    twice = any("\n" in name for name in names.values())
    high = 0.1 + max(strip * (0.4 + 0.6 * max(1, len(kinds))), 0.31 * twice) * len(names)
    longest = max(len(line) for name in names.values() for line in name.split("\n"))
    figure, axes = grid(len(panels), columns, (wide, of_text(high)), left=0.3 + 0.06 * longest,
                        between=(0.15, 0.75), sharey=True)  # fmt: skip
    at = {row: float(i) for i, row in enumerate(names)}
    axes[0].set_yticks(range(len(names)), list(names.values()))
    axes[0].set_ylim(len(names) - 0.45, -0.55)  # before anything is drawn: shared axes fit anew
    beyond = False
    for ax, panel in zip(axes, panels, strict=True):
        own, line = forest.of("panel", panel), (lines or {}).get(panel)
        e, quantity = own.estimates, panel if quantities else ""
        if log:
            ax.set(xscale="log", xlim=(2.5, 400))
            ax.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
            ax.minorticks_off()
        else:
            middle = [*e["estimate"], *own.without["estimate"], *([] if line is None else [line])]
            more = (own.points["value"], e["null_mean"])
            ax.set_xlim(span(quantity, middle, e["low"], e["high"], *more))
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if line is not None:
            dashes, color = ("-", DARK) if line == 0 else ("--", WARNING)
            ax.axvline(line, linewidth=1, zorder=1, color=color, linestyle=dashes)
        cells = sorted(e["cell"].unique())
        for k, cell in enumerate(cells):
            beyond |= _strip(ax, study, own.of("cell", cell), quantity, at, cell, (k, len(cells)))
        known = set(e.dropna(subset="estimate")["row"])
        for row in (row for row in at if row not in known):
            ax.text(0.5, at[row], "n/a", transform=ax.get_yaxis_transform(), ha="center",
                    va="center", color=GREY, fontsize="small")  # fmt: skip
        ax.set_xlabel(labels[panel] if labels else label(panel, letters(wide)))
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", labelsize="small")
    entries = _legend(forest, kinds, note, mark, estimate)
    if beyond:
        entries.append(entry("goes on beyond the axis", marker=">", color=GREY))
    return finish(figure, entries, remark)


def _strip(
    ax: Axes, study: Study, own: Forest, quantity: str, at: Mapping[str, float], cell: str,
    place: tuple[int, int],
) -> bool:  # fmt: skip
    """One cell kind's strips of all rows; gives whether anything lies beyond the axis."""
    height = 1 / (0.25 + place[1])
    middle = height * (place[0] - (place[1] - 1) / 2)
    colours = {setting: look["color"] for setting, look in study.looks.items()}
    estimates, points, without = (
        f.assign(y=f["row"].map(at).astype(float) + middle, colour=f["setting"].map(colours)) for f in own[:3]
    )
    marker = CELL_MARKERS.get(cell, "o")
    # From top to bottom in the order of seeds: a seed has one height in all panels.
    seeds = points.groupby("row", sort=False)["row"]
    order = (seeds.cumcount() + 1) / (seeds.transform("size") + 1)
    points["y"] += height * 0.42 * (order.astype(float) - 1)
    estimates["y"] += 0.14 * height
    without["y"] += 0.34 * height
    ax.plot(estimates["null_mean"], estimates["y"], "|", color=GREY, markersize=9,
            markeredgewidth=2, zorder=1.5)  # fmt: skip
    beyond = _points(ax, points.dropna(subset="value"), marker)
    beyond |= _intervals(ax, estimates.dropna(subset="estimate"), quantity, marker, False)
    return beyond | _intervals(ax, without.dropna(subset="estimate"), quantity, "D", True)


def _points(ax: Axes, frame: pd.DataFrame, marker: str) -> bool:
    """One point a seed, hollow if collapsed; those beyond the axis: arrow heads at its border."""
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


def _intervals(ax: Axes, frame: pd.DataFrame, quantity: str, marker: str, hollow: bool) -> bool:
    """Estimates with intervals in their settings' colours; arrow heads where they go on."""
    least, most = ax.get_xlim()
    colours: Any = frame["colour"].to_numpy()
    y, name = frame["y"].to_numpy(), WITHOUT if hollow else ESTIMATE
    low, high = (clipped(quantity, frame[c]) for c in ("low", "high"))
    if len(frame):  # NaN, where there is no interval, draws nothing
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
    forest: Forest, kinds: Sequence[str], note: str, mark: str, estimate: str
) -> list[Line2D]:
    grey: dict[str, Any] = {"color": GREY, "markersize": 4.5}
    chance = forest.estimates["null_mean"].notna().any()
    some = forest.points["collapsed"].eq(True).any()
    hollow = {"markerfacecolor": "white", **grey}
    kept = {
        entry(estimate, marker="o", linestyle="-", color=GREY, markeredgecolor=DARK): True,
        entry(SEED, marker="o", **grey): len(forest.points),
        entry("one that collapsed", marker="o", **hollow): some,
        entry(WITHOUT, marker="D", linestyle=":", **hollow): len(forest.without),
        entry(mark, marker="|", color=GREY, markersize=9, markeredgewidth=2): chance,
        entry(note, color=WARNING, linestyle="--"): note,
    } | {entry(f"{c} cell", marker=CELL_MARKERS.get(c, "o")): len(kinds) > 1 for c in kinds}
    return [item for item, there in kept.items() if there]
