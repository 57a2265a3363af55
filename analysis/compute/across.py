"""Over all settings: similarity of single runs, and performance profiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.compute.setting import MOST_COMPARED, SettingResult
from analysis.quantities import ALL
from analysis.statistics.divergence import matched_divergences
from analysis.statistics.inference import rate
from analysis.statistics.metrics import Array


def similarity(items: Sequence[SettingResult], most: int = MOST_COMPARED) -> pd.DataFrame:
    """Similarity of every two of at most `most` runs, the first seeds of every setting.

    1 minus the mean over edges of the divergence (bits) of their probabilities, each pair once.
    Every setting gives the same number of runs, as far as it has them; of more than `most`
    settings only the first ones give any, and settings whose edges differ from the first's none.
    """
    columns = ["setting", "seed", "other_setting", "other_seed", "similarity"]
    items = [item for item in items if item.edges]
    shapes = [[(e.cell, e.source, e.target, e.operations) for e in item.edges] for item in items]
    items = [i for i, shape in zip(items, shapes, strict=True) if shape == shapes[0]][:most]
    sizes = [len(item.first) for item in items]
    fits = (k for k in range(max(sizes, default=0), 1, -1) if sum(min(k, n) for n in sizes) <= most)
    each = next(fits, 1)
    runs = [(item.setting, seed) for item in items for seed in item.first[:each]]
    if len(runs) < 3:
        return pd.DataFrame(columns=columns)
    edges = range(len(items[0].edges))
    found: Array = np.zeros((len(runs), len(runs)))
    for index in edges:
        p = np.concatenate([item.edges[index].probabilities[:each] for item in items])
        found += matched_divergences(p) / len(edges)
    pairs = zip(*np.triu_indices(len(runs), 1), strict=True)
    rows = [(*runs[a], *runs[b], 1 - found[a, b]) for a, b in pairs]
    return pd.DataFrame(rows, columns=columns)


def profiles(items: Sequence[SettingResult], quantity: str) -> pd.DataFrame:
    """Performance profiles of all settings that have the quantity, on one grid of thresholds.

    After Agarwal et al. (2021): the share of runs above each score, with Clopper and Pearson's
    exact 95% interval at each threshold by itself, not of the whole curve at once.
    """
    known = {i.setting: x for i in items if (x := _values(i, quantity)).size}
    if not known:
        return pd.DataFrame()
    every = np.concatenate(list(known.values()))
    margin = 0.02 * float(np.ptp(every)) or 0.01
    at = np.linspace(every.min() - margin, every.max() + margin, 101)
    parts = [
        performance_profile(x, at).assign(setting=setting, quantity=quantity)
        for setting, x in known.items()
    ]
    columns = ["setting", "quantity", "threshold", "share", "low", "high", "runs"]
    return pd.concat(parts, ignore_index=True)[columns]


def _values(item: SettingResult, quantity: str) -> Array:
    q = item.get(ALL, quantity)
    values = np.zeros(0) if q.statistic is None else q.statistic.pseudo_values()
    return values[np.isfinite(values)]


def performance_profile(values: ArrayLike, thresholds: ArrayLike) -> pd.DataFrame:
    """The share of finite values above each threshold, one row each."""
    x, at = np.asarray(values, dtype=float), np.asarray(thresholds, dtype=float)
    above = (x[None, :] > at[:, None]).sum(axis=1)
    rates = {k: rate(np.arange(x.size) < k) for k in np.unique(above)}
    found = [(t, rates[k]) for t, k in zip(at, above, strict=True)]
    rows = [(t, q.estimate, q.low, q.high, q.n) for t, q in found]
    return pd.DataFrame(rows, columns=["threshold", "share", "low", "high", "runs"])
