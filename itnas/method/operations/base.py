"""What an operation is made of: where it stands, how its batch norms are, how it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn


@dataclass
class Context:
    """How the operations of one network are built, and the stream of its noise operations."""

    pool_norm: bool
    """whether a pool is followed by a batch norm (the DARTS family's supernet)"""
    affine: bool
    """whether batch norms have a scale and a shift (not inside the cells of a supernet)"""
    track: bool
    """whether they keep running statistics; a supernet always takes those of the batch"""
    data_seed: int = 0
    """keys the noise operation's streams, with `moment`"""
    moment: tuple[str | int, ...] = field(default=("start",))
    """what the network is doing now, such as ("weights", step); the caller sets it"""

    def norm(self, channels: int, affine: bool | None = None) -> nn.BatchNorm2d:
        """A batch norm; `affine` overrides the context's."""
        affine = self.affine if affine is None else affine
        return nn.BatchNorm2d(channels, affine=affine, track_running_stats=self.track)


Build = Callable[[Context, int, int, str], nn.Module | None]
"""(context, channels, stride, name) to a module that maps (B, C, H, W) to (B, C, H / stride,
W / stride), rounded up; None adds nothing to a sum. `name` tells this place in the network from
every other one. The module has no state but its parameters and what `Context.norm` keeps."""


@dataclass(frozen=True)
class Operation:
    """A candidate operation: how it is built, and what is counted of it."""

    build: Build
    parameterless: bool = False
    """without weights at stride 1: counted as `parameterless_operations`"""
