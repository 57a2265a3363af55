"""Sums that keep the precision of p, whatever the precision of the maps."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor


def exact(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Operations of `like`'s device as they are written, in an autocast region too."""
    return torch.autocast(like.device.type, enabled=False)


def weighted_sums(routing: Tensor, maps: Tensor, before: Tensor | None) -> Tensor:
    """Sums of maps (N, M, pixels) weighted by routing (N, targets, M), added to `before`.

    (N, targets, pixels) in the precision of `routing`, which is not rounded. Where the maps'
    precision is lower they are widened on the way and kept for the backward pass as they are: the
    sum reads a copy of twice the size, and a search keeps no more than without.
    """
    with exact(maps):
        if maps.dtype == routing.dtype:
            return routing @ maps if before is None else torch.baddbmm(before, routing, maps)
        sums: Tensor = _WideSums.apply(routing, maps)
        return sums if before is None else before + sums


class _WideSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, routing: Tensor, maps: Tensor) -> Tensor:
        wants_routing, wants_maps = ctx.needs_input_grad
        ctx.dtype = maps.dtype
        ctx.save_for_backward(routing if wants_maps else None, maps if wants_routing else None)
        return routing @ maps.to(routing.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,), (routing, maps) = gradients, ctx.saved_tensors
        with exact(gradient):
            of_routing = None if maps is None else gradient @ maps.to(gradient.dtype).mT
            of_maps = None if routing is None else (routing.mT @ gradient).to(ctx.dtype)
        return of_routing, of_maps
