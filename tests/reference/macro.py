"""How cells are stacked into the plain supernet: modules, apart from `itnas.method.macro`.

DARTS family (Liu et al. 2019): stem of 3C channels, cells with reduction at one and two thirds
of the depth. NAS-Bench-201 (Dong and Yang 2020): three stages of N cells with a residual block
of stride 2 between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itnas.method.operations import Context
from itnas.method.operations.convolutions import ReLUConvBN
from itnas.method.operations.skip import FactorizedReduce
from itnas.method.spaces import CellKind

MakeCell = Callable[[CellKind, int, str], nn.Module]
"""(cell kind, channels, name in the network) to a cell: a module that maps its input nodes, a
list of (B, C, H, W), and the choices by cell kind (what each edge does) to the nodes after them.
"""


class DartsNetwork(nn.Module):
    """Stem, cells of the DARTS family, global pool, classifier."""

    def __init__(
        self, make_cell: MakeCell, context: Context, channels: int, cells: int,
        image_channels: int, classes: int,
    ) -> None:  # fmt: skip
        super().__init__()
        stem = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, stem, 3, padding=1, bias=False),
            context.norm(stem, affine=True),
        )
        self.cells = nn.ModuleList()
        c_before, c_last, c, reduced = stem, stem, channels, False
        for n in range(cells):
            kind: CellKind = "reduce" if n in (cells // 3, 2 * cells // 3) else "normal"
            c = 2 * c if kind == "reduce" else c
            body = make_cell(kind, c, f"cells.{n}")
            self.cells.append(_DartsCell(body, context, c_before, c_last, c, reduced))
            c_before, c_last, reduced = c_last, 4 * c, kind == "reduce"
        self.classifier = nn.Linear(c_last, classes)

    def forward(self, images: Tensor, choices: dict[CellKind, Any]) -> Tensor:
        """(B, image channels, H, W) to logits (B, classes)."""
        before = last = self.stem(images)
        for cell in self.cells:
            before, last = last, cell(before, last, choices)
        return self.classifier(last.mean(dim=(2, 3)))


class _DartsCell(nn.Module):
    def __init__(
        self, body: nn.Module, context: Context, c_before: int, c_last: int, c: int, reduced: bool
    ) -> None:
        super().__init__()
        self.preprocess0 = (
            FactorizedReduce(context, c_before, c)
            if reduced  # the cell before last still has the larger map
            else ReLUConvBN(context, c_before, c, 1, 1)
        )
        self.preprocess1 = ReLUConvBN(context, c_last, c, 1, 1)
        self.body = body

    def forward(self, before: Tensor, last: Tensor, choices: dict[CellKind, Any]) -> Tensor:
        nodes = self.body([self.preprocess0(before), self.preprocess1(last)], choices)
        return torch.cat(nodes, dim=1)  # (B, 4C, H, W), or half the map in a reduction cell


class NasBench201Network(nn.Module):
    """Stem, three stages of N cells with residual blocks between, global pool, classifier."""

    def __init__(
        self, make_cell: MakeCell, context: Context, channels: int, cells: int,
        image_channels: int, classes: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, channels, 3, padding=1, bias=False),
            context.norm(channels, affine=True),
        )
        self.layers = nn.ModuleList()
        for stage in range(3):
            c = channels * 2**stage
            if stage:
                self.layers.append(_ResidualBlock(context, c // 2, c))
            for _ in range(cells):
                self.layers.append(make_cell("normal", c, f"layers.{len(self.layers)}"))
        self.norm = context.norm(c, affine=True)
        self.classifier = nn.Linear(c, classes)

    def forward(self, images: Tensor, choices: dict[CellKind, Any]) -> Tensor:
        """(B, image channels, H, W) to logits (B, classes)."""
        x = self.stem(images)
        for layer in self.layers:
            x = layer(x) if isinstance(layer, _ResidualBlock) else layer([x], choices)[-1]
        return self.classifier(F.relu(self.norm(x)).mean(dim=(2, 3)))


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the first of stride 2, beside a pooled 1x1 shortcut."""

    def __init__(self, context: Context, c_in: int, c_out: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            ReLUConvBN(context, c_in, c_out, 3, 2, affine=True),
            ReLUConvBN(context, c_out, c_out, 3, 1, affine=True),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2), nn.Conv2d(c_in, c_out, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.convolutions(x) + self.shortcut(x)


def stack(
    family: str, make_cell: MakeCell, context: Context, channels: int, cells: int,
    image_channels: int, classes: int,
) -> nn.Module:  # fmt: skip
    """The family's network over cells made by `make_cell`."""
    network = DartsNetwork if family == "darts" else NasBench201Network
    return network(make_cell, context, channels, cells, image_channels, classes)
