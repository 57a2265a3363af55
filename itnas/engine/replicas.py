"""The architectures of a pack: replicas with one dependence setting are computed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from itnas.engine.optimizers import ReplicaAdam
from itnas.method.dependence import Architecture, Dependence, build_dependence
from itnas.method.records import CellRecord
from itnas.method.spaces import CellKind, Space
from itnas.settings import Seeds, Setting

ADAM_BETAS = (0.5, 0.999)
"""Of the architecture's optimizer, as in DARTS."""


@dataclass(frozen=True)
class _Group:
    """Replicas with equal dependence settings."""

    replicas: list[int]
    cells: nn.ModuleDict


class Architectures(nn.Module):
    """a, T and attention of K replicas, whatever their dependence settings, and their optimizer."""

    def __init__(
        self, space: Space, settings: Sequence[Setting], seeds: Sequence[Seeds],
        device: torch.device, dtype: torch.dtype,
    ) -> None:  # fmt: skip
        """Resolved settings. ValueError where a dependence does not fit the space."""
        super().__init__()
        self.space, self.count = space, len(settings)
        by_setting: dict[Any, list[int]] = {}
        for k, setting in enumerate(settings):
            by_setting.setdefault(setting.dependence, []).append(k)
        self.groups = [
            _Group(
                replicas,
                build_dependence(space, dependence, [seeds[k].architecture for k in replicas]),
            )
            for dependence, replicas in by_setting.items()
        ]
        self.modules_by_group = nn.ModuleList(group.cells for group in self.groups)
        self.to(device, dtype)
        order = [k for group in self.groups for k in group.replicas]
        inverse = sorted(range(self.count), key=order.__getitem__)
        self.order = (
            None if inverse == list(range(self.count)) else torch.tensor(inverse, device=device)
        )
        self.optimizer = self._optimizer(settings, device, dtype)

    def _optimizer(
        self, settings: Sequence[Setting], device: torch.device, dtype: torch.dtype
    ) -> ReplicaAdam:
        self.trained: list[nn.Parameter] = []
        owner, rate, decay = [], [], []
        for group in self.groups:
            for cell in group.cells.values():
                for name, parameters in cast(Dependence, cell).groups().items():
                    for p in parameters:
                        self.trained.append(p)
                        each = p[0].numel()
                        for k in group.replicas:
                            search = settings[k].search
                            of_a = name == "architecture_lr"
                            penalty = search.architecture_weight_decay if of_a else (
                                search.transition_weight_decay)  # fmt: skip
                            owner += [k] * each
                            rate += [getattr(search, name)] * each
                            decay += [penalty] * each
        return ReplicaAdam(
            self.trained,
            torch.tensor(owner, device=device),
            torch.tensor(rate, dtype=dtype, device=device),
            torch.tensor(decay, dtype=dtype, device=device),
            ADAM_BETAS,
        )

    def forward(self) -> dict[CellKind, Tensor]:
        """Edge weights by cell kind: (K, operations of all edges), differentiable."""
        weights: dict[CellKind, Tensor] = {}
        for kind in self.space.cells:
            parts = [torch.cat(g.cells[kind]().probabilities, dim=-1) for g in self.groups]
            joined = torch.cat(parts) if len(parts) > 1 else parts[0]
            weights[kind] = joined if self.order is None else joined[self.order]
        return weights

    def step(
        self, weights: dict[CellKind, Tensor], gradients: dict[CellKind, Tensor], alive: Tensor
    ) -> None:
        """One Adam step, from the edge weights of `forward` and the loss's gradients by them."""
        found = torch.autograd.grad(
            list(weights.values()), self.trained, [gradients[kind] for kind in weights],
            allow_unused=True,
        )  # fmt: skip
        flat = [
            # unused (a placebo's outer edge that no operation follows): decay only
            (torch.zeros_like(p) if g is None else g).flatten()
            for p, g in zip(self.trained, found, strict=True)
        ]
        self.optimizer.step(torch.cat(flat), alive)

    @torch.no_grad()
    def records(self) -> list[dict[CellKind, CellRecord]]:
        """Every replica's architecture as plain values."""
        found: list[dict[CellKind, CellRecord]] = [{} for _ in range(self.count)]
        for group in self.groups:
            for kind in self.space.cells:
                architecture: Architecture = group.cells[kind]()
                lists = [
                    [t.double().cpu().tolist() for t in tensors]
                    for tensors in (
                        architecture.probabilities, architecture.attention, architecture.matrices
                    )
                ]  # fmt: skip
                for n, k in enumerate(group.replicas):
                    found[k][kind] = CellRecord(*([t[n] for t in tensors] for tensors in lists))
        return found
