"""One setting's architectures as arrays: seeds along the first axis, whatever the folder holds.

This is the step from tables to mathematics: what comes after it knows neither files nor frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import ResultsError
from analysis.metrics import Array
from analysis.results import Results

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

    def edges_of(self, cell: str) -> tuple[EdgeSample, ...]:
        """The edges of one cell kind."""
        return tuple(edge for edge in self.edges if edge.cell == cell)

    def links_of(self, cell: str) -> tuple[LinkSample, ...]:
        """The links of one cell kind."""
        return tuple(link for link in self.links if link.cell == cell)


def read_samples(
    results: Results, runs: pd.DataFrame, at: Sequence[At] = ("last",), links: bool = True
) -> dict[At, Sample]:
    """Samples of one setting's runs at several epochs, each table being read once.

    runs: rows of `results.runs`. at: epochs, -1 the initialisation, "last" each run's own last.
    Raises ResultsError where operations or matrices of one edge or link differ in shape.
    """
    runs = runs.sort_values([*SEEDS, "run_id"], ignore_index=True)
    last = runs["epochs_completed"].to_numpy(int) - 1
    epochs = {int(e) for e in at if e != "last"} | (set(last.tolist()) if "last" in at else set())
    wanted = sorted(epochs)
    columns = ["inner", "operations", "probabilities"]
    edges = _Rows(results.table("edges", columns, wanted, runs["run_id"]), runs, _EDGE)
    columns = ["attention_weight", "matrix", "rows", "columns"]
    has_links = links and bool((runs["model"] != "independent").any())
    table = results.table("links", columns, wanted, runs["run_id"]) if has_links else None
    of_links = None if table is None else _Rows(table, runs, _LINK)
    where = str(runs["setting"].iloc[0]) if len(runs) else ""
    return {e: _sample(runs, last if e == "last" else e, edges, of_links, where) for e in at}


class _Rows:
    """A table's rows of several runs and epochs, by place (edge or link)."""

    def __init__(self, table: pa.Table, runs: pd.DataFrame, place: list[str]) -> None:
        self.table = table.combine_chunks()
        keys = table.select(["run_id", "epoch", *place]).to_pandas()
        number = pd.Series(np.arange(len(runs)), index=runs["run_id"].to_numpy())
        self.run = number.reindex(keys["run_id"]).to_numpy(int)
        self.epoch = keys["epoch"].to_numpy(int)
        grouped = keys.groupby(place, sort=True)
        self.of_row = grouped.ngroup().to_numpy(int)
        self.places = [tuple(p) for p in grouped.size().index]

    def at(self, epoch: NDArray[np.int64] | int, n: int) -> NDArray[np.int64]:
        """(n, places) row numbers at an epoch, one per run or one for all; -1 where missing."""
        wanted = np.broadcast_to(np.asarray(epoch), n)
        rows = np.flatnonzero(self.epoch == wanted[self.run])
        found = np.full((n, len(self.places)), -1)
        found[self.run[rows], self.of_row[rows]] = rows
        return found

    def lists(self, column: str, rows: NDArray[np.int64], where: str) -> Array:
        """(len(rows), size) of a list column; ResultsError where the lists differ in length."""
        lists = self.table.column(column).take(pa.array(rows)).combine_chunks()
        if isinstance(lists, pa.ChunkedArray):
            lists = lists.chunk(0) if lists.num_chunks else pa.array([], lists.type)
        sizes = np.unique(pc.list_value_length(lists).to_numpy(zero_copy_only=False))
        if sizes.size != 1 or not np.isfinite(sizes.astype(float)).all():
            raise ResultsError(f"{where}: {column} has {sizes.size} different lengths")
        return lists.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)


