"""Searches from the outside: packs of runs, one call for a few seeds, and what a step costs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from itnas.bilevel import Run
from itnas.data import ImageData
from itnas.records import RunResult
from itnas.settings import EngineSettings, Seeds, Setting
from itnas.spaces import get_space


class SearchPack:
    """Several runs trained together (design, section 2); here one after another in each epoch.

    >>> pack = SearchPack([setting] * 4, [Seeds.all(n) for n in range(4)], data)
    >>> while not pack.finished:
    ...     pack.run_epoch()
    >>> genotypes = [result.genotype for result in pack.results()]
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        seeds: Sequence[Seeds],
        data: ImageData,
        engine: EngineSettings | None = None,
    ) -> None:
        """Build every run at its initialisation (epoch -1 of its history).

        `auto` values are resolved here. Raises ValueError for a setting that does not fit its
        space or the data, DataError (a ValueError) for too few images, RuntimeError from torch
        for a device that is not there.
        """
        engine = engine or EngineSettings()
        pairs = zip(settings, seeds, strict=True)
        self.runs = [Run(resolve(s, data), seed, data, engine) for s, seed in pairs]
        if len({run.setting.search.epochs for run in self.runs}) != 1:
            raise ValueError("search.epochs: the runs of a pack need one number of epochs")
        self.epoch = 0
        """finished epochs"""

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return self.runs[0].setting.search.epochs

    @property
    def finished(self) -> bool:
        """Nothing left to train: all epochs are done, or every run has diverged."""
        return self.epoch >= self.epochs or all(run.diverged for run in self.runs)

    def run_epoch(self) -> None:
        """Train every run that has not diverged for one epoch and measure it."""
        for run in self.runs:
            if not run.diverged:
                run.run_epoch(self.epoch)
        self.epoch += 1

    def progress(self) -> dict[str, float]:
        """Means over the runs of their latest metrics, for a scheduler."""
        names = ("train_loss", "valid_loss", "valid_accuracy", "derived_accuracy")
        latest = [run.history[-1].metrics for run in self.runs]
        values = {n: [m[n] for m in latest if m.get(n) is not None] for n in names}
        return {n: math.fsum(v) / len(v) if v else math.nan for n, v in values.items()}  # type: ignore[arg-type]

    def results(self) -> list[RunResult]:
        """What every run has come to so far."""
        return [run.result() for run in self.runs]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the search depends on, at the end of an epoch.

        Tensors and plain values only: `torch.load(..., weights_only=True)` reads it. Random
        streams are keyed by epoch, so there is no generator's state in it.
        """
        return {"epoch": self.epoch, "runs": [run.state_dict() for run in self.runs]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of a pack of the same runs."""
        for run, part in zip(self.runs, state["runs"], strict=True):
            run.load_state_dict(part)
        self.epoch = state["epoch"]


def steps_per_run(setting: Setting, data: ImageData) -> int:
    """Search steps of a whole run. DataError where a part is smaller than a batch."""
    return data.steps_per_epoch(setting.search.batch_size) * setting.search.epochs


def resolve(setting: Setting, data: ImageData) -> Setting:
    """The setting with every `auto` as a number, checked against its space and the data."""
    space = get_space(setting.space)
    setting = setting.resolved(space.default_cells, steps_per_run(setting, data))
    if setting.search.cells < space.minimum_cells:  # type: ignore[operator]
        raise ValueError(
            f"search.cells: {setting.search.cells} is not allowed; {space.name} needs at least "
            f"{space.minimum_cells} (a normal cell and two reductions)"
        )
    return setting


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
    setting: Setting, data: ImageData, engine: EngineSettings, budget: float = 5.0
) -> float:
    """Estimate of one search step's seconds, measured here on a few small batches.

    The cost is taken to be affine in the batch size, so that the full batch of a large network
    need not be paid for (or held in memory). Stops soon after `budget` seconds.
    """
    setting = resolve(setting, data)
    full = setting.search.batch_size
    run = Run(setting, Seeds.all(0), data, engine)
    images, labels = next(run.batches.training("weights", 0))
    started = time.perf_counter()
    seen: dict[int, float] = {}
    for size in (2, 2, min(8, full), min(16, full), full, full):  # the first one warms up
        predicted = max(seen.values(), default=0.0) * size / max(seen, default=size)
        if time.perf_counter() - started + predicted > budget and seen:
            break
        before = time.perf_counter()
        run.architecture_step(images[:size], labels[:size])
        run.weight_step(images[:size], labels[:size])[0].item()
        seen[size] = time.perf_counter() - before
    sizes = sorted(seen)
    if len(sizes) == 1:
        return seen[sizes[0]] * full / sizes[0]
    low, high = sizes[-2:]
    slope = max(seen[high] - seen[low], 0.0) / (high - low)
    return seen[high] + slope * (full - high)
