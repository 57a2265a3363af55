"""Pure metrics: arrays in, numbers out. Nothing here reads a file or draws.

The unit of replication is the seed, so `n` always counts seeds (or runs, where seeds are
crossed) and every result carries it. An interval that cannot be had (one seed) is NaN, never
a point pretending to be one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean over seeds with its t interval; `values` are the finite ones it was taken of."""

    mean: float
    low: float
    high: float
    sd: float
    n: int
    values: Array


class Rate(NamedTuple):
    """`successes` of `n` with Wilson's interval."""

    rate: float
    low: float
    high: float
    successes: int
    n: int


class Spread(NamedTuple):
    """Mean and standard deviation (ddof 1) over the first axis, of `n` seeds."""

    mean: Array
    sd: Array
    n: int


def total_variation(p: ArrayLike, q: ArrayLike) -> Array:
    """Half the summed absolute difference of distributions along the last axis, 0..1."""
    difference = np.asarray(p, dtype=float) - np.asarray(q, dtype=float)
    return 0.5 * np.abs(difference).sum(axis=-1)


def entropy(p: ArrayLike) -> Array:
    """Entropy in nats along the last axis; 0 log 0 counts as 0."""
    p = np.asarray(p, dtype=float)
    safe = np.where(p > 0, p, 1.0)
    return -(p * np.log(safe)).sum(axis=-1)


def estimate(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean and Student's t interval of per-seed values (1-d); values not finite are left out.

    One value has no interval (NaN), no value has no mean either.
    """
    x = np.asarray(values, dtype=float).ravel()
    x = x[np.isfinite(x)]
    n = x.size
    mean = float(x.mean()) if n else float("nan")
    if n < 2:
        return Estimate(mean, float("nan"), float("nan"), float("nan"), n, x)
    sd = float(x.std(ddof=1))
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * sd / n**0.5
    return Estimate(mean, mean - half, mean + half, sd, n, x)


def t_halfwidth(sd: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> Array:
    """Half the width of the t interval, elementwise; NaN where n < 2."""
    n = np.asarray(n, dtype=float)
    enough = np.where(n >= 2, n, np.nan)
    return stats.t.ppf(0.5 + confidence / 2, enough - 1) * np.asarray(sd) / np.sqrt(enough)


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half (25% trimmed from each end), as rliable's IQM; NaN if empty."""
    x = np.asarray(values, dtype=float).ravel()
    x = x[np.isfinite(x)]
    return float(stats.trim_mean(x, 0.25)) if x.size else float("nan")


def wilson(successes: int, n: int, confidence: float = 0.95) -> Rate:
    """A proportion with Wilson's score interval; all NaN where n is 0."""
    if n == 0:
        nan = float("nan")
        return Rate(nan, nan, nan, 0, 0)
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Rate(successes / n, float(interval.low), float(interval.high), successes, n)


def spread(stack: ArrayLike) -> Spread:
    """Elementwise mean and standard deviation of (n, ...) over seeds; sd is NaN where n < 2."""
    x = np.asarray(stack, dtype=float)
    if x.shape[0] == 0:
        raise ValueError("no seed to take the mean of")
    sd = x.std(axis=0, ddof=1) if x.shape[0] > 1 else np.full(x.shape[1:], np.nan)
    return Spread(x.mean(axis=0), sd, x.shape[0])


def detectable_difference(
    sd: float, n: int, power: float = 0.8, significance: float = 0.05
) -> float:
    """The difference of two means that a two-sided t test of n against n would see.

    sd is the common standard deviation over seeds; the result has its unit. NaN where n < 2.
    """
    if n < 2 or not np.isfinite(sd):
        return float("nan")
    if sd == 0:
        return 0.0
    freedom = 2 * n - 2
    critical = stats.t.ppf(1 - significance / 2, freedom)

    def shortfall(effect: float) -> float:
        shift = effect * (n / 2) ** 0.5
        upper = stats.nct.sf(critical, freedom, shift)
        lower = stats.nct.cdf(-critical, freedom, shift)
        return float(upper + lower - power)

    largest = 1.0
    while shortfall(largest) < 0:
        largest *= 1.5
    return float(optimize.brentq(shortfall, 0.0, largest)) * sd
