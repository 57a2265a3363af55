"""Vectors and matrices of unequal sizes as one tensor, for edges with unequal candidate lists.

Where all sizes are equal, as in most spaces, nothing is filled up and nothing is launched for it.
A leading replica dimension stays where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from itnas._tensors import constant


def vectors(parts: Sequence[Tensor], fill: float = 0.0) -> Tensor:
    """Stacked as rows (n, longest); shorter ones are filled up on the right."""
    longest = max(v.shape[-1] for v in parts)
    return torch.stack([_widened(v, longest, fill) for v in parts], dim=-2)


def logits(parts: Sequence[Tensor]) -> Tensor:
    """Matrices stacked (n, most rows, most columns), so that a softmax of their rows gives nothing
    to the columns that are filled up; rows that are filled up are uniform.
    """
    rows, columns = (max(T.shape[d] for T in parts) for d in (-2, -1))
    wide = [_widened(T, columns, -math.inf) for T in parts]
    return torch.stack(
        [T if T.shape[-2] == rows else F.pad(T, (0, 0, 0, rows - T.shape[-2])) for T in wide],
        dim=-3,
    )


def positions(
    lists: Sequence[Sequence[str]], known: Sequence[str], width: int, device: torch.device
) -> Tensor:
    """Where the names of each list stand in `known`: (lists, width), filled up with 0."""
    rows = tuple((*map(known.index, names), *[0] * (width - len(names))) for names in lists)
    return constant(rows, device)


def _widened(x: Tensor, width: int, fill: float) -> Tensor:
    return x if x.shape[-1] == width else F.pad(x, (0, width - x.shape[-1]), value=fill)
