"""Where a study's variance comes from: the setting and each of the three seeds.

It takes crossed seeds (`seeds: {weights: 0..4, data: 0..4, architecture: 0..3}`); where they are
always equal their shares cannot be told apart, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.data.results import Results
from analysis.data.samples import SEEDS, Sample, read_samples
from analysis.statistics import variance
from analysis.statistics.divergence import matched_divergences
from analysis.statistics.metrics import Array
from analysis.statistics.variance import Components, DistanceComponents

SCALARS = (
    "valid_accuracy",
    "derived_accuracy",
    "benchmark_test",
    "architecture_displacement",
    "transition_displacement",
    "dependence_strength",
    "skip_connections",
    "inner_edges_kept",
)

MOST_RUNS = 1000
"""Runs in a decomposition of matrices, which takes every pair of them; the first ones by seed."""

RESIDUAL_MEANS = (
    "A run is deterministic given its setting and its three seeds, so the residual is what "
    "these act together (their interactions), not noise of measurement."
)


@dataclass(frozen=True)
class StudyVariance:
    """Components of every per-run quantity, and of edges and matrices by cell kind.

    reason: why there are none; empty where there are. Keys of `objects`: (cell, what), what
    being `edge_probabilities` or `transition_matrices`.
    """

    reason: str
    scalars: Mapping[str, Components] = field(default_factory=dict)
    objects: Mapping[tuple[str, str], DistanceComponents] = field(default_factory=dict)


def study_variance(results: Results, runs: pd.DataFrame) -> StudyVariance:
    """The decomposition of all runs that did not diverge."""
    names = ("setting", *SEEDS)
    reason = variance.why_not_crossed({name: runs[name].to_numpy() for name in names})
    if reason:
        return StudyVariance(reason)
    scalars = {}
    for name in SCALARS:
        values = runs[name].to_numpy(float)
        keep = np.isfinite(values)
        if keep.sum() > 2:
            factors = {f: runs.loc[keep, f].to_numpy() for f in names}
            scalars[name] = variance.components(values[keep], factors)
    return StudyVariance("", scalars, _objects(results, runs))


def _objects(results: Results, runs: pd.DataFrame) -> dict[tuple[str, str], DistanceComponents]:
    per_setting = max(1, MOST_RUNS // runs["setting"].nunique())
    samples = {
        str(name): read_samples(results, group.sort_values(list(SEEDS)).head(per_setting))["last"]
        for name, group in runs.groupby("setting")
    }
    found = {}
    for cell in sorted({c for s in samples.values() for c in s.cells}):
        for what in ("edge_probabilities", "transition_matrices"):
            arrays = {name: _arrays(sample, cell, what) for name, sample in samples.items()}
            arrays = {name: a for name, a in arrays.items() if a}
            shapes = {tuple(x.shape[1:] for x in a) for a in arrays.values()}
            if len(shapes) != 1:
                continue  # no setting has any, or they are of different spaces
            joined = [np.concatenate(parts) for parts in zip(*arrays.values(), strict=True)]
            distances = sum(_mean_divergence(x) for x in joined) / len(joined)
            seeds = np.concatenate([samples[name].seeds for name in arrays])
            factors = {"setting": np.repeat(list(arrays), [samples[n].n for n in arrays])}
            factors |= dict(zip(SEEDS, seeds.T, strict=True))
            found[cell, what] = variance.distance_components(distances, factors)
    return found


def _arrays(sample: Sample, cell: str, what: str) -> list[Array]:
    if what == "edge_probabilities":
        return [e.probabilities for e in sample.edges_of(cell)]
    return [link.matrices for link in sample.links_of(cell)]


def _mean_divergence(x: Array) -> Array:
    """(n, ...) to (n, n): the mean divergence of two runs, the square of a distance."""
    between = matched_divergences(x)
    return between.reshape(len(x), len(x), -1).mean(axis=-1)


def table(item: StudyVariance) -> pd.DataFrame:
    """The `variance` table: one row per quantity, cell kind and source of variance."""
    rows = [
        (
            "all",
            name,
            source,
            value,
            c.shares[source],
            *c.intervals.get(source, (np.nan, np.nan)),
            c.n,
        )
        for name, c in item.scalars.items()
        for source, value in c.variances.items()
    ]
    rows += [
        (cell, what, source, value, c.shares[source], np.nan, np.nan, c.n)
        for (cell, what), c in item.objects.items()
        for source, value in c.variances.items()
    ]
    columns = ["cell", "quantity", "source", "variance", "share", "low", "high", "runs"]
    frame = pd.DataFrame(rows, columns=columns)
    if item.reason:
        frame = pd.DataFrame(
            [{"quantity": "none", "note": item.reason}], columns=[*columns, "note"]
        )
    return frame
