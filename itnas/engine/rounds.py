"""In which rounds a cell is computed, and its weights as stacked tensors.

The engine does not go edge by edge. All edges that leave a node read the same tensor, so they are
computed together: a *round* holds the edges that leave one node (the first round those of all
input nodes), operation by operation. Weights of one kind in one round are one stacked tensor, a
`Part`, with a leading replica dimension that this module does not mention. Every round ends with
a list of *maps*, and the nodes are weighted sums of maps; `Round.routing` says which weight
belongs to which map and node.

Names of single weights are those of the edge-by-edge form of the published codes, which is kept
as the reference in the tests; they key the random streams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from itnas.method.spaces import Cell

SEPARABLE = {  # operation: kernel, dilation, how often it is applied
    "sep_conv_3x3": (3, 1, 2),
    "sep_conv_5x5": (5, 1, 2),
    "dil_conv_3x3": (3, 2, 1),
    "dil_conv_5x5": (5, 2, 1),
}
DENSE = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}  # operation: kernel
POOLS = ("max_pool_3x3", "avg_pool_3x3")


@dataclass(frozen=True)
class Part:
    """Weights that are stored and used as one tensor. Shapes are without the replica dimension."""

    name: str
    members: tuple[str, ...]
    """names of the single weights"""
    member_shape: tuple[int, ...]
    fan_in: int = 1
    start: float | None = None
    """the constant it starts from; None: uniform in +-1 / sqrt(fan in), PyTorch's default"""
    stacked: bool = False
    """whether there is a leading dimension over the members"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all members together."""
        return (len(self.members), *self.member_shape) if self.stacked else self.member_shape

    @property
    def numel(self) -> int:
        """Elements of one replica."""
        return math.prod(self.shape)


def _stacked(name: str, members: list[str], shape: tuple[int, ...]) -> Part | None:
    """One tensor (members, *shape); None where no edge has the operation."""
    if not members:
        return None
    return Part(name, tuple(members), shape, math.prod(shape[1:]), stacked=True)


