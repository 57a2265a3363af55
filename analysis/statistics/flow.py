"""What flows into the inner edges of one cell kind, derived again from what a run recorded.

One step of the design's section 1: the flow into an inner edge e is the sum over its links of
w_{q->e} p_q T_{q->e}, with the recorded p_q and w, whatever the edge's `own_weight`. Seeds are
along the first axis of every array. A cell's links are laid side by side in `Block`s, so that every
distinct matrix is there once and a flow is one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from analysis.statistics.agreement import chosen_operations
from analysis.statistics.divergence import jensen_shannon
from analysis.statistics.metrics import NAN, Array, Ints, groups_of


@dataclass(frozen=True)
class FlowEdge:
    """One inner edge of n runs: probabilities (n, C) as recorded, and its C operations' names."""

    probabilities: Array
    operations: tuple[str, ...]


@dataclass(frozen=True)
class FlowLink:
    """One link of n runs into inner edge number `edge`; `matrix` is equal where links share one.

    start, matrices: (n, R, C), at epoch -1 and at the last one. p: (n, R), probabilities of the
    predecessor edge. w: (n,), its weight.
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
        links = (replace(k, p=np.full_like(k.p, 1 / k.p.shape[1])) for k in self.links)
        return replace(self, links=tuple(links))

    def of(self, seeds: Sequence[int] | Ints) -> FlowCell:
        """The same of some of the seeds (indices)."""
        i = np.asarray(seeds, dtype=int)
        edges = (replace(e, probabilities=e.probabilities[i]) for e in self.edges)
        links = (
            FlowLink(k.edge, k.start[i], k.matrices[i], k.p[i], k.w[i], k.matrix)
            for k in self.links
        )
        return replace(self, edges=tuple(edges), links=tuple(links))


class Block(NamedTuple):
    """The inner edges of a cell that have C operations, and the Q rows of their matrices.

    edges: their numbers (E). matrix: (Q,) which distinct matrix a row belongs to, ascending. start,
    table: (n, C, Q), rows of the matrices as columns. weights: (n, Q, E), w p_q, summed over the
    links that use the row. visits: (n, Q), p_q, mean over them, less its mean over the matrix.
    """

    edges: Ints
    matrix: Ints
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
    found = []
    for edges in groups_of(len(edge.operations) for edge in cell.edges):
        links = [k for k in cell.links if k.edge in edges]
        of_matrix = []
        for places in groups_of(k.matrix for k in links):
            shared = [links[i] for i in places]
            weights = sum((k.w[:, None] * k.p)[..., None] * (edges == k.edge) for k in shared)
            p = np.mean([k.p for k in shared], axis=0)
            visits = p - p.mean(axis=1, keepdims=True)
            of_matrix.append((shared[0].start, shared[0].matrices, weights, visits))
        matrix = np.repeat(range(len(of_matrix)), [m.shape[1] for m, *_ in of_matrix])
        start, table, weights, visits = (
            np.concatenate(rows, axis=1).astype(float) for rows in zip(*of_matrix, strict=True)
        )
        turned = start.swapaxes(1, 2), table.swapaxes(1, 2)
        found.append(Block(edges, matrix, *turned, weights, visits))
    return found


def flow_divergence(p: Array, q: Array) -> Array:
    """Jensen-Shannon divergence (bits) of flows (..., C, E), summed over the E edges: (...)."""
    return jensen_shannon(np.swapaxes(p, -1, -2), np.swapaxes(q, -1, -2)).sum(axis=-1)


def exchange_effect(cell: FlowCell) -> Array:
    """(n,) divergence (bits) to the flow with another seed's p_q, mean over edges and others."""
    n = cell.n
    if n < 2:
        return np.full(n, NAN)
    each = np.zeros((n, n))  # [i, j]: seed i with the p_q of seed j
    for edge in range(len(cell.edges)):
        into = [k for k in cell.links if k.edge == edge]
        flow = np.asarray(sum(k.w[:, None, None] * (k.p[None] @ k.matrices) for k in into))
        each += jensen_shannon(flow[np.arange(n), np.arange(n)][:, None], flow)
    return each.sum(axis=1) / (n - 1) / len(cell.edges)


def choices(
    cell: FlowCell, of: Sequence[Block], flows: Sequence[Array], real: Sequence[Array]
) -> Ints:
    """(n, edges) operations chosen with other flows (n, C, E) per block; TIED where two are equal.

    An edge is (1 - lambda) times its flow plus its own share, which is what its recorded
    probabilities have beyond (1 - lambda) times the real flow.
    """
    chosen = np.empty((cell.n, len(cell.edges)), dtype=np.int64)
    for block, flow, recorded in zip(of, flows, real, strict=True):
        changes = (1 - cell.own_weight) * (flow - recorded)
        for number, change in zip(block.edges, np.moveaxis(changes, -1, 0), strict=True):
            edge = cell.edges[number]
            p = edge.probabilities + change
            chosen[:, number] = chosen_operations(p, edge.operations, cell.excluded)
    return chosen
