"""How far seeds agree on what they choose: operations, kept edges, edge probabilities.

Chance agreement is always taken within groups of edges that have one candidate list: with one
chance level over different lists, coin flips would seem to agree (facts of space S1).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.divergence import DRAWS, cross_divergences, permutation_test
from analysis.statistics.inference import Agreement, Quantity, missing, of_setting
from analysis.statistics.metrics import Array

TIE = 1e-6
"""Two best operations closer than this are tied (design, section 5)."""

TIED = -1
"""In place of the chosen operation of an edge whose two best are tied."""

Ints = NDArray[np.int64]
Lists = Sequence[tuple[str, ...]]


def chosen_operations(
    probabilities: ArrayLike, operations: Sequence[str], exclude: Sequence[str] = ()
) -> Ints:
    """(..., K) probabilities to the index of the best operation, or TIED: (...).

    exclude: operations that cannot be chosen, as `none` in cells of the DARTS family.
    """
    p = np.array(probabilities, dtype=float)
    p[..., [i for i, name in enumerate(operations) if name in exclude]] = -np.inf
    best = p.argmax(axis=-1)
    if p.shape[-1] < 2:
        return best
    second, first = np.moveaxis(np.partition(p, -2, axis=-1)[..., -2:], -1, 0)
    return np.where(first - second <= TIE, TIED, best)


def groups_of(lists: Lists) -> list[Ints]:
    """Indices of the edges with the same candidate list, list by list."""
    places: dict[tuple[str, ...], list[int]] = {}
    for index, operations in enumerate(lists):
        places.setdefault(tuple(operations), []).append(index)
    return [np.array(indices) for indices in places.values()]


def operation_agreement(choices: ArrayLike, lists: Lists, draws: int = DRAWS) -> Quantity:
    """Fleiss' (1971) kappa of the chosen operations: seeds are raters, edges are subjects.

    choices: (n, E) indices into each edge's own candidate list, TIED where two are equal; an
    edge tied in any seed is left out in all. lists: the E candidate lists. Chance agreement is
    that within groups of edges with one list, averaged by their sizes. The p-value permutes
    each seed's choices among the edges of a group; draws: how often (0: none is taken).
    """
    choices = np.asarray(choices, dtype=np.int64)
    n = len(choices)
    untied = ~(choices == TIED).any(axis=0)
    tied = int((~untied).sum())
    note = f"{tied} of {untied.size} edges left out: tied in some seed" if tied else ""
    if n < 2:
        return missing("one seed only" if n else "no seed", n)
    if not untied.any():
        return missing(note or "no edge", n)
    choices = choices[:, untied]
    groups = groups_of([tuple(o) for o, keep in zip(lists, untied, strict=True) if keep])
    edges = choices.shape[1]
    agreement, chance = np.zeros((n, n)), np.zeros((n, n))
    samples = []
    for group in groups:
        of_group = choices[:, group]  # (n, edges of the group)
        hot = (of_group[:, :, None] == np.arange(of_group.max() + 1)).astype(float)
        agreement += np.einsum("sec,tec->st", hot, hot) / edges
        shares = hot.mean(axis=1)
        chance += len(group) / edges * shares @ shares.T
        samples.append((hot[:, None], [len(group) / edges]))
    if 1 - chance.mean() <= 1e-12:
        what = "only one operation occurs" if len(groups) == 1 else "every edge has one operation"
        return missing("; ".join(filter(None, [f"{what}: nothing to agree on", note])), n)
    if all(len(group) == 1 for group in groups):
        note = "; ".join(filter(None, [note, "every edge has a candidate list of its own"]))
    kappa = Agreement(1 - agreement, 1 - chance, with_self=True, unit=1 / edges)
    return of_setting(kappa, 0.0, permutation_test(samples, draws).p_value, note)


def operation_rank_agreement(probabilities: Sequence[ArrayLike]) -> Quantity:
    """Mean over edges and pairs of seeds of Kendall's tau-b of the operations' probabilities.

    probabilities: (n, K_e) of each edge. 1: the same order in every seed, 0: chance. Two within
    `TIE` are tied; an edge whose operations are all tied in some seed is left out in all.
    """
    arrays = [np.asarray(p, dtype=float) for p in probabilities]
    n = len(arrays[0]) if arrays else 0
    if n < 2:
        return missing("one seed only" if n else "no edge", n)
    taus = []
    for p in arrays:
        low, high = np.triu_indices(p.shape[1], 1)
        gap = p[:, high] - p[:, low]
        signs = np.where(np.abs(gap) > TIE, np.sign(gap), 0.0)  # (n, pairs of operations)
        untied = (signs**2).sum(axis=1)
        if untied.all():
            taus.append(signs @ signs.T / np.sqrt(np.outer(untied, untied)))
    left = len(arrays) - len(taus)
    note = f"{left} of {len(arrays)} edges left out: all operations tied in some seed"
    if not taus:
        return missing(note, n)
    differs = 1 - np.mean(taus, axis=0)
    return of_setting(Agreement(differs, np.ones((n, n))), 0.0, note=note if left else "")


def function_agreement(functions: Sequence[str], texts: Sequence[str]) -> Quantity:
    """The share of pairs of seeds whose cells are one function, in the note of equal `texts`.

    functions: per seed, texts that are equal exactly where the functions are.
    """
    n = len(functions)
    if n < 2:
        return missing("one seed only" if n else "no seed", n)
    same, alike = (
        Agreement((np.array(x)[:, None] == np.array(x)).astype(float)) for x in (functions, texts)
    )
    return of_setting(same, note=f"with equal strings {alike.estimate:.3g}")


def edge_agreement(
    kept: Sequence[frozenset[tuple[int, int, str]]],
    candidates: Mapping[tuple[int, int], tuple[str, ...]],
) -> Quantity:
    """Mean over pairs of seeds of the Jaccard index of their kept (source, target, operation).

    kept: one set per seed. candidates: the cell's edges with their lists. null_mean is the
    chance value: seeds keep as many edges per node as they do, but which ones is left to chance,
    and operations follow their frequencies among the kept edges with that list.
    """
    n = len(kept)
    if n < 2:
        return missing("one seed only" if n else "no seed", n)
    differs, size = np.zeros((n, n)), max(float(np.mean([len(items) for items in kept])), 1.0)
    for s in range(n):
        for t in range(s):
            union = len(kept[s] | kept[t])
            differs[s, t] = differs[t, s] = 1 - (len(kept[s] & kept[t]) / union if union else 0.0)
    by_chance = _jaccard_by_chance(kept, candidates)
    index = Agreement(differs, np.ones((n, n)))
    # k of `size` kept edges in common are k / (2 size - k): so much it moves with k.
    one = (1 + index.estimate) ** 2 / (2 * size)
    return of_setting(replace(index, unit=one), by_chance, least=0.0)


def _jaccard_by_chance(
    kept: Sequence[frozenset[tuple[int, int, str]]],
    candidates: Mapping[tuple[int, int], tuple[str, ...]],
) -> float:
    """The expectation, exactly, by the number of edges that two cells keep and share."""
    of_list: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for source, target, operation in (item for items in kept for item in items):
        of_list[candidates[source, target]][operation] += 1
    alike = {k: sum(x**2 for x in c.values()) / c.total() ** 2 for k, c in of_list.items()}
    found = {(0, 0): 1.0}  # (kept by the two together, in both): probability
    for node in sorted({target for _, target in candidates}):
        into = [alike.get(c, 0.0) for (_, target), c in candidates.items() if target == node]
        d = len(into)
        # Sums over choices of `o` edges of the probability that m have one operation: (o, m).
        same = np.zeros((d + 1, d + 1))
        same[0, 0] = 1
        for p in into:
            more = same.copy()
            more[1:] += (1 - p) * same[:-1]
            more[1:, 1:] += p * same[:-1, :-1]
            same = more
        counts = Counter(sum(target == node for _, target, _ in items) for items in kept)
        here: dict[tuple[int, int], float] = defaultdict(float)
        for (a, of_a), (b, of_b) in product(counts.items(), repeat=2):
            for o in range(max(0, a + b - d), min(a, b) + 1):
                chance = comb(a, o) * comb(d - a, b - o) / comb(d, b) / comb(d, o)
                for m in range(o + 1):
                    here[a + b, m] += of_a * of_b / len(kept) ** 2 * chance * same[o, m]
        before, found = found, defaultdict(float)
        for ((k, m), p), ((more_k, more_m), q) in product(before.items(), here.items()):
            found[k + more_k, m + more_m] += p * q
    return sum(p * m / (k - m) for (k, m), p in found.items() if k > m)


def probability_divergence(
    probabilities: Sequence[ArrayLike], lists: Lists, draws: int = DRAWS
) -> Quantity:
    """Mean over pairs of seeds and edges of the divergence (bits) of edge probabilities.

    probabilities: (n, K_e) of each of the E edges; lists: their candidate lists. null_mean is
    the divergence of *any* two edges of two seeds that have one list: below it, an edge is more
    like itself than like others. The p-value permutes each seed's edges among those.
    """
    arrays = [np.asarray(p, dtype=float) for p in probabilities]
    n = len(arrays[0]) if arrays else 0
    if n < 2:
        return missing("one seed only" if n else "no edge", n)
    matched, anyhow = np.zeros((n, n)), np.zeros((n, n))
    samples = []
    for group in groups_of(lists):
        share = len(group) / len(arrays)
        stack: Array = np.stack([arrays[e] for e in group], axis=1)  # (n, edges, K)
        cross = cross_divergences(stack[:, None, :, None])
        matched += share * cross.matched[0]
        anyhow += share * cross.anyhow[0]
        samples.append((stack[:, None], [share]))
    null_mean = Agreement(anyhow).estimate
    p_value = permutation_test(samples, draws).p_value
    return of_setting(Agreement(matched), null_mean, p_value)
