"""Convolutions after a ReLU and before a batch norm: dense, dilated, and depthwise separable."""

from __future__ import annotations

from torch import nn

from itnas.method.operations.base import Build, Context


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


def nor_conv(kernel: int) -> Build:
    """Dense, as in NAS-Bench-201."""
    return lambda context, channels, stride, name: ReLUConvBN(
        context, channels, channels, kernel, stride
    )


def sep_conv(kernel: int) -> Build:
    """Separable, as in DARTS."""
    return lambda context, channels, stride, name: SepConv(context, channels, kernel, stride)


def dil_conv(kernel: int) -> Build:
    """Dilated by 2 and separable, as in DARTS."""
    return lambda context, channels, stride, name: DilConv(
        context, channels, kernel, stride, dilation=2
    )
