"""Jensen-Shannon divergences between the seeds of a setting, and what chance gives them.

All stabilities of this package compare a divergence between *matched* things (row r of one
seed's matrix with row r of another's; edge e with edge e; link with link) with that between
*any* two of them. The mean over all pairs of labels is exactly the expectation of the matched
mean when each seed's labels are permuted at random, so the null mean needs no permutation;
only p-values do (`permutation_p_values`).

Divergences are in bits, 0..1, and are divergences, not distances: scipy's `jensenshannon` is
the square root.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import permutations
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.metrics import Array

DRAWS = 999
"""Permutations behind a p-value; the smallest p is 1 / (DRAWS + 1)."""

MOST_PAIRS = 105
"""Pairs of seeds in a permutation test. Up to 15 seeds that is all of them; beyond, each seed is
paired with the same number of others, which keeps the test exact and its cost bounded."""

TINY = 1e-30
"""In place of a probability of 0, so that 0 log 0 counts as 0, in float32 too."""

EXACT = 16
"""Seeds up to which null means are computed in float64; matched divergences always are."""

LARGE = 0.01
"""Bits; null means under it are computed in float64 whatever the number of seeds."""

_WORK = 1 << 15  # elements per step, so that a step's arrays stay in the processor's cache


class Cross(NamedTuple):
    """Divergences between the labels of every pair of n seeds, within each of G groups.

    matched, anyhow: (G, n, n), symmetric with zero diagonals: the mean over labels of the
    divergence of equal labels, and over all pairs of labels. sample: (P, G, L, L), float32, the
    divergence of label a of one seed and b of the other for the P `pairs` (P, 2) of a test.
    """

    matched: Array
    anyhow: Array
    sample: NDArray[np.float32]
    pairs: NDArray[np.int64]

    @property
    def least(self) -> float:
        """The smallest group's mean of `anyhow` over pairs of seeds (bits)."""
        groups, n, _ = self.anyhow.shape
        return float(self.anyhow.sum(axis=(1, 2)).min()) / (n * (n - 1)) if groups else 0.0


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> Array:
    """Jensen-Shannon divergence (bits, 0..1) of distributions along the last axis.

    0 log 0 counts as 0. Shapes broadcast.
    """
    first, second = (np.maximum(np.asarray(x, dtype=float), TINY) for x in (p, q))
    both = (_plogp(first) + _plogp(second)) / 2
    return np.maximum(0.0, both - _plogp((first + second) / 2))


def _plogp(p: Array) -> Array:
    """Sum of p log2 p along the last axis, all p > 0."""
    return np.einsum("...k,...k->...", p, np.log2(p))


def matched_divergences(x: ArrayLike) -> Array:
    """(n, ..., K) distributions of n seeds to (n, n, ...) divergences of equal positions."""
    p = np.maximum(np.asarray(x, dtype=float), TINY)
    own = _plogp(p)  # (n, ...)
    out = np.zeros((len(p), *own.shape))
    for s in range(len(p) - 1):
        mixed = _plogp((p[s] + p[s + 1 :]) / 2)
        out[s, s + 1 :] = out[s + 1 :, s] = np.maximum(0.0, (own[s] + own[s + 1 :]) / 2 - mixed)
    return out


