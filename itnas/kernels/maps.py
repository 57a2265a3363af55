"""Views of channels_last tensors, as the kernels take them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Map:
    """A view of (B, H, W, C) values: channels contiguous, one stride from pixel to pixel."""

    __slots__ = ("batch", "channels", "first", "height", "pointer", "stride", "tensor", "width")

    def __init__(self, tensor: Tensor, first: int = 0, channels: int | None = None) -> None:
        """`tensor` (B, H, W, C'), of which `channels` from `first` on are taken.

        Pixels of the tensor must be equally spaced, as they are in a contiguous tensor or a slice
        of one along its channels.
        """
        self.tensor, self.first = tensor, first
        self.batch, self.height, self.width, whole = tensor.shape
        self.channels = whole - first if channels is None else channels
        self.stride = tensor.stride(2)
        self.pointer = tensor.data_ptr() + first * tensor.element_size()

    @property
    def pixels(self) -> int:
        """Of one image."""
        return self.height * self.width

    def view(self) -> Tensor:
        """What it shows, (B, H, W, C)."""
        return self.tensor[..., self.first : self.first + self.channels]


class Term(NamedTuple):
    """A map with its weight in a node's sum."""

    map: Map
    stats: int | None
    """pointer to its statistics, doubles (2, C), if it is to be normalised"""
    weight: float = 1.0


def pixel_map(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H, W, C) with equally spaced pixels, copied only where they are not."""
    y = x.permute(0, 2, 3, 1)
    spaced = (
        y.stride(3) == 1
        and y.stride(1) == y.shape[2] * y.stride(2)
        and y.stride(0) == y.shape[1] * y.stride(1)
    )
    return y if spaced else y.contiguous()


def pointers(block: Tensor) -> list[int]:
    """Where every item of a contiguous tensor's first dimension lies; the tensor must live on."""
    start, step = block.data_ptr(), block.stride(0) * block.element_size()
    return [start + n * step for n in range(len(block))]
