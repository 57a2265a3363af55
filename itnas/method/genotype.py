"""The discrete cell: how it is chosen from the architecture weights, written and read.

DARTS family: for every intermediate node the two incoming edges with the largest weight among
operations other than `none`, each with that operation. NAS-Bench-201: the largest operation on
every edge, `none` included (design, section 5).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from itnas.method.operations import parameterless
from itnas.method.spaces import SPACES, CellKind, Space

Probabilities = Mapping[CellKind, list[list[float]]]
"""by cell kind, per edge: p_e over the edge's own operations"""

TIE = 1e-6
"""Two operations closer than this are tied."""


class Choice(NamedTuple):
    """One kept edge with its operation."""

    operation: str
    source: int
    target: int


@dataclass(frozen=True)
class Genotype:
    """Kept edges by cell kind, ordered by target, then source."""

    family: str
    cells: dict[CellKind, tuple[Choice, ...]]

    def __str__(self) -> str:
        """NAS-Bench-201's own string, or the literal that DARTS publishes."""
        if self.family == "nas-bench-201":
            return self.cell("normal")
        parts = ", ".join(f"{k}={self.cell(k)}, {k}_concat=range(2, 6)" for k in self.cells)
        return f"Genotype({parts})"

    def cell(self, kind: CellKind) -> str:
        """One cell kind of the genotype as text."""
        choices = self.cells[kind]
        if self.family == "darts":
            return str([(c.operation, c.source) for c in choices])
        nodes = sorted({c.target for c in choices})
        tokens = ["|".join(f"{c.operation}~{c.source}" for c in choices if c.target == t)
                  for t in nodes]  # fmt: skip
        return "+".join(f"|{t}|" for t in tokens)

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """Read what `str` writes; a node's two edges may come in either order (DARTS).

        Raises ValueError, with the text, for anything else.
        """
        try:
            return _parse_darts(text) if text.strip().startswith("Genotype") else _parse_nb201(text)
        except (ValueError, SyntaxError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"not a genotype ({error}): {text!r}") from None

    def counts(self, space: Space) -> dict[str, int]:
        """skip_connections, parameterless_operations and inner_edges_kept, over all cell kinds."""
        kept = [(kind, choice) for kind, cell in self.cells.items() for choice in cell]
        operations = [choice.operation for _, choice in kept]
        weightless = parameterless()
        return {
            "skip_connections": operations.count("skip_connect"),
            "parameterless_operations": sum(o in weightless for o in operations),
            "inner_edges_kept": sum(
                c.source >= space.cells[kind].inputs and c.operation != "none" for kind, c in kept
            ),
        }


def derive(space: Space, probabilities: Probabilities) -> Genotype:
    """The discrete cell of an architecture; of equal weights the earlier one wins."""
    cells: dict[CellKind, tuple[Choice, ...]] = {}
    for kind, cell in space.cells.items():
        best: dict[int, list[tuple[float, Choice]]] = {}  # by target node, sources ascending
        for edge, p in zip(cell.edges, probabilities[kind], strict=True):
            weight, operation = max(_eligible(space, edge.operations, p), key=lambda pair: pair[0])
            choice = Choice(operation, edge.source, edge.target)
            best.setdefault(edge.target, []).append((weight, choice))
        if space.family == "darts":
            best = {t: sorted(edges, key=lambda pair: -pair[0])[:2] for t, edges in best.items()}
        kept = [choice for edges in best.values() for _, choice in edges]
        cells[kind] = tuple(sorted(kept, key=lambda c: (c.target, c.source)))
    return Genotype(space.family, cells)


def count_tied_edges(space: Space, probabilities: Probabilities) -> int:
    """Edges, over all cell kinds, whose two best eligible operations are equal within 1e-6."""
    tied = 0
    for kind, cell in space.cells.items():
        for edge, p in zip(cell.edges, probabilities[kind], strict=True):
            weights = sorted((w for w, _ in _eligible(space, edge.operations, p)), reverse=True)
            tied += len(weights) > 1 and weights[0] - weights[1] <= TIE
    return tied


def single_paths(
    space: Space, genotypes: Sequence[Genotype], like: dict[CellKind, Tensor]
) -> dict[CellKind, Tensor]:
    """Genotypes as edge weights: 1 for what is kept, 0 for all else; (K, operations) by kind."""
    paths = {}
    for kind, cell in space.cells.items():
        rows = []
        for genotype in genotypes:
            kept = {(c.source, c.target): c.operation for c in genotype.cells[kind]}
            rows.append([
                float(kept.get((edge.source, edge.target)) == operation)
                for edge in cell.edges
                for operation in edge.operations
            ])  # fmt: skip
        paths[kind] = like[kind].new_tensor(rows)
    return paths


def _eligible(space: Space, operations: tuple[str, ...], p: list[float]) -> list[tuple[float, str]]:
    pairs = list(zip(p, operations, strict=True))
    return [x for x in pairs if x[1] != "none"] if space.family == "darts" else pairs


def _parse_nb201(text: str) -> Genotype:
    choices = []
    nodes = text.strip().split("+")
    if len(nodes) != 3:
        raise ValueError("three nodes expected")
    known = _operations("nas-bench-201")
    for target, node in enumerate(nodes, start=1):
        if not re.fullmatch(r"\|([^|~]+~\d+\|)+", node):
            raise ValueError(f"node {target}")
        tokens = [token.split("~") for token in node.strip("|").split("|")]
        if [int(source) for _, source in tokens] != list(range(target)):
            raise ValueError(f"sources of node {target}")
        choices += [Choice(_known(o, known), int(s), target) for o, s in tokens]
    return Genotype("nas-bench-201", {"normal": tuple(choices)})


def _parse_darts(text: str) -> Genotype:
    call = ast.parse(text.strip(), mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError("Genotype(normal=[...], ...) expected")
    fields = {k.arg: k.value for k in call.keywords if k.arg in ("normal", "reduce")}
    known = _operations("darts")
    cells: dict[CellKind, tuple[Choice, ...]] = {}
    kinds: tuple[CellKind, ...] = ("normal", "reduce")
    for kind in kinds:
        pairs = ast.literal_eval(fields[kind])
        if len(pairs) != 8:
            raise ValueError(f"eight edges expected in {kind}")
        choices = [Choice(_known(o, known), s, 2 + n // 2) for n, (o, s) in enumerate(pairs)]
        if any(not 0 <= c.source < c.target for c in choices) or len({c[1:] for c in choices}) < 8:
            raise ValueError(f"sources of {kind}")
        cells[kind] = tuple(sorted(choices, key=lambda c: (c.target, c.source)))
    return Genotype("darts", cells)


def _operations(family: str) -> set[str]:
    """Operations of all registered spaces of a family."""
    spaces = (space for space in SPACES.values() if space.family == family)
    return {o for space in spaces for cell in space.cells.values() for o in cell.operations}


def _known(operation: str, known: set[str]) -> str:
    if operation not in known:
        raise ValueError(f"operation {operation!r}")
    return operation
