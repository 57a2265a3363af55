"""One cell of one replica: rounds forward, rounds backward.

Forward, a round computes its maps before their batch norms and the statistics of each; nodes are
weighted sums of maps, with the norm folded into the weights. Backward needs the maps, the
statistics and the gradients of the nodes alone: what lies between (depthwise outputs, rectified
and normalised inputs) is computed again, image by image, in the cache. So about six maps an edge
are kept where the edge-by-edge form keeps some thirty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itnas.engine.plan.blueprint import SearchCell
from itnas.engine.plan.rounds import Round
from itnas.engine.supernet import Noise
from itnas.engine.weights import Weights
from itnas.kernels.calls import Kernels
from itnas.kernels.families import FAMILIES, FamilyPass
from itnas.kernels.families.base import CellState, Incoming, Output
from itnas.kernels.maps import Map, Term, pixel_map, pointers


@dataclass
class _RoundPass:
    """What a round leaves for its backward pass."""

    families: list[FamilyPass]
    outputs: list[Output]


class CellPass:
    """One forward and at most one backward pass through a cell."""

    def __init__(
        self, layer: SearchCell, kernels: Kernels, noise: Noise, p: Tensor,
        inputs: tuple[Tensor, ...], tensors: tuple[Tensor, ...], keep: bool,
    ) -> None:  # fmt: skip
        """p (1, operations of all edges), inputs (B, C, H, W), tensors: the weights in the order
        of the layer's parts. With `keep` the backward pass may follow.
        """
        self.plan, self.p_like = layer.plan, p
        self.p: list[float] = [*p[0].tolist(), 0.0]
        self.tensors = tensors
        self.inputs = [pixel_map(x) for x in inputs]
        iterator = iter(tensors)
        self.weights = [{role: next(iterator) for role in parts} for parts in layer.parts]
        batch, height, width, channels = self.inputs[0].shape
        stride, dtype = self.plan.rounds[0].stride, self.inputs[0].dtype
        shape = (batch, -(-height // stride), -(-width // stride), channels)
        self.state = CellState(layer, kernels, noise, keep, shape, dtype, [], [])
        self.rounds: list[_RoundPass] = []

    def forward(self) -> Tensor:
        """The cell's output: its nodes side by side, or the last one (NAS-Bench-201)."""
        cell, (batch, height, width, c), state = self.plan.cell, self.state.shape, self.state
        count = cell.nodes - cell.inputs
        whole = torch.empty(batch, height, width, count * c, dtype=state.dtype)
        state.nodes = [Map(x) for x in self.inputs]
        state.nodes += [Map(whole, n * c, c) for n in range(count)]
        for n, r in enumerate(self.plan.rounds):
            done = self._round(r, self.weights[n])
            terms = [
                [Term(*done.outputs[m], self.p[at]) for m, at in enumerate(row) if self.p[at] != 0]
                for row in r.routing
            ]
            state.kernels.combine(terms, [state.nodes[t] for t in r.targets], add=n > 0)
            if state.keep:
                self.rounds.append(done)
        if cell.inputs == 1:
            return whole[..., -c:].permute(0, 3, 1, 2)
        return whole.permute(0, 3, 1, 2)

    def _round(self, r: Round, w: Weights) -> _RoundPass:
        wanted = [
            self.state.keep or any(self.p[row[m]] != 0 for row in r.routing)
            for m in range(len(r.maps))
        ]
        families: list[FamilyPass] = []
        outputs: list[Output] = []
        for family, maps in r.families():
            own = wanted[len(outputs) : len(outputs) + len(maps)]
            families.append(FAMILIES[family](self.state, r, maps, w, own))
            outputs += families[-1].forward()
        return _RoundPass(families, outputs)

    def backward(
        self, gradient: Tensor, weights_wanted: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
        """Gradients of p, of the inputs and of the weights (None where they are not wanted)."""
        cell, (batch, height, width, c), state = self.plan.cell, self.state.shape, self.state
        given = pixel_map(gradient)
        if cell.inputs == 1:
            whole = torch.zeros(batch, height, width, (cell.nodes - 1) * c, dtype=state.dtype)
            whole[..., -c:] = given
        else:
            whole = given.clone(memory_format=torch.contiguous_format)
        dinputs = [torch.zeros(x.shape, dtype=state.dtype) for x in self.inputs]
        state.dnodes = [Map(d) for d in dinputs]
        state.dnodes += [Map(whole, n * c, c) for n in range(cell.nodes - cell.inputs)]
        dp = [0.0] * len(self.p)
        # empty, not zero: every element of every part is written
        dweights = [
            {role: torch.empty_like(part) for role, part in w.items()} if weights_wanted else None
            for w in self.weights
        ]
        for n, r in reversed(list(enumerate(self.plan.rounds))):
            done = self.rounds.pop()  # its maps are freed with it
            incoming = iter(self._incoming(r, done.outputs, dp))
            for family in done.families:
                family.backward([next(incoming) for _ in family.maps], dweights[n])
        flat: list[Tensor | None] = [d for w in dweights if w is not None for d in w.values()]
        return (
            torch.tensor([dp[:-1]], dtype=self.p_like.dtype),
            [d.permute(0, 3, 1, 2) for d in dinputs],
            flat if weights_wanted else [None] * len(self.tensors),
        )

    def _incoming(self, r: Round, outputs: list[Output], dp: list[float]) -> list[Incoming]:
        """Sums of the nodes' gradients with every map that goes there; gradients of p from them."""
        state, nothing = self.state, len(self.p) - 1
        used = [[m for m, at in enumerate(row) if at < nothing] for row in r.routing]
        terms = [[Term(*outputs[m]) for m in ms] for ms in used]
        sums = torch.empty(sum(map(len, used)), 2, state.shape[3], dtype=torch.float64)
        state.kernels.combine_sums(terms, [state.dnodes[t] for t in r.targets], sums.data_ptr())
        found = [Incoming([], [], [], []) for _ in outputs]
        products = sums[:, 1].sum(1).tolist()
        flat = [
            (t, m, row[m]) for t, row, ms in zip(r.targets, r.routing, used, strict=True)
            for m in ms
        ]  # fmt: skip
        places = zip(flat, sums.unbind(), pointers(sums), products, strict=True)
        for (t, m, at), own, place, product in places:
            found[m].targets.append(t)
            found[m].weights.append(self.p[at])
            found[m].sums.append(own)
            found[m].at.append(place)
            dp[at] = product
        return found
