"""Image data: the whole set as one uint8 tensor, its three parts, batches and augmentation.

Sources (design, section 7): `digits` (scikit-learn, embedded), `parquet:DIR` (the Hub's layout),
`imagefolder:DIR` (one folder per class) and `hub:NAME` (through the `datasets` library). What a
source needs is imported when it is called.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itnas._checks import check_choices, require
from itnas.streams import stream

Part = Literal["weights", "architecture", "holdout"]
PARTS: tuple[Part, ...] = ("weights", "architecture", "holdout")


class DataError(ValueError):
    """Data that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class DataSettings:
    """Which images, how they are prepared and how they are split."""

    source: str = "digits"
    """digits, parquet:DIR, imagefolder:DIR or hub:NAME"""
    resolution: int | Literal["auto"] = "auto"
    """height and width in pixels, a multiple of 4; auto: the first image's shorter side"""
    color: Literal["auto", "rgb", "gray"] = "auto"
    """channels; auto: as the first image"""
    subset: int | None = None
    """use this many training images, balanced over classes; null: all"""
    holdout: float = 0.1
    """share kept for valid_* and derived_accuracy; the rest is halved"""
    crop: bool = True
    """random crop after padding by an eighth of the resolution (4 pixels at 32)"""
    flip: bool | Literal["auto"] = "auto"
    """random horizontal flip; auto: not for digits and letters"""
    cutout: int = 0
    """side in pixels of the square that is blanked out; 0: none"""

    def __post_init__(self) -> None:
        check_choices(self)
        kind, _, where = self.source.partition(":")
        known = self.source == "digits" or (kind in ("parquet", "imagefolder", "hub") and where)
        allowed = "one of digits, parquet:DIR, imagefolder:DIR, hub:NAME"
        require(self, "source", bool(known), allowed)
        size = self.resolution
        multiple = size == "auto" or (size >= 8 and size % 4 == 0)
        require(self, "resolution", multiple, "auto or a multiple of 4, at least 8")
        require(self, "subset", self.subset is None or self.subset >= 1, "null or at least 1")
        require(self, "holdout", 0 < self.holdout <= 0.5, "above 0, at most 0.5")
        require(self, "cutout", self.cutout >= 0, "at least 0")

    @property
    def flips(self) -> bool:
        """Whether images are flipped, `auto` decided by what a mirror would do to the class."""
        if self.flip != "auto":
            return self.flip
        unmirrored = ("digits", "mnist", "svhn", "letters", "kmnist", "omniglot")
        name = self.source.lower().removeprefix("hub:").removeprefix("parquet:").split("/")[-1]
        return "fashion" in name or not any(word in name for word in unmirrored)


@dataclass(frozen=True)
class ImageData:
    """A prepared data set. The test images are kept apart and touched by no search."""

    settings: DataSettings
    images: Tensor
    """uint8 (N, channels, resolution, resolution)"""
    labels: Tensor
    """int64 (N,), 0..classes-1"""
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 (gray) or 3 (RGB)."""
        return self.images.shape[1]

    @property
    def resolution(self) -> int:
        """Height and width in pixels."""
        return self.images.shape[2]

    def content_hash(self) -> str:
        """Hash of what the images and labels are, wherever they came from."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.images, self.labels, self.test_images, self.test_labels):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(np.ascontiguousarray(tensor.numpy()).data)
        return digest.hexdigest()

    def part_sizes(self) -> dict[Part, int]:
        """Images in each part: the holdout, and halves of the rest."""
        total = len(self.images)
        holdout = round(self.settings.holdout * total)
        weights = (total - holdout) // 2
        return {"weights": weights, "architecture": total - holdout - weights, "holdout": holdout}

    def steps_per_epoch(self, batch_size: int) -> int:
        """Full batches in the weights part. DataError where a part is too small."""
        sizes = self.part_sizes()
        if min(sizes["weights"], sizes["architecture"]) < batch_size or sizes["holdout"] < 2:
            raise DataError(
                f"data: {len(self.images)} images split into {sizes['weights']} for the weights, "
                f"{sizes['architecture']} for the architecture and {sizes['holdout']} held out are "
                f"too few for search.batch_size {batch_size}"
            )
        return sizes["weights"] // batch_size

    def split(self, seed: int) -> dict[Part, Tensor]:
        """Indices (int64) of the three parts, from the data seed's stream."""
        order = torch.randperm(len(self.images), generator=stream(seed, "split"))
        sizes = self.part_sizes()
        return dict(zip(PARTS, order.split([sizes[p] for p in PARTS]), strict=True))

    def to_arrays(self) -> dict[str, Any]:
        """Plain values for another process; arrays share this object's memory."""
        tensors = ("images", "labels", "test_images", "test_labels")
        return {k: v.numpy() if k in tensors else v for k, v in vars(self).items()}

    @classmethod
    def from_arrays(cls, values: dict[str, Any]) -> ImageData:
        """What `to_arrays` took apart; arrays may be read-only and are not copied."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")
            fields: dict[str, Any] = {
                k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v
                for k, v in values.items()
            }
        return cls(**fields)


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

    def training(self, part: Part, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled, augmented batches (K, B, C, H, W) with labels (K, B), `steps` of them."""
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
        for n, batch in enumerate(batches):
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
