"""Small pure metrics: arrays in, numbers out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]


def total_variation(p: ArrayLike, q: ArrayLike) -> Array:
    """Half the summed absolute difference of distributions along the last axis, 0..1."""
    difference = np.asarray(p, dtype=float) - np.asarray(q, dtype=float)
    return 0.5 * np.abs(difference).sum(axis=-1)


def t_quantile(freedom: ArrayLike) -> Array:
    """The 97.5% quantile of Student's t (scipy.stats' is the same, a hundred times slower)."""
    return np.asarray(special.stdtrit(freedom, 0.975))


def t_halfwidth(sd: ArrayLike, n: ArrayLike) -> Array:
    """Half the width of the 95% t interval, elementwise; NaN where n < 2."""
    n = np.asarray(n, dtype=float)
    enough = np.where(n >= 2, n, np.nan)
    return t_quantile(enough - 1) * np.asarray(sd) / np.sqrt(enough)


def detectable_difference(
    sd: float, n: int, power: float = 0.8, significance: float = 0.05
) -> float:
    """The difference of two means that a two-sided t test of n against n would see.

    sd is the common standard deviation over seeds; the result has its unit. NaN where n < 2.
    """
    from statsmodels.stats.power import TTestIndPower  # slow to import, needed for this alone

    if n < 2 or not np.isfinite(sd):
        return float("nan")
    effect = TTestIndPower().solve_power(nobs1=n, power=power, alpha=significance)
    return float(effect) * sd
