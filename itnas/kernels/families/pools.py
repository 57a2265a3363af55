"""Pools of 3x3: one map a source, which all its edges share."""

from __future__ import annotations

import torch

from itnas.engine.weights import Weights
from itnas.kernels.families.base import FamilyPass, Incoming, Output
from itnas.kernels.maps import Map, pointers


class Pools(FamilyPass):
    """Maxima and means."""

    def forward(self) -> list[Output]:
        """With statistics where a norm follows."""
        state = self.state
        self.stats = state.statistics(len(self.maps))
        self.outputs = []
        for m, wanted, stats in zip(self.maps, self.wanted, pointers(self.stats), strict=True):
            output = Output(Map(state.empty()), stats if m.normed else None)
            if wanted:
                maximum = m.operation == "max_pool_3x3"
                state.kernels.pool(state.nodes[m.source], maximum, self.round.stride, *output)
            self.outputs.append(output)
        return self.outputs

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """The weighted sum of the edges' gradients goes through the pool once."""
        state = self.state
        for m, (y, stats), own in zip(self.maps, self.outputs, incoming, strict=True):
            g = Map(state.empty())
            state.kernels.combine([own.terms(state)], [g])
            if stats is not None:
                weighted = [p * sums for p, sums in zip(own.weights, own.sums, strict=True)]
                total = torch.stack(weighted).sum(0)
                dy, count = Map(state.empty()), y.batch * y.pixels
                state.kernels.norm_backward(g, y, stats, total.data_ptr(), 1.0, count, dy)
                g = dy
            state.kernels.pool_backward(
                state.nodes[m.source], m.operation == "max_pool_3x3", self.round.stride, g,
                state.dnodes[m.source],
            )  # fmt: skip
