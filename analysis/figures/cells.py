"""Draw: one cell as arcs over a line of nodes, kept edges with their operations.

Every edge is an arc, the higher the further it reaches, so that no two labels, which stand at the
tops, ever meet: those of edges that reach equally far lie beside each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from analysis.data.genotypes import Cell, parse
from analysis.figures.layout import entry, finish, scale
from analysis.figures.palette import PALE, operation_colour, operation_name
from analysis.figures.study import Tables, rows

RISE = 0.45  # of an arc's top for each node that it reaches further, inches; no label is as high
BELOW = 0.3  # the same of concatenations, which have no labels


def cell(tables: Tables, setting: str, cell: str) -> Figure:
    """The most frequent cell of a setting."""
    frame = rows(tables, "genotypes", setting=setting, part=cell).dropna(subset="code")
    top = frame.sort_values("count", ascending=False, kind="stable").iloc[0]
    ties = int((frame["count"] == top["count"]).sum())
    tie = f", one of {ties} equally frequent ones" if ties > 1 else ""
    title = f"{setting} · {cell} cell · {top['count']} of {top['n']} runs ({top['runs']}){tie}"
    return cell_figure(parse(top["code"])[cell], title)


def cell_figure(cell: Cell, title: str) -> Figure:
    """A cell with inner edges solid and outer edges dashed, in their operations' colours.

    DARTS cells show their two inputs c_{k-2} and c_{k-1} and the output c_k, to which all
    intermediate nodes are concatenated; NAS-Bench-201 cells show nodes 0 to 3.
    """
    last, darts = max(edge.target for edge in cell.edges), cell.inputs == 2
    nodes = [str(node) for node in range(last + 1 - 2 * darts)]
    nodes = ["$c_{k-2}$", "$c_{k-1}$", *nodes, "$c_k$"] if darts else nodes
    step = 0.85 + 0.1 * max(len(operation_name(edge.operation)) for edge in cell.edges)
    # Texts lie at places in inches, so the whole drawing grows as they do.
    low, high = -0.4 - BELOW * 3 * darts, 0.25 + RISE * last
    size = np.array([step * (len(nodes) - 1) + 0.9, high - low + 0.2])
    figure = Figure(figsize=tuple(size * scale()), layout="constrained")
    ax = figure.subplots()
    ax.set_axis_off()
    ax.set(xlim=(-0.45, size[0] - 0.45), ylim=(low, high), aspect="equal")
    for node in range(2, last + 1) if darts else ():
        _arc(ax, step, node, last + 1, -BELOW, arrowstyle="-", linewidth=1.2, color=PALE, zorder=1)
    text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "small"}
    for operation, source, target in cell.edges:
        colour = operation_colour(operation)
        dashes = "solid" if source >= cell.inputs else (0, (5, 3))
        top = _arc(ax, step, source, target, RISE, arrowstyle="-|>", mutation_scale=13 * scale(),
                   linewidth=1.8, color=colour, zorder=2, linestyle=dashes)  # fmt: skip
        ax.text(step * (source + target) / 2, top, operation_name(operation), color=colour,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
                fontweight="bold", zorder=4, **text)  # fmt: skip
    circle = {"boxstyle": "circle,pad=0.35", "facecolor": "#f2f2f2", "edgecolor": "#444444"}
    for place, name in enumerate(nodes):
        ax.text(step * place, 0, name, bbox=circle, zorder=5, **text)
    entries = [entry("outer edge (from an input)", linestyle="--"),
               entry("inner edge (from an inner node)", linestyle="-"),
               entry("concatenation to the output", color=PALE, linestyle="-")]  # fmt: skip
    return finish(figure, entries if darts else entries[:2], title)


def _arc(ax: Axes, step: float, start: int, end: int, rise: float, **style: Any) -> float:
    """Join two nodes, neighbours by a straight line; gives the height of the arc's middle."""
    height = rise * (end - start) if end - start > 1 else 0.0
    bend = f"arc3,rad={-2 * height / (step * (end - start))}"  # twice: a curve of second degree
    style |= {"shrinkA": 15 * scale(), "shrinkB": 16 * scale(), "connectionstyle": bend}
    ax.add_patch(FancyArrowPatch((step * start, 0), (step * end, 0), **style))
    return height
