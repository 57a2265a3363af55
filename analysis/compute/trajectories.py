"""Quantities and operation probabilities over epochs, with their spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.compute.stability import (
    ALL,
    HEADLINE,
    cannot_be_chosen,
    choices_of,
    kept_at,
    of_edges,
    of_links,
)
from analysis.data.samples import EdgeSample, Sample
from analysis.statistics.metrics import Array, t_halfwidth
from analysis.statistics.quantities import Quantity

Ints = NDArray[np.int64]

MOST_POINTS = 6
"""Epochs at which quantities of whole settings are computed; a curve needs no more."""

OVER_EPOCHS = (
    "operation_agreement",
    "edge_agreement",
    "probability_divergence",
    "transition_divergence",
    "dependence_stability",
    HEADLINE,
    "link_specificity",
    "attention_agreement",
    "dobrushin_coefficient",
)
"""The quantities of whole settings that are followed over epochs."""


class Curve(NamedTuple):
    """One quantity of a setting over epochs; every array has one entry per epoch.

    low and high bound the 95% interval over the n seeds at that epoch: Student's of a mean over
    runs, the jackknife's of a quantity of the whole setting, which belongs to one cell kind.
    """

    setting: str
    quantity: str
    epochs: Ints
    mean: Array
    low: Array
    high: Array
    n: Ints
    cell: str = ALL


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


def stability_curves(
    runs: pd.DataFrame, samples: Mapping[int, Sample], setting: str
) -> tuple[Curve, ...]:
    """The quantities of a whole setting (`OVER_EPOCHS`) at the epochs of `samples`.

    runs: the setting's replicates. samples: epoch to their architectures, -1 for what was
    learned since. No permutations are drawn here: of the last epoch they are in `stability`.
    """
    found: dict[tuple[str, str], list[tuple[int, Quantity]]] = {}
    by_id = runs.set_index("run_id")
    for epoch, sample in sorted(samples.items()):
        of_epoch = by_id.loc[list(sample.run_ids)]
        start = samples.get(-1) if epoch >= 0 else None
        if start is not None and start.run_ids != sample.run_ids:
            start = start.of_runs(sample.run_ids)
        if epoch >= 0:  # so far moved, not at the end
            of_epoch = of_epoch.assign(transition_displacement=np.nan)
        for cell in sample.cells:
            quantities = of_edges(of_epoch, sample, cell, draws=0, apart=False)
            quantities["edge_agreement"] = kept_at(sample, cell, cannot_be_chosen(of_epoch))
            quantities |= of_links(of_epoch, sample, start, cell, draws=0)[0]
            for name in OVER_EPOCHS:
                if quantities[name].known:
                    found.setdefault((cell, name), []).append((epoch, quantities[name]))
    return tuple(_curve(setting, cell, name, points) for (cell, name), points in found.items())


def _curve(setting: str, cell: str, name: str, points: list[tuple[int, Quantity]]) -> Curve:
    mean, low, high = np.array([q.interval[:3] for _, q in points]).T
    epochs = np.array([epoch for epoch, _ in points])
    n = np.array([q.interval.n for _, q in points])
    return Curve(setting, name, epochs, mean, low, high, n, cell)


def operation_curves(samples: Mapping[int, Sample], setting: str) -> OperationCurves:
    """Mean and sd over seeds of every edge's probabilities at the epochs of `samples`."""
    places: dict[tuple[str, int, int], dict[int, EdgeSample]] = {}
    for epoch, sample in sorted(samples.items()):
        for e in sample.edges:
            places.setdefault((e.cell, e.source, e.target), {})[epoch] = e
    curves = []
    for (cell, source, target), edges in places.items():
        each = [e.probabilities for e in edges.values()]
        mean = np.stack([p.mean(axis=0) for p in each])
        sd = np.stack([p.std(axis=0, ddof=1) if len(p) > 1 else p[0] * np.nan for p in each])
        first = next(iter(edges.values()))
        n = np.array([len(p) for p in each])
        epochs = np.array(list(edges))
        curves.append(
            EdgeCurve(cell, source, target, first.inner, first.operations, epochs, mean, sd, n)
        )
    return OperationCurves(setting, tuple(curves))


def settling_epochs(runs: pd.DataFrame, samples: Mapping[int, Sample]) -> Array:
    """(n,): the epoch after which no edge's first operation changes, run by run.

    samples: every epoch's architectures. It is the first epoch where nothing ever changes, and
    NaN for a run without epochs. A tie is an operation of its own here.
    """
    exclude = cannot_be_chosen(runs)
    last_change = dict.fromkeys(runs["run_id"], np.nan)
    before: dict[str, Array] = {}
    for epoch, sample in sorted(samples.items()):
        if not sample.n:
            continue
        choices = np.concatenate([choices_of(sample, c, exclude) for c in sample.cells], axis=1)
        for run_id, now in zip(sample.run_ids, choices, strict=True):
            if run_id not in before or (before[run_id] != now).any():
                last_change[run_id] = float(epoch)
            before[run_id] = now
    return np.array(list(last_change.values()))


def thinned(last_epoch: int, most: int = 30) -> list[int]:
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
