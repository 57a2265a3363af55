"""Draw: one cell as a graph, nodes from left to right, kept edges with their operations.

Nodes have fixed places; how far an edge bends and where its label sits is chosen edge by edge
so that labels overlap neither each other nor nodes. Layout only: nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from analysis.compute.stability import SettingStability
from analysis.data.genotypes import Cell, Edge
from analysis.figures.palette import drawing, operation_colour, operation_name, wrapped

Point = NDArray[np.float64]

_BENDS = (0.0, 0.12, -0.12, 0.25, -0.25, 0.38, -0.38, 0.5, -0.5)
_LABEL_AT = (0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73)
_RADIUS = 0.24  # of a node, in data units, of which an inch has about one

_GREY = "#8c8c8c"
# The pale end of the map would not be seen on white.
_REPRODUCIBILITY = ListedColormap(
    matplotlib.colormaps["viridis_r"](np.linspace(0.12, 1, 256)), "reproducibility"
)
_SCALE = "dependence stability of the edge's links (0: chance, 1: identical)"


class _Route(NamedTuple):
    """How one edge is drawn: its bend, points along it, and its label's box."""

    edge: Edge
    bend: float
    points: Point  # (25, 2)
    label: Point  # (2,) centre
    half: Point  # (2,) half width and half height


def edge_reproducibility(item: SettingStability, cell: str) -> dict[tuple[int, int], float]:
    """Of every inner edge (source, target) the mean dependence stability of its links.

    Edges of which it is not known, as of a single seed, are left out.
    """
    found: dict[tuple[int, int], list[float]] = {}
    for link in item.links:
        if link.sample.cell != cell or link.dependence is None:
            continue
        value = link.dependence.intervals[link.index].estimate
        if np.isfinite(value):
            edge = link.sample.edge
            found.setdefault((edge.source, edge.target), []).append(value)
    return {edge: float(np.mean(values)) for edge, values in found.items()}


def cell_figure(
    cell: Cell, title: str, reproducibility: Mapping[tuple[int, int], float | None] | None = None
) -> Figure:
    """The cell with inner edges solid and outer edges dashed, each labelled with its operation.

    DARTS cells show their two inputs c_{k-2} and c_{k-1} and the output c_k, to which all
    intermediate nodes are concatenated; NAS-Bench-201 cells show nodes 0 to 3.

    Edges have their operation's colour. Where a reproducibility (0: chance, 1: identical) is
    known of any edge (source, target), inner edges have its colour instead and all others are
    grey: outer edges, and inner ones of which it is not known.
    """
    darts = cell.inputs == 2
    places = _darts_places(cell) if darts else _chain_places(cell)
    routes = _routes(cell.edges, places)
    corners = [r.label + sign * r.half for r in routes for sign in (-1, 1)]
    everything = np.array([*places.values(), *corners, *(p for r in routes for p in r.points)])
    low, high = everything.min(axis=0) - 0.5, everything.max(axis=0) + 0.5
    width, height = high - low
    known = _known(reproducibility or {})
    foot = 1.05 if known else 0.4  # room for the legend beneath, and for a colour bar
    full = height + foot + 0.6  # room for the title above
    with drawing():
        figure = Figure(figsize=(width, full))
        ax = figure.add_axes((0, foot / full, 1, height / full))
        ax.set_axis_off()
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        if darts:
            _draw_concatenation(ax, cell, places)
        if known:
            _colour_bar(figure, min(known.values()))
        for route in routes:
            inner = route.edge.source >= cell.inputs
            colour = operation_colour(route.edge.operation)
            if known:
                value = known.get((route.edge.source, route.edge.target)) if inner else None
                colour = _GREY if value is None else to_hex(_REPRODUCIBILITY(value))
            _draw_edge(ax, route, places, inner, colour, bool(known))
        for node, place in places.items():
            ax.text(
                place[0],
                place[1],
                _node_name(node, cell),
                ha="center",
                va="center",
                fontsize=10,
                zorder=5,
                bbox={
                    "boxstyle": "circle,pad=0.35",
                    "facecolor": "#f2f2f2",
                    "edgecolor": "#444444",
                },
            )
        figure.text(
            0.5, 1 - 0.15 / full, wrapped(title, 100, 2), ha="center", va="top", fontsize=10.5
        )
        handles = [
            Line2D([], [], color="#444444", linestyle="--", label="outer edge (from an input)"),
            Line2D([], [], color="#444444", label="inner edge (from an inner node)"),
        ]
        if darts:
            handles.append(Line2D([], [], color="#c4c4c4", label="concatenation to the output"))
        figure.legend(handles=handles, loc="lower center", ncols=3)
    return figure


def _known(
    reproducibility: Mapping[tuple[int, int], float | None],
) -> dict[tuple[int, int], float]:
    return {e: float(v) for e, v in reproducibility.items() if v is not None and np.isfinite(v)}


def _colour_bar(figure: Figure, least: float) -> None:
    """The scale of reproducibility, drawn beneath the cell; below 0 all is chance."""
    width, height = figure.get_size_inches()
    scale = ScalarMappable(Normalize(0, 1), _REPRODUCIBILITY)
    length = min(4.2, width - 1)
    bar = figure.add_axes(
        ((width - length) / 2 / width, 0.68 / height, length / width, 0.12 / height)
    )
    extend = "min" if least < 0 else "neither"
    figure.colorbar(scale, cax=bar, orientation="horizontal", extend=extend)
    bar.set_title(_SCALE, fontsize=9, pad=3)
    bar.tick_params(labelsize=9, length=2, pad=2)


