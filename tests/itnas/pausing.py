"""Packs that are paused and continued, as cases; and as a program, half of it in each process.

python -m tests.itnas.pausing save FOLDER      every case to its step; its state as a file
python -m tests.itnas.pausing finish FOLDER    every case from its state; its results as a file
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

import itnas
from itnas.kernels import library as kernels
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting
from tests.reference.backends import BACKENDS

EPOCHS = 2
CALM = Seeds(0, 1, 2)
WILD = {"weights_lr": 1e30, "gradient_clip": 0.0}
"""of a run whose loss is not finite from its second step on"""


@dataclass(frozen=True)
class Case:
    """A pack: by run its dependence and what else of its search is its own."""

    space: str
    runs: tuple[tuple[DependenceSettings, dict[str, float]], ...]
    backend: str = "compiled"
    precision: str = "float32"
    batch_size: int = 16

    def pack(self, data: itnas.ImageData) -> itnas.SearchPack:
        """As it is built, at its initialisation."""
        cells = 1 if self.space == "nas-bench-201" else 3
        shape = {"epochs": EPOCHS, "batch_size": self.batch_size, "channels": 2, "cells": cells}
        settings = [
            Setting(self.space, SearchSettings(**shape, **own), dependence)
            for dependence, own in self.runs
        ]
        seeds = [CALM] + [Seeds.all(n) for n in range(3, 2 + len(self.runs))]
        engine = EngineSettings(precision=self.precision, **BACKENDS[self.backend])
        return itnas.SearchPack(settings, seeds, data, engine)


CONTENT = DependenceSettings(attention="content")
PLACEBO = DependenceSettings("placebo", attention="content")
INDEPENDENT = DependenceSettings("independent")
MIXED = (
    (CONTENT, {"transition_lr": 0.3, "momentum": 0.5}),
    (PLACEBO, {"weights_lr": 0.1, "nesterov": True, "gradient_clip": 0.5}),
    (INDEPENDENT, {"architecture_lr": 0.2, "weights_lr_min": 0.0}),
)
CASES = {
    "content": Case("nas-bench-201", ((CONTENT, {}),)),
    "placebo": Case("nas-bench-201", ((PLACEBO, {}),), "sizes", "float64"),
    "independent": Case("darts", ((INDEPENDENT, {}),), "loop"),
    "darts": Case("darts", ((CONTENT, {}),)),
    "darts-groups": Case("darts", ((CONTENT, {}),) * 2, "groups"),
    "mixed": Case("nas-bench-201", MIXED),
    "mixed-float64": Case("nas-bench-201", MIXED, precision="float64"),
    "mixed-groups": Case("nas-bench-201", MIXED, "groups"),
    "mixed-loop-float64": Case("nas-bench-201", MIXED, "loop", "float64"),
    "mixed-bfloat16": Case("nas-bench-201", MIXED, "groups", "bfloat16"),
    "noise": Case("s4", ((DependenceSettings(own_weight=0.3), {}),)),
    "noise-groups": Case("s4", ((CONTENT, {}), (PLACEBO, {})), "groups"),
    "diverging": Case("nas-bench-201", ((CONTENT, WILD), (PLACEBO, {}), (CONTENT, WILD))),
    "diverging-groups": Case("nas-bench-201", ((CONTENT, {}), (PLACEBO, WILD)), "groups"),
}
if kernels.load() is None:
    CASES = {name: case for name, case in CASES.items() if case.backend != "compiled"}


def data(**changed: float) -> itnas.ImageData:
    """Small enough for a few steps an epoch."""
    settings = {"subset": 120, "cutout": 2} | changed
    return itnas.load_data(itnas.DataSettings("digits", **settings))


def moment(name: str, steps: int) -> int:
    """After which step of the whole search a case is saved; drawn, the same every time."""
    return random.Random(name).randrange(1, EPOCHS * steps)


def advance(pack: itnas.SearchPack, steps: int) -> None:
    """Take some steps, as `run_epoch` with a `pause` does; an epoch that ends is measured."""
    taken = 0

    def pause() -> bool:
        nonlocal taken
        taken += 1
        return taken == steps

    while taken < steps:
        if pack.run_epoch(pause):
            taken += 1  # the epoch's last step, after which nothing is asked


def finish(pack: itnas.SearchPack) -> itnas.SearchPack:
    """To the end without a pause."""
    while not pack.finished:
        assert pack.run_epoch()
    return pack


def outcome(pack: itnas.SearchPack) -> list[str]:
    """By run, every field of its result and history but times; equal texts are equal bits."""
    return [repr(_plain(vars(result))) for result in pack.results()]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if "seconds" not in k}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, itnas.EpochRecord):
        return _plain(vars(value))
    return value  # a CellRecord's text has all its numbers


def main(what: str, folder: Path) -> None:
    """One half, for every case."""
    torch.set_num_threads(1)
    images = data()
    for name, case in CASES.items():
        pack = case.pack(images)
        if what == "save":
            advance(pack, moment(name, pack.batches.steps))
            torch.save(pack.state_dict(), folder / f"{name}.pt")
        else:
            pack.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
            (folder / f"{name}.txt").write_text("\n".join(outcome(finish(pack))))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
