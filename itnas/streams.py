"""Random streams: every tensor and every purpose has its own, keyed by (seed, name).

A stream depends on its key alone, never on what was drawn before, on the pack, the worker or a
resume (design, section 4). All streams are drawn on the CPU, so that a GPU starts from the same
numbers.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def stream(seed: int, *name: str | int) -> torch.Generator:
    """A generator for one purpose, such as `stream(seed, "order", "weights", epoch)`."""
    key = "/".join(str(part) for part in (seed, *name))
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """N(0, 1) in float32, whatever the precision of the search: both start from one point."""
    return torch.randn(shape, generator=generator)


def initial_weight(seed: int, name: str, shape: tuple[int, ...], fan_in: int) -> Tensor:
    """A weight's start from its own stream: uniform in +-1 / sqrt(fan in), PyTorch's default."""
    draw = torch.rand(shape, generator=stream(seed, "weights", name))
    return (2 * draw - 1) * (1 / math.sqrt(fan_in))
