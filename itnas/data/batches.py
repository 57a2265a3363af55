"""Batches of K replicas, side by side: order and augmentation from the streams of their seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itnas.data.images import DataSettings, ImageData, Part
from itnas.streams import stream


class Batches:
    """The data of K replicas: their splits on the device, and their batches side by side."""

    def __init__(
        self,
        data: ImageData,
        seeds: Sequence[int],
        batch_size: int,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        """One data seed for each replica."""
        self.settings, self.seeds, self.batch_size = data.settings, tuple(seeds), batch_size
        self.device, self.dtype = torch.device(device), dtype
        self.steps = data.steps_per_epoch(batch_size)
        self.images = data.images.to(self.device)  # on the CPU this is the shared array itself
        self.labels = data.labels.to(self.device)
        self.parts = [data.split(seed) for seed in self.seeds]
        self.mean, self.scale = _statistics(data.images, self.device, dtype)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides, besides the seeds, which batches there are; plain values.

        The images by their content (the first call reads them all), wherever they came from.
        """
        content = hashlib.blake2b(digest_size=16)
        for tensor in (self.images, self.labels):
            content.update(str(tuple(tensor.shape)).encode())
            content.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
        settings = self.settings
        return {
            "content": content.hexdigest(),
            "holdout": settings.holdout,
            "crop": settings.crop,
            "flip": settings.flips,
            "cutout": settings.cutout,
        }

    def training(
        self, part: Part, epoch: int, first: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """Shuffled, augmented batches (K, B, C, H, W) with labels (K, B) of an epoch's steps.

        From step `first` on, 0 to `steps`: the batches are those that a whole epoch has there.
        """
        count = self.steps * self.batch_size
        augment = _Augmentation(self.settings, self.images.shape[-1])
        chosen, draws = [], []
        for seed, parts in zip(self.seeds, self.parts, strict=True):
            indices = parts[part]
            order = torch.randperm(
                len(indices), generator=stream(seed, "order", part, epoch)
            )[:count]  # fmt: skip
            chosen.append(indices[order])
            draws.append(augment.draw(count, stream(seed, "augmentation", part, epoch)))
        batches = self._steps(chosen)
        drawn = {name: self._steps([d[name] for d in draws]) for name in draws[0]}
        for n in range(first, self.steps):
            batch = batches[n]
            images = augment(self.images[batch], {name: d[n] for name, d in drawn.items()})
            images = self._normalised(images)
            if self.settings.cutout:
                images = augment.cut(images, drawn["cut"][n])
            shape = (len(self.seeds), self.batch_size)
            yield images.unflatten(0, shape), self.labels[batch].view(shape)

    def _steps(self, per_replica: list[Tensor]) -> tuple[Tensor, ...]:
        """Per replica (steps * B, ...) to one (K * B, ...) a step, on the device."""
        stacked = torch.stack(per_replica).unflatten(1, (self.steps, self.batch_size))
        return stacked.transpose(0, 1).flatten(1, 2).to(self.device).unbind()

    def evaluation(self, part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        """A part in fixed order, unaugmented, in near-equal batches of at most `batch_size`.

        Near-equal, because a supernet is normalised with the statistics of the batch. Shapes as
        in `training`.
        """
        indices = torch.stack([parts[part] for parts in self.parts]).to(self.device)  # (K, n)
        for batch in indices.tensor_split(-(-indices.shape[1] // self.batch_size), dim=1):
            images = self._normalised(self.images[batch.flatten()])
            yield images.unflatten(0, batch.shape), self.labels[batch]

    def _normalised(self, images: Tensor) -> Tensor:
        return (images.to(self.dtype) - self.mean) * self.scale


class _Augmentation:
    """Random crop and flip on uint8 images, cutout on normalised ones."""

    def __init__(self, settings: DataSettings, resolution: int) -> None:
        self.settings, self.resolution = settings, resolution
        self.padding = resolution // 8 if settings.crop else 0

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """All random numbers of an epoch at once, so that no step waits for the host."""
        side = 2 * self.padding + 1
        return {
            "shift": torch.randint(side, (count, 2), generator=generator),
            "flip": torch.rand(count, generator=generator) < 0.5,
            "cut": torch.randint(self.resolution, (count, 2), generator=generator),
        }

    def __call__(self, images: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """uint8 (B, C, H, W) to the same shape."""
        if self.settings.flips:
            images = torch.where(draws["flip"][:, None, None, None], images.flip(3), images)
        if self.padding:
            padded = torch.nn.functional.pad(images, [self.padding] * 4)
            span = torch.arange(self.resolution, device=images.device)
            rows = (draws["shift"][:, :1] + span)[:, None, :, None]  # (B, 1, H, 1)
            columns = (draws["shift"][:, 1:] + span)[:, None, None, :]  # (B, 1, 1, W)
            batch = torch.arange(len(images), device=images.device)[:, None, None, None]
            channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
            images = padded[batch, channel, rows, columns]
        return images

    def cut(self, images: Tensor, centre: Tensor) -> Tensor:
        """Zero (the mean) in a square around `centre` (B, 2), clipped at the border."""
        span = torch.arange(self.resolution, device=images.device)
        low = centre - self.settings.cutout // 2
        inside = (span >= low[..., None]) & (span < low[..., None] + self.settings.cutout)
        square = inside[:, 0, :, None] & inside[:, 1, None, :]  # (B, H, W)
        return images.masked_fill(square[:, None], 0)


def _statistics(images: Tensor, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation per channel of all training images, each (1, C, 1, 1)."""
    values: NDArray[np.int64] = np.arange(256)
    mean, scale = [], []
    for channel in images.numpy().swapaxes(0, 1):
        histogram = np.bincount(channel.reshape(-1), minlength=256)  # exact and without a copy
        m = float((histogram * values).sum() / histogram.sum())
        variance = float((histogram * (values - m) ** 2).sum() / histogram.sum())
        mean.append(m)
        scale.append(1 / max(variance, 1.0) ** 0.5)
    shape = (1, -1, 1, 1)
    return (
        torch.tensor(mean, dtype=dtype, device=device).view(shape),
        torch.tensor(scale, dtype=dtype, device=device).view(shape),
    )
