"""The search spaces as data: which edges a cell has and which operations each edge may take.

A cell is a DAG of nodes 0..n-1 in topological order, the first of which are its inputs. Edges
are ordered by destination, then source, as in DARTS. Sources: DARTS and s1-s4 (Liu et al. 2019;
Zela et al. 2020), NAS-Bench-201 (Dong and Yang 2020); outer and inner edges and links: design,
section 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from itnas.method.operations import OPERATIONS

CellKind = Literal["normal", "reduce"]


class Edge(NamedTuple):
    """A connection between two nodes with its candidate operations."""

    source: int
    target: int
    inner: bool
    """whether its predecessors lie in the same cell"""
    operations: tuple[str, ...]


class Link(NamedTuple):
    """An inner edge and one of its predecessors, as indices into the cell's edges."""

    predecessor: int
    edge: int


@dataclass(frozen=True)
class Cell:
    """One cell kind of a space."""

    inputs: int
    nodes: int
    edges: tuple[Edge, ...]

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Every (predecessor, inner edge) pair, ordered by inner edge, then predecessor."""
        return tuple(
            Link(q, e)
            for e, edge in enumerate(self.edges)
            for q, predecessor in enumerate(self.edges)
            if predecessor.target == edge.source
        )

    def links_into(self, edge: int) -> list[int]:
        """Indices into `links` of the links that end at `edge`."""
        return [n for n, link in enumerate(self.links) if link.edge == edge]

    @property
    def inner_edges(self) -> list[int]:
        """Indices of the inner edges."""
        return [n for n, edge in enumerate(self.edges) if edge.inner]

    @property
    def outer_edges(self) -> list[int]:
        """Indices of the outer edges."""
        return [n for n, edge in enumerate(self.edges) if not edge.inner]

    @cached_property
    def operations(self) -> tuple[str, ...]:
        """Every operation that some edge may take, in order of first appearance."""
        return tuple(dict.fromkeys(o for edge in self.edges for o in edge.operations))


@dataclass(frozen=True)
class Space:
    """A search space: its cell kinds and the published depth."""

    name: str
    family: Literal["darts", "nas-bench-201"]
    """which macro structure the cells are stacked into, and which genotype is written"""
    cells: dict[CellKind, Cell]
    default_cells: int
    """`cells: auto`"""
    minimum_cells: int
    """fewer would leave a cell kind without a cell"""


def _cell(inputs: int, nodes: int, lists: list[tuple[str, ...]]) -> Cell:
    pairs = [(i, j) for j in range(inputs, nodes) for i in range(j)]
    edges = (Edge(i, j, i >= inputs, ops) for (i, j), ops in zip(pairs, lists, strict=True))
    return Cell(inputs, nodes, tuple(edges))


def darts_space(name: str, *operations: str) -> Space:
    """The DARTS cell (2 inputs, 4 intermediate nodes, 14 edges) with one list on every edge."""
    cells: dict[CellKind, Cell] = {
        "normal": _cell(2, 6, [operations] * 14),
        "reduce": _cell(2, 6, [operations] * 14),
    }
    return Space(name, "darts", cells, default_cells=8, minimum_cells=3)


def nas_bench_201_space(name: str, *operations: str) -> Space:
    """The NAS-Bench-201 cell (1 input, 3 further nodes, 6 edges) with one list on every edge."""
    cells: dict[CellKind, Cell] = {"normal": _cell(1, 4, [operations] * 6)}
    return Space(name, "nas-bench-201", cells, default_cells=5, minimum_cells=1)


def _s1() -> Space:
    """Two operations an edge, those that DARTS had left (Robust DARTS, Zela et al. 2020)."""
    full = {
        "k": "skip_connect",
        "m": "max_pool_3x3",
        "a": "avg_pool_3x3",
        "s3": "sep_conv_3x3",
        "d3": "dil_conv_3x3",
        "d5": "dil_conv_5x5",
    }
    normal = "k d3, k d5, k d5, k s3, k d3, m k, k s3, k s3, k d3, k s3, m k, k d3, d3 d5, d3 d5"
    reduce = "m a, m d3, m a, m a, k d5, m a, m s3, k d3, k d5, m a, m a, k d5, k d5, k d5"

    def lists(text: str) -> list[tuple[str, ...]]:
        return [tuple(full[o] for o in pair.split()) for pair in text.split(",")]

    cells: dict[CellKind, Cell] = {
        "normal": _cell(2, 6, lists(normal)),
        "reduce": _cell(2, 6, lists(reduce)),
    }
    return Space("s1", "darts", cells, default_cells=8, minimum_cells=3)


_NB201 = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_DARTS = (
    *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)

SPACES: dict[str, Space] = {
    "nas-bench-201": nas_bench_201_space("nas-bench-201", *_NB201),
    "darts": darts_space("darts", *_DARTS),
    "s1": _s1(),
    "s2": darts_space("s2", "skip_connect", "sep_conv_3x3"),
    "s3": darts_space("s3", "none", "skip_connect", "sep_conv_3x3"),
    "s4": darts_space("s4", "noise", "sep_conv_3x3"),
}
"""By the name that `space:` takes in a study file; more may be added."""


def get_space(name: str) -> Space:
    """The space of that name.

    ValueError, with the known names, for any other one and for a space with an operation that is
    not registered.
    """
    if name not in SPACES:
        raise ValueError(f"space: {name!r} is not known; one of {', '.join(SPACES)}")
    space = SPACES[name]
    for operation in (o for cell in space.cells.values() for o in cell.operations):
        if operation not in OPERATIONS:
            known = ", ".join(OPERATIONS)
            raise ValueError(f"space: {name} has operation {operation!r}; known are {known}")
    return space
