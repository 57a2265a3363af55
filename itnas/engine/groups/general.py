"""Any operation, edge by edge, by its own module: the slow path that every backend has.

An operation that is registered in `itnas.method.operations` can be searched over before anybody
writes a fast form of it. Its module is built without weights, and called with those of the pack.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from itnas.method.network import initial_rule
from itnas.method.operations import Context, build_operation

if TYPE_CHECKING:
    from itnas.engine.plan.rounds import RoundMap
    from itnas.engine.weights import Weights

Initial = tuple[tuple[int, ...], int, float | None]
"""shape, fan in, and the constant it starts from (None: drawn)"""


@cache
def module_of(operation: str, channels: int, stride: int, pool_norm: bool) -> nn.Module:
    """The operation's module on the `meta` device; batch norms as in a supernet."""
    context = Context(pool_norm=pool_norm, affine=False, track=False)
    with torch.device("meta"):
        module = build_operation(operation, context, channels, stride, operation)
    assert module is not None, "`none` has no map"
    return module


def parameters_of(
    operation: str, channels: int, stride: int, pool_norm: bool
) -> dict[str, Initial]:
    """The parameters of one edge's operation, by name, as the streams need them."""
    module = module_of(operation, channels, stride, pool_norm)
    return {
        name: (tuple(parameter.shape), *initial_rule(module, name))
        for name, parameter in module.named_parameters()
    }


def weights_of(m: RoundMap, weights: Weights) -> Weights:
    """The parameters of a map's operation, by name, from a round's weights by role."""
    prefix = f"{m.operation}.{m.edges[0]}."
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def compute(
    operation: str, stride: int, pool_norm: bool, x: Tensor, weights: dict[str, Tensor]
) -> Tensor:
    """One edge of one replica, (B, C, H, W) to (B, C, H / stride, W / stride)."""
    module = module_of(operation, x.shape[1], stride, pool_norm)
    return functional_call(module, weights, (x,))
