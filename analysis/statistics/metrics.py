"""Small pure metrics: arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
NAN = float("nan")


def groups_of(keys: Iterable[Hashable]) -> list[Ints]:
    """The places of equal keys, key by key in the order of their first places."""
    places: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        places.setdefault(key, []).append(index)
    return [np.array(indices) for indices in places.values()]


def total_variation(p: ArrayLike, q: ArrayLike) -> Array:
    """Half the summed absolute difference of distributions along the last axis, 0..1."""
    return 0.5 * np.abs(np.asarray(p, dtype=float) - np.asarray(q, dtype=float)).sum(axis=-1)


def t_quantile(freedom: ArrayLike) -> Array:
    """The 97.5% quantile of Student's t (scipy.stats' is the same, a hundred times slower)."""
    return np.asarray(special.stdtrit(freedom, 0.975))


def t_halfwidth(sd: ArrayLike, n: ArrayLike) -> Array:
    """Half the width of the 95% t interval, elementwise; NaN where n < 2."""
    enough = np.where(np.asarray(n) >= 2, np.asarray(n, dtype=float), NAN)
    return t_quantile(enough - 1) * np.asarray(sd) / np.sqrt(enough)


def detectable_difference(sd: float, n: int, power: float = 0.8) -> float:
    """The difference of two means that a two-sided t test of n against n would see at 5%.

    sd is the common standard deviation over seeds; the result has its unit. NaN where n < 2.
    """
    from statsmodels.stats.power import TTestIndPower  # slow to import, needed for this alone

    if n < 2 or not np.isfinite(sd):
        return NAN
    return float(TTestIndPower().solve_power(nobs1=n, power=power, alpha=0.05)) * sd
