"""Dense convolutions of NAS-Bench-201: all edges of a round as one."""

from __future__ import annotations

import torch

from itnas.engine.plan.rounds import DENSE, by_operation
from itnas.engine.weights import Weights
from itnas.kernels.families.base import FamilyPass, Incoming, Output
from itnas.kernels.maps import Map, pointers


class Dense(FamilyPass):
    """C to E*C channels from the round's one source."""

    def forward(self) -> list[Output]:
        """Every convolution's output, of which each map is a slice."""
        state, c = self.state, self.state.shape[3]
        source = state.nodes[self.round.sources[0]]
        self.stats = state.statistics(len(self.maps))
        places = iter(pointers(self.stats))
        self.outputs: dict[str, list[Output]] = {}
        for operation, own in by_operation(self.maps):
            y = torch.empty(*state.shape[:3], len(own) * c, dtype=state.dtype)
            stats = [next(places) for _ in own]
            maps = [Map(y, n * c, c) for n in range(len(own))]
            self.outputs[operation] = list(map(Output, maps, stats))
            weights = self.weights[operation].data_ptr()
            if DENSE[operation] == 1:
                matrix = weights, None
                state.kernels.pointwise(source, y.shape[3], True, matrix, Map(y), stats)
            else:
                state.kernels.winograd(source, weights, Map(y), stats)
        return [output for outputs in self.outputs.values() for output in outputs]

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """The norms' gradients, the convolutions', then the ReLU's."""
        state, left, s = self.state, list(incoming), self.round.sources[0]
        for operation, outputs in self.outputs.items():
            own, left = left[: len(outputs)], left[len(outputs) :]
            y = Map(outputs[0].map.tensor)
            weights = self.weights[operation].data_ptr()
            dw = None if dweights is None else dweights[operation].data_ptr()
            returned = (
                [stats for _, stats in outputs if stats is not None],
                [one.at[0] for one in own], [one.weights[0] for one in own],
                [state.dnodes[one.targets[0]] for one in own], state.dnodes[s],
            )  # fmt: skip
            if DENSE[operation] == 1:
                state.kernels.pointwise_backward(
                    state.nodes[s], y.channels, True, (weights, None), y, *returned, (dw, None)
                )
            else:
                state.kernels.winograd_backward(state.nodes[s], weights, y, *returned, dw)
