"""How far seeds agree on the dependence: transition matrices and attention.

D(T, T') is the mean over rows of the Jensen-Shannon divergence (bits) of two matrices' rows. A
stability is 1 - mean D / its mean by chance, where chance permutes what the stability is about:
the rows of each matrix (does it matter what the predecessor chose?) or the links (does it matter
which link it is?). Row weights are equal in numerator and null alike: weighted rows bias it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.statistics.divergence import (
    DRAWS,
    cross_divergences,
    jensen_shannon,
    matched_divergences,
    permutation_test,
)
from analysis.statistics.inference import Agreement, Quantity, holm, missing, of_runs, of_setting
from analysis.statistics.metrics import Array, total_variation


class LinkStability(NamedTuple):
    """Per link: intervals of its stability, its p-values, and these Holm-corrected over links."""

    intervals: tuple[Quantity, ...]
    p_values: Array
    corrected: Array


def _arrays(matrices: Sequence[ArrayLike]) -> list[Array]:
    return [np.asarray(m, dtype=float) for m in matrices]


def transition_divergence(
    matrices: Sequence[ArrayLike], predecessors: Sequence[ArrayLike]
) -> tuple[Quantity, Array]:
    """Mean over links and pairs of seeds of D with weighted rows (bits), and it of each link.

    matrices: (n, R, C) per link. predecessors: (n, R) per link, the probabilities of the
    predecessor's operations; a row's weight is the mean of the two seeds' probabilities. The
    second result is (links,), NaN where n < 2.
    """
    found = _arrays(matrices)
    n = len(found[0]) if found else 0
    if n < 2:
        none = missing("one seed only" if n else "no transition matrices", n)
        return none, np.full(len(found), np.nan)
    each = []
    for matrix, weights in zip(found, _arrays(predecessors), strict=True):
        between = matched_divergences(matrix)  # (n, n, R)
        mean = (weights[:, None] + weights[None, :]) / 2
        each.append((between * mean).sum(axis=-1) / np.maximum(mean.sum(axis=-1), 1e-300))
    of_links = np.array([Agreement(link).estimate for link in each])
    return of_setting(Agreement(np.mean(each, axis=0))), of_links


def dependence_stability(
    matrices: Sequence[ArrayLike], shared: Sequence[int] | None = None, draws: int = DRAWS
) -> tuple[Quantity, LinkStability | None]:
    """1 - mean D / its mean where each matrix's rows are permuted: of all links, and per link.

    matrices: (n, R, C) per link, rows that sum to 1. shared: a number per link, equal where
    links share one matrix (then its rows are permuted once for all of them); None where every
    link has its own. 0: which operation the predecessor chose has no reproducible effect (as
    with identical rows); 1: the whole table comes out again in every seed.
    """
    found = _arrays(matrices)
    n = len(found[0]) if found else 0
    if n < 2:
        return missing("one seed only" if n else "no transition matrices", n), None
    which, share = distinct(found, shared)
    matched, anyhow = np.zeros((2, len(which), n, n))
    samples, places = [], []
    for members in _by_shape([found[w] for w in which]):
        stack = np.stack([found[which[m]] for m in members], axis=1)  # (n, G, R, C)
        cross = cross_divergences(stack[:, :, :, None])
        matched[members], anyhow[members] = cross.matched, cross.anyhow
        samples.append((stack, share[members]))
        places.append(members)
    of_all = Agreement(
        np.einsum("l,lst->st", share, matched), np.einsum("l,lst->st", share, anyhow)
    )
    test = permutation_test(samples, draws)
    p_values = np.empty(len(which))
    p_values[np.concatenate(places)] = test.of_groups
    p_value = 1.0 if of_all.chance_mean <= 1e-12 else test.p_value
    quantity = of_setting(of_all, 0.0, p_value, _against_chance(of_all))
    if not draws:
        return quantity, None
    each = [Agreement(m, c) for m, c in zip(matched, anyhow, strict=True)]
    p_values[[a.chance_mean <= 1e-12 for a in each]] = 1.0
    per_link = LinkStability(tuple(map(of_setting, each)), p_values, holm(p_values))
    return quantity, _spread(per_link, which, found, shared)


def distinct(matrices: Sequence[Array], shared: Sequence[int] | None) -> tuple[list[int], Array]:
    """One link of every distinct matrix, and the share of the links that have it."""
    numbers = list(range(len(matrices))) if shared is None else list(shared)
    which = [numbers.index(number) for number in dict.fromkeys(numbers)]
    return which, np.array([numbers.count(numbers[w]) for w in which]) / len(numbers)


def _spread(
    stability: LinkStability,
    which: Sequence[int],
    matrices: Sequence[Array],
    shared: Sequence[int] | None,
) -> LinkStability:
    """From distinct matrices back to all links."""
    numbers = list(range(len(matrices))) if shared is None else list(shared)
    place = {numbers[w]: i for i, w in enumerate(which)}
    index = [place[number] for number in numbers]
    return LinkStability(
        tuple(stability.intervals[i] for i in index),
        stability.p_values[index],
        stability.corrected[index],
    )


def _by_shape(items: Sequence[Array]) -> list[list[int]]:
    shapes: dict[tuple[int, ...], list[int]] = {}
    for index, item in enumerate(items):
        shapes.setdefault(item.shape, []).append(index)
    return list(shapes.values())


def learned(matrices: Sequence[ArrayLike], starts: Sequence[ArrayLike]) -> list[Array]:
    """What was learned: each matrix divided by its own at epoch -1, its rows renormalised.

    Both (n, R, C) per link. 0 / 0 counts as a ratio of 1.
    """
    out = []
    for matrix, start in zip(_arrays(matrices), _arrays(starts), strict=True):
        ratio = np.maximum(matrix, 1e-12) / np.maximum(start, 1e-12)
        out.append(ratio / ratio.sum(axis=-1, keepdims=True))
    return out


def displacement(matrices: Sequence[ArrayLike], starts: Sequence[ArrayLike]) -> Array:
    """(n,): mean over rows of all matrices of the total variation from the start (0..1)."""
    rows = [total_variation(m, s) for m, s in zip(matrices, starts, strict=True)]
    return np.concatenate(rows, axis=1).mean(axis=1)


def link_specificity(
    matrices: Sequence[ArrayLike],
    lists: Sequence[tuple[tuple[str, ...], tuple[str, ...]]],
    shared: Sequence[int] | None = None,
    draws: int = DRAWS,
) -> Quantity:
    """1 - mean D / its mean where links are permuted within each seed.

    Only among links with the same operations (lists: those of rows and of columns, per link)
    and distinct matrices. 1: every link has a matrix of its own that comes out again; 0: a
    link's matrix is no more alike across seeds than those of different links.
    """
    found = _arrays(matrices)
    n = len(found[0]) if found else 0
    if n < 2:
        return missing("one seed only" if n else "no transition matrices", n)
    which, _ = distinct(found, shared)
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for index in which:
        alike.setdefault(lists[index], []).append(index)
    groups = [indices for indices in alike.values() if len(indices) > 1]
    if not groups:
        return missing("no two links with equal operation lists and distinct matrices", n)
    count = sum(map(len, groups))
    matched, anyhow = np.zeros((n, n)), np.zeros((n, n))
    samples = []
    for indices in groups:
        stack = np.stack([found[i] for i in indices], axis=1)  # (n, links, R, C)
        cross = cross_divergences(stack[:, None])
        share = len(indices) / count
        matched += share * cross.matched[0]
        anyhow += share * cross.anyhow[0]
        samples.append((stack[:, None], [share]))
    agreement = Agreement(matched, anyhow)
    nothing = agreement.chance_mean <= 1e-12
    p_value = 1.0 if nothing else permutation_test(samples, draws).p_value
    out = len(which) - count
    note = f"{out} of {len(which)} matrices left out: no other with their lists" if out else ""
    note = "; ".join(filter(None, [_against_chance(agreement), note]))
    return of_setting(agreement, 0.0, p_value, note)


def _against_chance(agreement: Agreement) -> str:
    return f"D {agreement.matched_mean:.4f} against {agreement.chance_mean:.4f} bits by chance"


def attention_agreement(attention: Sequence[ArrayLike], draws: int = DRAWS) -> Quantity:
    """1 - mean divergence of attention / its mean where predecessors are permuted.

    attention: (n, predecessors) of every inner edge; edges with one predecessor have no choice
    and are left out. Uniform attention agrees by chance alone: 0, with p 1.
    """
    found = [a for a in _arrays(attention) if a.shape[1] > 1]
    n = len(found[0]) if found else 0
    if n < 2:
        return missing("one seed only" if n else "no inner edge has several predecessors", n)
    rng = np.random.default_rng(0)
    matched, anyhow = np.zeros((n, n)), np.zeros((n, n))
    for weights in found:
        size = weights.shape[1]
        few = factorial(size) <= 120
        orders = (
            np.array(list(permutations(range(size))))
            if few
            else rng.random((120, size)).argsort(axis=1)
        )
        between = jensen_shannon(weights[:, None, None], weights[None, :, orders])  # (n, n, orders)
        mean = between.mean(axis=2) / len(found)
        anyhow += (mean + mean.T) / 2
        matched += jensen_shannon(weights[:, None], weights[None]) / len(found)
    np.fill_diagonal(anyhow, 0.0)
    agreement = Agreement(matched, anyhow)
    if agreement.chance_mean <= 1e-9:
        return of_setting(Agreement(matched, np.zeros((n, n))), 0.0, 1.0, "attention is uniform")
    # One label, one number: the weights of a predecessor; sizes weigh as their means over edges.
    samples = [(a[:, None], [a.shape[1]]) for a in found]
    return of_setting(agreement, 0.0, permutation_test(samples, draws).p_value)


def dobrushin_coefficient(matrices: Sequence[ArrayLike]) -> Quantity:
    """Mean over links of the largest total variation between two rows (0..1), per seed.

    The coefficient bounds how much of a difference between two predecessors' choices can come
    through (Dobrushin 1956): 0 where all rows are equal, 1 where some two have nothing in common.
    """
    found = _arrays(matrices)
    if not found:
        return missing("no transition matrices")
    each = [total_variation(m[:, :, None], m[:, None]).max(axis=(1, 2)) for m in found]
    return of_runs(np.mean(each, axis=0))
