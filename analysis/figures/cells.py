"""Draw: one cell as a graph, nodes from left to right, kept edges with their operations.

Nodes have fixed places; how far an edge bends and where its label sits is chosen edge by edge
so that labels overlap neither each other nor nodes. Layout only: nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from analysis.data.genotypes import Cell, Edge, parse
from analysis.figures.layout import entry, finish, scale
from analysis.figures.palette import PALE, operation_colour, operation_name
from analysis.figures.study import Tables, rows

Point = NDArray[np.float64]

_BENDS = (0.0, 0.12, -0.12, 0.25, -0.25, 0.38, -0.38, 0.5, -0.5)
_LABEL_AT = (0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73)
RADIUS = 0.24  # of a node, in data units, of which an inch has about one


class _Route(NamedTuple):
    """How one edge is drawn: its bend, points along it, and its label's box."""

    edge: Edge
    bend: float
    points: Point  # (25, 2)
    label: Point  # (2,) centre
    half: Point  # (2,) half width and half height


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
    darts, named = cell.inputs == 2, _places(cell)
    places = list(named.values())
    routes = _routes(cell.edges, places)
    corners = [r.label + sign * r.half for r in routes for sign in (-1, 1)]
    everything = np.array([*places, *corners, *(p for r in routes for p in r.points)])
    low, high = everything.min(axis=0) - 0.35, everything.max(axis=0) + 0.35
    # Texts lie at places in inches, so the whole drawing grows as they do.
    figure = Figure(figsize=tuple((high - low + (0, 0.2)) * scale()), layout="constrained")
    ax = figure.subplots()
    ax.set_axis_off()
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    entries = [entry("outer edge (from an input)", linestyle="--"),
               entry("inner edge (from an inner node)", linestyle="-")]  # fmt: skip
    if darts:
        entries.append(entry("concatenation to the output", color=PALE, linestyle="-"))
    for node, place in enumerate(places[2:-1]) if darts else ():
        bend = 0.0 if node >= len(places) - 5 else -0.33 * np.sign(place[1])
        _arrow(ax, place, places[-1], bend, arrowstyle="-", linewidth=1.2, color=PALE, zorder=1)
    for route in routes:
        operation, inner = route.edge.operation, route.edge.source >= cell.inputs
        colour = operation_colour(operation)
        _arrow(ax, places[route.edge.source], places[route.edge.target], route.bend,
               arrowstyle="-|>", mutation_scale=13 * scale(), linewidth=1.8, color=colour,
               linestyle="solid" if inner else (0, (5, 3)), zorder=2)  # fmt: skip
        _text(ax, route.label, operation_name(operation), "round,pad=0.15", "white", "none",
              color=colour, fontweight="bold", zorder=4)  # fmt: skip
    for name, place in named.items():
        _text(ax, place, name, "circle,pad=0.35", "#f2f2f2", "#444444", zorder=5)
    return finish(figure, entries, title)


def _arrow(ax: Axes, start: Point, end: Point, bend: float, **style: Any) -> None:
    style |= {"shrinkA": 15 * scale(), "shrinkB": 16 * scale()}
    bent = f"arc3,rad={bend}"
    ax.add_patch(FancyArrowPatch(tuple(start), tuple(end), connectionstyle=bent, **style))


def _text(ax: Axes, at: Point, text: str, box: str, face: str, edge: str, **style: Any) -> None:
    bbox = {"boxstyle": box, "facecolor": face, "edgecolor": edge}
    ax.text(at[0], at[1], text, ha="center", va="center", fontsize="small", bbox=bbox, **style)


def _places(cell: Cell) -> dict[str, Point]:
    """Every node's name and place, in order.

    NAS-Bench-201: a chain. DARTS: inputs above each other at the left, intermediate nodes in a
    zigzag, output at the right.
    """
    nodes = max(edge.target for edge in cell.edges) + 1
    if cell.inputs == 1:
        return {str(node): np.array([2.6 * node, 0.0]) for node in range(nodes)}
    heights = (0.75, -0.75, 1.0, -1.0)
    inner = {str(k): np.array([1.9 * (k + 1), heights[k % 4]]) for k in range(nodes - 2)}
    inputs = {"$c_{k-2}$": np.array([0.0, 1.3]), "$c_{k-1}$": np.array([0.0, -1.3])}
    return inputs | inner | {"$c_k$": np.array([1.9 * (nodes - 1) + 0.2, 0.0])}


def _routes(edges: Iterable[Edge], places: list[Point]) -> list[_Route]:
    """Greedily the least crowded route of every edge, the shortest first.

    Short edges have the least freedom; long ones can bend around them.
    """
    order = sorted(edges, key=lambda e: float(np.linalg.norm(places[e.target] - places[e.source])))
    routes: list[_Route] = []
    for edge in order:
        options = [_route(edge, bend, at, places) for bend in _BENDS for at in _LABEL_AT]
        routes.append(min(options, key=lambda r: _crowding(r, routes, places)))
    return routes


def _route(edge: Edge, bend: float, at: float, places: list[Point]) -> _Route:
    """The quadratic curve that matplotlib's `arc3` of this bend draws."""
    start, end = places[edge.source], places[edge.target]
    across = end - start
    control = (start + end) / 2 + bend * np.array([across[1], -across[0]])

    def curve(t: Point) -> Point:
        t = np.atleast_1d(t)[:, None]
        return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end

    half = np.array([0.05 * len(operation_name(edge.operation)) + 0.07, 0.16])
    return _Route(edge, bend, curve(np.linspace(0, 1, 25)), curve(np.array([at]))[0], half)


def _crowding(route: _Route, placed: list[_Route], places: list[Point]) -> float:
    """How bad a route is: label on label, label or line on a node, lines on each other."""
    ends = (route.edge.source, route.edge.target)
    cost = abs(route.bend) + 0.3 * float(np.linalg.norm(route.label - route.points[12]))
    for node, place in enumerate(places):
        near = np.linalg.norm(route.points - place, axis=1).min() < 0.4
        cost += 30 * (near and node not in ends) + 30 * _in(route.label, place, route.half + RADIUS)
    for other in placed:
        cost += 50 * _in(route.label, other.label, route.half + other.half)
        cost += 4 * _in(other.points, route.label, route.half)
        cost += 4 * _in(route.points, other.label, other.half)
        gaps = np.linalg.norm(route.points[4:-4, None] - other.points[None, 4:-4], axis=2)
        # Touching once is a crossing, touching often is one line on another.
        touching = gaps.min(axis=1) < 0.12
        cost += 1.5 * float(touching.any()) + 6 * float(touching.mean())
    return cost


def _in(points: Point, centre: Point, half: Point) -> bool:
    """Whether any of the points is in a box."""
    return bool((np.abs(points - centre) < half).all(axis=-1).any())
