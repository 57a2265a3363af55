"""What flows into the inner edges of one cell kind, derived again from what a run recorded.

One step of the design's section 1: the flow into an inner edge e is the sum over its links of
w_{q->e} p_q T_{q->e}, with the recorded p_q (inner predecessors included) and w, whatever the
edge's `own_weight`. Seeds are along the first axis of every array. A cell's links are laid side by
side in `Block`s, so that every distinct matrix is there once and a flow is one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.agreement import chosen_operations
from analysis.statistics.divergence import jensen_shannon
from analysis.statistics.metrics import Array

FLOOR = 1e-12
"""The least probability that a logarithm is taken of."""


@dataclass(frozen=True)
class FlowEdge:
    """One inner edge of n runs: probabilities (n, C) as recorded, and its C operations' names."""

    probabilities: Array
    operations: tuple[str, ...]


@dataclass(frozen=True)
class FlowLink:
    """One link of n runs into inner edge number `edge` of its cell.

    start, matrices: (n, R, C), the matrix at epoch -1 and at the last epoch. p: (n, R),
    probabilities of the predecessor edge. w: (n,), the predecessor's weight. matrix: a number,
    equal for links that share one matrix.
    """

    edge: int
    start: Array
    matrices: Array
    p: Array
    w: Array
    matrix: int


@dataclass(frozen=True)
class FlowCell:
    """The inner edges and links of one cell kind of one setting.

    own_weight: lambda, 0..1. excluded: operations that cannot be chosen (`none` in DARTS cells).
    random_start: whether every seed's matrices start elsewhere (`init: random`).
    """

    edges: tuple[FlowEdge, ...]
    links: tuple[FlowLink, ...]
    own_weight: float = 0.0
    excluded: tuple[str, ...] = ()
    random_start: bool = False

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.edges[0].probabilities)

    def uniform(self) -> FlowCell:
        """The same with uniform p_q, as `placebo` derives its edges."""
        return replace(
            self,
            links=tuple(replace(k, p=np.full_like(k.p, 1 / k.p.shape[1])) for k in self.links),
        )

    def of(self, seeds: Sequence[int] | NDArray[np.int64]) -> FlowCell:
        """The same of some of the seeds (indices)."""
        i = np.asarray(seeds, dtype=int)
        edges = tuple(replace(e, probabilities=e.probabilities[i]) for e in self.edges)
        links = tuple(
            replace(k, start=k.start[i], matrices=k.matrices[i], p=k.p[i], w=k.w[i])
            for k in self.links
        )
        return replace(self, edges=edges, links=links)


class Block(NamedTuple):
    """The inner edges of a cell that have C operations, and the Q rows of their matrices.

    edges: their numbers in the cell (E). matrix: (Q,) which distinct matrix a row belongs to,
    ascending. start, table: (n, C, Q), rows of the matrices as columns. weights: (n, Q, E), what
    a row adds to an edge's flow: w p_q, summed over the links that use it. visits: (n, Q), p_q
    of the row, mean over the links that share its matrix, less its mean over the matrix.
    """

    edges: list[int]
    matrix: NDArray[np.int64]
    start: Array
    table: Array
    weights: Array
    visits: Array

    def sums(self, x: Array) -> Array:
        """(..., Q) summed over the rows of each matrix: (..., matrices)."""
        return np.add.reduceat(x, np.flatnonzero(np.diff(self.matrix, prepend=-1)), axis=-1)

    def means(self, x: Array) -> Array:
        """(..., Q): the mean over the rows of each matrix, in every one of its rows."""
        return (self.sums(x) / np.bincount(self.matrix))[..., self.matrix]

    def flow(self, tables: Array) -> Array:
        """(n, C, Q) tables to the flows (n, C, E) that they give with the recorded weights."""
        return tables @ self.weights


def blocks(cell: FlowCell) -> list[Block]:
    """A cell's blocks, one for every number of operations of its inner edges."""
    sizes = [len(edge.operations) for edge in cell.edges]
    found = []
    for size in dict.fromkeys(sizes):
        edges = [e for e, s in enumerate(sizes) if s == size]
        links = [k for k in cell.links if sizes[k.edge] == size]
        groups: dict[int, list[FlowLink]] = {}
        for link in links:
            groups.setdefault(link.matrix, []).append(link)
        start, table, weights, visits = [], [], [], []
        for shared in groups.values():
            start.append(shared[0].start)
            table.append(shared[0].matrices)
            weight = np.zeros((*shared[0].p.shape, len(edges)))
            for k in shared:
                weight[..., edges.index(k.edge)] += k.w[:, None] * k.p
            weights.append(weight)
            p = np.mean([k.p for k in shared], axis=0)
            visits.append(p - p.mean(axis=1, keepdims=True))
        of_row = np.repeat(np.arange(len(groups)), [m.shape[1] for m in table])
        found.append(
            Block(
                edges,
                of_row,
                np.concatenate(start, axis=1).astype(float).swapaxes(1, 2),
                np.concatenate(table, axis=1).astype(float).swapaxes(1, 2),
                np.concatenate(weights, axis=1),
                np.concatenate(visits, axis=1),
            )
        )
    return found


def flow_divergence(p: Array, q: Array) -> Array:
    """Jensen-Shannon divergence (bits) of flows (..., C, E), summed over the E edges: (...)."""
    return jensen_shannon(np.swapaxes(p, -1, -2), np.swapaxes(q, -1, -2)).sum(axis=-1)


def flow_effects(cell: FlowCell) -> tuple[Array, Array]:
    """(n,) each: what the predecessors' choices do to the flows now, and did at the start.

    The divergence (bits, mean over inner edges) to the flow with every matrix replaced by the
    mean of its rows. Small where the rows are alike, and where p_q is near uniform.
    """
    now, begun = np.zeros((2, cell.n))
    for b in blocks(cell):
        now += flow_divergence(b.flow(b.table), b.flow(b.means(b.table)))
        begun += flow_divergence(b.flow(b.start), b.flow(b.means(b.start)))
    return now / len(cell.edges), begun / len(cell.edges)


def exchange_effect(cell: FlowCell) -> Array:
    """(n,) divergence (bits) to the flow with another seed's p_q, mean over edges and others."""
    n = cell.n
    if n < 2:
        return np.full(n, np.nan)
    flows: list[Array | float] = [0.0] * len(cell.edges)
    for k in cell.links:
        flows[k.edge] = flows[k.edge] + k.w[:, None, None] * (k.p[None] @ k.matrices)
    each = np.zeros((n, n))  # [i, j]: seed i with the p_q of seed j
    for flow in map(np.asarray, flows):
        each += jensen_shannon(flow[np.arange(n), np.arange(n)][:, None], flow)
    return each.sum(axis=1) / (n - 1) / len(cell.edges)


def choices(cell: FlowCell, flows: Sequence[Array]) -> NDArray[np.int64]:
    """(n, edges) operations chosen with other flows (n, C) per edge; TIED where two are equal.

    An edge is (1 - lambda) times its flow plus its own share, which is what its recorded
    probabilities have beyond (1 - lambda) times the recorded flow.
    """
    share = 1 - cell.own_weight
    chosen = []
    for number, (edge, flow) in enumerate(zip(cell.edges, flows, strict=True)):
        real = sum(
            k.w[:, None] * np.einsum("nr,nrc->nc", k.p, k.matrices)
            for k in cell.links
            if k.edge == number
        )
        p = edge.probabilities + share * (flow - real)
        chosen.append(chosen_operations(p, edge.operations, cell.excluded))
    return np.stack(chosen, axis=1)
