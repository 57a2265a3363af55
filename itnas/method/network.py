"""The network that a genotype stands for, as an nn.Module of its own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itnas.method import macro
from itnas.method.genotype import Choice, Genotype
from itnas.method.operations import Context, build_operation
from itnas.method.operations.convolutions import ReLUConvBN
from itnas.method.operations.skip import FactorizedReduce
from itnas.streams import initial_weight


class DerivedCell(nn.Module):
    """One discrete cell: the kept edges alone."""

    def __init__(
        self, choices: tuple[Choice, ...], place: macro.CellPlace, inputs: int, context: Context
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.targets = sorted({c.target for c in choices})
        self.choices = choices
        built = {
            f"{c.source}_{c.target}": build_operation(
                c.operation, context, place.channels,
                stride=2 if place.kind == "reduce" and c.source < inputs else 1,
                name=f"{place.name}.{c.source}_{c.target}",
            )
            for c in choices
        }  # fmt: skip
        self.edges = nn.ModuleDict({k: m for k, m in built.items() if m is not None})

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Input nodes, (B, C, H, W) each, to the nodes after them."""
        nodes = list(inputs)
        for target in self.targets:
            terms = [
                self.edges[f"{c.source}_{c.target}"](nodes[c.source])
                for c in self.choices
                if c.target == target and c.operation != "none"
            ]
            nodes.append(sum(terms[1:], terms[0]) if terms else torch.zeros_like(nodes[0]))
        return nodes[self.inputs :]


class PreprocessedCell(nn.Module):
    """A cell of the DARTS family: its inputs are the outputs of the two cells before it."""

    def __init__(self, place: macro.CellPlace, body: DerivedCell, context: Context) -> None:
        super().__init__()
        self.preprocess0, self.preprocess1 = (
            FactorizedReduce(context, each.c_in, each.channels)
            if each.halves
            else ReLUConvBN(context, each.c_in, each.channels, 1, 1)
            for each in place.preprocess
        )
        self.body = body

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """To (B, 4C, H, W), or half the map in a reduction cell."""
        nodes = self.body([self.preprocess0(before), self.preprocess1(last)])
        return torch.cat(nodes, dim=1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the first of stride 2, beside a pooled 1x1 shortcut."""

    def __init__(self, place: macro.Residual, context: Context) -> None:
        super().__init__()
        c_in, c = place.c_in, place.channels
        self.convolutions = nn.Sequential(
            ReLUConvBN(context, c_in, c, 3, 2, affine=True),
            ReLUConvBN(context, c, c, 3, 1, affine=True),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, stride=2), nn.Conv2d(c_in, c, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 2C, H / 2, W / 2)."""
        return self.convolutions(x) + self.shortcut(x)


class Stacked(nn.Module):
    """The layers of `itnas.method.macro` as modules, under the names that they have there."""

    def __init__(self, layers: Iterable[macro.Layer], genotype: Genotype, context: Context) -> None:
        super().__init__()
        inputs = 2 if genotype.family == "darts" else 1
        self.between: list[str] = []
        """names of the layers between stem and head"""
        for layer in layers:
            match layer:
                case macro.Stem(image_channels, c):
                    convolution = nn.Conv2d(image_channels, c, 3, padding=1, bias=False)
                    self.stem = nn.Sequential(convolution, context.norm(c, affine=True))
                case macro.CellPlace():
                    cell = DerivedCell(genotype.cells[layer.kind], layer, inputs, context)
                    preprocessed = layer.preprocess
                    self._add(
                        layer.name, PreprocessedCell(layer, cell, context) if preprocessed else cell
                    )
                case macro.Residual():
                    self._add(layer.name, ResidualBlock(layer, context))
                case macro.Head():
                    self.norm = context.norm(layer.channels, affine=True) if layer.normed else None
                    self.classifier = nn.Linear(layer.channels, layer.classes)

    def _add(self, name: str, module: nn.Module) -> None:
        """`cells.3` is the fourth module of the list `cells`."""
        owner = name.partition(".")[0]
        if owner not in self._modules:
            self.add_module(owner, nn.ModuleList())
        self.get_submodule(owner).append(module)  # type: ignore[operator]
        self.between.append(name)

    def forward(self, images: Tensor) -> Tensor:
        """(B, image channels, H, W) to logits (B, classes)."""
        before = last = self.stem(images)
        for name in self.between:
            match self.get_submodule(name):
                case PreprocessedCell() as cell:
                    before, last = last, cell(before, last)
                case DerivedCell() as cell:
                    last = cell([last])[-1]
                case block:
                    last = block(last)
        if self.norm is not None:
            last = F.relu(self.norm(last))
        return self.classifier(last.mean(dim=(2, 3)))


class DerivedNetwork(nn.Module):
    """A genotype's network: images (B, image channels, H, W) to logits (B, classes)."""

    def __init__(self, stacked: Stacked) -> None:
        super().__init__()
        self.stacked = stacked

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.stacked(images)


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
    layers = macro.stack(genotype.family, channels, cells, image_channels, classes)
    network = Stacked(layers, genotype, context)
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
