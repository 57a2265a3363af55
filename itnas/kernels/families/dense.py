"""Dense convolutions of NAS-Bench-201: all edges of a round as one, by torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from itnas.engine.plan.rounds import DENSE, by_operation
from itnas.engine.threads import blocks, ordered_sum
from itnas.engine.weights import Weights
from itnas.kernels.families.base import FamilyPass, Incoming, Output
from itnas.kernels.maps import Map, pixel_map, pointers

PIECE_BYTES = 2**21
"""of the outputs of a convolution that are computed at a time: still in the cache for what follows
"""
SMALLEST_PIECE = 16
"""images; below, torch takes a slower 1x1 convolution"""


class Dense(FamilyPass):
    """C to E*C channels from the round's one source, some images at a time."""

    def _pieces(self) -> list[slice]:
        batch, height, width, c = self.state.shape
        widest = max(len(own) for _, own in by_operation(self.maps)) * c
        size = self.state.nodes[0].tensor.element_size() * height * width * widest
        return blocks(batch, max(SMALLEST_PIECE, PIECE_BYTES // size))

    def forward(self) -> list[Output]:
        """Every convolution's output, of which each map is a slice."""
        state, c = self.state, self.state.shape[3]
        x = state.nodes[self.round.sources[0]]
        moments = torch.empty(len(self.maps), x.batch, 2, c, dtype=state.dtype)
        self.stats = state.statistics(len(self.maps))
        stats = pointers(self.stats)
        convolutions = []
        self.outputs: list[Output] = []
        for operation, own in by_operation(self.maps):
            y = torch.empty(*state.shape[:3], len(own) * c, dtype=state.dtype)
            convolutions.append((y, self.weights[operation].flatten(0, 2), DENSE[operation] // 2))
            for n in range(len(own)):
                self.outputs.append(Output(Map(y, n * c, c), stats[len(self.outputs)]))
        pieces = self._pieces()

        def task(n: int) -> None:
            images = torch.relu(x.images(pieces[n]).view()).permute(0, 3, 1, 2)
            for y, weight, padding in convolutions:
                y[pieces[n]] = F.conv2d(images, weight, None, 1, padding).permute(0, 2, 3, 1)
            for output, own in zip(self.outputs, moments, strict=True):
                state.kernels.image_moments(output.map.images(pieces[n]), own[pieces[n]])

        state.workers.each(len(pieces), task)
        for own, to in zip(moments, stats, strict=True):
            state.kernels.statistics(own, x.pixels, to)
        return self.outputs

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """The norms' gradients, the convolutions', then the ReLU's."""
        state, c, source = self.state, self.state.shape[3], self.round.sources[0]
        x, dx, pieces = state.nodes[source], state.dnodes[source], self._pieces()
        groups = [(o, len(own)) for o, own in by_operation(self.maps)]
        found: dict[str, list[torch.Tensor]] = {
            o: [torch.empty(0)] * len(pieces) for o, _ in groups
        }

        def task(n: int) -> None:
            own = x.images(pieces[n])
            images = torch.relu(own.view()).permute(0, 3, 1, 2)
            at, gradients = 0, []
            for operation, count in groups:
                dy = torch.empty(own.batch, *state.shape[1:3], count * c, dtype=state.dtype)
                for m in range(count):
                    self._norm_gradient(at, incoming[at], pieces[n], Map(dy, m * c, c))
                    at += 1
                weight, padding = self.weights[operation].flatten(0, 2), [DENSE[operation] // 2] * 2
                d, dw, _ = torch.ops.aten.convolution_backward(
                    dy.permute(0, 3, 1, 2), images, weight, None, [1, 1], padding, [1, 1], False,
                    [0, 0], 1, [True, dweights is not None, False],
                )  # fmt: skip
                found[operation][n] = dw
                gradients.append(Map(pixel_map(d)))
            second = gradients[1] if len(gradients) > 1 else None
            state.kernels.rectify_backward(own, gradients[0], second, dx.images(pieces[n]))

        state.workers.each(len(pieces), task)
        if dweights is not None:
            for operation, parts in found.items():
                dweights[operation].copy_(ordered_sum(parts).view_as(dweights[operation]))

    def _norm_gradient(self, m: int, incoming: Incoming, images: slice, dy: Map) -> None:
        (t,), (weight,), _, (sums,) = incoming
        y, stats = self.outputs[m]
        assert stats is not None
        self.state.kernels.norm_backward(
            self.state.dnodes[t].images(images), y.images(images), stats, sums, weight,
            y.batch * y.pixels, dy,
        )  # fmt: skip
