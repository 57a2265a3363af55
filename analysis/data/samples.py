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
from analysis.statistics.metrics import Array

At = int | Literal["last"]

SEEDS = ("seed_weights", "seed_data", "seed_architecture")
CELL_ORDER = {"normal": 0, "reduce": 1}
_EDGE = ["cell", "source", "target"]
_LINK = ["cell", "predecessor_source", "predecessor_target", "source", "target"]


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
    seeds: NDArray[np.int64]
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
        kinds = {edge.cell for edge in self.edges}
        return tuple(sorted(kinds, key=lambda kind: (CELL_ORDER.get(kind, 2), kind)))

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
    results: Results,
    runs: pd.DataFrame,
    at: Sequence[At] = ("last",),
    links_at: Sequence[At] | None = None,
) -> dict[At, Sample]:
    """Samples of one setting's runs at several epochs, each table being read once.

    runs: rows of `results.runs`. at: epochs, -1 the initialisation, "last" each run's own last.
    links_at: those of them at which links are read too (None: all). Raises ResultsError where
    operations or matrices of one edge or link differ in shape.
    """
    runs = runs.sort_values([*SEEDS, "run_id"], ignore_index=True)
    last = runs["epochs_completed"].to_numpy(int) - 1
    with_links = [e for e in at if links_at is None or e in links_at]

    def rows(name: str, columns: list[str], at: Sequence[At], place: list[str]) -> _Rows:
        epochs = {int(e) for e in at if e != "last"} | ({*last.tolist()} if "last" in at else set())
        table = results.table(name, columns, sorted(epochs), runs["run_id"])
        return _Rows(table, runs, place)

    edges = rows("edges", ["inner", "operations", "probabilities"], at, _EDGE)
    links = None
    if with_links and (runs["model"] != "independent").any():
        links = rows("links", ["attention_weight", "matrix", "rows", "columns"], with_links, _LINK)
    where = str(runs["setting"].iloc[0]) if len(runs) else ""
    return {
        e: _sample(
            runs, last if e == "last" else e, edges, links if e in with_links else None, where
        )
        for e in at
    }


def seed_label(seeds: Iterable[int]) -> str:
    """A readable name of a run's three seeds: `seed 3`, or `seeds 3/0/1`."""
    each = [int(s) for s in seeds]
    return f"seed {each[0]}" if len(set(each)) == 1 else "seeds " + "/".join(map(str, each))


class _Rows:
    """A table's rows of several runs and epochs, by place (edge or link)."""

    def __init__(self, table: pa.Table, runs: pd.DataFrame, place: list[str]) -> None:
        keys = table.select(["run_id", "epoch", *place]).to_pandas()
        grouped = keys.groupby(place, sort=True)
        self.places = [tuple(p) for p in grouped.size().index]
        of_row = grouped.ngroup().to_numpy(int)
        order = np.argsort(of_row, kind="stable")  # rows of one place lie together
        self.table = table.take(pa.array(order)).combine_chunks()
        self._ends = np.searchsorted(of_row[order], np.arange(len(self.places) + 1))
        number = pd.Series(np.arange(len(runs)), index=runs["run_id"].to_numpy())
        self._run = number.reindex(keys["run_id"].to_numpy()[order]).to_numpy(int)
        self._epoch = keys["epoch"].to_numpy(int)[order]
        self._of_row = of_row[order]
        self._known: dict[tuple[str, int], NDArray] = {}

    def at(self, epoch: NDArray[np.int64] | int, n: int) -> NDArray[np.int64]:
        """(n, places): each place's row at an epoch, one per run or one for all; -1: missing.

        Rows are counted within their place, as those of `of`.
        """
        wanted = np.broadcast_to(np.asarray(epoch), n)
        rows = np.flatnonzero(self._epoch == wanted[self._run])
        found = np.full((n, len(self.places)), -1)
        places = self._of_row[rows]
        found[self._run[rows], places] = rows - self._ends[places]
        return found

    def of(self, column: str, place: int, where: str) -> NDArray:
        """A column's values at all rows of one place; lists as (rows, size).

        Raises ResultsError where lists differ in length.
        """
        if (column, place) not in self._known:
            start, stop = self._ends[place : place + 2]
            values = self.table.column(column).slice(start, stop - start).combine_chunks()
            if isinstance(values, pa.ChunkedArray):
                values = values.chunk(0)
            if pa.types.is_list(values.type):
                sizes = np.unique(pc.list_value_length(values).to_numpy(zero_copy_only=False))
                if sizes.size != 1 or not np.isfinite(sizes.astype(float)).all():
                    raise ResultsError(f"{where}: {column} has {sizes.size} different lengths")
                flat = values.flatten().to_numpy(zero_copy_only=False)
                self._known[column, place] = flat.reshape(len(values), -1)
            else:
                self._known[column, place] = values.to_numpy(zero_copy_only=False)
        return self._known[column, place]

    def operations(self, place: int, where: str) -> tuple[str, ...]:
        """The one list of operations of an edge; ResultsError where there are several."""
        if ("names", place) not in self._known:
            names = self.of("operations", place, where)
            if (names != names[0]).any():
                raise ResultsError(f"{where} has several different lists of operations")
            self._known["names", place] = names[0]
        return tuple(self._known["names", place])


