"""What is computed of n seeds: a mean of values, an agreement of pairs, a ratio of means.

Every kind can say what it would be without each seed, which is all that `inference` needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.metrics import NAN, Array, Ints

Indices = Sequence[int] | Ints


class Statistic(ABC):
    """A number computed of n seeds, with all that inference needs to know of it."""

    @cached_property
    @abstractmethod
    def estimates(self) -> Array:
        """(1 + n,): the number, then without each seed; NaN where there are too few seeds."""

    @abstractmethod
    def take(self, seeds: Indices) -> Statistic:
        """The same statistic of some of the seeds (indices)."""

    @property
    @abstractmethod
    def usable(self) -> NDArray[np.bool_]:
        """(n,): which seeds have what the statistic is made of."""

    @property
    def n(self) -> int:
        """Number of usable seeds."""
        return int(self.usable.sum())

    @property
    def estimate(self) -> float:
        """The number; NaN where there are too few seeds for it."""
        return float(self.estimates[0])

    def leave_one_out(self) -> Array:
        """(n,): the number without each seed; NaN where too few are left."""
        return self.estimates[1:]

    def known(self) -> Statistic:
        """The same of its usable seeds alone."""
        return self if self.usable.all() else self.take(np.flatnonzero(self.usable))

    def pseudo_values(self) -> Array:
        """(n,): n estimate - (n - 1) estimate without each seed (Tukey 1958); of a mean its values.

        NaN for seeds that are not usable.
        """
        found, of = np.full(self.usable.size, NAN), self.known()
        found[self.usable] = of.n * of.estimate - (of.n - 1) * of.leave_one_out()
        return found

    def pairs(self) -> Array:
        """(n, n): what each pair of seeds stands for, to first order; the diagonal means nothing.

        The mean over pairs is the estimate, or 0. Each is the mean of its two seeds' pseudo-values,
        in all but an agreement.
        """
        x = self.pseudo_values()
        return (x[:, None] + x[None, :]) / 2

    @property
    def step(self) -> float:
        """How far the number moves where one of the n seeds chooses differently once, if known."""
        return 0.0

    def divergence(self, x: float | Array) -> Array:
        """The divergence that a value x of the number stands for, and back; NaN if it is of none.

        Divergences are positive and skewed: their intervals are taken on a logarithmic scale.
        """
        return np.full(np.shape(x), NAN)


@dataclass(frozen=True)
class Ratio(Statistic):
    """mean(numerator) / mean(denominator) over seeds, (n,) each; NaN where the latter is 0.

    Seeds without finite ones are left out. unit: the least by which the numerators of two seeds
    can differ where they are counts, else 0.
    """

    numerator: Array
    denominator: Array
    unit: float = 0.0

    @property
    def usable(self) -> NDArray[np.bool_]:
        return np.isfinite(self.numerator) & np.isfinite(self.denominator)

    @cached_property
    def estimates(self) -> Array:
        whole = [x[self.usable].sum() for x in (self.numerator, self.denominator)]
        over = np.append(whole[0], whole[0] - self.numerator)
        under = np.append(whole[1], whole[1] - self.denominator)
        known = np.append(self.n > 0, self.usable & (self.n > 1)) & (under != 0)
        return np.divide(over, under, out=np.full(known.shape, NAN), where=known)

    def take(self, seeds: Indices) -> Ratio:
        chosen = np.asarray(seeds, dtype=np.int64)
        return Ratio(self.numerator[chosen], self.denominator[chosen], self.unit)

    @property
    def step(self) -> float:
        return self.unit / max(self.n, 1)


class Values(Ratio):
    """The mean of a value per seed, (n,); seeds without a finite one are left out."""

    def __init__(self, values: ArrayLike, unit: float = 0.0) -> None:
        x = np.asarray(values, dtype=float)
        super().__init__(x, np.ones(x.shape), unit)


@dataclass(frozen=True)
class Agreement(Statistic):
    """1 - mean matched / mean chance over pairs of seeds; without `chance` the mean of matched.

    matched, chance: (n, n), symmetric: the divergence of each pair, as it is and by chance;
    diagonals mean nothing. with_self: whether the mean of `chance` is over all n^2 entries, as in
    Fleiss' kappa. 0 / 0 is an agreement of 0: where everything is alike by chance, nothing more
    can agree. unit: what one choice that two seeds do not share adds to `matched`, else 0.
    """

    matched: Array
    chance: Array | None = None
    with_self: bool = False
    unit: float = 0.0

    @property
    def usable(self) -> NDArray[np.bool_]:
        return np.ones(len(self.matched), dtype=bool)

    def take(self, seeds: Indices) -> Agreement:
        index = np.ix_(*[np.asarray(seeds, dtype=np.int64)] * 2)
        chance = None if self.chance is None else self.chance[index]
        return replace(self, matched=self.matched[index], chance=chance)

    @property
    def matched_mean(self) -> float:
        """Mean of `matched` over pairs of seeds; NaN where n < 2."""
        return float(_means(self.matched, False)[0])

    @property
    def chance_mean(self) -> float:
        """Mean of `chance`; NaN where there is none or n < 2."""
        return NAN if self.chance is None else float(_means(self.chance, self.with_self)[0])

    @cached_property
    def estimates(self) -> Array:
        matched = _means(self.matched, False)
        if self.chance is None:
            return matched
        chance = _means(self.chance, self.with_self)
        # What differs by less than float32 probabilities can say does not differ.
        ratio = np.divide(matched, chance, out=np.ones_like(chance), where=~(chance <= 1e-12))
        return np.where(np.isnan(chance), NAN, 1.0 - ratio)

    def pairs(self) -> Array:
        if self.chance is None:
            return self.matched
        if not self.chance_mean > 0:
            return np.zeros_like(self.matched)
        return ((1 - self.estimate) * self.chance - self.matched) / self.chance_mean

    def divergence(self, x: float | Array) -> Array:
        return np.asarray(x if self.chance is None else 1.0 - np.asarray(x))

    @property
    def step(self) -> float:
        scale = 1.0 if self.chance is None else self.chance_mean
        return 2 * self.unit / (self.n * scale) if scale > 0 else 0.0


@dataclass(frozen=True)
class Paired(Statistic):
    """first - second, of whatever kinds, over the same seeds; ValueError for unequal numbers."""

    first: Statistic
    second: Statistic

    def __post_init__(self) -> None:
        n, m = self.first.usable.size, self.second.usable.size
        if n != m:
            raise ValueError(f"{n} seeds against {m}: not paired")

    @property
    def usable(self) -> NDArray[np.bool_]:
        return self.first.usable & self.second.usable

    @cached_property
    def estimates(self) -> Array:
        return self.first.estimates - self.second.estimates

    def take(self, seeds: Indices) -> Paired:
        return Paired(self.first.take(seeds), self.second.take(seeds))

    def pairs(self) -> Array:
        return self.first.pairs() - self.second.pairs()

    @property
    def step(self) -> float:
        return float(np.hypot(self.first.step, self.second.step))


def _means(pairs: Array, with_self: bool) -> Array:
    """(1 + n,): the mean over pairs of seeds, then without each seed."""
    n, own = len(pairs), np.diag(pairs)
    sums = np.append(pairs.sum(), pairs.sum() - 2 * pairs.sum(axis=1) + own)
    if not with_self:
        sums -= np.append(own.sum(), own.sum() - own)
    seeds = np.append(n, np.full(n, n - 1))
    counts = seeds * (seeds if with_self else seeds - 1)
    return np.divide(sums, counts, out=np.full(n + 1, NAN), where=seeds > 1)
