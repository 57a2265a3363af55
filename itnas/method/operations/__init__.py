"""The candidate operations, as published (DARTS: Liu et al. 2019; NAS-Bench-201: Dong and Yang
2020; noise: Zela et al. 2020).

A new operation is a file here with its module and a line in `OPERATIONS`; until somebody writes a
fast form of it, the engine computes it by its module (`docs/new-operation.md`).
"""

from __future__ import annotations

from torch import nn

from itnas.method.operations.base import Build, Context, Operation
from itnas.method.operations.convolutions import dil_conv, nor_conv, sep_conv
from itnas.method.operations.noise import Noise
from itnas.method.operations.pools import avg_pool, max_pool
from itnas.method.operations.skip import skip_connect

__all__ = ["OPERATIONS", "Build", "Context", "Operation", "build_operation", "parameterless"]

OPERATIONS: dict[str, Operation] = {
    "none": Operation(lambda context, channels, stride, name: None, parameterless=True),
    "skip_connect": Operation(skip_connect, parameterless=True),
    "max_pool_3x3": Operation(max_pool, parameterless=True),
    "avg_pool_3x3": Operation(avg_pool, parameterless=True),
    "sep_conv_3x3": Operation(sep_conv(3)),
    "sep_conv_5x5": Operation(sep_conv(5)),
    "dil_conv_3x3": Operation(dil_conv(3)),
    "dil_conv_5x5": Operation(dil_conv(5)),
    "nor_conv_1x1": Operation(nor_conv(1)),
    "nor_conv_3x3": Operation(nor_conv(3)),
    "noise": Operation(Noise, parameterless=True),
}
"""By the name that spaces and genotypes use."""


def build_operation(
    operation: str, context: Context, channels: int, stride: int, name: str
) -> nn.Module | None:
    """The operation as a module; None for `none`, which adds nothing to a sum.

    `name` tells this place in the network from every other one (it keys the noise stream).
    """
    return OPERATIONS[operation].build(context, channels, stride, name)


def parameterless() -> frozenset[str]:
    """Operations without weights, as `parameterless_operations` counts them (stride 1)."""
    return frozenset(name for name, one in OPERATIONS.items() if one.parameterless)
