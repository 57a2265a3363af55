"""Where a study's variance comes from: the setting, each of the three seeds, and both together.

It takes crossed seeds: `seeds: {weights: 0..4, data: 0..4, architecture: 0..3}`.
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
    "valid_accuracy", "derived_accuracy", "benchmark_test", "architecture_displacement",
    "transition_displacement", "dependence_strength", "skip_connections", "inner_edges_kept",
)  # fmt: skip
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
    rows = []
    for key, c in found.items():
        for source, value in c.variances.items():
            told = said(note, NEGATIVE * (source in c.below))
            rows.append((*key, source, value, c.shares[source], *c.intervals[source], c.n, told))
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
    """Decompositions by the mean divergence of two runs, which is the square of a distance."""
    found: Found = {}
    for cell in sorted({c for s in samples.values() for c in s.cells}):
        edges = {k: [e.probabilities for e in s.edges_of(cell)] for k, s in samples.items()}
        links = {k: [e.matrices for e in s.links_of(cell)] for k, s in samples.items()}
        for what, every in (("edge_probabilities", edges), ("transition_matrices", links)):
            arrays = {name: a for name, a in every.items() if a}
            if len({tuple(x.shape[1:] for x in a) for a in arrays.values()}) != 1:
                continue  # no setting has any, or they are of different spaces
            factors = {"setting": np.repeat(list(arrays), [samples[n].n for n in arrays])}
            seeds = np.concatenate([samples[name].seeds for name in arrays])
            factors |= dict(zip(SEEDS, seeds.T, strict=True))
            if variance.why_not_crossed(factors):
                continue
            joined = [np.concatenate(parts) for parts in zip(*arrays.values(), strict=True)]
            n = len(seeds)
            each = (matched_divergences(x).reshape(n, n, -1).mean(axis=-1) for x in joined)
            found[cell, what] = variance.components(sum(each) / len(joined), factors)
    return found
