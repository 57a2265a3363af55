"""Similarity of single runs, over all settings: is it the setting or the seed that decides?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.divergence import matched_divergences
from analysis.metrics import Array
from analysis.stability import SettingStability


class Similarity(NamedTuple):
    """Similarity of every two of N runs.

    matrix (N, N): 1 minus the mean over edges of the divergence (bits) of their probabilities.
    settings, seeds: of each run. left_out: settings with other edges or candidate lists than the
    first.
    """

    settings: tuple[str, ...]
    seeds: tuple[str, ...]
    matrix: Array
    left_out: tuple[str, ...]


def seed_similarity(items: Sequence[SettingStability], most: int = 60) -> Similarity | None:
    """Similarity of at most `most` runs, the first seeds of every setting; None of under three."""
    items = [item for item in items if item.sample.n]
    if not items:
        return None

    def shape(item: SettingStability) -> list[tuple[object, ...]]:
        return [(e.cell, e.source, e.target, e.operations) for e in item.sample.edges]

    alike = [item for item in items if shape(item) == shape(items[0])]
    per_setting = max(1, most // len(alike))
    alike = alike[:most]
    taken = [min(per_setting, item.sample.n) for item in alike]
    if sum(taken) < 3:
        return None
    between: Array = np.zeros((sum(taken), sum(taken)))
    for index in range(len(items[0].sample.edges)):
        edges = [
            item.sample.edges[index].probabilities[:n] for item, n in zip(alike, taken, strict=True)
        ]
        between += matched_divergences(np.concatenate(edges)) / len(items[0].sample.edges)
    names = [item.setting for item, n in zip(alike, taken, strict=True) for _ in range(n)]
    seeds = [
        "/".join(map(str, dict.fromkeys(seed)))
        for item, n in zip(alike, taken, strict=True)
        for seed in item.sample.seeds[:n].tolist()
    ]
    out = tuple(item.setting for item in items if item not in alike)
    return Similarity(tuple(names), tuple(seeds), 1 - between, out)
