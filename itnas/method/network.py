"""The network that a genotype stands for, as an nn.Module of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itnas.method.genotype import Choice, Genotype
from itnas.method.macro import stack
from itnas.method.operations import Context, build_operation
from itnas.method.spaces import CellKind
from itnas.streams import initial_weight


class DerivedCell(nn.Module):
    """One discrete cell: the kept edges alone."""

    def __init__(
        self, choices: tuple[Choice, ...], kind: CellKind, inputs: int, context: Context,
        channels: int, name: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.inputs = inputs
        self.targets = sorted({c.target for c in choices})
        self.choices = choices
        built = {
            f"{c.source}_{c.target}": build_operation(
                c.operation, context, channels,
                stride=2 if kind == "reduce" and c.source < inputs else 1,
                name=f"{name}.{c.source}_{c.target}",
            )
            for c in choices
        }  # fmt: skip
        self.edges = nn.ModuleDict({k: m for k, m in built.items() if m is not None})

    def forward(self, inputs: list[Tensor], choices: None) -> list[Tensor]:
        """Input nodes to the nodes after them; there is nothing left to choose."""
        nodes = list(inputs)
        for target in self.targets:
            terms = [
                self.edges[f"{c.source}_{c.target}"](nodes[c.source])
                for c in self.choices
                if c.target == target and c.operation != "none"
            ]
            nodes.append(sum(terms[1:], terms[0]) if terms else torch.zeros_like(nodes[0]))
        return nodes[self.inputs :]


class DerivedNetwork(nn.Module):
    """A genotype's network: images (B, image channels, H, W) to logits (B, classes)."""

    def __init__(self, stacked: nn.Module) -> None:
        super().__init__()
        self.stacked = stacked

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.stacked(images, None)


def build_network(
    genotype: Genotype | str,
    channels: int,
    cells: int,
    image_channels: int = 3,
    classes: int = 10,
    seed: int = 0,
) -> DerivedNetwork:
    """The network of a genotype, with weights from the streams of `seed`.

    Batch norms have a scale, a shift and running statistics, and pools are not normalised, as in
    the published evaluation networks. `cells` counts as in the study file (design, section 7).
    Auxiliary heads and drop-path belong to a training recipe and are not part of it. Raises
    ValueError for a text that is no genotype.
    """
    if isinstance(genotype, str):
        genotype = Genotype.parse(genotype)
    context = Context(pool_norm=False, affine=True, track=True, data_seed=seed)
    inputs = 2 if genotype.family == "darts" else 1
    kept = genotype.cells

    def make_cell(kind: CellKind, c: int, name: str) -> nn.Module:
        return DerivedCell(kept[kind], kind, inputs, context, c, name)

    network = stack(genotype.family, make_cell, context, channels, cells, image_channels, classes)
    initialise(network, seed)
    return DerivedNetwork(network)


def initialise(network: nn.Module, seed: int) -> None:
    """Fill every weight from its own stream, with the distributions of PyTorch's defaults."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            fan_in, start = initial_rule(network, name)
            if start is not None:
                parameter.fill_(start)
            else:
                parameter.copy_(initial_weight(seed, name, tuple(parameter.shape), fan_in))


def initial_rule(network: nn.Module, name: str) -> tuple[int, float | None]:
    """Fan in of a parameter, and the constant that it starts from (a batch norm's; else None)."""
    owner = network.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.BatchNorm2d):
        return 1, 1.0 if name.endswith("weight") else 0.0
    weight = getattr(owner, "weight", None)
    own = weight if isinstance(weight, Tensor) else owner.get_parameter(name.rpartition(".")[2])
    return own[0].numel() if own.dim() else 1, None
