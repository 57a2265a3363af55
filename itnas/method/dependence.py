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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itnas._tensors import constant
from itnas.method.spaces import Cell, CellKind, Link, Space
from itnas.settings import DependenceSettings
from itnas.streams import normal, stream

INITIAL_SPREAD = 1e-3
"""Standard deviation of the noise on every trainable initial value, as in DARTS."""


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


class Dependence(nn.Module):
    """The learnable architecture of one cell kind: a (logits), T (transition), w (attention)."""

    def __init__(
        self, cell: Cell, kind: CellKind, settings: DependenceSettings, seeds: int | Sequence[int]
    ) -> None:
        """Initialise from the streams of the architecture seed; several seeds are replicas, and
        every parameter then has a leading dimension over them.
        """
        super().__init__()
        self.cell, self.settings = cell, settings
        linked = settings.model != "independent"

        def drawn(draw: Callable[[int], Tensor]) -> Tensor:
            return draw(seeds) if isinstance(seeds, int) else torch.stack([draw(s) for s in seeds])

        def noise(shape: tuple[int, ...], *name: str | int) -> Tensor:
            return INITIAL_SPREAD * drawn(
                lambda seed: normal(shape, stream(seed, "architecture", kind, *name))
            )

        self.free = [
            e for e, edge in enumerate(cell.edges)
            if not edge.inner or not linked or settings.own_weight > 0
        ]  # fmt: skip
        """edges with logits of their own"""
        self.names = [matrix_name(cell, link, settings.sharing) for link in cell.links]
        """by link: which matrix it uses"""
        self.fans = [len(cell.links_into(e)) for e in cell.inner_edges]
        """by inner edge: number of predecessors"""
        self.logits = nn.ParameterDict()
        for e in self.free:
            count = len(cell.edges[e].operations)
            self.logits[_edge_name(cell, e)] = nn.Parameter(noise((count,), "logits", e))
        self.transition = nn.ParameterDict()
        self.attention: nn.Parameter | None = None
        self.query = nn.ParameterDict()
        if not linked:
            return

        for n, link in enumerate(cell.links):
            name = self.names[n]
            lists = (cell.edges[link.predecessor].operations, cell.edges[link.edge].operations)
            if name in self.transition:
                continue
            key = ("transition", kind, n)
            initial = drawn(partial(_initial_of, *lists, settings, key))
            if settings.trainable:  # drawn after the random initial values, from a stream apart
                initial = initial + noise((len(lists[0]), len(lists[1])), "transition", n)
            self.transition[name] = nn.Parameter(initial, requires_grad=settings.trainable)
        if settings.attention != "uniform":
            self.attention = nn.Parameter(noise((len(cell.links),), "attention"))
        if settings.attention == "content":
            for e in cell.inner_edges:  # one entry per operation of the cell, so lists may differ
                query = noise((len(cell.operations),), "query", e)
                self.query[_edge_name(cell, e)] = nn.Parameter(query)

    def forward(self) -> Architecture:
        """Derive every edge's distribution, node by node in topological order.

        All inner edges that leave a node have the same predecessors, the edges that enter it, so
        they are derived together: m edges from n predecessors.
        """
        cell, settings = self.cell, self.settings
        lengths = [len(edge.operations) for edge in cell.edges]
        p = dict(zip(self.free, self._own(lengths), strict=True))  # edge: (|O_e|,)
        attention: dict[int, Tensor] = {}  # by link
        matrices: dict[int, Tensor] = {}
        for node in range(cell.inputs, cell.nodes - 1) if self.transition else ():
            into = [q for q, edge in enumerate(cell.edges) if edge.target == node]
            out = [e for e, edge in enumerate(cell.edges) if edge.source == node]
            links = [cell.links_into(e) for e in out]
            names = [[self.names[n] for n in ns] for ns in links]
            T = torch.softmax(
                _matrices([self.transition[name] for row in names for name in row]), dim=-1
            ).unflatten(-3, (len(out), len(into)))  # (m, n, rows, columns)
            before = _vectors([self._seen(p[q]) for q in into], 0.0)  # p_q: (n, rows)
            w = self._attention(out, into, before)  # (m, n)
            weighted = w[..., None] * before[..., None, :, :]  # (m, n, rows)
            derived = (weighted.flatten(-2)[..., None, :] @ T.flatten(-3, -2))[..., 0, :]
            for i, e in enumerate(out):
                p_e, share = derived[..., i, : lengths[e]], settings.own_weight
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
        """softmax(a_e / tau) of the edges with free logits."""
        logits = _vectors(list(self.logits.values()), -math.inf)
        if self.settings.temperature != 1:
            logits = logits / self.settings.temperature
        own = torch.softmax(logits, dim=-1).unbind(-2)
        return [p if p.shape[-1] == lengths[e] else p[..., : lengths[e]]
                for p, e in zip(own, self.free, strict=True)]  # fmt: skip

    def _seen(self, p: Tensor) -> Tensor:
        """What an inner edge sees of a predecessor's distribution."""
        if self.settings.model == "placebo":
            return torch.full_like(p, 1 / p.shape[-1])  # nothing can flow, in value or gradient
        return p.detach() if self.settings.stop_gradient else p

    def _attention(self, out: list[int], into: list[int], before: Tensor) -> Tensor:
        """w_{q->e} of the edges that leave a node over those that enter it: rows of (m, n)."""
        if self.attention is None:
            shape = (*before.shape[:-2], len(out), len(into))
            return before.new_full(shape, 1 / len(into))
        scores = dict(zip(self.cell.inner_edges, self.attention.split(self.fans, -1), strict=True))
        score = torch.stack([scores[e] for e in out], dim=-2)
        if self.settings.attention == "content":
            query = torch.stack([self.query[_edge_name(self.cell, e)] for e in out], dim=-2)
            known, lists = self.cell.operations, [self.cell.edges[q].operations for q in into]
            widest = before.shape[-1]  # padded where p_q is zero
            entries = constant(
                tuple((*map(known.index, ops), *[0] * (widest - len(ops))) for ops in lists),
                before.device,
            )
            scale = constant(tuple(len(ops) ** -0.5 for ops in lists), before.device, before.dtype)
            score = score + (query[..., entries] * before[..., None, :, :]).sum(dim=-1) * scale
        return torch.softmax(score, dim=-1)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by the learning rate that moves them."""
        attention = [] if self.attention is None else [self.attention]
        groups = {
            "architecture_lr": list(self.logits.values()),
            "transition_lr": [T for T in self.transition.values() if T.requires_grad],
            "attention_lr": [*attention, *self.query.values()],
        }
        return {name: parameters for name, parameters in groups.items() if parameters}


def _vectors(vectors: list[Tensor], fill: float) -> Tensor:
    """Stacked as rows (n, longest); shorter ones are filled up on the right."""
    longest = max(v.shape[-1] for v in vectors)
    return torch.stack([_widened(v, longest, fill) for v in vectors], dim=-2)


def _matrices(logits: list[Tensor]) -> Tensor:
    """Stacked (n, most rows, most columns), so that a softmax gives what is filled up nothing."""
    rows, columns = (max(T.shape[d] for T in logits) for d in (-2, -1))
    wide = [_widened(T, columns, -math.inf) for T in logits]
    return torch.stack(
        [T if T.shape[-2] == rows else F.pad(T, (0, 0, 0, rows - T.shape[-2])) for T in wide],
        dim=-3,
    )


def _widened(x: Tensor, width: int, fill: float) -> Tensor:
    return x if x.shape[-1] == width else F.pad(x, (0, width - x.shape[-1]), value=fill)


def _initial_of(
    rows: tuple[str, ...], columns: tuple[str, ...], settings: DependenceSettings,
    key: tuple[str | int, ...], seed: int,
) -> Tensor:  # fmt: skip
    return initial_transition(rows, columns, settings, stream(seed, *key))


def initial_transition(
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    settings: DependenceSettings,
    generator: torch.Generator,
) -> Tensor:
    """Initial logits (|rows|, |columns|) of a matrix, without the noise of trainable ones."""
    if settings.init == "random":
        return settings.init_strength * normal((len(rows), len(columns)), generator)
    if settings.init == "uniform":
        return torch.zeros(len(rows), len(columns))
    same = torch.tensor([[float(r == c) for c in columns] for r in rows])
    return settings.init_strength * same  # identity; by name, so rectangular matrices have one


def matrix_name(cell: Cell, link: Link, sharing: str) -> str:
    """Which matrix a link uses under this sharing."""
    edge = _edge_name(cell, link.edge)
    return {"link": f"{_edge_name(cell, link.predecessor)}-{edge}", "edge": edge}.get(sharing, "0")


def check_dependence(space: Space, settings: DependenceSettings) -> None:
    """ValueError where one matrix would have to serve links with different candidate lists."""
    if settings.model == "independent" or settings.sharing == "link":
        return
    for kind, cell in space.cells.items():
        served: dict[str, set[tuple[tuple[str, ...], ...]]] = {}
        for link in cell.links:
            lists = (cell.edges[link.predecessor].operations, cell.edges[link.edge].operations)
            served.setdefault(matrix_name(cell, link, settings.sharing), set()).add(lists)
        if any(len(lists) > 1 for lists in served.values()):
            raise ValueError(
                f"dependence.sharing: {settings.sharing!r} needs one candidate list on the edges "
                f"that share a matrix; those of the {kind} cell of {space.name} differ (use 'link')"
            )


def build_dependence(
    space: Space, settings: DependenceSettings, seeds: int | Sequence[int]
) -> nn.ModuleDict:
    """One `Dependence` per cell kind; raises as `check_dependence`."""
    check_dependence(space, settings)
    return nn.ModuleDict({k: Dependence(c, k, settings, seeds) for k, c in space.cells.items()})


def count_parameters(space: Space, settings: DependenceSettings) -> int:
    """Architecture parameters of all cell kinds, frozen matrices included."""
    return sum(p.numel() for p in build_dependence(space, settings, 0).parameters())


def _edge_name(cell: Cell, e: int) -> str:
    return f"{cell.edges[e].source}_{cell.edges[e].target}"
