"""The plain supernet, edge by edge and operation by operation: the oracle of the engine.

Every edge of every cell computes all its candidate operations, as in the published codes.

The forward pass takes, by cell kind, what each edge does: one weight per operation (the relaxed
architecture), or the index of its only operation, or None for an edge that is left out (a
genotype's single path).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from itnas.method.genotype import Genotype
from itnas.method.network import initialise
from itnas.method.operations import Context, build_operation
from itnas.method.spaces import Cell, CellKind, Space, get_space
from itnas.settings import Setting
from tests.reference.macro import stack

EdgeChoice = Tensor | int | None
Choices = Mapping[CellKind, Sequence[EdgeChoice]]


class Zero(nn.Module):
    """`none`, computed as the published codes do."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class MixedOperation(nn.Module):
    """The candidate operations of one edge."""

    def __init__(
        self, operations: tuple[str, ...], context: Context, channels: int, stride: int, name: str
    ) -> None:
        super().__init__()
        built = {o: build_operation(o, context, channels, stride, name) for o in operations}
        self.operations = nn.ModuleDict({o: m or Zero(stride) for o, m in built.items()})
        self.names = operations

    def forward(self, x: Tensor, choice: EdgeChoice) -> Tensor | None:
        """(B, C, H, W) to the weighted sum over operations; None where nothing is added."""
        if choice is None:
            return None
        if isinstance(choice, int):
            return self.operations[self.names[choice]](x)
        weights = choice.unbind()
        return sum(w * self.operations[o](x) for w, o in zip(weights, self.names, strict=True))


class SearchCell(nn.Module):
    """One cell with a mixed operation on every edge."""

    def __init__(
        self, cell: Cell, kind: CellKind, context: Context, channels: int, name: str
    ) -> None:
        super().__init__()
        self.cell, self.kind = cell, kind
        self.edges = nn.ModuleList(
            MixedOperation(
                edge.operations, context, channels,
                stride=2 if kind == "reduce" and not edge.inner else 1,
                name=f"{name}.{edge.source}_{edge.target}",
            )
            for edge in cell.edges
        )  # fmt: skip

    def forward(self, inputs: list[Tensor], choices: Choices) -> list[Tensor]:
        """Input nodes to the nodes after them, each the sum of its incoming edges."""
        choice, nodes = choices[self.kind], list(inputs)
        for target in range(self.cell.inputs, self.cell.nodes):
            terms = [
                self.edges[e](nodes[edge.source], choice[e])
                for e, edge in enumerate(self.cell.edges)
                if edge.target == target
            ]
            added = [t for t in terms if t is not None]
            nodes.append(sum(added) if added else torch.zeros_like(nodes[0]))
        return nodes[self.cell.inputs :]


def build_supernet(
    setting: Setting, image_channels: int, classes: int, weights_seed: int, data_seed: int
) -> tuple[nn.Module, Context]:
    """A supernet with weights from the streams of `weights_seed`, and its context.

    The network maps (images, choices by cell kind) to logits (B, classes). Set the context's
    `moment` before each pass: it keys the noise operation's streams.
    """
    space = get_space(setting.space)
    cells = setting.search.cells
    assert isinstance(cells, int), "resolve the setting first"
    context = _context(space, data_seed)
    with torch.device("meta"):  # no memory and no global random numbers before the streams
        network = _skeleton(space, context, setting.search.channels, cells, image_channels, classes)
    network.to_empty(device="cpu")
    initialise(network, weights_seed)
    return network, context


def _context(space: Space, data_seed: int = 0) -> Context:
    return Context(pool_norm=space.family == "darts", affine=False, track=True, data_seed=data_seed)


def _skeleton(
    space: Space, context: Context, channels: int, cells: int, image_channels: int, classes: int
) -> nn.Module:
    def make_cell(kind: CellKind, c: int, name: str) -> nn.Module:
        return SearchCell(space.cells[kind], kind, context, c, name)

    return stack(space.family, make_cell, context, channels, cells, image_channels, classes)


def single_path(space: Space, genotype: Genotype) -> dict[CellKind, list[EdgeChoice]]:
    """A genotype as choices of the supernet: an operation's index, or None for an edge not kept."""
    choices: dict[CellKind, list[EdgeChoice]] = {}
    for kind, cell in space.cells.items():
        kept = {(c.source, c.target): c.operation for c in genotype.cells[kind]}
        choices[kind] = [
            edge.operations.index(kept[edge.source, edge.target])
            if (edge.source, edge.target) in kept
            else None
            for edge in cell.edges
        ]
    return choices
