"""The learnable architecture of a cell: its logits, transition matrices and attention, their names
and where they start (design, section 1). What is made of them: `itnas.method.dependence`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from itnas.method.models import MODELS
from itnas.method.spaces import Cell, CellKind, Link, Space
from itnas.streams import normal, stream

if TYPE_CHECKING:  # the settings ask the registries for their names
    from itnas.settings import DependenceSettings

INITIAL_SPREAD = 1e-3
"""Standard deviation of the noise on every trainable initial value, as in DARTS."""


class ArchitectureParameters(nn.Module):
    """One cell kind's a (logits), T (transition logits) and attention (scores and queries)."""

    def __init__(
        self, cell: Cell, kind: CellKind, settings: DependenceSettings, seeds: int | Sequence[int]
    ) -> None:
        """Initialise from the streams of the architecture seed; several seeds are replicas, and
        every parameter then has a leading dimension over them.
        """
        super().__init__()
        self.cell, self.settings, self.model = cell, settings, MODELS[settings.model]
        linked = self.model.derive is not None

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
        self.logits = nn.ParameterDict()  # by edge: (|O_e|,)
        for e in self.free:
            count = len(cell.edges[e].operations)
            self.logits[edge_name(cell, e)] = nn.Parameter(noise((count,), "logits", e))
        self.transition = nn.ParameterDict()  # by matrix: (|O_q|, |O_e|)
        self.attention: nn.Parameter | None = None  # (links,)
        self.query = nn.ParameterDict()  # by inner edge: (operations of the cell,)
        if not linked:
            return

        for n, link in enumerate(cell.links):
            name = self.names[n]
            lists = (cell.edges[link.predecessor].operations, cell.edges[link.edge].operations)
            if name in self.transition:
                continue
            initial = drawn(partial(_initial_of, *lists, settings, ("transition", kind, n)))
            if settings.trainable:  # drawn after the random initial values, from a stream apart
                initial = initial + noise((len(lists[0]), len(lists[1])), "transition", n)
            self.transition[name] = nn.Parameter(initial, requires_grad=settings.trainable)
        if self.model.attends and settings.attention != "uniform":
            self.attention = nn.Parameter(noise((len(cell.links),), "attention"))
        if self.model.attends and settings.attention == "content":
            for e in cell.inner_edges:  # one entry per operation of the cell, so lists may differ
                query = noise((len(cell.operations),), "query", e)
                self.query[edge_name(cell, e)] = nn.Parameter(query)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by the learning rate that moves them."""
        attention = [] if self.attention is None else [self.attention]
        groups = {
            "architecture_lr": list(self.logits.values()),
            "transition_lr": [T for T in self.transition.values() if T.requires_grad],
            "attention_lr": [*attention, *self.query.values()],
        }
        return {name: parameters for name, parameters in groups.items() if parameters}


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


def edge_name(cell: Cell, e: int) -> str:
    """SOURCE_TARGET, as in the names of the parameters."""
    return f"{cell.edges[e].source}_{cell.edges[e].target}"


def matrix_name(cell: Cell, link: Link, sharing: str) -> str:
    """Which matrix a link uses under this sharing."""
    edge = edge_name(cell, link.edge)
    return {"link": f"{edge_name(cell, link.predecessor)}-{edge}", "edge": edge}.get(sharing, "0")


def check_dependence(space: Space, settings: DependenceSettings) -> None:
    """ValueError where one matrix would have to serve links with different candidate lists."""
    if MODELS[settings.model].derive is None or settings.sharing == "link":
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
