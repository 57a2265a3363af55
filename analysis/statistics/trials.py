"""Trials of a tuning: one number of a trial's runs, and what of its lead is luck.

`tune` judges with these functions while it goes on, the report afterwards: arrays in, numbers out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from analysis.statistics.metrics import NAN, Array

ARCHITECTURE_MOVED = 0.2
"""Mean architecture_displacement under which a setting hardly moved: nothing follows from it."""


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
    left = int(known.sum()) - y.shape[1]  # degrees of freedom beside the seeds

    def fit(ratio: float) -> tuple[float, Array, Array, float]:
        """-2 log of the restricted likelihood, the seeds' means, what trials add, the variance."""
        weight = ratio / (1 + ratio * count)
        x = known.astype(float)
        normal = np.diag(x.sum(axis=0)) - (x * weight[:, None]).T @ x
        totals = y.sum(axis=1)
        right = y.sum(axis=0) - x.T @ (weight * totals)
        seeds = np.linalg.solve(normal, right)
        rest = totals - x @ seeds
        off = (y - seeds) * known
        square = max(float((off**2).sum() - (weight * rest**2).sum()), 1e-300)
        determinant = float(np.log1p(ratio * count).sum() + np.linalg.slogdet(normal)[1])
        return left * np.log(square) + determinant, seeds, weight * rest, square / max(left, 1)

    ratio = 0.0
    if len(trials) > 1 and left > 1:
        grid = np.linspace(-8.0, 8.0, 33)
        best = grid[int(np.argmin([fit(float(np.exp(log)))[0] for log in grid]))]
        near = best - 0.5, best + 0.5
        found = optimize.minimize_scalar(lambda log: fit(float(np.exp(log)))[0], bounds=near)
        ratio = float(np.exp(found.x))
        ratio = ratio if fit(ratio)[0] < fit(0.0)[0] else 0.0
    _, seeds, added, variance = fit(ratio)
    means[trials] = seeds.mean() + added
    errors[trials] = np.sqrt(variance * ratio / (1 + ratio * count))
    freedom = int(known.sum()) - len(trials) - y.shape[1] + 1
    return Shrunken(means, errors, (variance * ratio) ** 0.5, variance**0.5, max(freedom, 0))


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


def residual_variance(values: ArrayLike) -> tuple[float, int]:
    """What of a run is neither its trial's nor its seed's: the variance, and degrees of freedom.

    Of (trials, seeds) with NaN where there is no run, by least squares; (NaN, 0) where nothing is
    left to estimate it from.
    """
    y = np.asarray(values, dtype=float)
    trial, seed = np.nonzero(np.isfinite(y))
    x: NDArray[np.float64] = np.zeros((trial.size, sum(y.shape)))
    x[np.arange(trial.size), trial] = 1
    x[np.arange(trial.size), y.shape[0] + seed] = 1
    if not trial.size:
        return NAN, 0
    found = y[trial, seed]
    solution, _, rank, _ = np.linalg.lstsq(x, found, rcond=None)
    freedom = int(trial.size - rank)
    if freedom < 1:
        return NAN, 0
    return float(((found - x @ solution) ** 2).sum()) / freedom, freedom


def front(values: ArrayLike) -> NDArray[np.bool_]:
    """(n,) which of (n, objectives), all to be large, no other one beats in all of them; rows with
    NaN never.
    """
    y = np.asarray(values, dtype=float)
    known = np.isfinite(y).all(axis=1)
    better = (y[None] >= y[:, None]).all(axis=2) & (y[None] > y[:, None]).any(axis=2)
    return known & ~(better & known[None]).any(axis=1)
