"""The supernet as data: its layers in order, with their weights (`itnas.rounds.Part`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from itnas.engine.rounds import CellPlan, Part
from itnas.method.spaces import CellKind, Space


def _single(name: str, shape: tuple[int, ...], start: float | None = None) -> Part:
    return Part(name, (name,), shape, math.prod(shape[1:]), start)


def _convolution(name: str, c_in: int, c_out: int, kernel: int) -> Part:
    return _single(name, (c_out, c_in, kernel, kernel))


@dataclass(frozen=True)
class Stem:
    """3x3 convolution of the images, batch norm with scale and shift."""

    weight: Part
    scale: Part
    shift: Part


@dataclass(frozen=True)
class Preprocess:
    """ReLU, 1x1 convolution (or a factorized reduction), batch norm."""

    weight: Part | None
    even: Part | None = None
    odd: Part | None = None


@dataclass(frozen=True)
class SearchCell:
    """One cell of the supernet."""

    name: str
    kind: CellKind
    plan: CellPlan
    channels: int
    parts: list[dict[str, Part]]
    preprocess: tuple[Preprocess, ...] = ()
    """of the two inputs in the DARTS family"""


@dataclass(frozen=True)
class Residual:
    """NAS-Bench-201's block of stride 2: two 3x3 convolutions beside a pooled 1x1 shortcut."""

    weights: tuple[Part, Part]
    scales: tuple[Part, Part]
    shifts: tuple[Part, Part]
    shortcut: Part


@dataclass(frozen=True)
class Head:
    """(Batch norm and ReLU on NAS-Bench-201,) global mean, linear classifier."""

    weight: Part
    bias: Part
    scale: Part | None = None
    shift: Part | None = None


Layer = Stem | SearchCell | Residual | Head


@dataclass(frozen=True)
class Blueprint:
    """All layers of a supernet, in order."""

    layers: tuple[Layer, ...]
    parts: tuple[Part, ...] = field(init=False)
    """all weights, each once"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(_parts(self.layers)))

    @property
    def numel(self) -> int:
        """Weights of one replica: the supernet's parameters without the architecture."""
        return sum(part.numel for part in self.parts)


def _parts(value: object) -> Iterator[Part]:
    if isinstance(value, Part):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, dict):
        yield from _parts(list(value.values()))
    elif isinstance(value, Stem | SearchCell | Residual | Head | Preprocess):
        yield from _parts(list(vars(value).values()))


def _affine(name: str, c: int) -> tuple[Part, Part]:
    return _single(f"{name}.weight", (c,), 1.0), _single(f"{name}.bias", (c,), 0.0)


def _head(c: int, classes: int) -> tuple[Part, Part]:
    bias = Part("classifier.bias", ("classifier.bias",), (classes,), fan_in=c)
    return _single("classifier.weight", (classes, c)), bias


def draw_up(
    space: Space, channels: int, cells: int, image_channels: int, classes: int
) -> Blueprint:
    """The supernet of a space. `cells` counts as in the study file (design, section 7)."""
    build = _darts if space.family == "darts" else _nas_bench_201
    return Blueprint(tuple(build(space, channels, cells, image_channels, classes)))


def _darts(
    space: Space, channels: int, cells: int, image_channels: int, classes: int
) -> Iterator[Layer]:
    """DARTS (Liu et al. 2019): stem of 3C, reductions at one and two thirds of the depth."""
    stem = 3 * channels
    yield Stem(_convolution("stem.0.weight", image_channels, stem, 3), *_affine("stem.1", stem))
    before, last, c, reduced = stem, stem, channels, False
    for n in range(cells):
        kind: CellKind = "reduce" if n in (cells // 3, 2 * cells // 3) else "normal"
        c = 2 * c if kind == "reduce" else c
        plan = CellPlan(space.cells[kind], True, kind == "reduce")
        name = f"cells.{n}"
        if reduced:  # the cell before last still has the larger map
            first = Preprocess(
                None,
                _convolution(f"{name}.preprocess0.even.weight", before, c // 2, 1),
                _convolution(f"{name}.preprocess0.odd.weight", before, c - c // 2, 1),
            )
        else:
            first = Preprocess(_convolution(f"{name}.preprocess0.1.weight", before, c, 1))
        second = Preprocess(_convolution(f"{name}.preprocess1.1.weight", last, c, 1))
        parts = plan.parts(f"{name}.body", c)
        yield SearchCell(name, kind, plan, c, parts, (first, second))
        before, last, reduced = last, 4 * c, kind == "reduce"
    yield Head(*_head(last, classes))


def _nas_bench_201(
    space: Space, channels: int, cells: int, image_channels: int, classes: int
) -> Iterator[Layer]:
    """NAS-Bench-201 (Dong and Yang 2020): three stages of N cells, residual blocks between."""
    stem = _convolution("stem.0.weight", image_channels, channels, 3)
    yield Stem(stem, *_affine("stem.1", channels))
    layer, c = 0, channels
    for stage in range(3):
        if stage:
            name, c = f"layers.{layer}", 2 * c
            one, two = (f"{name}.convolutions.{n}" for n in (0, 1))
            (s1, b1), (s2, b2) = _affine(f"{one}.2", c), _affine(f"{two}.2", c)
            weights = (
                _convolution(f"{one}.1.weight", c // 2, c, 3),
                _convolution(f"{two}.1.weight", c, c, 3),
            )
            shortcut = _convolution(f"{name}.shortcut.1.weight", c // 2, c, 1)
            yield Residual(weights, (s1, s2), (b1, b2), shortcut)
            layer += 1
        for _ in range(cells):
            plan = CellPlan(space.cells["normal"], False, False)
            name = f"layers.{layer}"
            yield SearchCell(name, "normal", plan, c, plan.parts(name, c))
            layer += 1
    yield Head(*_head(c, classes), *_affine("norm", c))


def count_parameters(
    space: Space, channels: int, cells: int, image_channels: int, classes: int
) -> int:
    """Weights of the supernet, without the architecture; counted on the structure alone."""
    return draw_up(space, channels, cells, image_channels, classes).numel
