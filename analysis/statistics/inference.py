"""Inference over seeds: intervals, tests and corrections. Arrays in, numbers out.

One interval for all: Student's of the jackknife's pseudo-values (Tukey 1958), of a mean Student's
own. Pairs, epochs and edges are never resampled. The variance is never taken to be less than

- if all pairs of seeds were independent of each other, since pairs that share a seed can only
  vary together: where seeds fall into two halves, all leave-one-out values are equal by accident;
- if one of the seeds had chosen differently once, where a statistic is made of choices: n seeds
  that all agree do not show that the next one will.

Where neither leaves any width (n equal numbers) there is no interval. How often intervals cover is
in docs/coverage.md.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.statistics.metrics import NAN, Array, t_quantile
from analysis.statistics.seeds import Agreement, Paired, Statistic, Values

ANY = (-np.inf, np.inf)
SIGNIFICANT = 0.05
NO_SPREAD = "all seeds have the same: they do not say how far others would differ"

SMALL_N = (
    "An interval of few seeds knows the seeds it has seen: where one search in ten comes out "
    "quite differently, five seeds miss it more often than not, and no interval of theirs can "
    "tell."
)
"""To be shown beside small n."""


@dataclass(frozen=True)
class Quantity:
    """A number with its 95% interval over n seeds (NaN where they leave none).

    null_mean: what chance alone gives. p_value: of a difference two-sided, else one-sided, of the
    permutations that `null_mean` is the mean of. note: why something is missing, or what was left
    out. statistic: what the number is of, None where that cannot be taken apart by seeds.
    """

    estimate: float
    low: float
    high: float
    n: int
    null_mean: float = NAN
    p_value: float = NAN
    note: str = ""
    statistic: Statistic | None = field(default=None, repr=False)

    @property
    def width(self) -> float:
        """high - low."""
        return self.high - self.low

    @property
    def known(self) -> bool:
        """Whether there is an estimate."""
        return bool(np.isfinite(self.estimate))


def missing(note: str, n: int = 0) -> Quantity:
    """A quantity that cannot be had, and why."""
    return Quantity(NAN, NAN, NAN, n, note=note)


def too_few(arrays: Sequence[Sized], what: str) -> Quantity | None:
    """Why nothing is told of arrays, seeds first: there are none (`what`), or not two seeds."""
    n = len(arrays[0]) if arrays else 0
    return missing("one seed only" if n else f"no {what}", n) if n < 2 else None


def said(*remarks: str) -> str:
    """Remarks joined; empty ones are left out."""
    return "; ".join(filter(None, remarks))


def interval(statistic: Statistic, limits: tuple[float, float] = ANY, note: str = "") -> Quantity:
    """95% interval of any statistic, cut off at what is possible (`limits`).

    None for a mean of fewer than 2 seeds, an agreement of fewer than 3, and without any spread.
    """
    of = statistic.known()
    error = standard_error(of)
    if not error > 0:
        note = said(note, NO_SPREAD if error == 0 else "")
        return Quantity(of.estimate, NAN, NAN, of.n, note=note, statistic=statistic)
    centre = of.pseudo_values().mean()
    whole, without = of.divergence(of.estimate), of.divergence(of.leave_one_out())
    skewed = min(whole, without.min()) > 0
    if skewed:
        logs = of.n * np.log(whole) - (of.n - 1) * np.log(without)
        centre = logs.mean()
        error = max(float(logs.std(ddof=1)) / of.n**0.5, _least_error(of) / whole)
    bounds = centre + float(t_quantile(of.n - 1)) * error * np.array([-1.0, 1.0])
    if skewed:
        bounds = of.divergence(np.exp(np.minimum(bounds, 9.0)))  # far beyond any divergence
    low, high = np.clip(np.sort(bounds), *limits).tolist()
    return Quantity(of.estimate, low, high, of.n, note=note, statistic=statistic)


def of_setting(
    agreement: Agreement, null_mean: float = NAN, p_value: float = NAN, note: str = ""
) -> Quantity:
    """A quantity of a whole setting: a mean divergence, 0..1, or an agreement, -1..1."""
    found = interval(agreement, (0.0 if agreement.chance is None else -1.0, 1.0), note)
    return replace(found, null_mean=null_mean, p_value=p_value)


def of_runs(values: ArrayLike, limits: tuple[float, float] = ANY, unit: float = 0.0) -> Quantity:
    """The mean over seeds of a quantity of single runs; unit: see `Ratio`, 1 of what counts."""
    return interval(Values(values, unit), limits)


def standard_error(statistic: Statistic) -> float:
    """The jackknife's, or the least possible where that is more; NaN if unknown."""
    of = statistic.known()
    values = of.pseudo_values()
    if of.n < 2 or not np.isfinite(values).all():
        return NAN
    found = max(float(values.std(ddof=1)) / of.n**0.5, _least_error(of))
    # Equal numbers may differ in the last digits of what was computed of them.
    return found if found > 1e-12 else 0.0


