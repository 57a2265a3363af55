"""Draw: transition matrices over seeds: mean, start and standard deviation, link by link.

Rows are the predecessor's operation, columns the inner edge's, so rows of means sum to 1. All
panels of a figure have the limits of its largest matrix: an entry has one size whatever the
shapes of the matrices, as where edges have lists of operations of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from analysis.figures.layout import Study, Tables, entry, finish, grid, of_text, rows, scale
from analysis.figures.palette import PALE, operation_name, wrapped

ANNOTATED = 5
"""Rows and columns up to which the numbers are written into the entries of a matrix."""

SIGNIFICANT = 0.05
MOST_LINKS = 4
"""Links in the figure of the first screen."""

WIDEST = 11.0  # inches
ENTRY, SMALL = (0.46, 0.36), 0.15  # inches of an entry with two lines of digits, and without
GAP = 0.6  # of entries between mean and sd

NODES = ["predecessor_source", "predecessor_target", "source", "target"]
MARKS = {
    "dependence_stability": ("●", "○", "rows come out again"),
    "learned_dependence_stability": ("◆", "◇", "what was learned does"),
}


class Link(NamedTuple):
    """One link's matrices (rows, columns); `sd` and `start` hold NaN where they are not known."""

    nodes: tuple[int, int, int, int]
    rows: list[str]
    columns: list[str]
    mean: np.ndarray
    sd: np.ndarray
    start: np.ndarray
    weight: float


def links_of(tables: Tables, setting: str, cell: str) -> list[Link]:
    """The links of a setting's cell kind, with their operations in the order of the table."""
    frame = rows(tables, "transition_matrices", "start_mean", "sd", "attention_weight_mean",
                 setting=setting, cell=cell)  # fmt: skip
    found = []
    for nodes, group in frame.groupby(NODES, sort=False):
        names, others = list(group["row"].unique()), list(group["column"].unique())
        wide = group.pivot(index="row", columns="column", values=["mean", "sd", "start_mean"])
        mean, sd, start = (
            wide[part].reindex(index=names, columns=others).to_numpy(float)
            for part in ("mean", "sd", "start_mean")
        )
        weight = float(group["attention_weight_mean"].iloc[0])
        found.append(Link(nodes, names, others, mean, sd, start, weight))
    return found


def link_name(nodes: Sequence[int]) -> str:
    """`edge 0→1 to 1→2`."""
    return "edge {}→{} to {}→{}".format(*nodes)


