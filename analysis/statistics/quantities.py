"""What a quantity of the stability analysis is: an interval, a null, a p-value and a note."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from analysis.statistics.inference import (
    NAN,
    Agreement,
    Interval,
    interquartile_interval,
    jackknife,
    mean_interval,
    proportion_interval,
)
from analysis.statistics.metrics import Array


@dataclass(frozen=True)
class Quantity:
    """One quantity of a setting with its 95% interval over seeds.

    null_mean: what chance alone gives, in the quantity's own unit where it has one. p_value: of
    the permutations that `null_mean` is the mean of, one-sided. note: why a number is missing,
    or what was left out. agreement: the pair matrices of a quantity of a whole setting; values:
    those per seed of a quantity of single runs. One of the two is None.
    """

    interval: Interval
    null_mean: float = NAN
    p_value: float = NAN
    note: str = ""
    agreement: Agreement | None = field(default=None, repr=False)
    values: Array | None = field(default=None, repr=False)

    @property
    def estimate(self) -> float:
        """The estimate; NaN where `note` says why there is none."""
        return self.interval.estimate

    @property
    def known(self) -> bool:
        """Whether there is an estimate."""
        return bool(np.isfinite(self.interval.estimate))


def missing(note: str, n: int = 0) -> Quantity:
    """A quantity that cannot be had, and why."""
    return Quantity(Interval(NAN, NAN, NAN, n), note=note)


def of_setting(
    agreement: Agreement, null_mean: float = NAN, p_value: float = NAN, note: str = ""
) -> Quantity:
    """A quantity of a whole setting, with the jackknife's interval."""
    return Quantity(jackknife(agreement), null_mean, p_value, note, agreement)


def of_runs(values: ArrayLike, note: str = "") -> Quantity:
    """The mean over seeds of a quantity of single runs; values not finite are left out."""
    x = np.asarray(values, dtype=float)
    return Quantity(mean_interval(x), note=note, values=x)


def of_runs_iqm(values: ArrayLike) -> Quantity:
    """The interquartile mean over seeds of a quantity of single runs."""
    x = np.asarray(values, dtype=float)
    few = "fewer than four seeds leave no interval" if np.isfinite(x).sum() < 4 else ""
    return Quantity(interquartile_interval(x), note=few)


def of_rate(happened: ArrayLike) -> Quantity:
    """The share of seeds in which something happened (booleans), with the exact interval."""
    x = np.asarray(happened, dtype=bool)
    return Quantity(proportion_interval(int(x.sum()), x.size), values=x.astype(float))
