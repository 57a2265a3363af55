"""Image data: the whole set as one uint8 tensor and its three parts.

Sources (design, section 7): `digits` (scikit-learn, embedded), `parquet:DIR` (the Hub's layout),
`imagefolder:DIR` (one folder per class) and `hub:NAME` (through the `datasets` library). What a
source needs is imported when it is called.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
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