@dataclass(frozen=True)
class Round:
    """The edges that leave one node (or all input nodes), by operation."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    stride: int
    separable: dict[str, list[int]]
    """operation: edges; those applied twice come first"""
    dense: dict[str, list[int]]
    halved: list[int]
    """skip connections of stride 2: factorized reductions"""
    pools: list[tuple[int, str]]
    """(source, operation), operation by operation: one map for all edges"""
    skips: list[int]
    """sources whose own tensor is a map"""
    noise: list[int]
    routing: list[list[int]]
    """[target][map]: position of the weight in the cell's concatenated edge weights; the position
    after the last one stands for zero"""

    @property
    def twice(self) -> dict[str, list[int]]:
        """Separable convolutions that are applied twice."""
        return {o: edges for o, edges in self.separable.items() if SEPARABLE[o][2] == 2}

    @property
    def once(self) -> dict[str, list[int]]:
        """Separable convolutions that are applied once (dilated)."""
        return {o: edges for o, edges in self.separable.items() if SEPARABLE[o][2] == 1}


@dataclass(frozen=True)
class CellPlan:
    """How one cell kind is computed, whatever its channels."""

    cell: Cell
    pool_norm: bool
    """whether a pool is followed by a batch norm (the DARTS family)"""
    reduction: bool

    @cached_property
    def offsets(self) -> list[int]:
        """Position of every edge's first weight in the concatenation; the last is the total."""
        positions = [0]
        for edge in self.cell.edges:
            positions.append(positions[-1] + len(edge.operations))
        return positions

    @cached_property
    def rounds(self) -> list[Round]:
        """In the order of computation."""
        first = tuple(range(self.cell.inputs))
        later = [(n,) for n in range(self.cell.inputs, self.cell.nodes - 1)]
        return [self._round(sources) for sources in (first, *later)]

    def _round(self, sources: tuple[int, ...]) -> Round:
        cell = self.cell
        edges = [e for s in sources for e, edge in enumerate(cell.edges) if edge.source == s]
        targets = tuple(range(max(cell.inputs, sources[-1] + 1), cell.nodes))
        stride = 2 if self.reduction and sources[0] < cell.inputs else 1

        def having(operation: str) -> list[int]:
            return [e for e in edges if operation in cell.edges[e].operations]

        separable = {o: having(o) for o in SEPARABLE if having(o)}
        dense = {o: having(o) for o in DENSE if having(o)}
        halved = having("skip_connect") if stride == 2 else []
        pools = [
            (s, o) for o in POOLS for s in sources
            if any(cell.edges[e].source == s for e in having(o))
        ]  # fmt: skip
        skips = [
            s for s in sources
            if stride == 1 and any(cell.edges[e].source == s for e in having("skip_connect"))
        ]  # fmt: skip
        noise = having("noise")

        maps: list[dict[int, int]] = []  # per map: target -> position of its weight

        def position(e: int, operation: str) -> dict[int, int]:
            index = cell.edges[e].operations.index(operation)
            return {cell.edges[e].target: self.offsets[e] + index}

        def shared(source: int, operation: str) -> dict[int, int]:
            found: dict[int, int] = {}
            for e in having(operation):
                if cell.edges[e].source == source:
                    found |= position(e, operation)
            return found

        maps += [position(e, o) for o, having_it in separable.items() for e in having_it]
        maps += [position(e, o) for o, having_it in dense.items() for e in having_it]
        maps += [position(e, "skip_connect") for e in halved]
        maps += [shared(s, o) for s, o in pools]
        maps += [shared(s, "skip_connect") for s in skips]
        maps += [position(e, "noise") for e in noise]
        nothing = self.offsets[-1]
        routing = [[m.get(t, nothing) for m in maps] for t in targets]
        return Round(
            sources, targets, stride, separable, dense, halved, pools, skips, noise, routing
        )

    def parts(self, layer: str, c: int) -> list[dict[str, Part]]:
        """Per round, the weights of a cell of `c` channels: by role, see `_round_parts`."""
        return [
            self._round_parts(r, f"{layer}.round{n}", layer, c) for n, r in enumerate(self.rounds)
        ]

    def _round_parts(self, r: Round, name: str, layer: str, c: int) -> dict[str, Part]:
        def weight(e: int, operation: str, place: str) -> str:
            return f"{layer}.edges.{e}.operations.{operation}.{place}weight"

        parts: dict[str, Part | None] = {}
        for operation, edges in r.separable.items():
            kernel, _, times = SEPARABLE[operation]
            shape = (c, 1, kernel, kernel)
            if times == 2:
                members = [weight(e, operation, "0.1.") for e in edges]
                parts[f"first.{operation}"] = _stacked(f"{name}.first.{operation}", members, shape)
            members = [weight(e, operation, "1.1." if times == 2 else "1.") for e in edges]
            parts[f"last.{operation}"] = _stacked(f"{name}.last.{operation}", members, shape)
        point = (c, c, 1, 1)
        members = [weight(e, o, "0.2.") for o, edges in r.twice.items() for e in edges]
        parts["first.point"] = _stacked(f"{name}.first.point", members, point)
        members = [weight(e, o, "1.2.") for o, edges in r.twice.items() for e in edges]
        members += [weight(e, o, "2.") for o, edges in r.once.items() for e in edges]
        parts["last.point"] = _stacked(f"{name}.last.point", members, point)
        for operation, edges in r.dense.items():
            kernel = DENSE[operation]
            members = [weight(e, operation, "1.") for e in edges]
            parts[operation] = _stacked(f"{name}.{operation}", members, (c, c, kernel, kernel))
        for half, size in (("even", c // 2), ("odd", c - c // 2)):
            members = [weight(e, "skip_connect", f"{half}.") for e in r.halved]
            parts[half] = _stacked(f"{name}.{half}", members, (size, c, 1, 1))
        return {role: part for role, part in parts.items() if part is not None}
