"""The supernets' weights of a pack: one flat tensor, seen as parts with a replica dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from itnas.blueprint import Blueprint, Part
from itnas.streams import stream

Weights = dict[str, Tensor]
"""part's name to (K, *shape)"""


class WeightStore:
    """Weights of K replicas in one flat tensor, part after part, in each part (K, *shape).

    Parts are contiguous, so a grouped convolution takes them as they are, and an optimizer sees
    one tensor for all replicas and weights.
    """

    def __init__(
        self, blueprint: Blueprint, seeds: Sequence[int], device: torch.device, dtype: torch.dtype
    ) -> None:
        """Weights from the streams of the seeds, with the distributions of PyTorch's defaults."""
        self.parts, self.replicas = blueprint.parts, len(seeds)
        sizes = [len(seeds) * part.numel for part in self.parts]
        self.offsets = [sum(sizes[:n]) for n in range(len(sizes))]
        blocks = [
            torch.stack([_initial(part, seed) for seed in seeds]).reshape(-1)
            for part in self.parts
        ]
        self.flat = torch.cat(blocks).to(device, dtype)
        """(K * weights of one replica,)"""
        owner = [
            torch.arange(len(seeds)).repeat_interleave(part.numel) for part in self.parts
        ]
        self.owner = torch.cat(owner).to(device)
        """(K * weights,): the replica of each element"""
        self.by_replica = torch.argsort(self.owner, stable=True).view(len(seeds), -1)
        """(K, weights): where each replica's elements are"""
        whole = self.flat.split(sizes)
        self.all: Weights = {
            part.name: block.view(len(seeds), *part.shape)
            for part, block in zip(self.parts, whole, strict=True)
        }
        """views of the flat tensor"""

    def named(self, replica: int, flat: Tensor | None = None) -> Weights:
        """One replica's single weights (or what belongs to them in `flat`) under plain names."""
        flat = self.flat if flat is None else flat
        found: Weights = {}
        for part, offset in zip(self.parts, self.offsets, strict=True):
            block = flat[offset + replica * part.numel :][: part.numel].view(part.shape)
            members = list(block) if part.stacked else [block]
            found |= dict(zip(part.members, members, strict=True))
        return found

    def gather(self, per_replica: Tensor) -> Tensor:
        """(K,) values to one per element of the flat tensor."""
        return per_replica if self.replicas == 1 else per_replica[self.owner]

    def squared_norms(self, flat: Tensor) -> Tensor:
        """Sum of squares per replica, (K,)."""
        square = flat * flat
        return square[self.by_replica].sum(1) if self.replicas > 1 else square.sum().view(1)


def _initial(part: Part, seed: int) -> Tensor:
    if part.start is not None:
        return torch.full(part.shape, part.start)
    bound = 1 / math.sqrt(part.fan_in)
    draws = [
        torch.rand(part.member_shape, generator=stream(seed, "weights", name))
        for name in part.members
    ]
    return (2 * torch.stack(draws).view(part.shape) - 1) * bound
