"""Operations without a fast form: their own modules, through autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from itnas.engine.groups.general import compute, weights_of
from itnas.engine.weights import Weights
from itnas.kernels.families.base import FamilyPass, Incoming, Output
from itnas.kernels.maps import Map, pixel_map


class General(FamilyPass):
    """Edge by edge."""

    def forward(self) -> list[Output]:
        """The modules' outputs; their graphs are kept for the backward pass."""
        state = self.state
        self.passes: list[tuple[Tensor, Weights, Tensor]] = []
        outputs = []
        for m in self.maps:
            x = state.nodes[m.source].view().permute(0, 3, 1, 2).contiguous()
            w = {name: v[0].detach() for name, v in weights_of(m, self.weights).items()}
            with torch.set_grad_enabled(state.keep):
                for each in (x, *w.values()):
                    each.requires_grad_(state.keep)
                y = compute(m.operation, self.round.stride, state.layer.plan.pool_norm, x, w)
            if state.keep:
                self.passes.append((x, w, y))
            outputs.append(Output(Map(pixel_map(y.detach())), None))
        return outputs

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """From the weighted sum of the targets' gradients."""
        state = self.state
        for m, (x, w, y), own in zip(self.maps, self.passes, incoming, strict=True):
            g = Map(state.empty())
            state.kernels.combine([own.terms(state)], [g])
            if not y.requires_grad:
                continue
            found = torch.autograd.grad(
                y, [x, *w.values()], g.tensor.permute(0, 3, 1, 2), allow_unused=True
            )
            if found[0] is not None:
                state.dnodes[m.source].view().add_(found[0].permute(0, 2, 3, 1))
            if dweights is not None:
                mine = weights_of(m, dweights)
                for target, d in zip(mine.values(), found[1:], strict=True):
                    target[0].copy_(torch.zeros(()) if d is None else d)
