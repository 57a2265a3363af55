"""SGD and Adam for many replicas at once, each with its own rates and its own clipping.

torch's optimizers take one value per parameter group and clip over all parameters; here all
parameters are one flat tensor, and a value per replica is spread over the replica's elements. The
formulas are torch's. A replica that is no longer `alive` keeps its values: its gradients may be
NaN, so they are masked, not multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from itnas.engine.weights import WeightStore


class ReplicaSGD:
    """SGD with momentum (Nesterov's or not), L2 penalty and clipping by each replica's norm."""

    def __init__(
        self,
        store: WeightStore,
        *,
        momentum: Sequence[float],
        weight_decay: Sequence[float],
        nesterov: Sequence[bool],
        gradient_clip: Sequence[float],
    ) -> None:
        """One value per replica. A clip of 0 clips nothing."""
        self.store, flat = store, store.flat
        self.velocity = torch.zeros_like(flat)

        def values(given: Sequence[float]) -> Tensor:
            return torch.tensor(given, dtype=flat.dtype, device=flat.device)

        def spread(given: Sequence[float]) -> Tensor | float:
            return given[0] if len(set(given)) == 1 else store.spread(values(given))

        self.momentum, self.decay = spread(momentum), spread(weight_decay)
        self.ahead = spread([float(n) for n in nesterov])
        self.limit = values([clip if clip > 0 else float("inf") for clip in gradient_clip])
        self.rates = torch.zeros_like(self.limit)
        """(K,); a tensor, so that a captured step sees it change"""

    def set_rates(self, rates: Sequence[float]) -> None:
        """The rate of each replica from now on."""
        self.rates.copy_(torch.tensor(rates, dtype=self.rates.dtype))

    @torch.no_grad()
    def step(self, gradient: Tensor, alive: Tensor) -> None:
        """Update the store. `gradient` like its flat tensor, `alive` (K,)."""
        store, flat = self.store, self.store.flat
        norm = store.squared_norms(gradient).sqrt()
        clip = (self.limit / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
        gradient = gradient * store.spread(clip) + self.decay * flat
        velocity = self.momentum * self.velocity + gradient
        direction = velocity
        if not isinstance(self.ahead, float):
            direction = torch.where(self.ahead > 0, gradient + self.momentum * velocity, velocity)
        elif self.ahead:
            direction = gradient + self.momentum * velocity
        moved = flat - store.spread(self.rates) * direction
        kept = store.spread(alive)
        torch.where(kept, velocity, self.velocity, out=self.velocity)
        torch.where(kept, moved, flat, out=flat)

    def state_dict(self) -> dict[str, Any]:
        """The velocity, (K, weights)."""
        return {"velocity": self.store.by_replica(self.velocity)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.velocity.copy_(self.store.from_replicas(state["velocity"]))


class ReplicaAdam:
    """Adam (Kingma and Ba 2015) with an L2 penalty, every element with its own rate and decay."""

    def __init__(
        self, parameters: Sequence[Tensor], owner: Tensor, rate: Tensor, decay: Tensor,
        betas: tuple[float, float],
    ) -> None:  # fmt: skip
        """`parameters` become views of one flat tensor; the others are per element of it."""
        self.flat = torch.cat([p.detach().flatten() for p in parameters])
        for parameter, block in zip(
            parameters, self.flat.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.data = block.view_as(parameter)
        self.owner, self.rate, self.decay, self.betas = owner, rate, decay, betas
        self.first, self.second = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.steps = torch.zeros((), dtype=torch.float64, device=self.flat.device)
        """on the device, so that a captured step counts too"""

    @torch.no_grad()
    def step(self, gradient: Tensor, alive: Tensor) -> None:
        """Update the parameters. `gradient` like the flat tensor, `alive` per replica."""
        (b1, b2), kept = self.betas, alive[self.owner]
        self.steps += 1
        gradient = gradient + self.decay * self.flat
        first = b1 * self.first + (1 - b1) * gradient
        second = b2 * self.second + (1 - b2) * gradient * gradient
        correction1, correction2 = (
            (1 - torch.pow(b, self.steps)).to(self.flat.dtype) for b in self.betas
        )
        step = self.rate / correction1 * first / ((second / correction2).sqrt() + 1e-8)
        torch.where(kept, first, self.first, out=self.first)
        torch.where(kept, second, self.second, out=self.second)
        torch.where(kept, self.flat - step, self.flat, out=self.flat)

    def state_dict(self) -> dict[str, Any]:
        """Moments and the number of steps."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for name in ("first", "second", "steps"):
            getattr(self, name).copy_(state[name])
