"""One cell kind of one setting at one epoch, as the registry of quantities wants it.

What several quantities share is derived here once, when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.compute.transfer import flow_cell
from analysis.data import genotypes
from analysis.data.samples import EdgeSample, LinkSample, Sample
from analysis.errors import ResultsError
from analysis.quantities import of_cells
from analysis.statistics import matrices
from analysis.statistics.agreement import Candidates, chosen_operations
from analysis.statistics.divergence import DRAWS
from analysis.statistics.inference import Quantity, missing
from analysis.statistics.matrices import LinkStability
from analysis.statistics.metrics import Array, groups_of
from analysis.statistics.transfer import Transfer, transfer

TRANSITION_MOVED = 0.02
"""Mean transition_displacement under which trainable matrices hardly moved."""

Kept = frozenset[tuple[int, int, str]]


class Cell:
    """runs: the setting's rows of `runs`, of whom `last` and `start` (epoch -1) are samples.

    at_end: whether `last` is of the runs' last epochs, so that their genotypes are its own.
    never_kept: operations that cannot be chosen. learns: whether the matrices could move.
    """

    def __init__(
        self, runs: pd.DataFrame, last: Sample, start: Sample | None, kind: str,
        draws: int = DRAWS, at_end: bool = True,
    ) -> None:  # fmt: skip
        if start is not None and start.run_ids != last.run_ids:
            start = start.of_runs(last.run_ids)
        self.last, self.start, self.kind, self.n = last, start, kind, last.n
        self.draws: int = draws
        self.at_end = at_end
        self.runs = runs.set_index("run_id").loc[list(last.run_ids)]
        self.genotypes = [str(text) for text in self.runs["genotype"]]
        self.never_kept = cannot_be_chosen(self.runs)
        self.model = str(self.runs["model"].iloc[0])
        trainable = self.runs["trainable"].iloc[0]
        self.learns = bool(pd.isna(trainable) or trainable)
        self.edges: tuple[EdgeSample, ...] = last.edges_of(kind)
        self.lists = [e.operations for e in self.edges]
        self.candidates: Candidates = {(e.source, e.target): e.operations for e in self.edges}
        self.links: tuple[LinkSample, ...] = last.links_of(kind)
        self.matrices: list[Array] = [link.matrices for link in self.links]

    def part(self, which: str) -> NDArray[np.int64]:
        """Indices of the `inner` edges, the `outer` ones, or of all."""
        inner = np.array([e.inner for e in self.edges])
        return np.flatnonzero({"inner": inner, "outer": ~inner}.get(which, inner | True))

    @cached_property
    def choices(self) -> NDArray[np.int64]:
        """(n, edges) indices of the best operations, tied ones marked."""
        return choices_of(self.last, self.kind, self.never_kept)

    @cached_property
    def kept(self) -> list[Kept]:
        """(source, target, operation) of every run's kept edges.

        Of its genotype at the end, else of what the published rules would keep. Raises
        ResultsError where a genotype keeps an edge that is not in `edges`.
        """
        if not self.at_end:
            return kept_at(self.edges, self.never_kept, self.n)
        cells = [genotypes.parse(text).get(self.kind) for text in self.genotypes]
        found = [
            frozenset((e.source, e.target, e.operation) for e in (cell.edges if cell else ()))
            for cell in cells
        ]
        unknown = {item for items in found for item in items if item[:2] not in self.candidates}
        if unknown:
            raise ResultsError(f"genotypes keep an edge that is not in edges/: {min(unknown)}")
        return found

    @cached_property
    def shared(self) -> list[int] | None:
        """A number per link, equal where links have one matrix; None where each has its own.

        What `sharing` says is believed only where the numbers agree; where it says nothing, links
        whose matrices are equal in every seed share one.
        """
        sharing = self.runs["sharing"].iloc[0]

        def same(a: LinkSample, b: LinkSample) -> bool:
            may = sharing != "edge" or a.nodes[2:] == b.nodes[2:]
            return a is b or (may and np.array_equal(a.matrices, b.matrices))

        if sharing == "link":
            return None
        numbers = [next(i for i, k in enumerate(self.links) if same(k, own)) for own in self.links]
        return numbers if len(set(numbers)) < len(numbers) else None

    @property
    def link_lists(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        return [(link.predecessor.operations, link.edge.operations) for link in self.links]

    @cached_property
    def attention(self) -> list[Array]:
        """(n, predecessors) of every inner edge."""
        edges = groups_of(link.nodes[2:] for link in self.links)
        return [np.stack([self.links[i].attention for i in into], axis=1) for into in edges]

    @cached_property
    def starts(self) -> list[Array] | None:
        """Every link's matrices at epoch -1; None where they are not known."""
        known = {} if self.start is None else {k.nodes: k for k in self.start.links_of(self.kind)}
        found = [known[k.nodes].matrices for k in self.links if k.nodes in known]
        alike = [s.shape == m.shape for s, m in zip(found, self.matrices, strict=False)]
        return found if len(found) == len(self.links) and all(alike) else None

    @cached_property
    def why_nothing_learned(self) -> str:
        """Why nothing can be said of what the matrices learned; empty where something can."""
        if not self.links:
            return self.why_no_links
        if not self.learns:
            return "the matrices are frozen"
        if self.starts is None:
            return "no epoch -1: what the matrices started from is not known"
        moved = self.runs["transition_displacement"].to_numpy(float)
        if not self.at_end or not np.isfinite(moved).all():
            moved = matrices.displacement(self.matrices, self.starts)
        if moved.mean() < TRANSITION_MOVED:
            return f"transition_displacement {moved.mean():.3f}, under {TRANSITION_MOVED:g}"
        return ""

    @property
    def why_no_links(self) -> str:
        known = self.model == "independent"
        return "no transition matrices under independent" if known else "no rows of links"

    def transfer_of(self, own: bool = False) -> Transfer:
        """What other seeds know of this one's flows; own: of a placebo's own p_q, the control.

        Permutations of a setting's cell kinds, which are pooled, are drawn apart.
        """
        seed = list(self.last.cells).index(self.kind)
        return transfer(flow_cell(self, own), None if self.draws else 0, seed)

    @cached_property
    def transfer(self) -> Transfer:
        return self.transfer_of()

    @cached_property
    def divergence(self) -> tuple[Quantity, Array]:
        """Of the matrices, as they are, over all links and of each."""
        predecessors = [link.predecessor.probabilities for link in self.links]
        return matrices.transition_divergence(self.matrices, predecessors)

    @cached_property
    def dependence(self) -> tuple[Quantity, LinkStability | None]:
        return matrices.dependence_stability(self.matrices, self.shared, self.draws)

    @cached_property
    def learned_dependence(self) -> tuple[Quantity, LinkStability | None]:
        """The same of each matrix divided by its own start."""
        if self.why_nothing_learned or self.starts is None:
            return missing(self.why_nothing_learned, self.n), None
        learned = matrices.learned(self.matrices, self.starts)
        return matrices.dependence_stability(learned, self.shared, self.draws)


