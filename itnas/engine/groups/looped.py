"""One replica after another, or by the size of a map: what is faster on a CPU without kernels."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from itnas.engine.groups.grouped import Grouped
from itnas.engine.plan.blueprint import SearchCell
from itnas.engine.supernet import Noise
from itnas.engine.threads import Workers
from itnas.engine.weights import Weights

SMALL_SIDE = 8
"""Pixels: maps up to this side are laid out in groups on the CPU (docs/engine.md: measured)."""


class Looped:
    """A backend that gives `Grouped` one replica at a time; outside of it, maps are as there."""

    def __init__(self, channels_last: bool = False, workers: Workers | None = None) -> None:
        self.inner = Grouped(channels_last, workers)

    def convolution(self, x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """See `Grouped`."""
        pairs = zip(x.chunk(len(weight), 1), weight.split(1), strict=True)
        return torch.cat([self.inner.convolution(y, w, stride) for y, w in pairs], dim=1)

    def halve(self, x: Tensor, even: Tensor, odd: Tensor) -> Tensor:
        """See `Grouped`."""
        apart = zip(x.chunk(len(even), 1), even.split(1), odd.split(1), strict=True)
        return torch.cat([self.inner.halve(*one) for one in apart], dim=1)

    def norm(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """See `Grouped`; a batch norm is by channel, whatever the replicas."""
        return self.inner.norm(x, scale, shift)

    def cell(
        self, layer: SearchCell, inputs: list[Tensor], weights: Weights, p: Tensor, noise: Noise
    ) -> Tensor:
        """See `Grouped`."""
        replicas = len(p)
        names = [part.name for parts in layer.parts for part in parts.values()]
        apart = {name: weights[name].split(1) for name in names}
        xs = [x.chunk(replicas, 1) for x in inputs]
        drawn: dict[str, Tensor] = {}  # of all replicas, by a round's first edge

        def noise_of(k: int, edges: list[str], shape: tuple[int, ...]) -> Tensor:
            if edges[0] not in drawn:
                drawn[edges[0]] = noise(edges, shape)
            return drawn[edges[0]][k : k + 1]

        outputs = [
            self.inner.cell(
                layer,
                [x[k] for x in xs],
                {name: single[k] for name, single in apart.items()},
                p[k : k + 1],
                partial(noise_of, k),
            )
            for k in range(replicas)
        ]
        return torch.cat(outputs, dim=1)


class Mixed:
    """`Grouped` on small maps, `Looped` on large ones: what is faster on a CPU with torch's
    operations, where a grouped convolution of a large map is several times slower.
    """

    def __init__(
        self, channels_last: bool = False, workers: Workers | None = None, side: int = SMALL_SIDE
    ) -> None:
        self.side = side
        """the largest map, in pixels, that is laid out in groups"""
        self.grouped, self.looped = Grouped(channels_last, workers), Looped(channels_last, workers)

    def _pick(self, x: Tensor) -> Grouped | Looped:
        return self.grouped if x.shape[-1] <= self.side else self.looped

    def convolution(self, x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """See `Grouped`."""
        return self._pick(x).convolution(x, weight, stride)

    def halve(self, x: Tensor, even: Tensor, odd: Tensor) -> Tensor:
        """See `Grouped`."""
        return self._pick(x).halve(x, even, odd)

    def norm(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """See `Grouped`."""
        return self.grouped.norm(x, scale, shift)

    def cell(
        self, layer: SearchCell, inputs: list[Tensor], weights: Weights, p: Tensor, noise: Noise
    ) -> Tensor:
        """See `Grouped`."""
        return self._pick(inputs[0]).cell(layer, inputs, weights, p, noise)
