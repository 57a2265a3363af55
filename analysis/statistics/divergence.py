"""Jensen-Shannon divergences between the seeds of a setting, and what chance gives them.

All stabilities compare a divergence between *matched* labels (row r of one seed's matrix with row r
of another's; edge e with edge e; link with link) with that between *any* two of them. The mean over
all pairs of labels is exactly the expectation of the matched mean when each seed's labels are
permuted at random, so that only p-values need permutations.

Divergences are in bits, 0..1: squares of the distances that scipy's `jensenshannon` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.metrics import NAN, Array, Ints

DRAWS = 999  # permutations behind a p-value
TINY = 1e-30  # in place of a probability of 0, so that 0 log 0 counts as 0, in float32 too
EXACT = 16  # seeds up to which null means are computed in float64; matched divergences always are
LARGE = 0.01  # bits; smaller null means are computed in float64 whatever the number of seeds
_WORK = 1 << 16  # elements per step, so that a step's arrays stay in the processor's cache

Samples = Sequence[tuple[ArrayLike, ArrayLike]]
"""For every shape of group: distributions (n, G, L, R, K) of n seeds, G groups, L labels, and the
groups' weights (G,). A label is R distributions over K operations: divergences are means over R."""


class Cross(NamedTuple):
    """Mean divergences of equal labels and of any two, for every pair of seeds: (G, n, n) each."""

    matched: Array
    anyhow: Array


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> Array:
    """Jensen-Shannon divergence (bits) of distributions along the last axis; shapes broadcast."""
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


def cross_divergences(x: ArrayLike) -> Cross:
    """`Cross` of (n, G, L, R, K), as in `Samples`. Raises ValueError for other axes."""
    p = np.asarray(x, dtype=float)
    if p.ndim != 5:
        raise ValueError(f"{p.ndim} axes, not (seeds, groups, labels, rows, operations)")
    matched = np.moveaxis(matched_divergences(p).mean(axis=(3, 4)), -1, 0)
    n, p = len(p), np.maximum(p, TINY)
    if n > EXACT:
        # Many seeds leave a null mean less exact than float32 is, unless divergences are so
        # small that they drown in its rounding.
        anyhow = _anyhow(p.astype(np.float32))
        if anyhow.sum(axis=(1, 2)).min(initial=np.inf) >= LARGE * n * (n - 1):
            return Cross(matched, anyhow)
    return Cross(matched, _anyhow(p))


def _anyhow(p: NDArray) -> Array:
    """`Cross.anyhow` of positive (n, G, L, R, K), in its precision."""
    n, groups, labels, rows, _ = p.shape
    # The divergence is [f(p) + f(q) + sum(p + q) - f(p + q)] / 2 with f(u) = sum of u log2 u.
    own = ((p * np.log2(p)).sum(axis=(3, 4)) + p.sum(axis=(3, 4))) / rows  # (n, G, L)
    flat = p.reshape(n, groups, labels, -1)  # (n, G, L, R K)
    ones = np.ones(flat.shape[-1], flat.dtype)
    step = max(1, _WORK // max(1, labels * flat[0].size))  # pairs of seeds at a time
    above = np.zeros((groups, n, n))
    for s in range(n - 1):
        for start in range(s + 1, n, step):
            t = slice(start, start + step)
            both = flat[s, :, :, None] + flat[t, :, None]  # (pairs, G, L, L, R K)
            plogp = np.log2(both)
            plogp *= both
            # The sum over the last axis; numpy's own is slow where that axis is short.
            between = (plogp @ ones) / -rows + own[s, :, :, None] + own[t, :, None]
            above[:, s, t] = np.maximum(between, 0).mean(axis=(2, 3), dtype=float).T / 2
    return above + above.swapaxes(1, 2)


def compared(samples: Samples) -> tuple[Cross, Cross]:
    """`Cross` of all groups together, weighted: (n, n), and of each, in their order."""
    found = [cross_divergences(x) for x, _ in samples]
    each = Cross(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    weights = np.concatenate([np.asarray(w, dtype=float) for _, w in samples])
    return Cross(*(np.einsum("g,gst->st", weights, x) for x in each)), each


class PermutationTest(NamedTuple):
    """One-sided p-values: of the weighted mean over groups, and (G,) of each group alone."""

    p_value: float
    of_groups: Array


def permutation_test(samples: Samples, draws: int = DRAWS) -> PermutationTest:
    """Are equal labels more alike than where labels are permuted in every group of every seed?

    By the mean squared Hellinger distance of equal labels over *all* pairs of seeds. It orders
    permutations nearly as the Jensen-Shannon divergence does (p-values correlate with 0.98, power
    is the same), and of choices it is the share of unequal ones; but it follows from the sum over
    seeds of sqrt(p), so that a permutation costs n and not n^2. A p-value is
    (1 + permutations at least as alike) / (draws + 1), NaN where `draws` is 0.
    """
    if not draws:
        return PermutationTest(NAN, np.full(sum(np.size(w) for _, w in samples), NAN))
    rng = np.random.default_rng(0)
    total, of_groups = np.zeros(draws + 1), [np.zeros(0)]
    for x, weights in samples:
        alike = _permuted(np.sqrt(np.asarray(x, dtype=np.float32)), draws, rng)
        total += alike @ np.asarray(weights, dtype=float)
        of_groups.append(_p_value(alike))
    return PermutationTest(float(_p_value(total[:, None])[0]), np.concatenate(of_groups))


def _permuted(x: NDArray[np.float32], draws: int, rng: np.random.Generator) -> Array:
    """(1 + draws, G): mean over labels of |mean over seeds of x|^2, the observed one first."""
    n, groups, labels = x.shape[:3]
    flat = x.reshape(n, groups * labels, -1)
    first_label = (np.arange(groups) * labels)[:, None]
    found = np.empty((draws + 1, groups))
    step = max(1, 4 * _WORK // flat[0].size)  # draws at a time
    for start in range(0, draws + 1, step):
        count = min(step, draws + 1 - start)
        mean = np.zeros((count, *flat.shape[1:]), np.float32)
        for of_seed in flat:
            if labels <= 8:  # choosing from a table of all orders is faster than shuffling
                orders = _orders(labels)
                order = orders[rng.integers(len(orders), size=(count, groups))]
            else:
                order = rng.random((count, groups, labels), dtype=np.float32).argsort(axis=-1)
            if start == 0:
                order[0] = np.arange(labels)
            mean += of_seed[(order + first_label).reshape(count, -1)]
        mean /= n
        squares = np.einsum("dlk,dlk->dl", mean, mean).reshape(count, groups, labels)
        found[start : start + count] = squares.mean(axis=2)
    return found


@cache
def _orders(labels: int) -> Ints:
    return np.array(list(permutations(range(labels))))


def _p_value(alike: Array) -> Array:
    """(1 + draws, G), the observed one first, to p-values (G,)."""
    # Equal statistics may differ in the last digits of float32; a tie counts as at least as alike.
    return (alike >= alike[0] - 3e-6 * np.abs(alike[0]) - 1e-12).sum(axis=0) / len(alike)
