"""The skip connection: the identity, or a factorized reduction where the map is halved."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itnas.method.operations.base import Context


class FactorizedReduce(nn.Module):
    """Halves the map: two 1x1 convolutions of stride 2, one of them shifted by one pixel."""

    def __init__(self, context: Context, c_in: int, c_out: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        self.norm = context.norm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C in, H, W) to (B, C out, H / 2, W / 2)."""
        x = torch.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


def skip_connect(context: Context, channels: int, stride: int, name: str) -> nn.Module:
    """Nothing to compute at stride 1."""
    return nn.Identity() if stride == 1 else FactorizedReduce(context, channels, channels)
