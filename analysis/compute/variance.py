"""Where a study's variance comes from: the setting, each of the three seeds, and both together.

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
from analysis.statistics.variance import Components

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
FACTORS = ("setting", *SEEDS)

MOST_RUNS = 500
"""Runs in a decomposition of matrices, which takes every pair of them: fewer seeds beyond."""

RESIDUAL_MEANS = (
    "A run is deterministic given its setting and its three seeds, so the residual is not noise "
    "of measurement but what two or three seeds do together, alike in all settings or not. The "
    "settings' variance is of those at hand and says nothing of others."
)


@dataclass(frozen=True)
class StudyVariance:
    """Components of every per-run quantity, and of edges and matrices by cell kind.

    reason: why there are none; empty where there are. Keys of `found`: (cell, quantity), the
    cell being `all` for quantities of a run; of a cell there are `edge_probabilities` and
    `transition_matrices`. note: which runs were left out.
    """

    reason: str
    found: Mapping[tuple[str, str], Components] = field(default_factory=dict)
    note: str = ""


def study_variance(results: Results, runs: pd.DataFrame) -> StudyVariance:
    """The decomposition of all runs that did not diverge."""
    reason = variance.why_not_crossed(_factors(runs))
    if reason:
        return StudyVariance(reason)
    common = runs[variance.in_every_setting(_factors(runs))]
    left_out = len(runs) - len(common)
    note = f"{left_out} runs left out: their seeds are not in every setting" if left_out else ""
    found = {}
    for name in SCALARS:
        known = common[np.isfinite(common[name].to_numpy(float))]
        if len(known) and not variance.why_not_crossed(_factors(known)):
            found["all", name] = variance.components(known[name], _factors(known))
    return StudyVariance("", found | _objects(results, _fewer(common)), note)


def _factors(runs: pd.DataFrame) -> dict[str, Array]:
    return {name: runs[name].to_numpy() for name in FACTORS}


def _fewer(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the first seeds of each kind: about `MOST_RUNS`, and as crossed as before."""
    kept = {seed: sorted(runs[seed].unique()) for seed in SEEDS}
    while len(runs) > MOST_RUNS:
        longest = max(kept, key=lambda seed: len(kept[seed]))
        if len(kept[longest]) <= variance.LEAST_CROSSED[0]:
            break
        runs = runs[runs[longest] != kept[longest].pop()]
    return runs


def _objects(results: Results, runs: pd.DataFrame) -> dict[tuple[str, str], Components]:
    samples = {str(k): read_samples(results, g)["last"] for k, g in runs.groupby("setting")}
    found = {}
    for cell in sorted({c for s in samples.values() for c in s.cells}):
        for what in ("edge_probabilities", "transition_matrices"):
            arrays = {name: _arrays(sample, cell, what) for name, sample in samples.items()}
            arrays = {name: a for name, a in arrays.items() if a}
            if len({tuple(x.shape[1:] for x in a) for a in arrays.values()}) != 1:
                continue  # no setting has any, or they are of different spaces
            factors = {"setting": np.repeat(list(arrays), [samples[n].n for n in arrays])}
            seeds = np.concatenate([samples[name].seeds for name in arrays])
            factors |= dict(zip(SEEDS, seeds.T, strict=True))
            if variance.why_not_crossed(factors):
                continue
            joined = [np.concatenate(parts) for parts in zip(*arrays.values(), strict=True)]
            distances = sum(_mean_divergence(x) for x in joined) / len(joined)
            found[cell, what] = variance.components(distances, factors)
    return found


def _arrays(sample: Sample, cell: str, what: str) -> list[Array]:
    if what == "edge_probabilities":
        return [e.probabilities for e in sample.edges_of(cell)]
    return [link.matrices for link in sample.links_of(cell)]


def _mean_divergence(x: Array) -> Array:
    """(n, ...) to (n, n): the mean divergence of two runs, the square of a distance."""
    return matched_divergences(x).reshape(len(x), len(x), -1).mean(axis=-1)


def table(item: StudyVariance) -> pd.DataFrame:
    """The `variance` table: one row per quantity, cell kind and source of variance."""
    columns = ["cell", "quantity", "source", "variance", "share", "low", "high", "runs", "note"]
    if item.reason:
        return pd.DataFrame([{"quantity": "none", "note": item.reason}], columns=columns)
    rows = []
    for key, c in item.found.items():
        for source, value in c.variances.items():
            negative = "estimated below 0, set to 0" if source in c.below else ""
            note = "; ".join(filter(None, [item.note, negative]))
            rows.append((*key, source, value, c.shares[source], *c.intervals[source], c.n, note))
    return pd.DataFrame(rows, columns=columns)