def _sample(
    runs: pd.DataFrame,
    epoch: NDArray[np.int64] | int,
    edges: _Rows,
    links: _Rows | None,
    setting: str,
) -> Sample:
    """The runs that have all their rows at this epoch, all numbers finite."""
    n, ids = len(runs), runs["run_id"].to_numpy()
    edge_rows = edges.at(epoch, n)
    keep: NDArray[np.bool_] = np.asarray((edge_rows >= 0).all(axis=1) & bool(edges.places))
    link_rows = np.zeros((n, 0), int) if links is None else links.at(epoch, n)
    if (link_rows < 0).all():  # no links at this epoch, or of this setting
        link_rows = link_rows[:, :0]
    keep &= (link_rows >= 0).all(axis=1)
    if not keep.any():
        return Sample((), np.zeros((0, 3), int), (), (), tuple(ids))
    found = _edges(edges, edge_rows[keep], setting)
    of_links = _links(links, link_rows[keep], found, setting) if links and link_rows.size else ()
    seeds = runs.loc[keep, list(SEEDS)].to_numpy(int)
    sample = Sample(tuple(ids[keep]), seeds, found, of_links, tuple(ids[~keep]))
    finite = np.ones(sample.n, bool)
    for edge in found:
        finite &= np.isfinite(edge.probabilities).all(axis=1)
    for link in of_links:
        finite &= np.isfinite(link.matrices).all(axis=(1, 2)) & np.isfinite(link.attention)
    if finite.all():
        return sample
    bad = {r for r, good in zip(sample.run_ids, finite, strict=True) if not good}
    left_out = tuple(r for r in ids if r in bad or r in sample.left_out)
    if len(bad) == sample.n:
        return Sample((), np.zeros((0, 3), int), (), (), left_out)
    return replace(sample.of_runs([r for r in sample.run_ids if r not in bad]), left_out=left_out)


def _edges(edges: _Rows, rows: NDArray[np.int64], setting: str) -> tuple[EdgeSample, ...]:
    found = []
    for index, (cell, source, target) in enumerate(edges.places):
        where = f"{setting}: edge {source}→{target} of {cell}"
        operations = edges.operations(index, where)
        probabilities = edges.of("probabilities", index, where)
        if probabilities.shape[1] != len(operations):
            raise ResultsError(f"{where}: not as many probabilities as operations")
        here = rows[:, index]
        is_inner = bool(edges.of("inner", index, where)[here[0]])
        p = probabilities[here].astype(float)
        found.append(EdgeSample(cell, source, target, is_inner, operations, p))
    return tuple(sorted(found, key=lambda e: (CELL_ORDER.get(e.cell, 2), e.target, e.source)))


def _links(
    links: _Rows, rows: NDArray[np.int64], edges: Sequence[EdgeSample], setting: str
) -> tuple[LinkSample, ...]:
    of_place = {(e.cell, e.source, e.target): e for e in edges}
    found = []
    for index, (cell, *nodes) in enumerate(links.places):
        p_source, p_target, source, target = nodes
        where = f"{setting}: link {p_source}→{p_target} to {source}→{target} of {cell}"
        try:
            predecessor, edge = of_place[cell, p_source, p_target], of_place[cell, source, target]
        except KeyError:
            raise ResultsError(f"{where}: one of its edges is not in edges/") from None
        shape = len(predecessor.operations), len(edge.operations)
        flat = links.of("matrix", index, where)
        sizes = np.stack([links.of(c, index, where) for c in ("rows", "columns")], axis=1)
        if (sizes != shape).any() or flat.shape[1] != shape[0] * shape[1]:
            raise ResultsError(f"{where}: its matrix is not {shape[0]} x {shape[1]}")
        here = rows[:, index]
        matrices = flat[here].astype(float).reshape(-1, *shape)
        attention = links.of("attention_weight", index, where)[here].astype(float)
        found.append(LinkSample(cell, predecessor, edge, matrices, attention))
    place = {(e.cell, e.source, e.target): i for i, e in enumerate(edges)}
    return tuple(
        sorted(found, key=lambda k: (place[k.cell, *k.nodes[2:]], place[k.cell, *k.nodes[:2]]))
    )