def _least_error(of: Statistic) -> float:
    """If all pairs were independent, or if one seed had chosen differently once; see above."""
    each = of.pairs()[np.triu_indices(of.n, 1)]
    return max(float(each.std(ddof=1)) / each.size**0.5 if of.n > 2 else 0.0, of.step)


def difference(first: Statistic, second: Statistic) -> Quantity:
    """first - second over the same seeds in the same order, of whatever kinds they are.

    The p-value is below 0.05 where the interval leaves 0 out. Labels are not swapped between the
    settings: that tests exchangeability, and its null is far too wide for agreements. But where
    all seeds differ by the same, the p-value is that of all swaps, without an interval. Raises
    ValueError where the numbers of seeds differ.
    """
    found = interval(Paired(first, second))
    if np.isnan(found.low):
        swaps = 2.0 ** (1 - found.n) if abs(found.estimate) > 1e-12 else 1.0
        return replace(found, p_value=swaps if found.note else NAN)
    t = (found.low + found.high) / found.width * float(t_quantile(found.n - 1))
    return replace(found, p_value=float(2 * special.stdtr(found.n - 1, -abs(t))))


def components(statistic: Statistic) -> tuple[float, float]:
    """(a, g): what a seed and what a pair of seeds adds to the variance; NaN where n < 4.

    Of pairs h_ij = theta + a_i + a_j + g_ij (Efron and Stein 1981), from m seeds' pairs: the
    mean's variance is 4 a / m + 2 g / (m (m - 1)); the jackknife expects 4 (a + g / (m - 2)) / m.
    """
    of = statistic.known()
    n, values = of.n, of.pseudo_values()
    if n < 4 or not np.isfinite(values).all():
        return NAN, NAN
    off, h = 1 - np.eye(n), of.pairs()
    h = (h - float((h * off).sum()) / (n * (n - 1))) * off
    own = h.sum(axis=1) / (n - 2)
    left = (h - own[:, None] - own[None, :]) * off
    of_pairs = float((left**2).sum()) / 2 / (n * (n - 1) / 2 - n)
    return max(0.0, float(values.var(ddof=1)) / 4 - of_pairs / (n - 2)), of_pairs


def rate(happened: ArrayLike) -> Quantity:
    """The share of seeds (booleans) in which something happened; Clopper and Pearson's interval.

    It covers at least 95% at every n, Wilson's 91% of a share of 0.05 at n = 10.
    """
    x = np.asarray(happened, dtype=bool)
    n, k = x.size, int(x.sum())
    if not n:
        return missing("no seed")
    low = float(special.betaincinv(k, n - k + 1, 0.025)) if k else 0.0
    high = float(special.betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
    return Quantity(k / n, low, high, n, statistic=Values(x))


def interquartile(values: ArrayLike, limits: tuple[float, float] = ANY) -> Quantity:
    """Interquartile mean with the interval of Tukey and McLaughlin (1963); none where n < 4."""
    x = np.sort(_finite(values))
    n, cut = x.size, x.size // 4
    mean = float(x[cut : n - cut].mean()) if n else NAN
    if n < 4:
        return replace(missing("fewer than four seeds leave no interval", n), estimate=mean)
    error = float(x.clip(x[cut], x[n - 1 - cut]).std(ddof=1)) / ((1 - 2 * cut / n) * n**0.5)
    if not error > 1e-12:
        return replace(missing(NO_SPREAD, n), estimate=mean)
    half = float(t_quantile(n - 2 * cut - 1)) * error  # of the values that are not trimmed
    low, high = np.clip([mean - half, mean + half], *limits).tolist()
    return Quantity(mean, low, high, n)


def _finite(values: ArrayLike) -> Array:
    x = np.asarray(values, dtype=float).ravel()
    return x[np.isfinite(x)]


def probability_of_improvement(first: ArrayLike, second: ArrayLike) -> float:
    """P(X > Y) + P(X = Y) / 2 over all pairs of runs (Agarwal et al. 2021); NaN if none."""
    x, y = _finite(first)[:, None], _finite(second)[None, :]
    return float(((x > y) + 0.5 * (x == y)).mean()) if x.size and y.size else NAN


def holm(p_values: ArrayLike) -> Array:
    """Holm's (1979) step-down correction of one family; NaN stays NaN and does not count.

    As statsmodels' multipletests, which collects garbage in each call: 0.1 s and more.
    """
    p = np.asarray(p_values, dtype=float)
    out = np.full(p.shape, NAN)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    raised = p[order] * np.arange(known.size, 0, -1)
    out[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return out
