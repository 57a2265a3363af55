"""Pure metrics: arrays in, numbers out. Nothing here reads a file or draws.

The unit of replication is the seed, so `n` always counts seeds (or runs, where seeds are
crossed) and every result carries it. An interval that cannot be had (one seed) is NaN, never
a point pretending to be one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

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
    """`successes` of `n` with Clopper and Pearson's exact interval."""

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


def t_quantile(freedom: ArrayLike) -> Array:
    """The 97.5% quantile of Student's t (scipy.stats' is the same, a hundred times slower)."""
    return np.asarray(special.stdtrit(freedom, 0.975))


def estimate(values: ArrayLike) -> Estimate:
    """Mean and Student's 95% interval of per-seed values (1-d); values not finite are left out.

    One value has no interval (NaN), no value has no mean either.
    """
    x = np.asarray(values, dtype=float).ravel()
    x = x[np.isfinite(x)]
    n = x.size
    mean = float(x.mean()) if n else float("nan")
    if n < 2:
        return Estimate(mean, float("nan"), float("nan"), float("nan"), n, x)
    sd = float(x.std(ddof=1))
    half = float(t_quantile(n - 1)) * sd / n**0.5
    return Estimate(mean, mean - half, mean + half, sd, n, x)


def t_halfwidth(sd: ArrayLike, n: ArrayLike) -> Array:
    """Half the width of the 95% t interval, elementwise; NaN where n < 2."""
    n = np.asarray(n, dtype=float)
    enough = np.where(n >= 2, n, np.nan)
    return t_quantile(enough - 1) * np.asarray(sd) / np.sqrt(enough)


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half (25% trimmed from each end), as rliable's IQM; NaN if empty."""
    x = np.asarray(values, dtype=float).ravel()
    x = np.sort(x[np.isfinite(x)])
    cut = x.size // 4
    return float(x[cut : x.size - cut].mean()) if x.size else float("nan")


def proportion(successes: int, n: int) -> Rate:
    """A proportion with Clopper and Pearson's 95% interval; all NaN where n is 0.

    It covers at least 95% at every n; Wilson's covers 91% of a proportion of 0.05 at n = 10.
    """
    nan = float("nan")
    if n == 0:
        return Rate(nan, nan, nan, 0, 0)
    failures = n - successes
    low = special.betaincinv(successes, failures + 1, 0.025) if successes else 0.0
    high = special.betaincinv(successes + 1, failures, 0.975) if failures else 1.0
    return Rate(successes / n, float(low), float(high), successes, n)


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
    from scipy import optimize, stats  # slow to import, and needed for this alone

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
