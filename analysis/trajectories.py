"""Quantities and operation probabilities over epochs, with their spread over seeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import ResultsError
from analysis.metrics import Array, t_halfwidth

Ints = NDArray[np.int64]

CELL_ORDER = {"normal": 0, "reduce": 1}


class Curve(NamedTuple):
    """One per-epoch quantity of a setting; every array has one entry per epoch.

    low and high bound the 95% t interval of the mean over the n seeds at that epoch.
    """

    setting: str
    quantity: str
    epochs: Ints
    mean: Array
    low: Array
    high: Array
    n: Ints


class EdgeCurve(NamedTuple):
    """Operation probabilities of one edge: mean and sd are (epochs, operations)."""

    cell: str
    source: int
    target: int
    inner: bool
    operations: tuple[str, ...]
    epochs: Ints
    mean: Array
    sd: Array
    n: Ints


class OperationCurves(NamedTuple):
    """All edges of one setting, normal cell first, then by target and source."""

    setting: str
    edges: tuple[EdgeCurve, ...]


def quantity_curve(epochs: pd.DataFrame, setting: str, quantity: str) -> Curve:
    """One setting's rows of `epochs` to the mean of a column over seeds, epoch by epoch.

    Runs that stopped early leave the mean after their last epoch, as `n` shows.
    """
    rows = epochs[["epoch", quantity]].dropna()
    at, mean, sd, n = _by_epoch(
        rows["epoch"].to_numpy(), rows[quantity].to_numpy(float).reshape(-1, 1)
    )
    half = t_halfwidth(sd[:, 0], n)
    return Curve(setting, quantity, at, mean[:, 0], mean[:, 0] - half, mean[:, 0] + half, n)


def operation_curves(edges: pd.DataFrame, setting: str) -> OperationCurves:
    """One setting's rows of `edges` to the mean and sd of every edge's probabilities.

    Raises ResultsError where an edge has not one list of operations over all runs.
    """
    curves = []
    for key, rows in edges.groupby(["cell", "source", "target"]):
        cell, source, target = edge_key(key)
        operations = one_list(rows["operations"], f"{setting}: edge {source}→{target} of {cell}")
        probabilities = np.stack(rows["probabilities"].to_list()).astype(float)
        at, mean, sd, n = _by_epoch(rows["epoch"].to_numpy(), probabilities)
        inner = bool(rows["inner"].iloc[0])
        curves.append(EdgeCurve(cell, source, target, inner, operations, at, mean, sd, n))
    curves.sort(key=lambda e: (CELL_ORDER.get(e.cell, 2), e.target, e.source))
    return OperationCurves(setting, tuple(curves))


def edge_key(key: Any) -> tuple[str, int, int]:
    """A group's key as plain (cell, source, target)."""
    cell, source, target = key
    return str(cell), int(source), int(target)


def one_list(lists: pd.Series, where: str) -> tuple[str, ...]:
    """The one list of operations that all rows share; ResultsError where they differ."""
    distinct = set(map(tuple, lists))
    if len(distinct) != 1:
        raise ResultsError(f"{where} has {len(distinct)} different lists of operations")
    return distinct.pop()


def thinned(last_epoch: int, most: int = 60) -> list[int]:
    """At most `most` epochs from -1 to the last, evenly spread, both ends included.

    A curve on a page shows no more than that, and `edges` is large.
    """
    span = np.linspace(-1, last_epoch, min(most, last_epoch + 2))
    return np.unique(span.round().astype(int)).tolist()


def _by_epoch(epoch: NDArray, values: Array) -> tuple[Ints, Array, Array, Ints]:
    """Mean, sd (ddof 1, NaN at n = 1) and n of (rows, k) values within each epoch."""
    at, index = np.unique(epoch, return_inverse=True)
    n = np.bincount(index, minlength=at.size)
    shape = (at.size, values.shape[1])
    total = np.zeros(shape)
    np.add.at(total, index, values)
    mean = total / n[:, None]
    squares = np.zeros(shape)
    np.add.at(squares, index, (values - mean[index]) ** 2)
    freedom = np.where(n > 1, n - 1, np.nan)[:, None]
    return at.astype(np.int64), mean, np.sqrt(squares / freedom), n