def of_cell(cell: Cell, traced: bool = False) -> dict[str, Quantity]:
    """The registry's quantities of one cell kind; with `traced` those followed over epochs."""
    found = {}
    for definition in [*of_cells(False, traced), *of_cells(True, traced)]:
        assert definition.compute is not None
        if definition.needs_links and not cell.links:
            found[definition.name] = missing(cell.why_no_links, cell.n)
            continue
        try:
            found[definition.name] = definition.compute(cell)
        except ResultsError as error:
            found[definition.name] = missing(str(error), cell.n)
    return found


def cannot_be_chosen(runs: pd.DataFrame) -> tuple[str, ...]:
    """Operations that no genotype keeps: `none` in cells of the DARTS family."""
    return () if str(runs["genotype"].iloc[0]).startswith("|") else ("none",)


def choices_of(sample: Sample, kind: str, exclude: tuple[str, ...]) -> NDArray[np.int64]:
    """(n, edges) chosen operations of one cell kind."""
    each = [
        chosen_operations(e.probabilities, e.operations, exclude) for e in sample.edges_of(kind)
    ]
    return np.stack(each, axis=1)


def kept_at(edges: Sequence[EdgeSample], exclude: tuple[str, ...], n: int) -> list[Kept]:
    """What each of n runs would keep by the published rules; edges by target, then source.

    In cells of the DARTS family (where `none` is excluded) a node keeps the two in-edges whose
    best operation has the largest probability; else every edge is kept.
    """
    kept: list[list[tuple[int, int, str]]] = [[] for _ in range(n)]
    for places in groups_of(e.target for e in edges):
        into = [edges[i] for i in places]
        p = [np.where(np.isin(e.operations, exclude), -1.0, e.probabilities) for e in into]
        order = np.argsort([-x.max(axis=1) for x in p], axis=0, kind="stable")  # (in-edges, n)
        for run, best in enumerate(order[: 2 if exclude else None].T):
            for e, of_edge in ((into[i], p[i]) for i in best):
                kept[run].append((e.source, e.target, e.operations[of_edge[run].argmax()]))
    return [frozenset(items) for items in kept]