def pairs_to_test(n: int, most: int = MOST_PAIRS) -> NDArray[np.int64]:
    """(P, 2) pairs of n seeds for a permutation test: all, or a balanced part of at most `most`.

    The part joins seed s with s + 1, s + 2, ... (mod n), so that every seed counts as often.
    """
    first, second = np.triu_indices(n, 1)
    if first.size > most:
        steps = max(1, most // n)
        first = np.tile(np.arange(n), steps)
        second = (first + np.repeat(np.arange(1, steps + 1), n)) % n
    return np.sort(np.stack([first, second], axis=1), axis=1)


def cross_divergences(x: ArrayLike, most_pairs: int = MOST_PAIRS) -> Cross:
    """All label-by-label divergences of (n, G, L, R, K): n seeds, G groups, L labels.

    A label is R distributions over K operations (R = 1 where it is one), and the divergence of
    two labels is the mean over the R of them. Raises ValueError for another number of axes.
    """
    exact = np.asarray(x, dtype=float)
    if exact.ndim != 5:
        raise ValueError(f"{exact.ndim} axes, not (seeds, groups, labels, rows, operations)")
    pairs = pairs_to_test(len(exact), most_pairs)
    matched = np.moveaxis(matched_divergences(exact).mean(axis=(3, 4)), -1, 0)
    p = np.maximum(exact, TINY)
    if len(p) > EXACT:
        # Many seeds leave a null mean less exact than float32 is, unless divergences are so
        # small that they drown in its rounding.
        anyhow, sample = _anyhow(p.astype(np.float32), pairs)
        if Cross(matched, anyhow, sample, pairs).least >= LARGE:
            return Cross(matched, anyhow, sample, pairs)
    return Cross(matched, *_anyhow(p, pairs), pairs)


def _anyhow(p: NDArray, pairs: NDArray[np.int64]) -> tuple[Array, NDArray[np.float32]]:
    """`Cross.anyhow` and `Cross.sample` of positive (n, G, L, R, K), in its precision."""
    n, groups, labels, rows, _ = p.shape
    anyhow = np.zeros((groups, n, n))
    sample = np.zeros((len(pairs), groups, labels, labels), np.float32)
    # The divergence is [f(p) + f(q) + sum(p + q) - f(p + q)] / 2 with f(u) = sum of u log2 u.
    own = ((p * np.log2(p)).sum(axis=(3, 4)) + p.sum(axis=(3, 4))) / rows  # (n, G, L)
    flat = np.ascontiguousarray(p.reshape(n, groups, labels, -1))  # (n, G, L, R K)
    first, second = np.triu_indices(n, 1)
    low, high = pairs.T
    chosen = low * (2 * n - low - 1) // 2 + high - low - 1  # their places in `first`, `second`
    ones = np.ones(flat.shape[-1], flat.dtype)
    size = labels * flat[0, 0].size  # elements of one pair of seeds and one group
    wide = min(groups, max(1, _WORK // (size * n)))  # groups per step
    tall = max(1, _WORK // (size * wide))  # pairs of seeds per step
    for g in range(0, groups, wide):
        part = slice(g, min(g + wide, groups))
        of_part, of_own = np.ascontiguousarray(flat[:, part]), own[:, part]
        between = np.empty((first.size, *of_own.shape[1:], labels), flat.dtype)  # (P, G', L, L)
        done = 0
        for s in range(n - 1):
            for start in range(s + 1, n, tall):
                rest = of_part[start : start + tall]
                both = of_part[s, :, :, None] + rest[:, :, None]  # (m, G', L, L, R K)
                plogp = np.log2(both)
                plogp *= both
                # The sum over the last axis; numpy's own is slow where that axis is short.
                np.matmul(plogp, ones, out=between[done : done + len(both)])
                done += len(both)
        between /= -rows
        between += of_own[first, :, :, None]
        between += of_own[second, :, None]
        np.maximum(0.0, between, out=between)
        between /= 2
        _set(anyhow[part], between.mean(axis=(2, 3), dtype=float).T)
        sample[:, part] = between[chosen]
    return anyhow, sample


def _set(symmetric: Array, above: Array) -> None:
    """Write (G, P) values above the diagonals of (G, n, n), and below them."""
    first, second = np.triu_indices(symmetric.shape[-1], 1)
    symmetric[:, first, second] = above
    symmetric[:, second, first] = above


class PermutationTest(NamedTuple):
    """One-sided p-values that matched labels are more alike than by chance.

    p_value is that of the weighted mean over groups, of_groups (G,) those of each group alone.
    """

    p_value: float
    of_groups: Array


def permutation_test(
    samples: Sequence[tuple[NDArray, Array]],
    pairs: NDArray[np.int64],
    draws: int = DRAWS,
    seed: int = 0,
) -> PermutationTest:
    """Permute the labels within each seed, independently in every group.

    samples: for every shape of group, divergences between labels (P, G, L, L) and weights (G,);
    the tested statistic is the sum of weight times mean matched divergence. pairs: (P, 2), the
    seeds of each. A p-value is (1 + permutations at least as alike) / (draws + 1), NaN where
    `draws` is 0.
    """
    rng = np.random.default_rng(seed)
    total, total_drawn, of_groups = 0.0, np.zeros(draws), [np.zeros(0)]
    for sample, weights in samples:
        observed, drawn = _permuted(sample, pairs, draws, rng)
        total += float(weights @ observed)
        total_drawn += drawn @ weights
        of_groups.append(_p_value(observed, drawn))
    p_value = float(_p_value(np.array([total]), total_drawn[:, None])[0])
    return PermutationTest(p_value, np.concatenate(of_groups))


def _permuted(
    sample: NDArray, pairs: NDArray[np.int64], draws: int, rng: np.random.Generator
) -> tuple[Array, NDArray[np.float64]]:
    """Mean matched divergence over the pairs: observed (G,), permuted (draws, G)."""
    count, groups, labels, _ = sample.shape
    n = int(pairs.max(initial=0)) + 1
    observed = np.einsum("pgll->g", sample, dtype=float) / (count * labels)
    flat = sample.ravel()
    base = np.arange(count * groups, dtype=np.int32).reshape(count, groups, 1) * labels**2
    first, second = pairs.T
    drawn = np.empty((draws, groups))
    step = max(1, _WORK // base.size // labels)  # draws at a time
    for start in range(0, draws, step):
        part = slice(start, min(start + step, draws))
        order = _random_orders(rng, (part.stop - start, n, groups), labels)
        index = order.take(second, axis=1)
        index += (order * np.int32(labels)).take(first, axis=1)
        index += base
        mean = flat.take(index).sum(axis=1).sum(axis=-1, dtype=float) / (count * labels)
        drawn[part] = mean
    return observed, drawn


def _random_orders(
    rng: np.random.Generator, shape: tuple[int, ...], labels: int
) -> NDArray[np.int32]:
    """Independent uniform permutations of `labels` things: (*shape, labels)."""
    if labels <= 8:  # choosing from a table of all of them is faster than shuffling
        return _orders(labels)[rng.integers(factorial(labels), size=shape)]
    keys = rng.random((*shape, labels), dtype=np.float32)
    return keys.argsort(axis=-1).astype(np.int32)


@cache
def _orders(labels: int) -> NDArray[np.int32]:
    return np.array(list(permutations(range(labels))), np.int32)


def _p_value(observed: Array, drawn: NDArray[np.float64]) -> Array:
    # Equal statistics may differ in the last digits of float32; a tie counts as at least as alike.
    if not len(drawn):
        return np.full(observed.shape, np.nan)
    slack = 3e-6 * np.abs(observed) + 1e-12
    return (1 + (drawn <= observed + slack).sum(axis=0)) / (len(drawn) + 1)