def transitions(tables: Tables, setting: str, cell: str) -> Figure:
    """Mean and spread of the matrices of a cell kind at the end, link by link.

    Small matrices have one panel with mean ± sd in each entry. Where one is larger than
    `ANNOTATED`, every link has two maps, its mean and its sd, each with one scale for all links;
    of a single seed only the first.
    """
    links = links_of(tables, setting, cell)
    down, across = (max(k.mean.shape[axis] for k in links) for axis in (0, 1))
    small, several = max(down, across) <= ANNOTATED, any(np.isfinite(k.sd).any() for k in links)
    maps = 1 if small or not several else 2
    total = maps * across + (maps - 1) * GAP
    inches = ENTRY if small else (SMALL, SMALL)
    size = (of_text(max(1.3, total * inches[0])), of_text(down * inches[1]))
    alike = len({(*k.rows, "", *k.columns) for k in links}) == 1
    beside = 0.15 if alike else 0.65
    columns = max(1, int((WIDEST - 0.7) / (size[0] + beside)))
    columns = -(-len(links) // -(-len(links) // columns))  # rows of nearly equal length
    figure, axes = grid(len(links), columns, size, left=0.9,
                        between=(beside, 0.5 if alike else 1.05))  # fmt: skip
    figure.set_figheight(figure.get_figheight() + 0.55 * maps * scale())
    marks, entries = _marks(tables, setting, cell)
    highest = max([0.01, *(np.nanmax(k.sd) for k in links if several)])
    images: dict[str, AxesImage] = {}
    for index, (ax, link) in enumerate(zip(axes, links, strict=True)):
        images["mean over seeds" + " (± sd)" * (small and several)] = _map(
            ax, link.mean, "Blues", 1
        )
        if maps == 2:
            images["sd over seeds"] = _map(ax, link.sd, "Oranges", highest, across + GAP)
        elif small:
            _write(ax, link.mean, link.sd)
        _frame(
            ax, link, down, total, [k * (across + GAP) for k in range(maps)],
            named=(not alike or index + columns >= len(links), not alike or index % columns == 0),
        )  # fmt: skip
        title = f"{link_name(link.nodes)}\nw {link.weight:.2f} {marks.get(link.nodes, '')}"
        ax.set_title(title.rstrip(), fontsize="small")
    for name, image in reversed(images.items()):  # from the foot up
        _bar(figure, image, axes, name)
    n = int(rows(tables, "transition_matrices", "n", setting=setting, cell=cell)["n"].max())
    remark = f"{setting} · {cell} cell · n={n} · rows: operation of the first edge, columns: of the second"
    return finish(figure, entries, remark)


def _marks(tables: Tables, setting: str, cell: str) -> tuple[dict[Any, str], list[Artist]]:
    """Marks of links by their nodes, and the entries that say what they mean.

    Filled where the test over permutations says so (Holm's p over the links), hollow where it
    does while the link's own 95% interval holds 0.
    """
    frame = rows(tables, "links", setting=setting, cell=cell)
    marks: dict[Any, str] = (
        dict.fromkeys(frame[NODES].itertuples(index=False, name=None), "") if len(frame) else {}
    )
    entries: list[Artist] = []
    for quantity, (filled, hollow, meaning) in MARKS.items():
        if frame.get(f"{quantity}_p_holm", pd.Series(dtype=float)).notna().any():
            found = frame[frame[f"{quantity}_p_holm"] < SIGNIFICANT]
            for nodes, low in zip(
                found[NODES].itertuples(index=False, name=None),
                found[f"{quantity}_low"],
                strict=True,
            ):
                marks[nodes] += hollow if low <= 0 else filled
            text = f"{filled} {meaning} (permutations, Holm p < {SIGNIFICANT:g}): {len(found)} of {len(frame)} links"
            entries.append(entry(text))
            if (found[f"{quantity}_low"] <= 0).any():
                entries.append(entry(f"{hollow} the same, though its own 95% interval holds 0"))
    return marks, entries


def matrices(tables: Tables) -> Figure:
    """Mean matrices at the end beneath their start, of the links that moved most.

    Of the primary setting of the verdict, else of the first transition setting that has any.
    """
    study = Study(tables)
    setting = study.primary(tables, rows(tables, "transition_matrices", "setting", "mean"))
    cell = min(rows(tables, "transition_matrices", "cell", setting=setting)["cell"])
    every = links_of(tables, setting, cell)
    moved = [float(np.abs(k.mean - k.start).sum(axis=1).mean()) for k in every]
    chosen = sorted(np.argsort(-np.nan_to_num(moved), kind="stable")[:MOST_LINKS])
    links = [every[k] for k in chosen]
    down, across = (max(k.mean.shape[axis] for k in links) for axis in (0, 1))
    inch = 0.25 if max(down, across) <= ANNOTATED else 0.165
    size = (of_text(inch * across), of_text(inch * down))
    figure, axes = grid(2 * len(links), len(links), size, left=1.2,
                        between=(0.1, 0.3))  # fmt: skip
    figure.set_figheight(figure.get_figheight() + 0.45 * scale())
    for k, link in enumerate(links):
        for row, values in enumerate((link.start, link.mean)):
            ax = axes[row * len(links) + k]
            image = _map(ax, values, "Blues", 1)
            _frame(ax, link, down, across, [0], named=(row == 1, k == 0))
            if inch > 0.2:
                _write(ax, values)
            if row == 0:
                ax.set_title("{}→{} to {}→{}".format(*link.nodes), fontsize="small")
            if k == 0:
                ax.set_ylabel(("start", "end")[row], fontsize="medium")
    figure.colorbar(image, ax=axes, location="right", shrink=0.6, aspect=25, pad=0.02,
                    label="mean over seeds (0..1)")  # fmt: skip
    which = (
        f"the {len(links)} of {len(every)} links that moved most"
        if len(every) > len(links)
        else "all links"
    )
    remark = f"{study.name(setting)} · {cell} cell · {which} · rows: operation of the first edge, columns: of the second"
    return finish(figure, remark=remark)


def _map(ax: Axes, values: np.ndarray, colours: str, highest: float, start: float = 0) -> AxesImage:
    """start: where in the panel the first column is."""
    down, across = values.shape
    extent = (start - 0.5, start + across - 0.5, down - 0.5, -0.5)
    return ax.imshow(values, cmap=colours, vmin=0, vmax=highest, aspect="auto", extent=extent)


def _frame(
    ax: Axes, link: Link, down: int, across: float, starts: Sequence[float],
    named: tuple[bool, bool],
) -> None:  # fmt: skip
    """Limits, a thin frame around each matrix, and names of columns and rows where `named`."""
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    height, width = link.mean.shape
    for start in starts:
        ax.add_patch(Rectangle((start - 0.5, -0.5), width, height, fill=False, clip_on=False,
                               edgecolor=PALE, linewidth=0.7))  # fmt: skip
    columns, names = (list(map(operation_name, x)) for x in (link.columns, link.rows))
    at = [s + i for s in starts for i in range(width)]
    ax.set_xticks(*((at, columns * len(starts)) if named[0] else ([],)))
    ax.set_yticks(*((range(height), names) if named[1] else ([],)))
    ax.tick_params(length=0, pad=2, labelsize="small")
    ax.tick_params(axis="x", labelrotation=90)
    ax.set(xlim=(-0.5, across - 0.5), ylim=(down - 0.5, -0.5))


def _write(ax: Axes, mean: np.ndarray, sd: np.ndarray | None = None) -> None:
    for (row, column), value in np.ndenumerate(mean):
        spread = np.nan if sd is None else sd[row, column]
        text = _digits(value) + ("" if np.isnan(spread) else f"\n±{_digits(spread)}")
        ax.text(column, row, text, ha="center", va="center", fontsize="small", linespacing=1.1,
                color="white" if value > 0.55 else "#111111", parse_math=False)  # fmt: skip


def _digits(value: float) -> str:
    """Two decimals without the leading zero, so that an entry stays small."""
    return f"{value:.2f}".removeprefix("0") if np.isfinite(value) else ""


def _bar(figure: Figure, image: AxesImage, axes: Sequence[Axes], name: str) -> None:
    figure.colorbar(
        image, ax=list(axes), location="bottom", shrink=0.4, aspect=30, pad=0.02, label=name
    )
