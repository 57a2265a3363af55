"""Where a study's variance comes from: the setting, each of the three seeds, and both together.

It takes crossed seeds (`seeds: {weights: 0..4, data: 0..4, architecture: 0..3}`); where they are
always equal their shares cannot be told apart, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.data.samples import SEEDS, Sample
from analysis.statistics import variance
from analysis.statistics.divergence import matched_divergences
from analysis.statistics.inference import said
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

COLUMNS = ("cell", "quantity", "source", "variance", "share", "low", "high", "runs", "note")
NEGATIVE = "estimated below 0, set to 0"

Found = dict[tuple[str, str], Components]


def variance_table(runs: pd.DataFrame, samples: Mapping[str, Sample | None]) -> pd.DataFrame:
    """One row per quantity, cell kind and source of variance, of all runs that did not diverge.

    samples: each setting's architectures, read where its seeds are crossed. The cell is `all`
    for quantities of a run; of a cell there are `edge_probabilities` and `transition_matrices`.
    Where the design allows none, one row with the quantity `none` has the reason as its note.
    """
    reason = variance.why_not_crossed(_factors(runs))
    if reason:
        return pd.DataFrame([{"quantity": "none", "note": reason}], columns=list(COLUMNS))
    common = runs[variance.in_every_setting(_factors(runs))]
    left_out = len(runs) - len(common)
    note = f"{left_out} runs left out: their seeds are not in every setting" if left_out else ""
    found: Found = {}
    for name in SCALARS:
        known = common[np.isfinite(common[name].to_numpy(float))]
        if len(known) and not variance.why_not_crossed(_factors(known)):
            found["all", name] = variance.components(known[name], _factors(known))
    chosen = {str(k): list(g["run_id"]) for k, g in _fewer(common).groupby("setting")}
    found |= _objects({
        name: sample.of_runs(chosen[name])
        for name, sample in samples.items() if sample is not None and name in chosen
    })  # fmt: skip
    rows = [
        (
            *key,
            source,
            value,
            c.shares[source],
            *c.intervals[source],
            c.n,
            said(note, NEGATIVE * (source in c.below)),
        )
        for key, c in found.items()
        for source, value in c.variances.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


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


def _objects(samples: Mapping[str, Sample]) -> Found:
    found: Found = {}
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
