"""Draw: transition matrices over seeds, link by link: mean beside start or standard deviation.

Rows are the predecessor's operation, columns the inner edge's, so rows of means sum to 1. All
panels of a figure have the limits of its largest matrix: an entry has one size whatever the
shapes of the matrices, as where edges have lists of operations of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from analysis.figures.layout import entry, finish, grid, letters, of_text
from analysis.figures.palette import PALE, operation_name, wrapped
from analysis.figures.study import Study, Tables, rows
from analysis.statistics.inference import SIGNIFICANT

ANNOTATED = 10  # columns of a panel up to which numbers are written into the entries
MOST_FREQUENCIES = 6
MOST_LINKS = 4  # in the figure of the first screen
WIDEST = 11.0  # inches
ENTRY, SMALL = 0.27, 0.15  # inches of an entry with digits, and without
GAP = 0.6  # of entries between a link's two matrices

AXES = "rows: operation of the first edge, columns: of the second"
LISTS = ("row", "column")  # of operations
NODES = ["predecessor_source", "predecessor_target", "source", "target"]
NUMBERS = ("setting", "cell", "mean", "start_mean", "sd", "attention_weight_mean", "n")
MARKS = {
    "dependence_stability": ("●", "○", "rows alike over seeds, start included,"),
    "learned_dependence_stability": ("◆", "◇", "what was learned alike over seeds"),
}
Maps = Mapping[str, tuple[str, float]]  # column of the table to colours and highest value


def transitions(tables: Tables, setting: str, cell: str) -> Figure:
    """Transition matrices at the end over seeds, link by link: mean and standard deviation.

    Each with one scale for all links; of a single seed only the first.
    """
    frame = _links(tables, "transition_matrices", *NUMBERS, setting=setting, cell=cell)
    maps, most = {"mean": ("Blues", 1.0)}, float(frame["sd"].max())
    if np.isfinite(most):
        maps["sd"] = ("Oranges", max(0.01, most))
    marks, entries = _marks(tables, setting, cell)
    weights = frame.groupby("panel", sort=False)["attention_weight_mean"].first()
    titles = {k: f"edge {k}\nw {w:.2f} {marks.get(k, '')}".rstrip() for k, w in weights.items()}
    remark = f"{setting} · {cell} cell · n={frame['n'].max()} · {AXES}"
    return finish(_drawn(frame, titles, maps), entries, remark)


def matrices(tables: Tables) -> Figure:
    """Mean transition matrices at the end beside their start, of the links that moved most.

    Of the primary setting of the verdict, else of the first transition setting that has any.
    """
    frame = _links(tables, "transition_matrices", *NUMBERS)
    setting = Study(tables).primary(frame)
    cell = min(frame.loc[frame["setting"] == setting, "cell"])
    frame = frame[(frame["setting"] == setting) & (frame["cell"] == cell)]
    away = frame.assign(away=(frame["mean"] - frame["start_mean"]).abs())
    of_rows = away.groupby(["panel", "row"], sort=False)["away"].sum()
    moved = of_rows.groupby("panel", sort=False).mean()
    most = moved[moved.rank(method="first", ascending=False) <= MOST_LINKS]
    which = f"the {len(most)} of {len(moved)} links that moved most"
    which = which if len(moved) > len(most) else "all links"
    titles = {link: f"{link}: start, end" for link in most.index}
    figure = _drawn(frame, titles, {"start_mean": ("Blues", 1.0), "mean": ("Blues", 1.0)})
    remark = f"{setting} · {cell} cell · n={frame['n'].max()} · {which} · {AXES}"
    return finish(figure, remark=remark)


def frequencies(tables: Tables, cell: str) -> Figure:
    """Operations that the seeds choose, edge by edge; at most six settings."""
    study = Study(tables)
    frame = rows(tables, "operation_choices", "share", cell=cell).dropna(subset="share")
    shown, frame, remark = study.shown(frame, MOST_FREQUENCIES)
    edge = frame["source"].astype(str) + "→" + frame["target"].astype(str)
    edge += frame["inner"].map({True: " inner", False: ""})
    frame = frame.assign(panel=frame["setting"], row=edge, column=frame["operation"])
    frame = frame.sort_values(["target", "source"], kind="stable")
    titles = {setting: wrapped(study.names[setting], letters(1.6)) for setting in shown}
    shares = frame.pivot(index=["panel", "row"], columns="column", values="share")
    grey = "; grey: no candidate" if shares.isna().any(axis=None) else ""
    what = f"share of seeds that choose it ({cell} cell{grey})"
    figure = _drawn(frame, titles, {"share": ("Blues", 1.0)}, what)
    figure.supylabel("edge", fontsize="small")
    return finish(figure, remark=remark)


def _links(tables: Tables, name: str, *columns: str, **where: str) -> pd.DataFrame:
    """Rows of a table with the name of their link, which is their panel."""
    frame = rows(tables, name, *NODES, *columns, **where)
    first, second, source, target = (frame[node].astype(str) for node in NODES)
    return frame.assign(panel=first + "→" + second + " to " + source + "→" + target)


def _marks(tables: Tables, setting: str, cell: str) -> tuple[dict[Any, str], list[Line2D]]:
    """Marks of links by their names, and the entries that say what they mean.

    Filled where the test over permutations says so (Holm's p over the links), hollow where it
    does while the link's own 95% interval holds 0.
    """
    marks: dict[Any, str] = {}
    entries = []
    for quantity, (filled, hollow, meaning) in MARKS.items():
        p, low = f"{quantity}_p_holm", f"{quantity}_low"
        frame = _links(tables, "links", p, low, setting=setting, cell=cell).dropna(subset=p)
        found = frame[frame[p] < SIGNIFICANT].set_index("panel")[low]
        for link, end in found.items():
            marks[link] = marks.get(link, "") + (hollow if end <= 0 else filled)
        if len(frame):
            test = f"(permutations, Holm p < {SIGNIFICANT:g}): {len(found)} of {len(frame)} links"
            entries.append(entry(f"{filled} {meaning} {test}"))
        if (found <= 0).any():
            entries.append(entry(f"{hollow} the same, though its own 95% interval holds 0"))
    return marks, entries


def _drawn(
    frame: pd.DataFrame, titles: Mapping[Any, str], maps: Maps, what: str = "{} over seeds"
) -> Figure:
    """A panel for each of `titles`, with its matrices side by side; what: label of a colour bar.

    Rows and columns are named once where all panels have the same.
    """
    panels = {panel: frame[frame["panel"] == panel] for panel in titles}
    lists = {tuple(tuple(own[end].unique()) for end in LISTS) for own in panels.values()}
    down, across = (max(map(len, names)) for names in zip(*lists, strict=True))
    alike = len(lists) == 1
    inches = ENTRY if len(maps) * across <= ANNOTATED else SMALL
    size = (of_text(max(1.4, inches * (len(maps) * (across + GAP) - GAP))), of_text(down * inches))
    beside = 0.15 if alike else 0.65
    columns = max(1, int((WIDEST - 0.7) / (size[0] + beside)))
    columns = -(-len(titles) // -(-len(titles) // columns))  # rows of nearly equal length
    figure, axes = grid(len(titles), columns, size, left=0.9, more=0.5 * len(maps),
                        between=(beside, 0.5 if alike else 1.05))  # fmt: skip
    for index, (ax, (panel, own)) in enumerate(zip(axes, panels.items(), strict=True)):
        _maps(ax, own, maps, (down, across))
        ax.set_title(titles[panel])
        if alike and index + columns < len(titles):
            ax.set_xticks([])
        if alike and index % columns:
            ax.set_yticks([])
    bars = {maps[name]: (image, name) for name, image in zip(maps, axes[0].images, strict=True)}
    for image, name in reversed(bars.values()):  # from the foot
        figure.colorbar(image, ax=axes, location="bottom", shrink=0.4, aspect=30, pad=0.02,
                        ticks=MaxNLocator(4), label=what.format(name))  # fmt: skip
    return figure


def _maps(ax: Axes, own: pd.DataFrame, maps: Maps, most: tuple[int, int]) -> None:
    """A panel's matrices side by side; most: rows and columns of the largest one."""
    down, across = (own[end].unique() for end in LISTS)  # in the table's order
    height, width, digits = len(down), len(across), len(maps) * most[1] <= ANNOTATED
    at: list[float] = []
    for k, (name, (colours, top)) in enumerate(maps.items()):
        matrix = own.pivot(index="row", columns="column", values=name).loc[down, across]
        values, start = matrix.to_numpy(float), k * (most[1] + GAP) - 0.5
        cmap, extent = colormaps[colours], (start, start + width, height - 0.5, -0.5)
        ax.imshow(values, cmap=cmap.with_extremes(bad="#dddddd"), vmin=0, vmax=top, aspect="auto",
                  extent=extent)  # fmt: skip
        ax.add_patch(Rectangle((start, -0.5), width, height, fill=False, clip_on=False,
                               edgecolor=PALE, linewidth=0.7))  # fmt: skip
        at += [start + 0.5 + i for i in range(width)]
        for row, column in np.argwhere(values > 0) if digits else ():
            value = float(values[row, column])
            ax.text(start + 0.5 + column, row, f"{value:.2f}".removeprefix("0"), ha="center",
                    va="center", fontsize="small", parse_math=False,
                    color="white" if value > 0.55 * top else "#111111")  # fmt: skip
    ax.set_xticks(at, list(map(operation_name, across)) * len(maps), rotation=90)
    ax.set_yticks(range(height), list(map(operation_name, down)))
    ax.tick_params(length=0, pad=2, labelsize="small")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set(xlim=(-0.5, len(maps) * (most[1] + GAP) - GAP - 0.5), ylim=(most[0] - 0.5, -0.5))
