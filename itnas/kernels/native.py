"""The backend of compiled kernels: one replica on the CPU, with gradients written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from itnas.engine.groups.convolution import convolve
from itnas.engine.plan.blueprint import SearchCell
from itnas.engine.supernet import Noise
from itnas.engine.threads import Workers
from itnas.engine.weights import Weights
from itnas.kernels.calls import Kernels
from itnas.kernels.cell import CellPass
from itnas.kernels.maps import Map, Term, pixel_map


class Native:
    """A backend of one replica, see `itnas.engine.supernet.Backend`; tensors are channels_last."""

    def __init__(self, dtype: torch.dtype) -> None:
        """RuntimeError where the kernels cannot be had."""
        self.kernels = Kernels(dtype)
        self.workers = Workers(self.kernels.each, self.kernels.use_threads)

    def convolution(self, x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """x (B, C, H, W), weight (1, C out, C, k, k), padded by k // 2."""
        if weight.shape[-1] == 1 and stride == 1:
            y: Tensor = _Pointwise.apply(x, weight, None, self.kernels)
            return y
        x = x.contiguous(memory_format=torch.channels_last)
        return convolve(x, weight[0], self.workers, stride)

    def halve(self, x: Tensor, even: Tensor, odd: Tensor) -> Tensor:
        """Factorized reduction; even (1, C1, C, 1, 1), odd (1, C2, C, 1, 1)."""
        y: Tensor = _Pointwise.apply(x, even, odd, self.kernels)
        return y

    def norm(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Batch norm with the batch's statistics; scale and shift (1, C)."""
        y: Tensor = _Norm.apply(x, self.kernels)
        if scale is not None and shift is not None:
            y = torch.addcmul(shift[0, :, None, None], y, scale[0, :, None, None])
        return y

    def cell(
        self, layer: SearchCell, inputs: list[Tensor], weights: Weights, p: Tensor, noise: Noise
    ) -> Tensor:
        """Input nodes to the cell's output, all (B, C, H, W)."""
        tensors = [weights[part.name] for parts in layer.parts for part in parts.values()]
        output: Tensor = _Cell.apply(layer, self, noise, len(inputs), p, *inputs, *tensors)
        return output


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, one: Tensor, two: Tensor | None, kernels: Kernels) -> Tensor:
        given, first = Map(pixel_map(x)), one.shape[1]
        times, count = (1, first) if two is None else (2, first + two.shape[1])
        y = torch.empty(
            given.batch, given.height // times, given.width // times, count, dtype=x.dtype
        )
        matrices = one.data_ptr(), None if two is None else two.data_ptr()
        kernels.pointwise(given, first, False, matrices, Map(y), [])
        ctx.kernels = kernels
        ctx.save_for_backward(x, one, two)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, one, two = ctx.saved_tensors
        given, g = Map(pixel_map(x)), Map(pixel_map(gradients[0]))
        dx = torch.zeros(given.tensor.shape, dtype=x.dtype)
        found = [None if w is None else torch.empty_like(w) for w in (one, two)]
        wanted = ctx.needs_input_grad[1]
        into = [d.data_ptr() if wanted and d is not None else None for d in found]
        matrices = one.data_ptr(), None if two is None else two.data_ptr()
        ctx.kernels.pointwise_backward(
            given, one.shape[1], False, matrices, g, [], [], [], [g], Map(dx), tuple(into)
        )
        done, dtwo = found if wanted else (None, None)
        return dx.permute(0, 3, 1, 2), done, dtwo, None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Kernels) -> Tensor:
        y = pixel_map(x)
        stats = torch.empty(2, y.shape[3], dtype=torch.float64)
        out = torch.empty(y.shape, dtype=y.dtype)
        kernels.measure(Map(y), stats.data_ptr())
        kernels.combine([[Term(Map(y), stats.data_ptr())]], [Map(out)])
        ctx.kernels = kernels
        ctx.save_for_backward(x, stats)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, stats = ctx.saved_tensors
        y, g = pixel_map(x), pixel_map(gradients[0])
        sums, dy = torch.empty_like(stats), torch.empty(y.shape, dtype=y.dtype)
        at = stats.data_ptr(), sums.data_ptr()
        ctx.kernels.combine_sums([[Term(Map(y), at[0])]], [Map(g)], at[1])
        count = y.shape[0] * y.shape[1] * y.shape[2]
        ctx.kernels.norm_backward(Map(g), Map(y), *at, 1.0, count, Map(dy))
        return dy.permute(0, 3, 1, 2), None


class _Cell(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layer: SearchCell, native: Native, noise: Noise, inputs: int, p: Tensor,
        *tensors: Tensor,
    ) -> Tensor:  # fmt: skip
        keep = any(ctx.needs_input_grad)
        done = CellPass(
            layer, native.kernels, noise, p, tensors[:inputs], tensors[inputs:], keep
        )  # fmt: skip
        output = done.forward()
        ctx.done = done if keep else None
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        done: CellPass = ctx.done
        ctx.done = None  # the maps are large, and a second backward is not asked for
        weights_wanted = any(ctx.needs_input_grad[5 + len(done.inputs) :])
        dp, dinputs, dweights = done.backward(gradients[0], weights_wanted)
        return (None, None, None, None, dp, *dinputs, *dweights)
