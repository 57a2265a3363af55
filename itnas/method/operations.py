"""The candidate operations, as published (DARTS: Liu et al. 2019; NAS-Bench-201: Dong and Yang
2020; noise: Zela et al. 2020).

Every operation maps (B, C, H, W) to (B, C, H / stride, W / stride). `affine` says whether batch
norms have a scale and a shift (not inside the cells of a supernet) and `track` whether they keep
running statistics: a supernet is always normalised with the statistics of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from itnas.streams import normal, stream

PARAMETERLESS = frozenset({"none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "noise"})
"""Operations without weights, as `parameterless_operations` counts them (stride 1)."""


@dataclass
class Context:
    """How the operations of one network are built, and the stream of its noise operations."""

    pool_norm: bool
    """whether a pool is followed by a batch norm (the DARTS family's supernet)"""
    affine: bool
    track: bool
    data_seed: int = 0
    """keys the noise operation's streams, with `moment`"""
    moment: tuple[str | int, ...] = field(default=("start",))
    """what the network is doing now, such as ("weights", step); the caller sets it"""

    def norm(self, channels: int, affine: bool | None = None) -> nn.BatchNorm2d:
        """A batch norm; `affine` overrides the context's."""
        affine = self.affine if affine is None else affine
        return nn.BatchNorm2d(channels, affine=affine, track_running_stats=self.track)


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, batch norm."""

    def __init__(
        self, context: Context, c_in: int, c_out: int, kernel: int, stride: int, *,
        affine: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False),
            context.norm(c_out, affine),
        )


class DilConv(nn.Sequential):
    """ReLU, dilated depthwise convolution, pointwise convolution, batch norm."""

    def __init__(self, context: Context, c: int, kernel: int, stride: int, dilation: int) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False),
            nn.Conv2d(c, c, 1, bias=False),
            context.norm(c),
        )


class SepConv(nn.Sequential):
    """Twice a depthwise-separable convolution; the first has the stride."""

    def __init__(self, context: Context, c: int, kernel: int, stride: int) -> None:
        super().__init__(
            DilConv(context, c, kernel, stride, dilation=1),
            DilConv(context, c, kernel, 1, dilation=1),
        )


class FactorizedReduce(nn.Module):
    """Halves the map: two 1x1 convolutions of stride 2, one of them shifted by one pixel."""

    def __init__(self, context: Context, c_in: int, c_out: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        self.norm = context.norm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


class Noise(nn.Module):
    """Replaces its input by N(0, 1), from a stream of its own per moment and edge (space s4)."""

    def __init__(self, context: Context, name: str, stride: int) -> None:
        super().__init__()
        self.context, self.name, self.stride = context, name, stride

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        shape = (batch, channels, -(-height // self.stride), -(-width // self.stride))
        key = stream(self.context.data_seed, "noise", *self.context.moment, self.name)
        return normal(shape, key).to(x)


def _pool(pool: nn.Module, context: Context, c: int) -> nn.Module:
    return nn.Sequential(pool, context.norm(c)) if context.pool_norm else pool


def _skip(context: Context, c: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(context, c, c)


_BUILDERS: dict[str, Callable[[Context, int, int], nn.Module]] = {
    "skip_connect": _skip,
    "max_pool_3x3": lambda x, c, s: _pool(nn.MaxPool2d(3, s, padding=1), x, c),
    "avg_pool_3x3": lambda x, c, s: _pool(
        nn.AvgPool2d(3, s, padding=1, count_include_pad=False), x, c
    ),
    "sep_conv_3x3": lambda x, c, s: SepConv(x, c, 3, s),
    "sep_conv_5x5": lambda x, c, s: SepConv(x, c, 5, s),
    "dil_conv_3x3": lambda x, c, s: DilConv(x, c, 3, s, dilation=2),
    "dil_conv_5x5": lambda x, c, s: DilConv(x, c, 5, s, dilation=2),
    "nor_conv_1x1": lambda x, c, s: ReLUConvBN(x, c, c, 1, s),
    "nor_conv_3x3": lambda x, c, s: ReLUConvBN(x, c, c, 3, s),
}


def build_operation(
    operation: str, context: Context, channels: int, stride: int, name: str
) -> nn.Module | None:
    """The operation as a module; None for `none`, which adds nothing to a sum.

    `name` tells this place in the network from every other one (it keys the noise stream).
    """
    if operation == "none":
        return None
    if operation == "noise":
        return Noise(context, name, stride)
    return _BUILDERS[operation](context, channels, stride)
