"""Transition matrices: their mean over seeds and their spread, link by link."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.errors import ResultsError
from analysis.metrics import Estimate, Spread, estimate, spread
from analysis.trajectories import CELL_ORDER, edge_key, one_list


class Link(NamedTuple):
    """One link over seeds.

    matrix.mean and matrix.sd are (rows, columns): rows are the predecessor's operations,
    columns the inner edge's. predecessor and edge are (source, target).
    """

    cell: str
    predecessor: tuple[int, int]
    edge: tuple[int, int]
    row_operations: tuple[str, ...]
    column_operations: tuple[str, ...]
    matrix: Spread
    attention: Estimate


class Transitions(NamedTuple):
    """All links of one setting, normal cell first, then by inner edge and predecessor."""

    setting: str
    links: tuple[Link, ...]

    @property
    def mean_sd(self) -> float:
        """Mean over all entries of all links of the standard deviation over seeds."""
        if not self.links:
            return float("nan")
        return float(np.mean(np.concatenate([link.matrix.sd.ravel() for link in self.links])))


def mean_transitions(links: pd.DataFrame, edges: pd.DataFrame, setting: str) -> Transitions:
    """One setting's rows of `links`, of one epoch per run, to mean matrices over its runs.

    edges: rows of the same runs, for the operations' names. Raises ResultsError where a
    matrix does not have the shape that its two edges' operations ask for.
    """
    operations = {
        edge_key(key): one_list(rows["operations"], f"{setting}: edge {key}")
        for key, rows in edges.groupby(["cell", "source", "target"])
    }
    keys = ["cell", "predecessor_source", "predecessor_target", "source", "target"]
    found = []
    for key, rows in links.groupby(keys):
        cell, *nodes = map(str, key)
        p_source, p_target, source, target = map(int, nodes)
        where = f"{setting}: link {p_source}→{p_target} to {source}→{target} of {cell}"
        try:
            names = operations[cell, p_source, p_target], operations[cell, source, target]
        except KeyError:
            raise ResultsError(f"{where}: one of its edges is not in edges/") from None
        shape = len(names[0]), len(names[1])
        sizes = {(r, c, len(m)) for r, c, m in rows[["rows", "columns", "matrix"]].values}
        if sizes != {(*shape, shape[0] * shape[1])}:
            raise ResultsError(f"{where}: its matrix is not {shape[0]} x {shape[1]}")
        stack = np.stack(rows["matrix"].to_list()).reshape(-1, *shape)
        attention = estimate(rows["attention_weight"].to_numpy(float))
        predecessor, edge = (p_source, p_target), (source, target)
        found.append(Link(cell, predecessor, edge, *names, spread(stack), attention))
    found.sort(key=lambda k: (CELL_ORDER.get(k.cell, 2), k.edge[::-1], k.predecessor[::-1]))
    return Transitions(setting, tuple(found))
