"""The noise operation of space s4 (Zela et al. 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from itnas.method.operations.base import Context
from itnas.streams import normal, stream


class Noise(nn.Module):
    """Replaces its input by N(0, 1), from a stream of its own per moment and edge."""

    def __init__(self, context: Context, channels: int, stride: int, name: str) -> None:
        super().__init__()
        self.context, self.name, self.stride = context, name, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / stride, W / stride)."""
        batch, channels, height, width = x.shape
        shape = (batch, channels, -(-height // self.stride), -(-width // self.stride))
        key = stream(self.context.data_seed, "noise", *self.context.moment, self.name)
        return normal(shape, key).to(x)
