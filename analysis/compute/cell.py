"""One cell kind of one setting at one epoch, as the registry of quantities wants it.

Everything that several quantities share (choices, matrices, what was learned, what transfers) is
derived here once, when it is first asked for.
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
from analysis.statistics.agreement import chosen_operations
from analysis.statistics.divergence import DRAWS
from analysis.statistics.inference import Quantity, missing
from analysis.statistics.matrices import LinkStability
from analysis.statistics.metrics import Array
from analysis.statistics.transfer import Transfer, transfer

TRANSITION_MOVED = 0.02
"""Mean transition_displacement under which trainable matrices hardly moved."""

Kept = frozenset[tuple[int, int, str]]


class Cell:
    """runs: the setting's rows of `runs`, of whom `last` and `start` (epoch -1) are samples.

    at_end: whether `last` is of the runs' last epochs, so that their genotypes are its own.
    """

    def __init__(
        self, runs: pd.DataFrame, last: Sample, start: Sample | None, kind: str,
        draws: int = DRAWS, at_end: bool = True,
    ) -> None:  # fmt: skip
        self.runs = runs.set_index("run_id").loc[list(last.run_ids)]
        if start is not None and start.run_ids != last.run_ids:
            start = start.of_runs(last.run_ids)
        self.last, self.start, self.kind = last, start, kind
        self.draws: int = draws
        self.at_end = at_end
        self.n = last.n

    @cached_property
    def edges(self) -> tuple[EdgeSample, ...]:
        return self.last.edges_of(self.kind)

    @cached_property
    def links(self) -> tuple[LinkSample, ...]:
        return self.last.links_of(self.kind)

    @cached_property
    def lists(self) -> list[tuple[str, ...]]:
        return [e.operations for e in self.edges]

    def part(self, which: str) -> NDArray[np.int64]:
        """Indices of the `inner` edges, the `outer` ones, or of all."""
        inner = np.array([e.inner for e in self.edges])
        return np.flatnonzero({"inner": inner, "outer": ~inner}.get(which, inner | True))

    @cached_property
    def never_kept(self) -> tuple[str, ...]:
        return cannot_be_chosen(self.runs)

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
        found = []
        for text in self.genotypes:
            parsed = genotypes.parse(text).get(self.kind)
            edges = () if parsed is None else parsed.edges
            found.append(frozenset((e.source, e.target, e.operation) for e in edges))
        unknown = {item for items in found for item in items if item[:2] not in self.candidates}
        if unknown:
            raise ResultsError(f"genotypes keep an edge that is not in edges/: {min(unknown)}")
        return found

    @property
    def genotypes(self) -> list[str]:
        return [str(text) for text in self.runs["genotype"]]

    @cached_property
    def candidates(self) -> dict[tuple[int, int], tuple[str, ...]]:
        return {(e.source, e.target): e.operations for e in self.edges}

    @cached_property
    def matrices(self) -> list[Array]:
        return [link.matrices for link in self.links]

    @cached_property
    def predecessors(self) -> list[Array]:
        return [link.predecessor.probabilities for link in self.links]

    @cached_property
    def link_lists(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        return [(link.predecessor.operations, link.edge.operations) for link in self.links]

    @cached_property
    def shared(self) -> list[int] | None:
        return shared_matrices(self.links, self.runs["sharing"].iloc[0])

    @cached_property
    def attention(self) -> list[Array]:
        """(n, predecessors) of every inner edge."""
        edges: dict[tuple[int, int], list[Array]] = {}
        for link in self.links:
            edges.setdefault(link.nodes[2:], []).append(link.attention)
        return [np.stack(columns, axis=1) for columns in edges.values()]

    @cached_property
    def starts(self) -> list[Array] | None:
        """Every link's matrices at epoch -1; None where they are not known."""
        known = {} if self.start is None else {k.nodes: k for k in self.start.links_of(self.kind)}
        found = [known[k.nodes].matrices for k in self.links if k.nodes in known]
        alike = [s.shape == k.matrices.shape for s, k in zip(found, self.links, strict=False)]
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

    @cached_property
    def learned(self) -> list[Array] | None:
        """Each matrix divided by its own start; None where `why_nothing_learned` says why."""
        if self.why_nothing_learned or self.starts is None:
            return None
        return matrices.learned(self.matrices, self.starts)

    @property
    def learns(self) -> bool:
        """Whether the matrices could move."""
        trainable = self.runs["trainable"].iloc[0]
        return bool(pd.isna(trainable) or trainable)

    @property
    def model(self) -> str:
        return str(self.runs["model"].iloc[0])

    @property
    def _draw_seed(self) -> int:
        """Permutations of a setting's cell kinds, which are pooled, are drawn apart."""
        return list(self.last.cells).index(self.kind)

    @cached_property
    def transfer(self) -> Transfer:
        """What other seeds know of this one's flows."""
        return transfer(flow_cell(self), None if self.draws else 0, self._draw_seed)

    @cached_property
    def transfer_own(self) -> Transfer:
        """The same of a placebo's own p_q, which nothing flowed from: the control."""
        return transfer(flow_cell(self, own=True), None if self.draws else 0, self._draw_seed)

    @cached_property
    def divergence(self) -> tuple[Quantity, Array]:
        """Of the matrices, as they are, over all links and of each."""
        return matrices.transition_divergence(self.matrices, self.predecessors)

    @cached_property
    def dependence(self) -> tuple[Quantity, LinkStability | None]:
        return matrices.dependence_stability(self.matrices, self.shared, self.draws)

    @cached_property
    def learned_dependence(self) -> tuple[Quantity, LinkStability | None]:
        if self.learned is None:
            return missing(self.why_nothing_learned, self.n), None
        return matrices.dependence_stability(self.learned, self.shared, self.draws)


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
    """What each of n runs would keep by the published rules.

    In cells of the DARTS family (where `none` is excluded) a node keeps the two in-edges whose
    best operation has the largest probability; else every edge is kept.
    """
    best, weight = [], []
    for e in edges:
        p = np.where([o in exclude for o in e.operations], -1.0, e.probabilities)
        best.append([e.operations[k] for k in p.argmax(axis=1)])
        weight.append(p.max(axis=1))
    kept = []
    for run in range(n):
        order = sorted(range(len(edges)), key=lambda i: (-weight[i][run], edges[i].source))
        of_run: list[tuple[int, int, str]] = []
        for i in order:
            e = edges[i]
            full = bool(exclude) and sum(target == e.target for _, target, _ in of_run) == 2
            if not full:
                of_run.append((e.source, e.target, best[i][run]))
        kept.append(frozenset(of_run))
    return kept


def shared_matrices(links: tuple[LinkSample, ...], sharing: object) -> list[int] | None:
    """A number per link, equal where links have one matrix; None where each has its own.

    What `sharing` says is believed only where the numbers agree; where it says nothing, links
    whose matrices are equal in every seed share one.
    """
    if sharing == "link" or not links:
        return None
    numbers: list[int] = []
    for index, link in enumerate(links):
        number = index
        for earlier in range(index):
            other = links[earlier]
            may = sharing != "edge" or other.nodes[2:] == link.nodes[2:]
            if may and np.array_equal(other.matrices, link.matrices):
                number = numbers[earlier]
                break
        numbers.append(number)
    return numbers if len(set(numbers)) < len(numbers) else None
