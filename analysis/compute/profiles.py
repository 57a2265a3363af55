"""Performance profiles after Agarwal et al. (2021): the share of runs above each score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.compute.stability import ALL, SettingStability
from analysis.statistics.inference import proportion_interval
from analysis.statistics.metrics import Array


class Profile(NamedTuple):
    """Share of n runs above each threshold.

    low, high: Clopper and Pearson's exact 95% interval at each threshold by itself, not of the
    whole curve at once. NaN where n is 0.
    """

    setting: str
    quantity: str
    thresholds: Array
    share: Array
    low: Array
    high: Array
    n: int


def performance_profile(
    values: ArrayLike, thresholds: ArrayLike, setting: str = "", quantity: str = ""
) -> Profile:
    """The profile of one setting's runs; values that are not finite are left out."""
    x = np.asarray(values, dtype=float)
    x, at = x[np.isfinite(x)], np.asarray(thresholds, dtype=float)
    above = (x[None, :] > at[:, None]).sum(axis=1)
    intervals = {k: proportion_interval(int(k), x.size) for k in np.unique(above)}
    share, low, high = np.array([intervals[k][:3] for k in above]).reshape(-1, 3).T
    return Profile(setting, quantity, at, share, low, high, x.size)


def profiles(items: Sequence[SettingStability], quantity: str) -> tuple[Profile, ...]:
    """Profiles of all settings that have the quantity, on one grid of 101 thresholds."""
    found = [(item.setting, item.get(ALL, quantity).values) for item in items]
    known = [(name, v[np.isfinite(v)]) for name, v in found if v is not None]
    known = [(name, v) for name, v in known if v.size]
    if not known:
        return ()
    every = np.concatenate([v for _, v in known])
    margin = 0.02 * float(np.ptp(every)) or 0.01
    at = np.linspace(every.min() - margin, every.max() + margin, 101)
    return tuple(performance_profile(v, at, name, quantity) for name, v in known)
