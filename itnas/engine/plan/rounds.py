"""In which rounds a cell is computed, and its weights as stacked tensors.

The engine does not go edge by edge. All edges that leave a node read the same tensor, so they are
computed together: a *round* holds the edges that leave one node (the first round those of all
input nodes), operation by operation. Weights of one kind in one round are one stacked tensor, a
`Part`, with a leading replica dimension that this module does not mention. Every round ends with
a list of *maps*, and the nodes are weighted sums of maps. The list is written down once, as
`Round.maps`: backends compute the maps in its order, and `Round.routing` says which weight
belongs to which map and node.

Names of single weights are those of the edge-by-edge form of the published codes, which is kept
as the reference in the tests; they key the random streams.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, NamedTuple

from itnas.engine.groups.general import parameters_of
from itnas.method.spaces import Cell

SEPARABLE = {  # operation: kernel, dilation, how often it is applied
    "sep_conv_3x3": (3, 1, 2),
    "sep_conv_5x5": (5, 1, 2),
    "dil_conv_3x3": (3, 2, 1),
    "dil_conv_5x5": (5, 2, 1),
}
DENSE = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}  # operation: kernel
POOLS = ("max_pool_3x3", "avg_pool_3x3")

Family = Literal["separable", "dense", "halved", "pool", "skip", "noise", "general"]
"""How a map is computed. `general` is every operation that is registered and has no faster form
here: its own module, edge by edge."""


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


class RoundMap(NamedTuple):
    """One map of a round: what an operation makes of one source."""

    family: Family
    operation: str
    source: int
    edges: tuple[int, ...]
    """the edges whose weight of this operation multiplies it: one, or all that leave the source"""
    normed: bool
    """whether a batch norm follows"""


@dataclass(frozen=True)
class Round:
    """The edges that leave one node (or all input nodes), as the maps that they weigh."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    stride: int
    maps: tuple[RoundMap, ...]
    """in the order of computation: family by family, operation by operation, edge by edge"""
    routing: list[list[int]]
    """[target][map]: position of the weight in the cell's concatenated edge weights; the position
    after the last one stands for zero"""

    def families(self) -> Iterator[tuple[Family, list[RoundMap]]]:
        """The maps in their order, family by family."""
        for family, maps in groupby(self.maps, key=lambda m: m.family):
            yield family, list(maps)

    def of(self, family: Family) -> list[RoundMap]:
        """The maps of one family."""
        return [m for m in self.maps if m.family == family]

    @property
    def twice(self) -> int:
        """How many separable convolutions are applied twice; they are the first maps."""
        return sum(SEPARABLE[m.operation][2] == 2 for m in self.of("separable"))


def by_operation(maps: list[RoundMap]) -> Iterator[tuple[str, list[RoundMap]]]:
    """Neighbouring maps of one operation together."""
    for operation, own in groupby(maps, key=lambda m: m.operation):
        yield operation, list(own)


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
        targets = tuple(range(max(cell.inputs, sources[-1] + 1), cell.nodes))
        stride = 2 if self.reduction and sources[0] < cell.inputs else 1
        maps = tuple(self._maps(sources, stride))
        routing = [[self._position(m, target) for m in maps] for target in targets]
        return Round(sources, targets, stride, maps, routing)

    def _maps(self, sources: tuple[int, ...], stride: int) -> Iterator[RoundMap]:
        """The one list of a round's maps."""
        edges = [e for s in sources for e, edge in enumerate(self.cell.edges) if edge.source == s]

        def each(family: Family, operation: str, *, normed: bool) -> Iterator[RoundMap]:
            """A map for every edge that has the operation."""
            for e in edges:
                edge = self.cell.edges[e]
                if operation in edge.operations:
                    yield RoundMap(family, operation, edge.source, (e,), normed)

        def shared(family: Family, operation: str, *, normed: bool) -> Iterator[RoundMap]:
            """A map for every source, which all its edges that have the operation share."""
            for _, own in groupby(each(family, operation, normed=normed), key=lambda m: m.source):
                alike = list(own)
                yield alike[0]._replace(edges=tuple(m.edges[0] for m in alike))

        for operation in SEPARABLE:
            yield from each("separable", operation, normed=True)
        for operation in DENSE:
            yield from each("dense", operation, normed=True)
        if stride == 2:
            yield from each("halved", "skip_connect", normed=True)
        for operation in POOLS:
            yield from shared("pool", operation, normed=self.pool_norm)
        if stride == 1:
            yield from shared("skip", "skip_connect", normed=False)
        yield from each("noise", "noise", normed=False)
        for operation in self.cell.operations:
            if operation not in _FAST:
                yield from each("general", operation, normed=False)

    def _position(self, m: RoundMap, target: int) -> int:
        for e in m.edges:
            if self.cell.edges[e].target == target:
                return self.offsets[e] + self.cell.edges[e].operations.index(m.operation)
        return self.offsets[-1]

    def parts(self, layer: str, c: int) -> list[dict[str, Part]]:
        """Per round, the weights of a cell of `c` channels, by role: `first` and `last` of
        separable convolutions, dense ones by operation, `even` and `odd` halves of factorized
        reductions, and of general operations every parameter, `OPERATION.EDGE.PARAMETER`.
        """
        return [
            self._round_parts(r, f"{layer}.round{n}", layer, c) for n, r in enumerate(self.rounds)
        ]

    def _round_parts(self, r: Round, name: str, layer: str, c: int) -> dict[str, Part]:
        def weight(m: RoundMap, place: str) -> str:
            return f"{layer}.edges.{m.edges[0]}.operations.{m.operation}.{place}"

        parts: dict[str, Part | None] = {}

        def stacked(role: str, members: list[str], shape: tuple[int, ...]) -> None:
            parts[role] = _stacked(f"{name}.{role}", members, shape)

        twice, once = r.of("separable")[: r.twice], r.of("separable")[r.twice :]
        for operation, maps in by_operation([*twice, *once]):
            kernel, _, times = SEPARABLE[operation]
            shape = (c, 1, kernel, kernel)
            if times == 2:
                stacked(f"first.{operation}", [weight(m, "0.1.weight") for m in maps], shape)
            place = "1.1.weight" if times == 2 else "1.weight"
            stacked(f"last.{operation}", [weight(m, place) for m in maps], shape)
        point = (c, c, 1, 1)
        stacked("first.point", [weight(m, "0.2.weight") for m in twice], point)
        members = [weight(m, "1.2.weight") for m in twice] + [weight(m, "2.weight") for m in once]
        stacked("last.point", members, point)
        for operation, maps in by_operation(r.of("dense")):
            kernel = DENSE[operation]
            stacked(operation, [weight(m, "1.weight") for m in maps], (c, c, kernel, kernel))
        for half, size in (("even", c // 2), ("odd", c - c // 2)):
            stacked(half, [weight(m, f"{half}.weight") for m in r.of("halved")], (size, c, 1, 1))
        for m in r.of("general"):
            for parameter, initial in parameters_of(
                m.operation, c, r.stride, self.pool_norm
            ).items():
                own = weight(m, parameter)
                parts[f"{m.operation}.{m.edges[0]}.{parameter}"] = Part(own, (own,), *initial)
        return {role: part for role, part in parts.items() if part is not None}


_FAST = {*SEPARABLE, *DENSE, *POOLS, "skip_connect", "noise", "none"}
"""what is not computed by the general path"""
