"""Quantities of the stability analysis by what they are computed of, each with its interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from analysis.statistics.inference import NAN, Quantity, interquartile, interval, rate
from analysis.statistics.seeds import Agreement, Values

__all__ = ["Quantity"]


def missing(note: str, n: int = 0) -> Quantity:
    """A quantity that cannot be had, and why."""
    return Quantity(NAN, NAN, NAN, n, note=note)


def of_setting(
    agreement: Agreement,
    null_mean: float = NAN,
    p_value: float = NAN,
    note: str = "",
    least: float | None = None,
) -> Quantity:
    """A quantity of a whole setting, at most 1. least: 0 of a mean divergence, else -1.

    The truth of an agreement beyond chance is not below 0 where seeds are drawn independently;
    that of few seeds may be.
    """
    bound = (0.0 if agreement.chance is None else -1.0) if least is None else least
    found = interval(agreement, (bound, 1.0), note)
    return replace(found, null_mean=null_mean, p_value=p_value)


def of_runs(
    values: ArrayLike,
    note: str = "",
    limits: tuple[float, float] = (-np.inf, np.inf),
    unit: float = 0.0,
) -> Quantity:
    """The mean over seeds of a quantity of single runs; values not finite are left out.

    unit: 1 where it counts something: the least by which two seeds can differ.
    """
    return interval(Values(np.asarray(values, dtype=float), unit), limits, note)


def of_runs_iqm(values: ArrayLike, limits: tuple[float, float] = (-np.inf, np.inf)) -> Quantity:
    """The interquartile mean over seeds of a quantity of single runs."""
    return interquartile(values, limits)


def of_rate(happened: ArrayLike) -> Quantity:
    """The share of seeds in which something happened (booleans), with the exact interval."""
    return rate(happened)
