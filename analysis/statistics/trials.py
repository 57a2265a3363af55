"""Trials of a tuning: one number of a trial's runs, and what of its lead is luck.

`tune` judges with these functions while it goes on, the report afterwards: arrays in, numbers out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.metrics import NAN, Array

ARCHITECTURE_MOVED = 0.2
"""Mean architecture_displacement under which a setting hardly moved: nothing follows from it."""

LEAST_RATIO = 1e-6
"""Of the variances over trials and within, so that trials which show no difference of their own
are drawn together but for an order, that of their means."""

LARGE = 1e6
"""of the variance over trials to that within: nothing is drawn towards the mean"""


@dataclass(frozen=True)
class Judged:
    """A trial: `value` is what is maximised, NaN where no run has one. It is feasible where both
    constraints are at most 0, as Optuna counts them.

    n: runs that have a value, of whose mean standard_error is (NaN where n < 2); hardly_moved:
    the limit less the mean displacement; diverged: number of runs.
    """

    value: float
    standard_error: float
    n: int
    hardly_moved: float
    diverged: int

    @property
    def constraints(self) -> dict[str, float]:
        """By name; a trial is feasible where all of them are at most 0."""
        return {"diverged": float(self.diverged), "hardly_moved": self.hardly_moved}

    @property
    def feasible(self) -> bool:
        """Whether its value says something about its setting."""
        return max(self.constraints.values()) <= 0


def judged(
    values: ArrayLike, displacements: ArrayLike, diverged: ArrayLike, penalty: float = 0.0
) -> Judged:
    """One number of a trial's runs: the mean of those values that are finite, less `penalty`
    standard errors. A run that diverged has no value; it makes the trial infeasible, not worse.

    values, displacements, diverged: (n,), of the runs.
    """
    x = np.asarray(values, dtype=float)
    out = np.asarray(diverged, dtype=bool)
    x = x[np.isfinite(x) & ~out]
    error = float(x.std(ddof=1)) / x.size**0.5 if x.size > 1 else NAN
    moved = np.asarray(displacements, dtype=float)
    moved = moved[np.isfinite(moved) & ~out]
    value = float(x.mean()) - (penalty * error if penalty else 0.0) if x.size else NAN
    least = ARCHITECTURE_MOVED - float(moved.mean()) if moved.size else ARCHITECTURE_MOVED
    return Judged(value, error, int(x.size), least, int(out.sum()))


@dataclass(frozen=True)
class Shrunken:
    """means: (trials,), each drawn towards the mean of all, NaN where a trial has no value; errors:
    (trials,), their posterior standard deviations. between, within: standard deviations over
    trials, and of what is left of a run beside its trial and its seed. freedom: of `within`.
    """

    means: Array
    errors: Array
    between: float
    within: float
    freedom: int


def shrunken(values: ArrayLike) -> Shrunken:
    """Means of trials that share their seeds, as random effects: the best of many is not as good as
    it looks, and the less so the fewer seeds it has.

    values: (trials, seeds), NaN where a trial has no run. A run is its seed's mean (fixed), what
    its trial adds (normal over trials) and the rest; variances by restricted maximum likelihood,
    profiled over their ratio (Searle, Casella and McCulloch 1992, ch. 6), which is not misled
    by races: why a run is missing is known from those that are there.
    """
    y = np.asarray(values, dtype=float)
    known = np.isfinite(y)
    trials = np.flatnonzero(known.any(axis=1))
    y, known = y[trials], known[trials][:, known.any(axis=0)]
    y = np.where(known, y[:, np.isfinite(y).any(axis=0)], 0.0)
    means, errors = np.full(len(np.asarray(values)), NAN), np.full(len(np.asarray(values)), NAN)
    if not y.size:
        return Shrunken(means, errors, NAN, NAN, 0)
    count = known.sum(axis=1)
    freedom = max(int(known.sum()) - len(trials) - y.shape[1] + 1, 0)
    ratio = 0.0 if freedom else LARGE
    if freedom and len(trials) > 1:
        best = 0.0
        for reach in (8.0, 0.5, 0.5**5, 0.5**9, 0.5**13):  # ever finer grids around the least
            grid = best + np.linspace(-reach, reach, 33)
            likelihood = _fit(y, known, np.exp(grid))[0]
            best = float(grid[int(likelihood.argmin())])
        ratio = float(np.exp(best))
        ratio = ratio if likelihood.min() < _fit(y, known, np.zeros(1))[0] else 0.0
    _, (seeds,), (added,), (variance,) = _fit(y, known, np.array([max(ratio, LEAST_RATIO)]))
    means[trials] = seeds.mean() + added
    if not freedom:
        return Shrunken(means, errors, NAN, NAN, 0)
    errors[trials] = np.sqrt(variance * ratio / (1 + ratio * count))
    return Shrunken(means, errors, (variance * ratio) ** 0.5, variance**0.5, freedom)


def _fit(y: Array, known: NDArray[np.bool_], ratios: Array) -> tuple[Array, Array, Array, Array]:
    """Of every ratio of the variances over trials and within: -2 log of the restricted likelihood,
    the seeds' means (ratios, seeds), what trials add (ratios, trials), the variance within.

    y: (trials, seeds), 0 where nothing is known.
    """
    x = known.astype(float)
    count, totals = x.sum(axis=1), y.sum(axis=1)
    left = int(count.sum()) - y.shape[1]
    weight = ratios[:, None] / (1 + ratios[:, None] * count)
    normal = _normal(x, weight)
    right = y.sum(axis=0) - (weight * totals) @ x
    seeds = np.linalg.solve(normal, right[..., None])[..., 0]
    rest = totals - seeds @ x.T
    off = (y - seeds[:, None]) * x
    square = np.maximum((off**2).sum(axis=(1, 2)) - (weight * rest**2).sum(axis=1), 1e-300)
    determinant = np.log1p(ratios[:, None] * count).sum(axis=1) + np.linalg.slogdet(normal)[1]
    return left * np.log(square) + determinant, seeds, weight * rest, square / max(left, 1)


def _normal(x: Array, weight: Array) -> Array:
    """(..., seeds, seeds): of the normal equations for the seeds, trials swept out.

    x: (trials, seeds), 1 of a run; weight: (..., trials), of a trial's total.
    """
    seeds = x.shape[1]
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    swept = (weight @ products).reshape(*weight.shape[:-1], seeds, seeds)
    return np.asarray(np.diag(x.sum(axis=0)) - swept)


def by_merit(
    values: Mapping[int, Array], errors: Mapping[int, float], penalty: float = 0.0
) -> list[tuple[int, float]]:
    """Trials, the best first, each with its merit: its shrunken mean, less `penalty` standard
    errors. values: (all,) of each feasible trial by its number.
    """
    numbers = list(values)
    if not numbers:
        return []
    means = shrunken(np.array([values[n] for n in numbers])).means
    merits = [
        float(mean) - (penalty * errors[n] if penalty else 0.0)
        for n, mean in zip(numbers, means, strict=True)
    ]
    order = np.argsort([-m for m in merits], kind="stable")
    return [(numbers[i], merits[i]) for i in order if np.isfinite(merits[i])]


def lead(values: Mapping[int, Array], best: int, other: int) -> float:
    """How much better one trial is than another, by means that are drawn together as far as those
    of the trials with the most seeds differ by luck.

    All trials would not do: among bad settings that raced out, the differences among those that are
    left look small, and nothing of them like luck (docs/tuning.md). values: (all,) of each feasible
    trial by its number. NaN where one of the two has no run.
    """
    most = max(int(np.isfinite(v).sum()) for v in values.values())
    among = [n for n, v in values.items() if np.isfinite(v).sum() == most or n in (best, other)]
    means = shrunken(np.array([values[n] for n in among])).means
    return float(means[among.index(best)] - means[among.index(other)])


def residual_variance(values: ArrayLike) -> tuple[float, int]:
    """What of a run is neither its trial's nor its seed's: the variance, and degrees of freedom.

    Of (trials, seeds) with NaN where there is no run, by least squares; (NaN, 0) where nothing is
    left to estimate it from.
    """
    y = np.asarray(values, dtype=float)
    y = y[np.isfinite(y).any(axis=1)]
    known = np.isfinite(y)
    if not y.size:
        return NAN, 0
    x, y = known.astype(float), np.where(known, y, 0.0)
    count = x.sum(axis=1)
    own = (y - (y.sum(axis=1) / count)[:, None]) * x
    normal = _normal(x, 1 / count)
    seeds, _, rank, _ = np.linalg.lstsq(normal, own.sum(axis=0), rcond=1e-9)
    freedom = int(count.sum()) - len(y) - int(rank)
    if freedom < 1:
        return NAN, 0
    off = (own - (seeds - (x @ seeds / count)[:, None])) * x
    return float((off**2).sum()) / freedom, freedom


def front(values: ArrayLike) -> NDArray[np.bool_]:
    """(n,) which of (n, objectives), all to be large, no other one beats in all of them; rows with
    NaN never.
    """
    y = np.asarray(values, dtype=float)
    known = np.isfinite(y).all(axis=1)
    better = (y[None] >= y[:, None]).all(axis=2) & (y[None] > y[:, None]).any(axis=2)
    return known & ~(better & known[None]).any(axis=1)