def _sample(
    runs: pd.DataFrame,
    epoch: NDArray[np.int64] | int,
    edges: _Rows,
    links: _Rows | None,
    setting: str,
) -> Sample:
    n = len(runs)
    edge_rows = edges.at(epoch, n)
    keep = (edge_rows >= 0).all(axis=1) & bool(edges.places)
    link_rows = None
    if links is not None and links.places:
        link_rows = links.at(epoch, n)
        if (link_rows >= 0).any():
            keep &= (link_rows >= 0).all(axis=1)
        else:
            link_rows = None
    ids = runs["run_id"].to_numpy()
    if not keep.any():
        return _empty(ids)
    found_edges = _edges(edges, edge_rows[keep], setting)
    found_links = () if link_rows is None else _links(links, link_rows[keep], found_edges, setting)
    finite = np.ones(int(keep.sum()), bool)
    for edge in found_edges:
        finite &= np.isfinite(edge.probabilities).all(axis=1)
    for link in found_links:
        finite &= np.isfinite(link.matrices).all(axis=(1, 2)) & np.isfinite(link.attention)
    if not finite.all():
        keep[np.flatnonzero(keep)[~finite]] = False
        if not keep.any():
            return _empty(ids)
        found_edges = _edges(edges, edge_rows[keep], setting)
        if link_rows is not None:
            found_links = _links(links, link_rows[keep], found_edges, setting)
    seeds = runs.loc[keep, list(SEEDS)].to_numpy(int)
    return Sample(tuple(ids[keep]), seeds, found_edges, found_links, tuple(ids[~keep]))


def _empty(run_ids: Iterable[str]) -> Sample:
    return Sample((), np.zeros((0, 3), int), (), (), tuple(run_ids))


def _edges(edges: _Rows, rows: NDArray[np.int64], setting: str) -> tuple[EdgeSample, ...]:
    inner = edges.table.column("inner").to_numpy()
    found = []
    for index, (cell, source, target) in enumerate(edges.places):
        where = f"{setting}: edge {source}→{target} of {cell}"
        names = edges.lists("operations", rows[:, index], where)
        if (names != names[0]).any():
            raise ResultsError(f"{where} has several different lists of operations")
        probabilities = edges.lists("probabilities", rows[:, index], where).astype(float)
        if probabilities.shape != names.shape:
            raise ResultsError(f"{where}: not as many probabilities as operations")
        is_inner = bool(inner[rows[0, index]])
        found.append(EdgeSample(cell, source, target, is_inner, tuple(names[0]), probabilities))
    return tuple(sorted(found, key=lambda e: (CELL_ORDER.get(e.cell, 2), e.target, e.source)))


def _links(
    links: _Rows | None,
    rows: NDArray[np.int64],
    edges: Iterable[EdgeSample],
    setting: str,
) -> tuple[LinkSample, ...]:
    assert links is not None
    of_place: Mapping[tuple[str, int, int], EdgeSample] = {
        (e.cell, e.source, e.target): e for e in edges
    }
    weights = links.table.column("attention_weight").to_numpy()
    shapes = np.stack([links.table.column(c).to_numpy() for c in ("rows", "columns")], axis=1)
    found = []
    for index, (cell, *nodes) in enumerate(links.places):
        p_source, p_target, source, target = nodes
        where = f"{setting}: link {p_source}→{p_target} to {source}→{target} of {cell}"
        try:
            predecessor, edge = of_place[cell, p_source, p_target], of_place[cell, source, target]
        except KeyError:
            raise ResultsError(f"{where}: one of its edges is not in edges/") from None
        shape = len(predecessor.operations), len(edge.operations)
        flat = links.lists("matrix", rows[:, index], where)
        if (shapes[rows[:, index]] != shape).any() or flat.shape[1] != shape[0] * shape[1]:
            raise ResultsError(f"{where}: its matrix is not {shape[0]} x {shape[1]}")
        matrices = flat.astype(float).reshape(-1, *shape)
        attention = weights[rows[:, index]].astype(float)
        found.append(LinkSample(cell, predecessor, edge, matrices, attention))
    order = {(e.cell, e.source, e.target): i for i, e in enumerate(edges)}

    def place(link: LinkSample) -> tuple[int, int]:
        a, b, c, d = link.nodes
        return order[link.cell, c, d], order[link.cell, a, b]

    return tuple(sorted(found, key=place))
