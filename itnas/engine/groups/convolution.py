"""torch's convolutions on the CPU, in blocks of images that any number of threads may take."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from itnas._tensors import joined
from itnas.engine.threads import Workers, blocks, ordered_sum


def convolve(
    x: Tensor, weight: Tensor, workers: Workers, stride: int = 1, dilation: int = 1, groups: int = 1
) -> Tensor:
    """x (B, C, H, W), weight (C out, C / groups, k, k), padded by dilation * (k // 2)."""
    if torch.is_autocast_enabled("cpu"):  # a thread of its own would not know of it
        kind = torch.get_autocast_dtype("cpu")
        x, weight = x.to(kind), weight.to(kind)
    y: Tensor = _Blocked.apply(x, weight, workers, stride, dilation, groups)
    return y


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, workers: Workers, stride: int, dilation: int,
        groups: int,
    ) -> Tensor:  # fmt: skip
        padding = dilation * (weight.shape[-1] // 2)
        ctx.workers, ctx.numbers = workers, (stride, padding, dilation, groups)
        ctx.save_for_backward(x, weight)
        parts: list[Tensor] = [x] * len(blocks(len(x)))

        def task(n: int) -> None:
            images = x[blocks(len(x))[n]]
            parts[n] = F.conv2d(images, weight, None, stride, padding, dilation, groups)

        workers.each(len(parts), task)
        return joined(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (stride, padding, dilation, groups) = ctx.saved_tensors, ctx.numbers
        wanted = [*ctx.needs_input_grad[:2], False]
        dy, ranges = gradients[0], blocks(len(x))
        found: list[Any] = [None] * len(ranges)

        def task(n: int) -> None:
            found[n] = torch.ops.aten.convolution_backward(
                dy[ranges[n]], x[ranges[n]], weight, None, [stride] * 2, [padding] * 2,
                [dilation] * 2, False, [0, 0], groups, wanted,
            )  # fmt: skip

        ctx.workers.each(len(ranges), task)
        dx = joined([part[0] for part in found]) if wanted[0] else None
        dw = ordered_sum([part[1] for part in found]) if wanted[1] else None
        return dx, dw, None, None, None, None
