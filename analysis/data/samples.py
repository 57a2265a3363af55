"""One setting's architectures as arrays: seeds along the first axis, whatever the folder holds.

This is the step from tables to mathematics: what comes after it knows neither files nor frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.data.results import Results
from analysis.errors import ResultsError
from analysis.statistics.metrics import Array, Ints

At = int | Literal["last"]

SEEDS = ("seed_weights", "seed_data", "seed_architecture")

# What is read: the columns that tell places, in the order of samples, and numbers and the rest.
_EDGES = ["cell", "target", "source"], ["probabilities"], ["inner", "operations"]
_LINKS = (
    ["cell", "target", "source", "predecessor_target", "predecessor_source"],
    ["matrix", "attention_weight"], ["rows", "columns"],
)  # fmt: skip
_MISSING, _NOT_FINITE = -1, -2


@dataclass(frozen=True)
class EdgeSample:
    """One edge of n runs: probabilities (n, operations)."""

    cell: str
    source: int
    target: int
    inner: bool
    operations: tuple[str, ...]
    probabilities: Array


@dataclass(frozen=True)
class LinkSample:
    """One link of n runs: matrices (n, rows, columns), attention (n,).

    Rows are the operations of the predecessor edge, columns those of the inner edge.
    """

    cell: str
    predecessor: EdgeSample
    edge: EdgeSample
    matrices: Array
    attention: Array

    @property
    def nodes(self) -> tuple[int, int, int, int]:
        """predecessor_source, predecessor_target, source, target."""
        p, e = self.predecessor, self.edge
        return p.source, p.target, e.source, e.target


@dataclass(frozen=True)
class Sample:
    """The runs of one setting at one epoch.

    seeds: (n, 3) of weights, data and architecture; edges and links: normal cell first, then by
    target and source. left_out: run_ids without (all of) their rows or with numbers that are
    not finite.
    """

    run_ids: tuple[str, ...]
    seeds: Ints
    edges: tuple[EdgeSample, ...]
    links: tuple[LinkSample, ...]
    left_out: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.run_ids)

    @property
    def cells(self) -> tuple[str, ...]:
        """Cell kinds, normal first."""
        return tuple(sorted({edge.cell for edge in self.edges}))

    def of_runs(self, run_ids: Sequence[str]) -> Sample:
        """The same of some of its runs, in their order; those that it does not have stay out."""
        place = {run_id: i for i, run_id in enumerate(self.run_ids)}
        index = np.array([place[r] for r in run_ids if r in place], dtype=int)
        edges = {id(e): replace(e, probabilities=e.probabilities[index]) for e in self.edges}
        links = tuple(
            LinkSample(k.cell, edges[id(k.predecessor)], edges[id(k.edge)], k.matrices[index],
                       k.attention[index])
            for k in self.links
        )  # fmt: skip
        ids = tuple(self.run_ids[i] for i in index)
        return Sample(ids, self.seeds[index], tuple(edges.values()), links, self.left_out)

    def edges_of(self, cell: str) -> tuple[EdgeSample, ...]:
        """The edges of one cell kind."""
        return tuple(edge for edge in self.edges if edge.cell == cell)

    def links_of(self, cell: str) -> tuple[LinkSample, ...]:
        """The links of one cell kind."""
        return tuple(link for link in self.links if link.cell == cell)


def read_samples(
    results: Results, runs: pd.DataFrame, at: Sequence[At] = ("last",),
    links_at: Sequence[At] | None = None,
) -> dict[At, Sample]:  # fmt: skip
    """Samples of one setting's runs at several epochs, each table being read once.

    runs: rows of `results.runs`. at: epochs, -1 the initialisation, "last" each run's own last.
    links_at: those of them at which links are read too (None: all). Raises ResultsError where
    operations or matrices of one edge or link differ in shape.
    """
    runs = runs.sort_values([*SEEDS, "run_id"], ignore_index=True)
    with_links = [e for e in at if links_at is None or e in links_at]
    edges, links = _Rows(results, "edges", runs, at, *_EDGES), None
    if with_links and (runs["model"] != "independent").any():
        links = _Rows(results, "links", runs, with_links, *_LINKS)
    return {e: _sample(runs, e, edges, links if e in with_links else None) for e in at}


def seed_label(seeds: Iterable[int]) -> str:
    """A readable name of a run's three seeds: `seed 3`, or `seeds 3/0/1`."""
    each = [int(s) for s in seeds]
    return f"seed {each[0]}" if len(set(each)) == 1 else "seeds " + "/".join(map(str, each))


