"""How many seeds a goal takes. Arrays in, numbers out.

Few seeds know the variance badly: it is off by a factor that follows a chi-square with n - 1
degrees of freedom. So the answer is a range, from the number that would do if the variance were as
small as one study in twenty would have it, to that if as large; under LEAST_SEEDS there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.statistics.inference import Statistic, components
from analysis.statistics.metrics import Array, t_quantile

LEAST_SEEDS = 6
MOST_SEEDS = 200
SEEDS = np.arange(3, MOST_SEEDS + 1)
POWER = 0.8

Needed = tuple[int | None, int | None, int | None]  # low, best, high; None: more than MOST_SEEDS


def projected_width(statistic: Statistic, m: ArrayLike, factor: float = 1.0) -> Array:
    """Width of the 95% interval expected with m seeds, at `factor` times the variance."""
    return 2 * t_quantile(np.asarray(m) - 1) * _projected_error(statistic, m, factor)


def _projected_error(statistic: Statistic, m: ArrayLike, factor: float) -> Array:
    of_seed, of_pair = components(statistic)
    m = np.asarray(m, dtype=float)
    variance = 4 * factor * (of_seed + of_pair / np.maximum(m - 2, 1)) / m
    return np.maximum(np.sqrt(variance), statistic.step * statistic.n / m)


def _factors(n: int) -> tuple[float, float, float]:
    """How much smaller, and larger, the variance may be than n seeds say (90%); 1 between."""
    low, high = special.chdtri(n - 1, (0.05, 0.95))  # quantiles 95% and 5%
    return (n - 1) / float(low), 1.0, (n - 1) / float(high)


def for_width(statistic: Statistic, width: float) -> Needed:
    """The fewest seeds whose interval is at most this wide: low, best, high; 3 at least."""
    return _fewest([projected_width(statistic, SEEDS, f) <= width for f in _factors(statistic.n)])


def for_difference(statistic: Statistic, difference: float | None = None) -> Needed:
    """The fewest seeds that tell a true `difference` from 0 with a power of 80%: low, best, high.

    statistic: usually a paired difference. difference: the one to be seen, None for the one that
    was; the range is of the noise alone, not of what the true difference may be.
    """
    effect = abs(statistic.estimate if difference is None else difference)
    errors = [_projected_error(statistic, SEEDS, factor) for factor in _factors(statistic.n)]
    # The chance to see it on the wrong side is left out; statsmodels' is NaN for large effects.
    missed = [special.nctdtr(SEEDS - 1, effect / e, t_quantile(SEEDS - 1)) for e in errors]
    return _fewest([m <= 1 - POWER for m in missed])


def _fewest(enough: Sequence[NDArray[np.bool_]]) -> Needed:
    """The first of `SEEDS` that is enough, of low, best and high each."""
    low, best, high = (int(SEEDS[e.argmax()]) if e.any() else None for e in enough)
    return low, best, high
