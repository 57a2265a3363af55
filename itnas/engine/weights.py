"""The supernets' weights of a pack: one flat tensor, seen as parts with a replica dimension."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from itnas.engine.plan.blueprint import Blueprint
from itnas.engine.plan.rounds import Part
from itnas.streams import initial_weight

Weights = dict[str, Tensor]
"""part's name to (K, *shape)"""


class WeightStore:
    """Weights of K replicas in one flat tensor, so that an optimizer sees one tensor for all.

    In *part order* every part is contiguous over the replicas, (K, *shape), as grouped operations
    take it; the flat tensor is (K * weights,). In *replica order* every replica is contiguous and
    the flat tensor is (K, weights).
    """

    def __init__(self, blueprint: Blueprint, rows: Tensor, *, replica_order: bool) -> None:
        """From (K, weights), see `initial_weights`."""
        self.parts, self.replicas = blueprint.parts, len(rows)
        self.replica_order = replica_order
        sizes = [part.numel for part in self.parts]
        if replica_order:
            self.flat = rows
            blocks = rows.split(sizes, dim=1)
        else:
            position = torch.arange(rows.numel(), device=rows.device).view(rows.shape)
            order = torch.cat([block.flatten() for block in position.split(sizes, dim=1)])
            self._owner = order // blueprint.numel  # (K * weights,): the replica of each element
            self._position = torch.argsort(order).view(rows.shape)  # where a replica's are
            self.flat = rows.flatten()[order]
            blocks = self.flat.split([len(rows) * size for size in sizes])
        self.all: Weights = {
            part.name: block.view(len(rows), *part.shape)
            for part, block in zip(self.parts, blocks, strict=True)
        }
        """views of the flat tensor, (K, *shape) each"""

    def by_replica(self, flat: Tensor) -> Tensor:
        """Anything laid out like the flat tensor as (K, weights); a copy in part order."""
        return flat if self.replica_order else flat[self._position]

    def from_replicas(self, rows: Tensor) -> Tensor:
        """The inverse of `by_replica`."""
        if self.replica_order:
            return rows
        flat = torch.empty_like(self.flat)
        flat[self._position.flatten()] = rows.flatten()
        return flat

    def flatten(self, gradients: Sequence[Sequence[Tensor]]) -> Tensor:
        """Per chunk of replicas and part, to one tensor laid out like the flat one."""
        if self.replica_order:  # a chunk is a replica
            flat = torch.cat([g.flatten() for own in gradients for g in own])
            return flat.view_as(self.flat)
        return torch.cat([g.flatten() for parts in zip(*gradients, strict=True) for g in parts])

    def spread(self, per_replica: Tensor) -> Tensor:
        """(K,) values so that they broadcast with the flat tensor."""
        if self.replica_order:
            return per_replica[:, None]
        return per_replica if self.replicas == 1 else per_replica[self._owner]

    def squared_norms(self, flat: Tensor) -> Tensor:
        """Sum of squares per replica, (K,)."""
        square = flat * flat
        if not self.replica_order and self.replicas == 1:
            return square.sum().view(1)
        return self.by_replica(square).sum(1)

    def named(self, replica: int, flat: Tensor | None = None) -> Weights:
        """One replica's single weights (or what belongs to them in `flat`) under plain names."""
        row = self.by_replica(self.flat if flat is None else flat)[replica]
        found: Weights = {}
        for part, block in zip(self.parts, row.split([p.numel for p in self.parts]), strict=True):
            block = block.view(part.shape)
            members = list(block) if part.stacked else [block]
            found |= dict(zip(part.members, members, strict=True))
        return found


def initial_weights(blueprint: Blueprint, seeds: Sequence[int]) -> Tensor:
    """(K, weights) from the streams of the seeds, with the distributions of PyTorch's defaults."""
    return torch.stack([
        torch.cat([_initial(part, seed).flatten() for part in blueprint.parts]) for seed in seeds
    ])  # fmt: skip


def _initial(part: Part, seed: int) -> Tensor:
    if part.start is not None:
        return torch.full(part.shape, part.start)
    draws = [initial_weight(seed, n, part.member_shape, part.fan_in) for n in part.members]
    return torch.stack(draws).view(part.shape)
