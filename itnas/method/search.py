"""Searches from the outside: one call for a few seeds, and what a step costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from itnas.data import ImageData
from itnas.method.bilevel import SearchPack, resolve, steps_per_run
from itnas.method.records import RunResult
from itnas.settings import EngineSettings, Seeds, Setting

__all__ = ["SearchPack", "resolve", "run_search", "seconds_per_step", "steps_per_run"]


def run_search(
    setting: Setting,
    seeds: Sequence[int | Seeds],
    data: ImageData,
    engine: EngineSettings | None = None,
) -> list[RunResult]:
    """Search with one setting and several seeds; an integer sets all three of a run's seeds."""
    triples = [s if isinstance(s, Seeds) else Seeds.all(s) for s in seeds]
    pack = SearchPack([setting] * len(triples), triples, data, engine)
    while not pack.finished:
        pack.run_epoch()
    return pack.results()


def seconds_per_step(
    setting: Setting,
    data: ImageData,
    engine: EngineSettings,
    budget: float = 5.0,
    replicas: int = 1,
) -> float:
    """Estimate of a pack's seconds per search step, measured here on a few small batches.

    The cost is taken to be affine in the batch size, so that the full batch of a large network
    need not be paid for (or held in memory). Stops soon after `budget` seconds.
    """
    setting = resolve(setting, data)
    full = setting.search.batch_size
    seeds = [Seeds.all(n) for n in range(replicas)]
    pack = SearchPack([setting] * replicas, seeds, data, replace(engine, graphs=False))
    images, labels = next(pack.batches.training("weights", 0))
    started = time.perf_counter()
    seen: dict[int, float] = {}
    for size in (2, 2, min(8, full), min(16, full), full, full):  # the first one warms up
        predicted = max(seen.values(), default=0.0) * size / max(seen, default=size)
        if time.perf_counter() - started + predicted > budget and seen:
            break
        before = time.perf_counter()
        pack.architecture_step(images[:, :size], labels[:, :size])
        pack.weight_step(images[:, :size], labels[:, :size])[0].tolist()
        seen[size] = time.perf_counter() - before
    sizes = sorted(seen)
    if len(sizes) == 1:
        return seen[sizes[0]] * full / sizes[0]
    low, high = sizes[-2:]
    slope = max(seen[high] - seen[low], 0.0) / (high - low)
    return seen[high] + slope * (full - high)
