"""Factorized reductions: even and odd pixels through a matrix each."""

from __future__ import annotations

from itnas.engine.weights import Weights
from itnas.kernels.families.base import FamilyPass, Incoming, Output
from itnas.kernels.maps import Map, pointers


class Halved(FamilyPass):
    """Skip connections of stride 2."""

    def _matrices(self, weights: Weights) -> list[tuple[int, int]]:
        """Pointers to the even and the odd matrix of every map."""
        even, odd = (pointers(weights[half][0]) for half in ("even", "odd"))
        return list(zip(even, odd, strict=True))

    def forward(self) -> list[Output]:
        """Half of the channels from the pixels (2i, 2j), the others from (2i + 1, 2j + 1)."""
        state, count = self.state, len(self.maps)
        self.stats = state.statistics(count)
        self.outputs = [
            Output(Map(y), stats)
            for y, stats in zip(state.empty(count), pointers(self.stats), strict=True)
        ]
        first = self.weights["even"].shape[2]
        for m, matrices, (y, stats) in zip(
            self.maps, self._matrices(self.weights), self.outputs, strict=True
        ):
            assert stats is not None
            state.kernels.pointwise(state.nodes[m.source], first, True, matrices, y, [stats])
        return self.outputs

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """The norm's gradient, the matrices', then the ReLU's."""
        state, first = self.state, self.weights["even"].shape[2]
        found: list[tuple[int | None, int | None]] = [(None, None)] * len(self.maps)
        if dweights is not None:
            found = list(self._matrices(dweights))
        for m, matrices, (y, stats), own, gradients in zip(
            self.maps, self._matrices(self.weights), self.outputs, incoming, found, strict=True
        ):
            assert stats is not None
            state.kernels.pointwise_backward(
                state.nodes[m.source], first, True, matrices, y, [stats], own.at, own.weights,
                [state.dnodes[t] for t in own.targets], state.dnodes[m.source], gradients,
            )  # fmt: skip