class _Rows:
    """A table's rows of several runs and epochs, by place (edge or link): `of[column][place]`."""

    def __init__(
        self, results: Results, name: str, runs: pd.DataFrame, at: Sequence[At],
        place: list[str], numbers: list[str], others: list[str],
    ) -> None:  # fmt: skip
        last = runs["epochs_completed"].to_numpy(int) - 1
        self._epochs = {e: last if e == "last" else np.full(len(runs), e) for e in at}
        epochs = np.unique([*self._epochs.values()]).tolist()
        table = results.table(name, numbers + others, epochs, runs["run_id"])
        keys = table.select(["run_id", "epoch", *place]).to_pandas()
        grouped = keys.groupby(place, sort=True)
        self.places = [tuple(p) for p in grouped.size().index]
        of_row = grouped.ngroup().to_numpy(int)
        order = np.argsort(of_row, kind="stable")  # rows of one place lie together
        self._place = of_row[order]
        self._ends = np.searchsorted(self._place, np.arange(len(self.places) + 1))
        number = pd.Series(np.arange(len(runs)), index=runs["run_id"].to_numpy())
        self._run = number.reindex(keys["run_id"].to_numpy()[order]).to_numpy(int)
        self._epoch = keys["epoch"].to_numpy(int)[order]
        table = table.take(pa.array(order))
        self._columns = {c: table.column(c).combine_chunks() for c in numbers + others}
        self._finite = np.ones(len(order), bool)
        for column in (self._columns[c] for c in numbers):
            is_list = pa.types.is_list(column.type)
            flat = column.flatten() if is_list else column
            bad = np.flatnonzero(~np.isfinite(flat.to_numpy(zero_copy_only=False)))
            self._finite[pc.list_parent_indices(column).to_numpy()[bad] if is_list else bad] = False
        self._what = f"{runs['setting'].iloc[0]}: {name[:-1]} " if len(runs) else ""
        places = range(len(self.places))
        self.of = {c: [self._values(c, k) for k in places] for c in self._columns}

    def at(self, epoch: At) -> Ints:
        """(n, places): each run's row of each place at an epoch, counted within its place.

        Negative where there is none, or one whose numbers are not finite.
        """
        rows = np.flatnonzero(self._epoch == self._epochs[epoch][self._run])
        places = self._place[rows]
        found = np.full((len(self._epochs[epoch]), len(self.places)), _MISSING)
        known = np.where(self._finite[rows], rows - self._ends[places], _NOT_FINITE)
        found[self._run[rows], places] = known
        return found

    def where(self, place: int) -> str:
        """The setting, cell and nodes of a place, for messages."""
        cell, *nodes = self.places[place]
        edges = [f"{s}→{t}" for t, s in zip(nodes[::2], nodes[1::2], strict=True)]
        return f"{self._what}{' to '.join(edges[::-1])} of {cell}"

    def _values(self, column: str, place: int) -> NDArray:
        """A column's values at all rows of one place; lists as (rows, size).

        Raises ResultsError where lists differ in length, or operations at all.
        """
        start, stop = self._ends[place : place + 2]
        values = self._columns[column].slice(start, stop - start)
        if not pa.types.is_list(values.type):
            return values.to_numpy(zero_copy_only=False)
        sizes = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(sizes) != 1 or sizes[0] is None:
            raise ResultsError(f"{self.where(place)}: {column} has {len(sizes)} different lengths")
        found = values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
        if column == "operations" and (found != found[0]).any():
            raise ResultsError(f"{self.where(place)} has several different lists of operations")
        return found


def _sample(runs: pd.DataFrame, epoch: At, edges: _Rows, links: _Rows | None) -> Sample:
    """The runs that have all their rows at this epoch, all numbers finite."""
    ids, seeds = runs["run_id"].to_numpy(), runs[list(SEEDS)].to_numpy(int)
    edge_rows = edges.at(epoch)
    link_rows = np.zeros((len(ids), 0), int) if links is None else links.at(epoch)
    if (link_rows == _MISSING).all():  # no links at this epoch, or of this setting
        link_rows = link_rows[:, :0]
    keep = (np.hstack([edge_rows, link_rows]) >= 0).all(axis=1) & bool(edges.places)
    found = _edges(edges, edge_rows[keep]) if keep.any() else ()
    of_links = _links(links, link_rows[keep], found) if links and found and link_rows.size else ()
    return Sample(tuple(ids[keep]), seeds[keep], found, of_links, tuple(ids[~keep]))


def _edges(edges: _Rows, rows: Ints) -> tuple[EdgeSample, ...]:
    found = []
    for index, (cell, target, source) in enumerate(edges.places):
        operations = tuple(edges.of["operations"][index][0])
        probabilities = edges.of["probabilities"][index]
        if probabilities.shape[1] != len(operations):
            raise ResultsError(f"{edges.where(index)}: not as many probabilities as operations")
        here = rows[:, index]
        inner, p = bool(edges.of["inner"][index][here[0]]), probabilities[here].astype(float)
        found.append(EdgeSample(cell, source, target, inner, operations, p))
    return tuple(found)


def _links(links: _Rows, rows: Ints, edges: Sequence[EdgeSample]) -> tuple[LinkSample, ...]:
    of_place = {(e.cell, e.target, e.source): e for e in edges}
    found = []
    for index, (cell, *nodes) in enumerate(links.places):
        where = links.where(index)
        try:
            edge, predecessor = of_place[cell, *nodes[:2]], of_place[cell, *nodes[2:]]
        except KeyError:
            raise ResultsError(f"{where}: one of its edges is not in edges/") from None
        shape = len(predecessor.operations), len(edge.operations)
        flat = links.of["matrix"][index]
        sizes = np.stack([links.of[c][index] for c in ("rows", "columns")], axis=1)
        if (sizes != shape).any() or flat.shape[1] != shape[0] * shape[1]:
            raise ResultsError(f"{where}: its matrix is not {shape[0]} x {shape[1]}")
        here = rows[:, index]
        matrices = flat[here].astype(float).reshape(-1, *shape)
        attention = links.of["attention_weight"][index][here].astype(float)
        found.append(LinkSample(cell, predecessor, edge, matrices, attention))
    return tuple(found)
