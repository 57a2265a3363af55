"""3x3 pools, normalised afterwards where the context says so."""

from __future__ import annotations

from torch import nn

from itnas.method.operations.base import Context


def max_pool(context: Context, channels: int, stride: int, name: str) -> nn.Module:
    """The largest of 3x3 pixels."""
    return _normed(nn.MaxPool2d(3, stride, padding=1), context, channels)


def avg_pool(context: Context, channels: int, stride: int, name: str) -> nn.Module:
    """The mean of 3x3 pixels, those outside the map left out."""
    pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    return _normed(pool, context, channels)


def _normed(pool: nn.Module, context: Context, channels: int) -> nn.Module:
    return nn.Sequential(pool, context.norm(channels)) if context.pool_norm else pool