def _nodes(cell: Cell) -> int:
    return max(edge.target for edge in cell.edges) + 1


def _chain_places(cell: Cell) -> dict[int, Point]:
    return {node: np.array([2.6 * node, 0.0]) for node in range(_nodes(cell))}


def _darts_places(cell: Cell) -> dict[int, Point]:
    """Inputs above each other at the left, intermediate nodes in a zigzag, output at the right."""
    nodes = _nodes(cell)
    places = {0: np.array([0.0, 1.3]), 1: np.array([0.0, -1.3])}
    for step, node in enumerate(range(2, nodes)):
        height = (0.75, -0.75, 1.0, -1.0)[step % 4]
        places[node] = np.array([1.9 * (step + 1), height])
    places[nodes] = np.array([1.9 * (nodes - 1) + 0.2, 0.0])
    return places


def _node_name(node: int, cell: Cell) -> str:
    if cell.inputs == 1:
        return str(node)
    if node == _nodes(cell):
        return "$c_k$"
    return ("$c_{k-2}$", "$c_{k-1}$")[node] if node < 2 else str(node - 2)


def _routes(edges: Iterable[Edge], places: dict[int, Point]) -> list[_Route]:
    """Greedily the least crowded route of every edge, the shortest first.

    Short edges have the least freedom; long ones can bend around them.
    """
    order = sorted(edges, key=lambda e: float(np.linalg.norm(places[e.target] - places[e.source])))
    routes: list[_Route] = []
    for edge in order:
        options = [_route(edge, bend, at, places) for bend in _BENDS for at in _LABEL_AT]
        routes.append(min(options, key=lambda r: _crowding(r, routes, places)))
    return routes


def _route(edge: Edge, bend: float, at: float, places: dict[int, Point]) -> _Route:
    """The quadratic curve that matplotlib's `arc3` of this bend draws."""
    start, end = places[edge.source], places[edge.target]
    across = end - start
    control = (start + end) / 2 + bend * np.array([across[1], -across[0]])

    def curve(t: Point) -> Point:
        t = np.atleast_1d(t)[:, None]
        return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end

    half = np.array([0.05 * len(operation_name(edge.operation)) + 0.07, 0.16])
    return _Route(edge, bend, curve(np.linspace(0, 1, 25)), curve(np.array([at]))[0], half)


def _crowding(route: _Route, placed: list[_Route], places: dict[int, Point]) -> float:
    """How bad a route is: label on label, label or line on a node, lines on each other."""
    cost = abs(route.bend) + 0.3 * float(np.linalg.norm(route.label - route.points[12]))
    for node, place in places.items():
        if node not in (route.edge.source, route.edge.target):
            cost += 30 * float(np.linalg.norm(route.points - place, axis=1).min() < 0.4)
        cost += 30 * float((np.abs(route.label - place) < route.half + _RADIUS).all())
    for other in placed:
        cost += 50 * float((np.abs(route.label - other.label) < route.half + other.half).all())
        on_line = (np.abs(other.points - route.label) < route.half).all(axis=1).any()
        under = (np.abs(route.points - other.label) < other.half).all(axis=1).any()
        cost += 4 * float(on_line) + 4 * float(under)
        gaps = np.linalg.norm(route.points[4:-4, None] - other.points[None, 4:-4], axis=2)
        # Touching once is a crossing, touching often is one line on another.
        touching = gaps.min(axis=1) < 0.12
        cost += 1.5 * float(touching.any()) + 6 * float(touching.mean())
    return cost


def _draw_edge(
    ax: Axes,
    route: _Route,
    places: dict[int, Point],
    inner: bool,
    colour: str,
    plain_label: bool,
) -> None:
    """plain_label: dark, because the colour does not stand for the operation."""
    ax.add_patch(
        FancyArrowPatch(
            tuple(places[route.edge.source]),
            tuple(places[route.edge.target]),
            connectionstyle=f"arc3,rad={route.bend}",
            arrowstyle="-|>",
            mutation_scale=13,
            shrinkA=15,
            shrinkB=16,
            linewidth=2.6 if inner and plain_label else 1.8,
            color=colour,
            zorder=2,
            linestyle="solid" if inner else (0, (5, 3)),
        )
    )
    ax.text(
        route.label[0],
        route.label[1],
        operation_name(route.edge.operation),
        ha="center",
        va="center",
        fontsize=9,
        color="#222222" if plain_label else colour,
        zorder=4,
        fontweight="bold",
        parse_math=False,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
    )


def _draw_concatenation(ax: Axes, cell: Cell, places: dict[int, Point]) -> None:
    output = places[_nodes(cell)]
    for node in range(2, _nodes(cell)):
        start = places[node]
        last = node >= _nodes(cell) - 2
        rad = 0.0 if last else (-0.33 if start[1] > 0 else 0.33)
        ax.add_patch(
            FancyArrowPatch(
                tuple(start),
                tuple(output),
                connectionstyle=f"arc3,rad={rad}",
                arrowstyle="-",
                shrinkA=15,
                shrinkB=16,
                linewidth=1.2,
                color="#c4c4c4",
                zorder=1,
            )
        )
