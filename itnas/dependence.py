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

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from itnas.settings import DependenceSettings
from itnas.spaces import Cell, CellKind, Link, Space
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

        free = [
            e for e, edge in enumerate(cell.edges)
            if not edge.inner or not linked or settings.own_weight > 0
        ]  # fmt: skip
        self.logits = nn.ParameterDict()
        for e in free:
            count = len(cell.edges[e].operations)
            self.logits[_edge_name(cell, e)] = nn.Parameter(noise((count,), "logits", e))
        self.transition = nn.ParameterDict()
        self.attention: nn.Parameter | None = None
        self.query = nn.ParameterDict()
        if not linked:
            return

        for n, link in enumerate(cell.links):
            name = matrix_name(cell, link, settings.sharing)
            lists = (cell.edges[link.predecessor].operations, cell.edges[link.edge].operations)
            if name in self.transition:
                continue
            initial = drawn(
                lambda seed, n=n, lists=lists: initial_transition(  # type: ignore[misc]
                    *lists, settings, stream(seed, "transition", kind, n)
                )
            )
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
        """Derive every edge's distribution, in topological order."""
        cell, settings = self.cell, self.settings
        p: list[Tensor] = []  # one (|O_e|,) per edge
        attention: list[Tensor] = []
        matrices: list[Tensor] = []
        for e, edge in enumerate(cell.edges):
            name = _edge_name(cell, e)
            if name in self.logits:
                own = torch.softmax(self.logits[name] / settings.temperature, dim=-1)
            if not edge.inner or settings.model == "independent":
                p.append(own)
                continue
            links = [cell.links[n] for n in cell.links_into(e)]
            before = [self._seen(p[link.predecessor]) for link in links]  # p_q, (|O_q|,) each
            w = self._attention(e, before).unsqueeze(-1)  # (predecessors, 1)
            T = [
                torch.softmax(self.transition[matrix_name(cell, link, settings.sharing)], dim=-1)
                for link in links
            ]
            passed = [(p_q[..., None, :] @ T_q)[..., 0, :] for p_q, T_q in zip(before, T, strict=True)]
            derived = (w * torch.stack(passed, dim=-2)).sum(dim=-2)  # of (predecessors, |O_e|)
            share = settings.own_weight
            p.append(share * own + (1 - share) * derived if share > 0 else derived)
            attention.extend(w[..., 0].unbind(-1))
            matrices.extend(T)
        return Architecture(p, attention, matrices)

    def _seen(self, p: Tensor) -> Tensor:
        """What an inner edge sees of a predecessor's distribution."""
        if self.settings.model == "placebo":
            return torch.full_like(p, 1 / p.shape[-1])  # nothing can flow, in value or gradient
        return p.detach() if self.settings.stop_gradient else p

    def _attention(self, e: int, before: list[Tensor]) -> Tensor:
        """w_{q->e} over the predecessors of edge e: a distribution (predecessors,)."""
        if self.attention is None:
            return before[0].new_full((*before[0].shape[:-1], len(before)), 1 / len(before))
        score = self.attention[..., self.cell.links_into(e)]
        if self.settings.attention == "content":
            query = self.query[_edge_name(self.cell, e)]  # (operations of the cell,)
            products = []
            for n, p in zip(self.cell.links_into(e), before, strict=True):
                operations = self.cell.edges[self.cell.links[n].predecessor].operations
                entries = [self.cell.operations.index(o) for o in operations]
                products.append((p * query[..., entries]).sum(dim=-1) / len(entries) ** 0.5)
            score = score + torch.stack(products, dim=-1)
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
