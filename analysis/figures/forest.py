"""Draw: quantities by setting, an estimate with its interval and every seed as a point.

Each row of a panel is a setting (or a setting and its control), with a strip per cell kind: the
seeds' points above, the estimate with its 95% interval beneath, and beneath that, where some
seeds collapsed, the estimate over those that did not. Seeds that collapsed are hollow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.layout import entry, finish, grid, letters, of_text
from analysis.figures.palette import DARK, GREY, WARNING, wrapped
from analysis.figures.study import Study, clipped, span

CELL_MARKERS = {"reduce": "s"}
SEED, ESTIMATE, WITHOUT = "one seed", "estimate", "without the seeds that collapsed"
BEYOND = "goes on beyond the axis"


def panels_of(
    study: Study, frame: pd.DataFrame, names: Mapping[str, str], labels: Mapping[str, str], *,
    columns: int = 4, wide: float = 1.75, lines: Mapping[str, float] | None = None,
    log: bool = False, remark: str = "", note: str = "", mark: str = "by chance",
    estimate: str = "estimate with its 95% interval over seeds",
) -> Figure:  # fmt: skip
    """A panel for each of `labels`, all with the rows of `names`.

    frame: row, panel, kind (ESTIMATE, of the seeds that did not collapse WITHOUT, or one SEED),
    setting, cell, estimate, low, high, null_mean, collapsed. names: row to its name on the axis.
    labels: panel to its label; intervals of a panel that is a quantity end at what is possible.
    lines: values marked by a line; log: a logarithmic axis of numbers of seeds. In the legend,
    note, mark and estimate say what the lines, the `null_mean` and the estimates are.
    """
    kinds = sorted(set(frame["cell"]) - {"all"})
    strip = 0.4 if len(names) <= 8 else 0.31 if len(names) <= 12 else 0.23
    twice = any("\n" in name for name in names.values())
    high = 0.1 + max(strip * (0.4 + 0.6 * max(1, len(kinds))), 0.31 * twice) * len(names)
    longest = max(len(line) for name in names.values() for line in name.split("\n"))
    figure, axes = grid(len(labels), columns, (wide, of_text(high)), left=0.3 + 0.06 * longest,
                        between=(0.15, 0.75), sharey=True)  # fmt: skip
    at = {row: float(i) for i, row in enumerate(names)}
    colours = {setting: look["color"] for setting, look in study.looks.items()}
    frame = frame.assign(y=frame["row"].map(at), colour=frame["setting"].map(colours))
    axes[0].set_yticks(range(len(names)), list(names.values()))
    axes[0].set_ylim(len(names) - 0.45, -0.55)  # before anything is drawn: shared axes fit anew
    for ax, (panel, text) in zip(axes, labels.items(), strict=True):
        own, line = frame[frame["panel"] == panel], (lines or {}).get(panel)
        if log:
            ax.set(xscale="log", xlim=(2.5, 400))
            ax.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
            ax.minorticks_off()
        else:
            seeds = own["kind"] == SEED
            middle = [*own.loc[~seeds, "estimate"], *([] if line is None else [line])]
            e = own[own["kind"] == ESTIMATE]
            more = (own.loc[seeds, "estimate"], e["null_mean"])
            ax.set_xlim(span(panel, middle, e["low"], e["high"], *more))
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if line is not None:
            dashes, color = ("-", DARK) if line == 0 else ("--", WARNING)
            ax.axvline(line, linewidth=1, zorder=1, color=color, linestyle=dashes)
        cells = sorted(own["cell"].unique())
        height = 1 / (0.25 + len(cells))
        for k, cell in enumerate(cells):
            some = own[own["cell"] == cell]
            middle_of = some["y"] + height * (k - (len(cells) - 1) / 2)
            _strip(ax, some.assign(y=middle_of), panel, CELL_MARKERS.get(cell, "o"), height)
        for row in at.keys() - set(own.dropna(subset="estimate")["row"]):
            ax.text(0.5, at[row], "n/a", transform=ax.get_yaxis_transform(), ha="center",
                    va="center", color=GREY, fontsize="small")  # fmt: skip
        ax.set_xlabel(wrapped(text, letters(wide), 3))
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", labelsize="small")
    beyond = any(BEYOND in str(c.get_label()) for ax in axes for c in ax.collections)
    return finish(figure, _legend(frame, kinds, note, mark, estimate, beyond), remark)


def _strip(ax: Axes, own: pd.DataFrame, quantity: str, marker: str, height: float) -> None:
    """One cell kind's strips of all rows: arrow heads where something goes on beyond the axis."""
    least, most = ax.get_xlim()
    seed, without = own["kind"] == SEED, own["kind"] == WITHOUT
    # From top to bottom in the order of seeds: a seed has one height in all panels.
    of_row = own.groupby(["row", "kind"])["y"]
    order = (of_row.cumcount() + 1) / (of_row.transform("size") + 1)
    own = own.assign(
        y=own["y"] + height * np.select([seed, without], [0.42 * (order - 1), 0.34], 0.14),
        face=own["colour"].where(~(without | own["collapsed"].eq(True)), "white"),
        low=own["low"].where(seed, clipped(quantity, own["low"])),
        high=own["high"].where(seed, clipped(quantity, own["high"])),
    )
    chance = own[~seed & ~without]
    ax.plot(chance["null_mean"], chance["y"], "|", color=GREY, markersize=9, markeredgewidth=2,
            zorder=1.5)  # fmt: skip
    own = own.dropna(subset="estimate")
    size = 13 if seed.sum() <= 12 * own["row"].nunique() else 7
    looks: dict[str, dict[str, Any]] = {
        SEED: {"s": size, "marker": marker, "linewidths": 0.8, "alpha": 0.8, "zorder": 2.5},
        ESTIMATE: {"s": 26, "marker": marker, "linewidths": 0.7, "zorder": 4, "edgecolors": DARK},
        WITHOUT: {"s": 26, "marker": "D", "linewidths": 1.2, "zorder": 4},
    }
    for kind, some in own.groupby("kind", sort=False):
        if kind != SEED:  # NaN, where there is no interval, draws nothing
            ax.hlines(some["y"], some["low"].clip(least, most), some["high"].clip(least, most),
                      colors=some["colour"], linewidth=1.6, label=kind,
                      linestyles=":" if kind == WITHOUT else "-")  # fmt: skip
        inside = some[some["estimate"].between(least, most)]
        look = {"facecolors": inside["face"], "edgecolors": inside["colour"]} | looks[str(kind)]
        ax.scatter(inside["estimate"], inside["y"], label=kind, clip_on=False, **look)
        for far, end, sign in ((some["low"] < least, least, "<"), (some["high"] > most, most, ">")):
            if far.any():
                ax.scatter([end] * far.sum(), some["y"][far], marker=sign, s=22, linewidths=0.8,
                           facecolors=some["face"][far], edgecolors=some["colour"][far],
                           clip_on=False, zorder=3, label=f"{kind} {BEYOND}")  # fmt: skip


def _legend(
    frame: pd.DataFrame, kinds: list[str], note: str, mark: str, estimate: str, beyond: bool
) -> list[Line2D]:
    grey: dict[str, Any] = {"color": GREY, "markersize": 4.5}
    hollow, there = {"markerfacecolor": "white", **grey}, set(frame["kind"])
    kept = {
        entry(estimate, marker="o", linestyle="-", color=GREY, markeredgecolor=DARK): True,
        entry(SEED, marker="o", **grey): SEED in there,
        entry("one that collapsed", marker="o", **hollow): frame["collapsed"].eq(True).any(),
        entry(WITHOUT, marker="D", linestyle=":", **hollow): WITHOUT in there,
        entry(mark, marker="|", color=GREY, markersize=9, markeredgewidth=2):
            frame["null_mean"].notna().any(),
        entry(note, color=WARNING, linestyle="--"): note,
        **{entry(f"{c} cell", marker=CELL_MARKERS.get(c, "o")): len(kinds) > 1 for c in kinds},
        entry(BEYOND, marker=">", color=GREY): beyond,
    }  # fmt: skip
    return [item for item, shown in kept.items() if shown]
