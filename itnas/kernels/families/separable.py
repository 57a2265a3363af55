"""Depthwise-separable convolutions: ReLU, depthwise, pointwise, once or twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from itnas.engine.plan.rounds import SEPARABLE, RoundMap, by_operation
from itnas.engine.weights import Weights
from itnas.kernels.families.base import FamilyPass, Incoming, Output
from itnas.kernels.maps import Map, pointers


class _Convolution(NamedTuple):
    """One depthwise-separable convolution and where its weights (or their gradients) lie."""

    window: tuple[int, int]
    """kernel and dilation"""
    source: int
    depthwise: int
    """pointer to (C, 1, k, k)"""
    pointwise: int
    """pointer to (C, C, 1, 1)"""


def _convolutions(maps: list[RoundMap], w: Weights, role: str) -> Iterator[_Convolution]:
    """The `first` or `last` convolution of every map."""
    points = iter(pointers(w[f"{role}.point"][0])) if maps else iter(())
    for operation, own in by_operation(maps):
        window = SEPARABLE[operation][:2]
        for m, depthwise in zip(own, pointers(w[f"{role}.{operation}"][0]), strict=True):
            yield _Convolution(window, m.source, depthwise, next(points))


class Separables(FamilyPass):
    """Those applied twice come first."""

    def forward(self) -> list[Output]:
        """The outputs of the last convolutions."""
        state, r = self.state, self.round
        twice, wanted = self.maps[: r.twice], self.wanted
        count = len(self.maps) + len(twice)
        self.stats = state.statistics(count)
        outputs = [
            Output(Map(y), stats)
            for y, stats in zip(state.empty(count), pointers(self.stats), strict=True)
        ]
        self.outputs, self.middle = outputs[: len(self.maps)], outputs[len(self.maps) :]
        for n, one in enumerate(_convolutions(twice, self.weights, "first")):
            if wanted[n]:
                self._convolve(one, r.stride, Output(state.nodes[one.source], None), self.middle[n])
        for n, one in enumerate(_convolutions(self.maps, self.weights, "last")):
            if wanted[n] and n < len(twice):
                self._convolve(one, 1, self.middle[n], self.outputs[n])
            elif wanted[n]:
                source = Output(state.nodes[one.source], None)
                self._convolve(one, r.stride, source, self.outputs[n])
        return self.outputs

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """Last convolutions first; what lies between is computed again, image by image."""
        state, r = self.state, self.round
        twice = self.maps[: r.twice]
        first, last = (
            list(_convolutions(maps, self.weights, role))
            for maps, role in ((twice, "first"), (self.maps, "last"))
        )
        dfirst, dlast = (
            [None] * len(maps) if dweights is None else list(_convolutions(maps, dweights, role))
            for maps, role in ((twice, "first"), (self.maps, "last"))
        )
        sums_between = state.statistics(1)
        between = Output(Map(state.empty()), sums_between.data_ptr())
        for n, one in enumerate(last):
            (t,), (weight,), _, (sums,) = incoming[n]
            source = Output(state.nodes[one.source], None)
            into = Output(state.dnodes[one.source], None)
            reached = Output(state.dnodes[t], sums)
            if n < len(twice):
                self._back(one, 1, self.middle[n], self.outputs[n], weight, reached, between,
                           dlast[n])  # fmt: skip
                self._back(first[n], r.stride, source, self.middle[n], 1.0, between, into,
                           dfirst[n])  # fmt: skip
            else:
                self._back(one, r.stride, source, self.outputs[n], weight, reached, into, dlast[n])

    def _convolve(self, one: _Convolution, stride: int, x: Output, y: Output) -> None:
        assert y.stats is not None
        self.state.kernels.separable(
            x.map, (*one.window, stride), x.stats, one.depthwise, one.pointwise, y.map, y.stats
        )

    def _back(
        self, one: _Convolution, stride: int, x: Output, y: Output, weight: float, g: Output,
        dx: Output, dw: _Convolution | None,
    ) -> None:  # fmt: skip
        """The `stats` of a gradient are its sums; `x` is normalised first where it has stats."""
        assert y.stats is not None
        assert g.stats is not None
        self.state.kernels.separable_backward(
            x.map, (*one.window, stride), x.stats, one.depthwise, one.pointwise, y.map, y.stats,
            g.stats, weight, g.map, dx.map, dx.stats,
            *((None, None) if dw is None else (dw.depthwise, dw.pointwise)),
        )  # fmt: skip
