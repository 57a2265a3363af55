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
from numpy.typing import ArrayLike
from scipy.signal import convolve2d

from analysis.statistics.divergence import DRAWS, compared, permutation_test
from analysis.statistics.inference import Agreement, Quantity, missing, of_setting, said, too_few
from analysis.statistics.metrics import Array, Ints, groups_of

TIE = 1e-6  # two best operations closer than this are tied (design, section 5)
TIED = -1  # in place of the chosen operation of an edge whose two best are tied

Lists = Sequence[tuple[str, ...]]
Kept = Sequence[frozenset[tuple[int, int, str]]]
Candidates = Mapping[tuple[int, int], tuple[str, ...]]


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


def operation_agreement(choices: ArrayLike, lists: Lists, draws: int = DRAWS) -> Quantity:
    """Fleiss' (1971) kappa of the chosen operations: seeds are raters, edges are subjects.

    choices: (n, E) indices into the edges' candidate `lists`; an edge TIED in any seed is left out
    in all. Chance agreement is that within groups of edges with one list, averaged by their sizes.
    The p-value permutes each seed's choices among the edges of a group `draws` times (0: NaN).
    """
    choices = np.asarray(choices, dtype=np.int64)
    n = len(choices)
    untied = np.flatnonzero((choices != TIED).all(axis=0))
    edges, tied = len(untied), len(lists) - len(untied)
    note = f"{tied} of {len(lists)} edges left out: tied in some seed" if tied else ""
    if none := too_few([choices], "seed"):
        return none
    if not edges:
        return missing(note or "no edge", n)
    groups = [untied[group] for group in groups_of(tuple(lists[int(e)]) for e in untied)]
    agreement, chance = np.zeros((2, n, n))
    samples = []
    for group in groups:
        of_group = choices[:, group, None]  # (n, edges of the group, 1)
        hot = (of_group == np.arange(of_group.max() + 1)).astype(float)
        agreement += np.einsum("sec,tec->st", hot, hot) / edges
        shares = hot.mean(axis=1)
        chance += len(group) / edges * shares @ shares.T
        samples.append((hot[:, None], [len(group) / edges]))
    if 1 - chance.mean() <= 1e-12:
        what = "only one operation occurs" if len(groups) == 1 else "every edge has one operation"
        return missing(said(f"{what}: nothing to agree on", note), n)
    if all(len(group) == 1 for group in groups):
        note = said(note, "every edge has a candidate list of its own")
    kappa = Agreement(1 - agreement, 1 - chance, with_self=True, unit=1 / edges)
    return of_setting(kappa, 0.0, permutation_test(samples, draws).p_value, note)


def operation_rank_agreement(probabilities: Sequence[Array]) -> Quantity:
    """Mean over edges and pairs of seeds of Kendall's tau-b of the operations' probabilities.

    probabilities: (n, K_e) of each edge. 1: the same order in every seed, 0: chance. Two within
    `TIE` are tied; an edge whose operations are all tied in some seed is left out in all.
    """
    if none := too_few(probabilities, "edge"):
        return none
    taus = []
    for p in probabilities:
        low, high = np.triu_indices(p.shape[1], 1)
        gap = p[:, high] - p[:, low]
        signs = np.where(np.abs(gap) > TIE, np.sign(gap), 0.0)  # (n, pairs of operations)
        untied = (signs**2).sum(axis=1)
        if untied.all():
            taus.append(signs @ signs.T / np.sqrt(np.outer(untied, untied)))
    left, n = len(probabilities) - len(taus), len(probabilities[0])
    note = f"{left} of {len(probabilities)} edges left out: all operations tied in some seed"
    if not taus:
        return missing(note, n)
    differs = 1 - np.mean(taus, axis=0)
    return of_setting(Agreement(differs, np.ones((n, n))), 0.0, note=note if left else "")


def function_agreement(functions: Sequence[str], texts: Sequence[str]) -> Quantity:
    """The share of pairs of seeds whose cells are one function, in the note of equal `texts`.

    functions: per seed, texts that are equal exactly where the functions are.
    """
    if none := too_few([functions], "seed"):
        return none
    same, alike = (
        Agreement((np.array(x)[:, None] == np.array(x)).astype(float)) for x in (functions, texts)
    )
    return of_setting(same, note=f"with equal strings {alike.estimate:.3g}")


def edge_agreement(kept: Kept, candidates: Candidates) -> Quantity:
    """Mean over pairs of seeds of the Jaccard index of their kept (source, target, operation).

    kept: one set per seed. candidates: the cell's edges with their lists. null_mean: seeds keep as
    many edges per node as they do, but which ones is left to chance, and operations follow their
    frequencies among the kept edges with that list.
    """
    if none := too_few([kept], "seed"):
        return none
    differs = np.array([[1 - len(a & b) / max(len(a | b), 1) for a in kept] for b in kept])
    index = Agreement(differs, np.ones(differs.shape))
    # k of `size` kept edges in common are k / (2 size - k): so much it moves with k.
    size = max(float(np.mean([len(items) for items in kept])), 1.0)
    index = replace(index, unit=(1 + index.estimate) ** 2 / (2 * size))
    found = of_setting(index, _jaccard_by_chance(kept, candidates))
    return replace(found, low=max(found.low, 0.0))


def _jaccard_by_chance(kept: Kept, candidates: Candidates) -> float:
    """The expectation, exactly, by the number of edges that two cells keep and share."""
    of_list: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for source, target, operation in (item for items in kept for item in items):
        of_list[candidates[source, target]][operation] += 1
    alike = {k: sum(x**2 for x in c.values()) / c.total() ** 2 for k, c in of_list.items()}
    found = np.ones((1, 1))  # probabilities by (kept by the two together, in both)
    for node in {target for _, target in candidates}:
        into = [alike.get(c, 0.0) for (_, target), c in candidates.items() if target == node]
        d = len(into)
        # Sums over choices of `o` edges of the probability that m have one operation: (o, m).
        same = np.ones((1, 1))
        for p in into:
            same = convolve2d(same, np.array([[1, 0], [1 - p, p]]))
        counts = Counter(sum(target == node for _, target, _ in items) for items in kept)
        here = np.zeros((2 * d + 1, d + 1))
        for (a, of_a), (b, of_b) in product(counts.items(), repeat=2):
            for o in range(max(0, a + b - d), min(a, b) + 1):
                chance = comb(a, o) * comb(d - a, b - o) / comb(d, b) / comb(d, o)
                here[a + b] += of_a * of_b / len(kept) ** 2 * chance * same[o]
        found = convolve2d(found, here)
    together, both = np.indices(found.shape)
    return float((found * both / np.maximum(together - both, 1)).sum())


def probability_divergence(
    probabilities: Sequence[Array], lists: Lists, draws: int = DRAWS
) -> Quantity:
    """Mean over pairs of seeds and edges of the divergence (bits) of edge probabilities.

    probabilities: (n, K_e) of each edge. null_mean is the divergence of *any* two edges of two
    seeds that have one of the `lists`: below it, an edge is more like itself than like others.
    """
    if none := too_few(probabilities, "edge"):
        return none
    stacks = [np.stack([probabilities[e] for e in group], axis=1) for group in groups_of(lists)]
    samples = [(x[:, None, :, None], [x.shape[1] / len(probabilities)]) for x in stacks]
    matched, anyhow = compared(samples)[0]
    p_value = permutation_test(samples, draws).p_value
    return of_setting(Agreement(matched), Agreement(anyhow).estimate, p_value)
