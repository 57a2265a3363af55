"""Similarity of single runs, over all settings: is it the setting or the seed that decides?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.compute.stability import SettingStability
from analysis.statistics.divergence import matched_divergences
from analysis.statistics.metrics import Array


class Similarity(NamedTuple):
    """Similarity of every two of N runs.

    matrix (N, N): 1 minus the mean over edges of the divergence (bits) of their probabilities.
    settings, seeds: of each run. left_out: settings whose edges differ in place or candidates
    from the first's.
    """

    settings: tuple[str, ...]
    seeds: tuple[str, ...]
    matrix: Array
    left_out: tuple[str, ...]


def seed_similarity(items: Sequence[SettingStability], most: int = 60) -> Similarity | None:
    """Similarity of at most `most` runs, the first seeds of every setting; None of under three.

    Every setting gives the same number of runs, as far as it has them; of more than `most`
    settings only the first ones give any.
    """
    items = [item for item in items if item.sample.n and item.sample.edges]
    if not items:
        return None
    shapes = [_shape(item) for item in items]
    alike = [item for item, shape in zip(items, shapes, strict=True) if shape == shapes[0]]
    out = [item.setting for item, s in zip(items, shapes, strict=True) if s != shapes[0]]
    alike = alike[:most]
    taken = _evenly([item.sample.n for item in alike], most)
    if sum(taken) < 3:
        return None
    edges = items[0].sample.edges
    between: Array = np.zeros((sum(taken), sum(taken)))
    for index in range(len(edges)):
        each = [
            item.sample.edges[index].probabilities[:n] for item, n in zip(alike, taken, strict=True)
        ]
        between += matched_divergences(np.concatenate(each)) / len(edges)
    names = [item.setting for item, n in zip(alike, taken, strict=True) for _ in range(n)]
    seeds = [
        "/".join(map(str, dict.fromkeys(seed)))
        for item, n in zip(alike, taken, strict=True)
        for seed in item.sample.seeds[:n].tolist()
    ]
    return Similarity(tuple(names), tuple(seeds), 1 - between, tuple(out))


def _shape(item: SettingStability) -> list[tuple[object, ...]]:
    return [(e.cell, e.source, e.target, tuple(e.operations)) for e in item.sample.edges]


def _evenly(sizes: Sequence[int], most: int) -> list[int]:
    """How many to take of each, at least one, at most k of any, k as large as `most` allows."""
    fits = (k for k in range(max(sizes), 1, -1) if sum(min(k, n) for n in sizes) <= most)
    k = next(fits, 1)
    return [min(k, n) for n in sizes]
