"""ITNAS: the architecture weights of a cell's inner edges, derived from their predecessors'.

A reconstruction of "Inter-layer Transition in Neural Architecture Search" (Ma, Zhang, Xia and
Tao, arXiv 2011.14525), whose authors published no code. With q -> e a link, lambda the own
weight and tau the temperature (design, section 1):

    outer:  p_e = softmax(a_e / tau)
    inner:  p_e = lambda * softmax(a_e / tau)
                + (1 - lambda) * sum over predecessors q of  w_{q->e} * p_q T_{q->e}

T_{q->e} is a row-stochastic |O_q| x |O_e| matrix, the row softmax of its logits; w is a softmax
over the predecessors of e. The inner p_e is a distribution already: there is no second softmax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from itnas import ragged
from itnas._tensors import constant
from itnas.method.models import MODELS, Attention, Model
from itnas.method.parameters import ArchitectureParameters, check_dependence, edge_name
from itnas.method.spaces import Space

if TYPE_CHECKING:
    from itnas.settings import DependenceSettings


def transition(before: list[Tensor], T: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
    """sum over q of w_{q->e} p_q T_{q->e}, and w; shapes as in `itnas.method.models.Derive`."""
    seen = ragged.vectors(before)  # p_q: (n, rows)
    w = attention(seen)  # (m, n)
    weighted = w[..., None] * seen[..., None, :, :]  # (m, n, rows)
    # one product over predecessors and rows together: (m, 1, n * rows) @ (m, n * rows, columns)
    return (weighted.flatten(-2)[..., None, :] @ T.flatten(-3, -2))[..., 0, :], w


def placebo(before: list[Tensor], T: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
    """The same of uniform p_q, in the attention too: nothing can flow, in value or gradient."""
    return transition([torch.full_like(p, 1 / p.shape[-1]) for p in before], T, attention)


MODELS["transition"] = Model(transition)
MODELS["independent"] = Model(
    derive=None,
    without_effect=frozenset({
        "dependence.sharing", "dependence.attention", "dependence.init",
        "dependence.init_strength", "dependence.trainable", "dependence.own_weight",
        "dependence.stop_gradient", "search.transition_lr", "search.attention_lr",
        "search.transition_weight_decay",
    }),
    flows=False,
)  # fmt: skip
MODELS["placebo"] = Model(placebo, frozenset({"dependence.stop_gradient"}), flows=False)


@dataclass(frozen=True)
class Architecture:
    """One cell kind's architecture weights, differentiable.

    Every shape has a leading replica dimension where the `Dependence` has several seeds.
    """

    probabilities: list[Tensor]
    """per edge: p_e (|O_e|,)"""
    attention: list[Tensor]
    """per link: w_{q->e} (); empty under `independent`"""
    matrices: list[Tensor]
    """per link: T_{q->e} (|O_q|, |O_e|); empty under `independent`"""


class Dependence(ArchitectureParameters):
    """The architecture of one cell kind: its parameters, and what they come to."""

    def forward(self) -> Architecture:
        """Derive every edge's distribution, node by node in topological order.

        All inner edges that leave a node have the same predecessors, the edges that enter it, so
        they are derived together: m edges from n predecessors.
        """
        cell, share = self.cell, self.settings.own_weight
        lengths = [len(edge.operations) for edge in cell.edges]
        p = dict(zip(self.free, self._own(lengths), strict=True))  # by edge: (|O_e|,)
        attention: dict[int, Tensor] = {}  # by link
        matrices: dict[int, Tensor] = {}
        for node in range(cell.inputs, cell.nodes - 1):
            if self.model.derive is None:
                break
            into = [q for q, edge in enumerate(cell.edges) if edge.target == node]
            out = [e for e, edge in enumerate(cell.edges) if edge.source == node]
            links = [cell.links_into(e) for e in out]  # [m][n]
            before = [p[q].detach() if self.settings.stop_gradient else p[q] for q in into]
            T = self._transition(links)  # (m, n, rows, columns)
            derived, w = self.model.derive(before, T, partial(self._attention, out, into))
            for i, e in enumerate(out):
                p_e = derived[..., i, : lengths[e]]
                p[e] = share * p[e] + (1 - share) * p_e if share > 0 else p_e
                for j, (n, q) in enumerate(zip(links[i], into, strict=True)):
                    attention[n] = w[..., i, j]
                    matrices[n] = T[..., i, j, : lengths[q], : lengths[e]]
        return Architecture(
            [p[e] for e in range(len(cell.edges))],
            [attention[n] for n in sorted(attention)],
            [matrices[n] for n in sorted(matrices)],
        )

    def _own(self, lengths: list[int]) -> list[Tensor]:
        """softmax(a_e / tau) of the edges with logits of their own."""
        logits = ragged.vectors(list(self.logits.values()), -math.inf)
        if self.settings.temperature != 1:
            logits = logits / self.settings.temperature
        own = torch.softmax(logits, dim=-1).unbind(-2)
        return [p if p.shape[-1] == lengths[e] else p[..., : lengths[e]]
                for p, e in zip(own, self.free, strict=True)]  # fmt: skip

    def _transition(self, links: list[list[int]]) -> Tensor:
        """T of m edges with n links each, (m, n, rows, columns): the row softmax of its logits."""
        logits = ragged.logits([self.transition[self.names[n]] for row in links for n in row])
        return torch.softmax(logits, dim=-1).unflatten(-3, (len(links), -1))

    def _attention(self, out: list[int], into: list[int], seen: Tensor) -> Tensor:
        """w_{q->e} of the edges that leave a node over those that enter it: rows of (m, n)."""
        if self.attention is None:
            return seen.new_full((*seen.shape[:-2], len(out), len(into)), 1 / len(into))
        scores = dict(zip(self.cell.inner_edges, self.attention.split(self.fans, -1), strict=True))
        score = torch.stack([scores[e] for e in out], dim=-2)  # a scalar per link
        if self.settings.attention == "content":  # and p_q . query_e / sqrt(|O_q|), by operation
            query = torch.stack([self.query[edge_name(self.cell, e)] for e in out], dim=-2)
            lists = [self.cell.edges[q].operations for q in into]
            entries = ragged.positions(lists, self.cell.operations, seen.shape[-1], seen.device)
            scale = constant(tuple(len(o) ** -0.5 for o in lists), seen.device, seen.dtype)
            score = score + (query[..., entries] * seen[..., None, :, :]).sum(dim=-1) * scale
        return torch.softmax(score, dim=-1)


def build_dependence(
    space: Space, settings: DependenceSettings, seeds: int | Sequence[int]
) -> nn.ModuleDict:
    """One `Dependence` per cell kind; raises as `check_dependence`."""
    check_dependence(space, settings)
    return nn.ModuleDict({k: Dependence(c, k, settings, seeds) for k, c in space.cells.items()})


def count_parameters(space: Space, settings: DependenceSettings) -> int:
    """Architecture parameters of all cell kinds, frozen matrices included."""
    return sum(p.numel() for p in build_dependence(space, settings, 0).parameters())
