"""How cells are stacked into a network, as data: for the supernet and derived networks alike.

DARTS family (Liu et al. 2019): stem of 3C channels, cells with reduction at one and two thirds
of the depth, each after both cells before it. NAS-Bench-201 (Dong and Yang 2020): three stages
of N cells with a residual block of stride 2 between them.

Names are those of modules: `itnas.method.network` builds them, and the weights of the supernet
(`itnas.engine.plan.blueprint`) have the same, which key their random streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from itnas.method.spaces import CellKind


@dataclass(frozen=True)
class Stem:
    """3x3 convolution of the images, batch norm with scale and shift."""

    image_channels: int
    channels: int
    name: str = "stem"


@dataclass(frozen=True)
class Preprocess:
    """ReLU, 1x1 convolution, batch norm: makes an earlier cell's output an input node.

    Where that output still has the larger map: a factorized reduction in place of the convolution.
    """

    c_in: int
    channels: int
    halves: bool
    name: str


@dataclass(frozen=True)
class CellPlace:
    """Where a cell stands."""

    kind: CellKind
    channels: int
    name: str
    """of its module; the noise operation's streams are keyed by it"""
    preprocess: tuple[Preprocess, ...] = ()
    """of its two inputs, in the DARTS family: the cells before last and last (the stem before).
    Without them the layer before is its one input, and its last node the output; with them the
    output is all nodes after the inputs, side by side."""

    @property
    def body(self) -> str:
        """Name of the module with its edges."""
        return f"{self.name}.body" if self.preprocess else self.name


@dataclass(frozen=True)
class Residual:
    """Two 3x3 convolutions, the first of stride 2, beside a pooled 1x1 shortcut; batch norms with
    scale and shift after the convolutions.
    """

    c_in: int
    channels: int
    name: str


@dataclass(frozen=True)
class Head:
    """Global mean, linear classifier."""

    channels: int
    classes: int
    normed: bool
    """batch norm (`norm`, with scale and shift) and ReLU before the mean"""


Layer = Stem | CellPlace | Residual | Head


def stack(
    family: str, channels: int, cells: int, image_channels: int, classes: int
) -> Iterator[Layer]:
    """The layers of a family's network, in order: a stem, cells (and blocks), a head.

    `cells` is the number of cells of the DARTS family, and of cells per stage of NAS-Bench-201.
    """
    layers = _darts if family == "darts" else _nas_bench_201
    return layers(channels, cells, image_channels, classes)


def _darts(channels: int, cells: int, image_channels: int, classes: int) -> Iterator[Layer]:
    stem = 3 * channels
    yield Stem(image_channels, stem)
    before, last, c, reduced = stem, stem, channels, False
    for n in range(cells):
        kind: CellKind = "reduce" if n in (cells // 3, 2 * cells // 3) else "normal"
        c = 2 * c if kind == "reduce" else c
        name = f"cells.{n}"
        inputs = (
            Preprocess(before, c, reduced, f"{name}.preprocess0"),
            Preprocess(last, c, False, f"{name}.preprocess1"),
        )
        yield CellPlace(kind, c, name, inputs)
        before, last, reduced = last, 4 * c, kind == "reduce"
    yield Head(last, classes, normed=False)


def _nas_bench_201(channels: int, cells: int, image_channels: int, classes: int) -> Iterator[Layer]:
    yield Stem(image_channels, channels)
    layer, c = 0, channels
    for stage in range(3):
        if stage:
            yield Residual(c, 2 * c, f"layers.{layer}")
            layer, c = layer + 1, 2 * c
        for _ in range(cells):
            yield CellPlace("normal", c, f"layers.{layer}")
            layer += 1
    yield Head(c, classes, normed=True)
