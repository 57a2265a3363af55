"""What the families share: the cell they are part of, their outputs, what comes back to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from itnas.engine.plan.blueprint import SearchCell
from itnas.engine.plan.rounds import Round, RoundMap
from itnas.engine.supernet import Noise
from itnas.engine.weights import Weights
from itnas.kernels.calls import Kernels
from itnas.kernels.maps import Map, Term


@dataclass
class CellState:
    """A cell of one replica in the middle of a pass."""

    layer: SearchCell
    kernels: Kernels
    noise: Noise
    keep: bool
    """whether a backward pass will follow"""
    shape: tuple[int, int, int, int]
    """(B, h, w, C) of every node after the inputs"""
    dtype: torch.dtype
    nodes: list[Map]
    """values of the nodes, in place from the start"""
    dnodes: list[Map]
    """gradients of the nodes, in the backward pass; they are added to"""

    def empty(self, *count: int) -> Tensor:
        """Room for one map, or for a number of maps."""
        return torch.empty(*count, *self.shape, dtype=self.dtype)

    def statistics(self, count: int) -> Tensor:
        """Room for the statistics of maps: (count, 2, C)."""
        return torch.empty(count, 2, self.shape[3], dtype=torch.float64)


class Output(NamedTuple):
    """A map that a round has computed, without its batch norm."""

    map: Map
    stats: int | None
    """pointer to doubles (2, C), mean and 1 / standard deviation, where a norm follows"""


class Incoming(NamedTuple):
    """What reaches a map in the backward pass: the gradients of the nodes that it goes to."""

    targets: list[int]
    weights: list[float]
    sums: list[Tensor]
    """per target (2, C): of its gradient, and of that times the normalised map"""
    at: list[int]
    """pointers to them"""

    def terms(self, state: CellState) -> list[Term]:
        """The weighted gradients of the targets."""
        return [
            Term(state.dnodes[t], None, w) for t, w in zip(self.targets, self.weights, strict=True)
        ]


class FamilyPass:
    """The maps of one family in one round: forward once, then backward at most once."""

    def __init__(
        self, state: CellState, r: Round, maps: list[RoundMap], weights: Weights, wanted: list[bool]
    ) -> None:
        """`weights` of the round by role (1, *shape); a map that is not `wanted` has weight 0 in
        every sum and no backward pass, and need not be computed.
        """
        self.state, self.round, self.maps = state, r, maps
        self.weights, self.wanted = weights, wanted

    def forward(self) -> list[Output]:
        """The maps, in their order."""
        raise NotImplementedError

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """Add to the gradients of the source nodes, write those of the weights (if wanted)."""
        raise NotImplementedError
