"""Genotypes: a reader of both written forms, and what is counted of them (design, section 5).

The analysis must not import itnas, so it has its own small reader of the two public formats:
NAS-Bench-201's `|op~0|+|op~0|op~1|+...` and the DARTS literal `Genotype(normal=[...], ...)`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from analysis.errors import ResultsError

PARAMETERLESS = frozenset({"none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "noise"})

_NB201_EDGE = re.compile(r"([^|~]+)~(\d+)")


class Edge(NamedTuple):
    """One kept edge: its operation and the nodes it joins."""

    operation: str
    source: int
    target: int


class Cell(NamedTuple):
    """One cell kind's kept edges, sorted by target, source and operation.

    `inputs` is the number of input nodes: an edge is inner where its source is not an input.
    """

    edges: tuple[Edge, ...]
    inputs: int


Genotype = Mapping[str, Cell]
"""Cell kind (`normal`, `reduce`) to its cell; one-cell spaces have only `normal`."""


@lru_cache(maxsize=1 << 16)  # every stage asks for the same runs' genotypes again
def parse(text: str) -> Genotype:
    """Read a genotype of either format; the order of a DARTS node's edges is free.

    Raises ResultsError where the text is neither.
    """
    text = str(text).strip()
    cells = _parse_nb201(text) if text.startswith("|") else _parse_darts(text)
    return {kind: cells[kind] for kind in ("normal", "reduce") if kind in cells}


def _parse_nb201(text: str) -> dict[str, Cell]:
    edges = []
    for target, node in enumerate(text.split("+"), start=1):
        parts = [part for part in node.split("|") if part]
        matches = [_NB201_EDGE.fullmatch(part) for part in parts]
        if not parts or not all(matches):
            raise ResultsError(f"no genotype of NAS-Bench-201: {text!r}")
        edges += [Edge(m[1], int(m[2]), target) for m in matches if m]
    return {"normal": _cell(edges, 1)}


def _parse_darts(text: str) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    try:
        call = ast.parse(text, mode="eval").body
        for field in call.keywords if isinstance(call, ast.Call) else ():
            # Two edges per node, node after node, and nodes 0 and 1 are inputs.
            if field.arg in ("normal", "reduce") and (pairs := ast.literal_eval(field.value)):
                edges = [Edge(str(o), int(s), 2 + i // 2) for i, (o, s) in enumerate(pairs)]
                cells[field.arg] = _cell(edges, 2)
    except (ValueError, TypeError, SyntaxError):
        cells = {}
    if "normal" not in cells:
        raise ResultsError(f"no genotype: {text!r}")
    return cells


def _cell(edges: Iterable[Edge], inputs: int) -> Cell:
    return Cell(tuple(sorted(edges, key=lambda e: (e.target, e.source, e.operation))), inputs)


def is_collapsed(genotype: Genotype) -> bool:
    """Whether more than half of the normal cell's kept edges are parameterless."""
    edges = genotype["normal"].edges
    return 2 * sum(e.operation in PARAMETERLESS for e in edges) > len(edges)


def function_of(cell: Cell) -> str:
    """What a cell of NAS-Bench-201 computes, as a sum of terms: equal for equal functions.

    `none` takes a path away, `skip_connect` is the identity, nodes are sums, in any order. One
    convolution counted twice is not told from two of them. Of the 15,625 strings 4,930 are
    left; the published `to_unique_str` leaves 6,466, since it keeps zeros as terms and does not
    sort through a skipped node's sum.
    """
    nodes: dict[int, tuple[str, ...]] = {0: ("x",)}
    for target in sorted({e.target for e in cell.edges}):
        terms: list[str] = []
        for e in cell.edges:
            inside = nodes.get(e.source, ())
            if e.target != target or e.operation == "none" or not inside:
                continue
            through = e.operation == "skip_connect"
            terms += inside if through else [f"{e.operation}({' + '.join(inside)})"]
        nodes[target] = tuple(sorted(terms))
    return " + ".join(nodes[max(nodes)]) or "0"


def describe_all(genotype: Genotype, part: str = "whole") -> str:
    """A genotype, or one of its cell kinds, in one line: `0→2 sep_conv_3x3, 1→2 skip_connect, ...`.

    Kinds are named where there are several; empty where it has no such kind.
    """
    lines = {
        kind: ", ".join(f"{e.source}→{e.target} {e.operation}" for e in cell.edges)
        for kind, cell in genotype.items()
        if part in ("whole", kind)
    }
    one = len(lines) == 1
    return "; ".join(line if one else f"{kind}: {line}" for kind, line in lines.items())
