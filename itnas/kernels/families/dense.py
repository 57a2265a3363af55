"""Dense convolutions of NAS-Bench-201: all edges of a round as one.

Pointwise ones are kernels. Larger ones are torch's, some images at a time: what a convolution has
written is still in the cache when its statistics are taken.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from itnas.engine.plan.rounds import DENSE, by_operation
from itnas.engine.threads import BLOCK, blocks, ordered_sum
from itnas.engine.weights import Weights
from itnas.kernels.families.base import FamilyPass, Incoming, Output
from itnas.kernels.maps import Map, pixel_map, pointers

PIECE_BYTES = 2**21
"""of the outputs of a convolution that are computed at a time"""


class Dense(FamilyPass):
    """C to E*C channels from the round's one source."""

    def forward(self) -> list[Output]:
        """Every convolution's output, of which each map is a slice."""
        state, c = self.state, self.state.shape[3]
        self.stats = state.statistics(len(self.maps))
        places = iter(pointers(self.stats))
        self.outputs: dict[str, list[Output]] = {}
        for operation, own in by_operation(self.maps):
            y = torch.empty(*state.shape[:3], len(own) * c, dtype=state.dtype)
            outputs = [Output(Map(y, n * c, c), next(places)) for n in range(len(own))]
            self.outputs[operation] = outputs
            if DENSE[operation] == 1:
                stats = [stats for _, stats in outputs if stats is not None]
                matrix = self._matrix(operation)
                state.kernels.pointwise(self._source, y.shape[3], True, matrix, Map(y), stats)
            else:
                self._convolve(operation, y, outputs)
        return [output for outputs in self.outputs.values() for output in outputs]

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """The norms' gradients, the convolutions', then the ReLU's."""
        left = list(incoming)
        for operation, outputs in self.outputs.items():
            own, left = left[: len(outputs)], left[len(outputs) :]
            dw = None if dweights is None else dweights[operation]
            if DENSE[operation] == 1:
                self._pointwise_backward(operation, outputs, own, dw)
            else:
                self._convolve_backward(operation, outputs, own, dw)

    @property
    def _source(self) -> Map:
        return self.state.nodes[self.round.sources[0]]

    def _matrix(self, operation: str) -> tuple[int, None]:
        return self.weights[operation].data_ptr(), None

    def _pointwise_backward(
        self, operation: str, outputs: list[Output], incoming: list[Incoming], dw: Tensor | None
    ) -> None:
        state, y = self.state, Map(outputs[0].map.tensor)
        state.kernels.pointwise_backward(
            self._source, y.channels, True, self._matrix(operation), y,
            [stats for _, stats in outputs if stats is not None],
            [own.at[0] for own in incoming], [own.weights[0] for own in incoming],
            [state.dnodes[own.targets[0]] for own in incoming],
            state.dnodes[self.round.sources[0]], (None if dw is None else dw.data_ptr(), None),
        )  # fmt: skip

    def _pieces(self, channels: int) -> list[slice]:
        """Ranges of images so small that a map of so many channels fits the cache."""
        batch, height, width, _ = self.state.shape
        size = self._source.tensor.element_size() * height * width * channels
        return blocks(batch, max(BLOCK, PIECE_BYTES // size))

    def _convolve(self, operation: str, y: Tensor, outputs: list[Output]) -> None:
        state, x = self.state, self._source
        moments = torch.empty(len(outputs), x.batch, 2, state.shape[3], dtype=state.dtype)
        pieces, padding = self._pieces(y.shape[3]), DENSE[operation] // 2
        weight = self.weights[operation].flatten(0, 2)

        def task(n: int) -> None:
            images = torch.relu(x.images(pieces[n]).view()).permute(0, 3, 1, 2)
            y[pieces[n]] = F.conv2d(images, weight, None, 1, padding).permute(0, 2, 3, 1)
            for output, own in zip(outputs, moments, strict=True):
                state.kernels.image_moments(output.map.images(pieces[n]), own[pieces[n]])

        state.workers.each(len(pieces), task)
        for own, (_, stats) in zip(moments, outputs, strict=True):
            assert stats is not None
            state.kernels.statistics(own, x.pixels, stats)

    def _convolve_backward(
        self, operation: str, outputs: list[Output], incoming: list[Incoming], dw: Tensor | None
    ) -> None:
        state, c, x = self.state, self.state.shape[3], self._source
        dx, pieces = state.dnodes[self.round.sources[0]], self._pieces(len(outputs) * c)
        weight, padding = self.weights[operation].flatten(0, 2), [DENSE[operation] // 2] * 2
        found: list[Tensor] = [torch.empty(0)] * len(pieces)

        def task(n: int) -> None:
            own = x.images(pieces[n])
            images = torch.relu(own.view()).permute(0, 3, 1, 2)
            dy = torch.empty(own.batch, *state.shape[1:3], len(outputs) * c, dtype=state.dtype)
            for m, (output, back) in enumerate(zip(outputs, incoming, strict=True)):
                self._norm_gradient(output, back, pieces[n], Map(dy, m * c, c))
            d, found[n], _ = torch.ops.aten.convolution_backward(
                dy.permute(0, 3, 1, 2), images, weight, None, [1, 1], padding, [1, 1], False,
                [0, 0], 1, [True, dw is not None, False],
            )  # fmt: skip
            state.kernels.rectify_backward(own, Map(pixel_map(d)), dx.images(pieces[n]))

        state.workers.each(len(pieces), task)
        if dw is not None:
            dw.copy_(ordered_sum(found).view_as(dw))

    def _norm_gradient(self, output: Output, incoming: Incoming, images: slice, dy: Map) -> None:
        (y, stats), (t,), (weight,) = output, incoming.targets, incoming.weights
        assert stats is not None
        self.state.kernels.norm_backward(
            self.state.dnodes[t].images(images), y.images(images), stats, incoming.at[0], weight,
            y.batch * y.pixels, dy,
        )  # fmt: skip
