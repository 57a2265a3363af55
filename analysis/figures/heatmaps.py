"""Draw: transition matrices over seeds, link by link: mean beside start or standard deviation.

Rows are the predecessor's operation, columns the inner edge's, so rows of means sum to 1. All
panels of a figure have the limits of its largest matrix: an entry has one size whatever the
shapes of the matrices, as where edges have lists of operations of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from analysis.figures.layout import entry, finish, grid, of_text
from analysis.figures.palette import PALE, operation_name
from analysis.figures.study import Study, Tables, rows
from analysis.statistics.inference import SIGNIFICANT

ANNOTATED = 5  # rows and columns up to which numbers are written into the entries of a matrix
MOST_LINKS = 4  # in the figure of the first screen
WIDEST = 11.0  # inches
ENTRY, SMALL = 0.27, 0.15  # inches of an entry with digits, and without
GAP = 0.6  # of entries between a link's two matrices

AXES = "rows: operation of the first edge, columns: of the second"
MAPS = ("mean", "sd", "start_mean")
NODES = ["predecessor_source", "predecessor_target", "source", "target"]
MARKS = {
    "dependence_stability": ("●", "○", "rows alike over seeds, start included,"),
    "learned_dependence_stability": ("◆", "◇", "what was learned alike over seeds"),
}


class Link(NamedTuple):
    """One link: nodes, attention weight, and its matrices, NaN where they are not known."""

    nodes: tuple[int, ...]
    weight: float
    matrices: dict[str, Any]  # each of MAPS as a frame: operations as its rows and columns

    @property
    def name(self) -> str:
        return "{}→{} to {}→{}".format(*self.nodes)


def links_of(tables: Tables, setting: str, cell: str) -> tuple[list[Link], int]:
    """The links of a setting's cell kind, operations in the table's order, and their n."""
    frame = rows(tables, "transition_matrices", "start_mean", "sd", "attention_weight_mean", "n",
                 setting=setting, cell=cell)  # fmt: skip
    found = []
    for nodes, group in frame.groupby(NODES, sort=False):
        values = group.set_index(["row", "column"]).unstack().reindex(group["row"].unique())
        matrices = {name: values[name][group["column"].unique()].astype(float) for name in MAPS}
        key = tuple(map(int, nodes))  # type: ignore[arg-type]
        found.append(Link(key, float(group["attention_weight_mean"].iloc[0]), matrices))
    return found, int(frame["n"].max())


def transitions(tables: Tables, setting: str, cell: str) -> Figure:
    """Transition matrices at the end over seeds, link by link: mean and standard deviation.

    Each with one scale for all links; of a single seed only the first.
    """
    links, n = links_of(tables, setting, cell)
    spread = np.concatenate([k.matrices["sd"].to_numpy().ravel() for k in links])
    maps = {"mean": ("Blues", 1.0)}
    if np.isfinite(spread).any():
        maps["sd"] = ("Oranges", max(0.01, float(np.nanmax(spread))))
    marks, entries = _marks(tables, setting, cell)
    titles = [f"edge {k.name}\nw {k.weight:.2f} {marks.get(k.nodes, '')}".rstrip() for k in links]
    remark = f"{setting} · {cell} cell · n={n} · {AXES}"
    return finish(_drawn(links, titles, maps), entries, remark)


def matrices(tables: Tables) -> Figure:
    """Mean transition matrices at the end beside their start, of the links that moved most.

    Of the primary setting of the verdict, else of the first transition setting that has any.
    """
    study, frame = Study(tables), rows(tables, "transition_matrices", "setting", "mean")
    setting = study.primary(frame)
    cell = min(frame.loc[frame["setting"] == setting, "cell"])
    every, n = links_of(tables, setting, cell)
    away = [k.matrices["mean"] - k.matrices["start_mean"] for k in every]
    moved = np.array([matrix.abs().sum(axis=1).mean() for matrix in away])
    links = [every[k] for k in sorted(np.argsort(-moved, kind="stable")[:MOST_LINKS])]
    which = f"the {len(links)} of {len(every)} links that moved most"
    which = which if len(every) > len(links) else "all links"
    titles = [f"{k.name}: start, end" for k in links]
    figure = _drawn(links, titles, {"start_mean": ("Blues", 1.0), "mean": ("Blues", 1.0)})
    return finish(figure, remark=f"{setting} · {cell} cell · n={n} · {which} · {AXES}")


def _marks(tables: Tables, setting: str, cell: str) -> tuple[dict[Any, str], list[Line2D]]:
    """Marks of links by their nodes, and the entries that say what they mean.

    Filled where the test over permutations says so (Holm's p over the links), hollow where it
    does while the link's own 95% interval holds 0.
    """
    marks: dict[Any, str] = {}
    entries = []
    for quantity, (filled, hollow, meaning) in MARKS.items():
        p, low = f"{quantity}_p_holm", f"{quantity}_low"
        frame = rows(tables, "links", p, low, *NODES, setting=setting, cell=cell).dropna(subset=p)
        found = frame[frame[p] < SIGNIFICANT]
        for *nodes, end in found[[*NODES, low]].itertuples(index=False):
            key = tuple(map(int, nodes))
            marks[key] = marks.get(key, "") + (hollow if end <= 0 else filled)
        if len(frame):
            test = f"(permutations, Holm p < {SIGNIFICANT:g}): {len(found)} of {len(frame)} links"
            entries.append(entry(f"{filled} {meaning} {test}"))
        if (found[low] <= 0).any():
            entries.append(entry(f"{hollow} the same, though its own 95% interval holds 0"))
    return marks, entries


def _drawn(
    links: Sequence[Link], titles: Sequence[str], maps: Mapping[str, tuple[str, float]]
) -> Figure:
    """A panel a link with its matrices side by side; maps: which, to colours and highest value.

    Operations are named once a row and column where all links have the same.
    """
    tables = [k.matrices["mean"] for k in links]
    down, across = np.max([table.shape for table in tables], axis=0)
    inches = ENTRY if max(down, across) <= ANNOTATED else SMALL
    size = (of_text(max(1.4, inches * (len(maps) * (across + GAP) - GAP))), of_text(down * inches))
    alike = len({(*table.index, "", *table.columns) for table in tables}) == 1
    beside = 0.15 if alike else 0.65
    columns = max(1, int((WIDEST - 0.7) / (size[0] + beside)))
    columns = -(-len(links) // -(-len(links) // columns))  # rows of nearly equal length
    figure, axes = grid(len(links), columns, size, left=0.9, more=0.5 * len(maps),
                        between=(beside, 0.5 if alike else 1.05))  # fmt: skip
    for index, (ax, link, title) in enumerate(zip(axes, links, titles, strict=True)):
        images = _maps(ax, link, maps, (down, across))
        ax.set_title(title)
        if alike and index + columns < len(links):
            ax.set_xticks([])
        if alike and index % columns:
            ax.set_yticks([])
    bars = {maps[name]: (image, name) for name, image in images.items()}
    for image, name in reversed(bars.values()):  # from the foot
        figure.colorbar(image, ax=axes, location="bottom", shrink=0.4, aspect=30, pad=0.02,
                        ticks=MaxNLocator(4), label=f"{name} over seeds")  # fmt: skip
    return figure


def _maps(
    ax: Axes, link: Link, maps: Mapping[str, tuple[str, float]], most: tuple[int, int]
) -> dict[str, AxesImage]:
    """A link's matrices side by side; most: rows and columns of the largest link."""
    table, images, at = link.matrices["mean"], {}, []
    height, width = table.shape
    for k, (name, (colours, top)) in enumerate(maps.items()):
        values, start = link.matrices[name].to_numpy(), k * (most[1] + GAP) - 0.5
        images[name] = ax.imshow(values, cmap=colours, vmin=0, vmax=top, aspect="auto",
                                 extent=(start, start + width, height - 0.5, -0.5))  # fmt: skip
        ax.add_patch(Rectangle((start, -0.5), width, height, fill=False, clip_on=False,
                               edgecolor=PALE, linewidth=0.7))  # fmt: skip
        at += [start + 0.5 + i for i in range(width)]
        for row, column in np.argwhere(np.isfinite(values)) if max(most) <= ANNOTATED else ():
            value = float(values[row, column])
            ax.text(start + 0.5 + column, row, f"{value:.2f}".removeprefix("0"), ha="center",
                    va="center", fontsize="small", parse_math=False,
                    color="white" if value > 0.55 * top else "#111111")  # fmt: skip
    ax.set_xticks(at, list(map(operation_name, table.columns)) * len(maps))
    ax.set_yticks(range(height), list(map(operation_name, table.index)))
    ax.tick_params(length=0, pad=2, labelsize="small")
    ax.tick_params(axis="x", labelrotation=90)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set(xlim=(-0.5, len(maps) * (most[1] + GAP) - GAP - 0.5), ylim=(most[0] - 0.5, -0.5))
    return images
