"""Small things on tensors; constants stay on their device, so that no step waits for a transfer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


@cache
def constant(
    values: tuple[object, ...], device: torch.device, dtype: torch.dtype = torch.int64
) -> Tensor:
    """A tensor of these (nested) values; the same one every time."""
    return torch.tensor(values, device=device, dtype=dtype)


@cache
def one_hot(
    positions: tuple[int, ...], count: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """(count, positions): 1 in every column's row; a position of `count` has none."""
    table = torch.zeros(count + 1, len(positions), dtype=dtype)
    table[list(positions), range(len(positions))] = 1
    return table[:-1].to(device)


def joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """`torch.cat`, without a launch where there is one part."""
    return torch.cat(list(parts), dim=dim) if len(parts) > 1 else parts[0]
