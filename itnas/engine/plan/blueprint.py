"""The supernet as data: the layers of `itnas.method.macro` with their weights (`Part`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from itnas.engine.plan.rounds import CellPlan, Part
from itnas.method import macro
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


def draw_up(
    space: Space, channels: int, cells: int, image_channels: int, classes: int
) -> Blueprint:
    """The supernet of a space. `cells` counts as in the study file (design, section 7)."""
    layers = macro.stack(space.family, channels, cells, image_channels, classes)
    return Blueprint(tuple(_layer(space, layer) for layer in layers))


def _layer(space: Space, layer: macro.Layer) -> Layer:
    """A layer with its weights."""
    match layer:
        case macro.Stem(image_channels, c):
            weight = _convolution("stem.0.weight", image_channels, c, 3)
            return Stem(weight, *_affine("stem.1", c))
        case macro.CellPlace():
            return _cell(space, layer)
        case macro.Residual(c_in, c, name):
            one, two = (f"{name}.convolutions.{n}" for n in (0, 1))
            (s1, b1), (s2, b2) = _affine(f"{one}.2", c), _affine(f"{two}.2", c)
            weights = (
                _convolution(f"{one}.1.weight", c_in, c, 3),
                _convolution(f"{two}.1.weight", c, c, 3),
            )
            shortcut = _convolution(f"{name}.shortcut.1.weight", c_in, c, 1)
            return Residual(weights, (s1, s2), (b1, b2), shortcut)
        case macro.Head(c, classes, normed):
            weight = _single("classifier.weight", (classes, c))
            bias = Part("classifier.bias", ("classifier.bias",), (classes,), fan_in=c)
            return Head(weight, bias, *(_affine("norm", c) if normed else ()))


def _cell(space: Space, place: macro.CellPlace) -> SearchCell:
    pool_norm, reduction = space.family == "darts", place.kind == "reduce"
    plan = CellPlan(space.cells[place.kind], pool_norm, reduction)
    parts = plan.parts(place.body, place.channels)
    inputs = tuple(_preprocess(each) for each in place.preprocess)
    return SearchCell(place.name, place.kind, plan, place.channels, parts, inputs)


def _preprocess(place: macro.Preprocess) -> Preprocess:
    c_in, c, name = place.c_in, place.channels, place.name
    if not place.halves:
        return Preprocess(_convolution(f"{name}.1.weight", c_in, c, 1))
    return Preprocess(
        None,
        _convolution(f"{name}.even.weight", c_in, c // 2, 1),
        _convolution(f"{name}.odd.weight", c_in, c - c // 2, 1),
    )


def count_parameters(
    space: Space, channels: int, cells: int, image_channels: int, classes: int
) -> int:
    """Weights of the supernet, without the architecture; counted on the structure alone."""
    return draw_up(space, channels, cells, image_channels, classes).numel
