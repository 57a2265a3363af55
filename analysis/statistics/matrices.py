"""How far seeds agree on the dependence: transition matrices and attention.

D(T, T') is the mean over rows of the Jensen-Shannon divergence (bits) of two matrices' rows. A
stability is 1 - mean D / its mean by chance, where chance permutes what the stability is about:
the rows of each matrix (does it matter what the predecessor chose?) or the links (does it matter
which link it is?). Row weights are equal in numerator and null alike: weighted rows bias it.

`matrices` are (n, R, C) per link everywhere, of n seeds. `shared` is a number per link, equal where
links share one matrix, whose labels are then permuted once; None where every link has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.statistics import divergence
from analysis.statistics.divergence import DRAWS, jensen_shannon
from analysis.statistics.inference import (
    Agreement,
    Quantity,
    holm,
    missing,
    of_runs,
    of_setting,
    said,
    too_few,
)
from analysis.statistics.metrics import NAN, Array, groups_of, total_variation

Matrices = Sequence[Array]
Shared = Sequence[int] | None


class LinkStability(NamedTuple):
    """Per link: its stability, its p-value, and that Holm-corrected over distinct matrices."""

    intervals: tuple[Quantity, ...]
    p_values: Array
    corrected: Array


def transition_divergence(matrices: Matrices, predecessors: Matrices) -> tuple[Quantity, Array]:
    """Mean over links and pairs of seeds of D with weighted rows (bits), and it of each link.

    predecessors: (n, R) per link, the probabilities of the predecessor's operations, whose mean
    over the two seeds is a row's weight. The second result is (links,), NaN where n < 2.
    """
    if none := too_few(matrices, "transition matrices"):
        return none, np.full(len(matrices), NAN)
    each = []
    for matrix, weights in zip(matrices, predecessors, strict=True):
        mean = (weights[:, None] + weights[None, :]) / 2  # (n, n, R)
        between = (divergence.matched_divergences(matrix) * mean).sum(axis=-1)
        each.append(between / np.maximum(mean.sum(axis=-1), 1e-300))
    of_links = np.array([Agreement(link).estimate for link in each])
    return of_setting(Agreement(np.mean(each, axis=0))), of_links


def _stability(
    samples: divergence.Samples, draws: int, note: str = ""
) -> tuple[Quantity, list[Agreement], Array]:
    """1 - mean D / its mean by chance; the same of every group, with its p-value."""
    together, each = divergence.compared(samples)
    of_all, *of_groups = (Agreement(*both) for both in (together, *zip(*each, strict=True)))
    test = divergence.permutation_test(samples, draws)
    nothing = [a.chance_mean <= 1e-12 for a in (of_all, *of_groups)]
    p_values = np.where(nothing, 1.0, [test.p_value, *test.of_groups])
    told = f"D {of_all.matched_mean:.4f} against {of_all.chance_mean:.4f} bits by chance"
    note = said(told, note)
    return of_setting(of_all, 0.0, float(p_values[0]), note), of_groups, p_values[1:]


def dependence_stability(
    matrices: Matrices, shared: Shared = None, draws: int = DRAWS
) -> tuple[Quantity, LinkStability | None]:
    """1 - mean D / its mean where each matrix's rows are permuted: of all links, and per link.

    0: which operation the predecessor chose has no reproducible effect (as with identical rows);
    1: the whole table comes out again in every seed. Links are told where `draws` is not 0.
    """
    if none := too_few(matrices, "transition matrices"):
        return none, None
    links = groups_of(shared or range(len(matrices)))  # of every distinct matrix
    first = [matrices[of[0]] for of in links]
    share = np.array([len(of) for of in links]) / len(matrices)
    by_shape = groups_of(matrix.shape for matrix in first)
    stacks = [np.stack([first[g] for g in groups], axis=1)[:, :, :, None] for groups in by_shape]
    samples = [(x, share[groups]) for x, groups in zip(stacks, by_shape, strict=True)]
    quantity, agreements, p_values = _stability(samples, draws)
    if not draws:
        return quantity, None
    intervals, corrected = [of_setting(a) for a in agreements], holm(p_values)
    place = np.empty(len(matrices), int)  # of every link's matrix, shape by shape
    for index, group in enumerate(np.concatenate(by_shape)):
        place[links[group]] = index
    per_link = tuple(intervals[i] for i in place)
    return quantity, LinkStability(per_link, p_values[place], corrected[place])


def learned(matrices: Matrices, starts: Matrices) -> list[Array]:
    """What was learned: each matrix divided by its own at epoch -1, its rows renormalised.

    0 / 0 counts as a ratio of 1.
    """
    ratios = [
        np.maximum(matrix, 1e-12) / np.maximum(start, 1e-12)
        for matrix, start in zip(matrices, starts, strict=True)
    ]
    return [ratio / ratio.sum(axis=-1, keepdims=True) for ratio in ratios]


def displacement(matrices: Matrices, starts: Matrices) -> Array:
    """(n,): mean over rows of all matrices of the total variation from the start (0..1)."""
    rows = [total_variation(m, s) for m, s in zip(matrices, starts, strict=True)]
    return np.concatenate(rows, axis=1).mean(axis=1)


def link_specificity(
    matrices: Matrices, lists: Sequence[tuple[tuple[str, ...], tuple[str, ...]]],
    shared: Shared = None, draws: int = DRAWS,
) -> Quantity:  # fmt: skip
    """1 - mean D / its mean where links are permuted within each seed.

    Only among links with the same operations (lists: of rows and of columns) and distinct matrices.
    1: every link has a matrix of its own that comes out again; 0: a link's matrix is no more alike
    across seeds than those of different links.
    """
    if none := too_few(matrices, "transition matrices"):
        return none
    first = [of[0] for of in groups_of(shared or range(len(matrices)))]
    alike = [g for g in groups_of(lists[i] for i in first) if len(g) > 1]
    if not alike:
        no_two = "no two links with equal operation lists and distinct matrices"
        return missing(no_two, len(matrices[0]))
    count = sum(map(len, alike))
    samples = [
        (np.stack([matrices[first[i]] for i in g], axis=1)[:, None], [len(g) / count])
        for g in alike
    ]
    out = len(first) - count
    note = f"{out} of {len(first)} matrices left out: no other with their lists" if out else ""
    return _stability(samples, draws, note)[0]


def attention_agreement(attention: Matrices, draws: int = DRAWS) -> Quantity:
    """1 - mean divergence of attention / its mean where predecessors are permuted.

    attention: (n, predecessors) of every inner edge; edges with one predecessor have no choice
    and are left out. Uniform attention agrees by chance alone: 0, with p 1.
    """
    found = [a for a in attention if a.shape[1] > 1]
    if none := too_few(found, "inner edge has several predecessors"):
        return none
    matched, anyhow = np.zeros((2, len(found[0]), len(found[0])))
    for weights in found:
        matched += jensen_shannon(weights[:, None], weights[None]) / len(found)
        # A divergence is a sum over predecessors: its mean over all orders is that over all pairs.
        x = weights[:, :, None]
        between = jensen_shannon(x[:, None, :, None], x[None, :, None])  # (n, n, size, size)
        anyhow += between.sum(axis=-1).mean(axis=-1) / len(found)
    np.fill_diagonal(anyhow, 0.0)
    agreement = Agreement(matched, anyhow)
    if agreement.chance_mean <= 1e-9:
        return of_setting(Agreement(matched, 0 * anyhow), 0.0, 1.0, "attention is uniform")
    # One label, one number: the weights of a predecessor; sizes weigh as their means over edges.
    samples = [(a[:, None], [a.shape[1]]) for a in found]
    return of_setting(agreement, 0.0, divergence.permutation_test(samples, draws).p_value)


def dobrushin_coefficient(matrices: Matrices) -> Quantity:
    """Mean over links of the largest total variation between two rows (0..1), per seed.

    The coefficient bounds how much of a difference between two predecessors' choices can come
    through (Dobrushin 1956): 0 where all rows are equal, 1 where some two have nothing in common.
    """
    if not matrices:
        return missing("no transition matrices")
    each = [total_variation(m[:, :, None], m[:, None]).max(axis=(1, 2)) for m in matrices]
    return of_runs(np.mean(each, axis=0))
