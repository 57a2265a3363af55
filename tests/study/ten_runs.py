"""Ten runs whose identity no release may change, and what their `run_id`s are now.

A script too, so that it can be run with another release's code: prints the ten, one a line. Its
arguments are `--set` texts for all of them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from itnas.data import DataSettings, ImageData, load_data
from study.file import load_study
from study.file.grid import Run, expand

RUN_IDS = [
    "755581f8de73", "4a5c6c990a08", "95900abe874e", "bc1f13a13b58", "600a5a1d6217",
    "7b069f9bc913", "5272150d3aec", "a0539c1f7d13", "47aa282b61ee", "da12a8f35592",
]  # fmt: skip
"""as the first release made them"""

NB201 = {"epochs": 1, "batch_size": 32, "channels": 4, "cells": 1}
DARTS = {"epochs": 2, "batch_size": 16, "channels": 4, "cells": 3}


def digits(**data: Any) -> ImageData:
    """200 digits."""
    return load_data(DataSettings(resolution=8, subset=200, **data))


def pictures(**data: Any) -> ImageData:
    """120 RGB images of 3 classes, by arithmetic."""

    def images(count: int, step: int) -> torch.Tensor:
        values = np.arange(count * 3 * 8 * 8) * step % 251
        return torch.from_numpy(values.astype(np.uint8).reshape(count, 3, 8, 8))

    settings = DataSettings("imagefolder:pictures", resolution=8, **data)
    labels, test = torch.arange(120) % 3, torch.arange(30) % 3
    return ImageData(settings, images(120, 7919), labels, images(30, 104729), test, ("a", "b", "c"))


def study(space: str, search: dict[str, Any], dependence: Any = None, **more: Any) -> Any:
    """A study file of one run."""
    grid = {"dependence": [dependence]} if dependence else {}
    return {"name": "ten", "space": space, "search": search, "grid": grid, **more}


CASES: list[tuple[ImageData, dict[str, Any]]] = [
    (digits(), study("nas-bench-201", NB201, {"model": "independent"})),
    (digits(), study("nas-bench-201", NB201, {"attention": "content", "sharing": "edge",
                                              "init": "random", "init_strength": 0.5}, seeds=7)),
    (digits(), study("nas-bench-201", NB201, {"model": "placebo", "attention": "uniform"})),
    (digits(), study("nas-bench-201", NB201, {"trainable": False, "own_weight": 0.3,
                                              "temperature": 2, "stop_gradient": True},
                     seeds=2**31 - 1)),
    (pictures(), study("darts", {**DARTS, "cells": "auto", "architecture_lr": 0.01,
                                 "transition_lr": 1, "attention_lr": 0.03})),
    (pictures(crop=False, flip=True, cutout=4, holdout=0.2),
     study("darts", DARTS, {"model": "placebo", "sharing": "cell"},
           seeds={"weights": 1, "data": 2, "architecture": 3})),
    (digits(), study("nas-bench-201", NB201, {"init": "uniform"},
                     engine={"precision": "float64"})),
    (pictures(), study("s1", {**DARTS, "weight_decay": 0, "architecture_weight_decay": 0.01,
                              "gradient_clip": 0}, {"model": "independent"},
                       engine={"precision": "bfloat16"})),
    (pictures(cutout=2), study("nas-bench-201", {**NB201, "momentum": 0.8, "nesterov": True,
                                                 "weights_lr": 0.1, "weights_lr_min": 0,
                                                 "transition_weight_decay": 0.001},
                               seeds={"weights": 5, "architecture": 9})),
    (digits(crop=False, holdout=0.25),
     study("nas-bench-201", {"epochs": 12, "batch_size": 8, "channels": 16}, seeds=42)
     | {"grid": {"search.transition_lr": [0.5]}}),
]  # fmt: skip
"""the images, and a study file of one run"""


def ten_runs(overrides: Sequence[str] = ()) -> list[Run]:
    """The ten, as this release expands them."""
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        for data, content in CASES:
            path.write_text(yaml.safe_dump(content))
            runs += expand(load_study(path, overrides), data).runs
    return runs


if __name__ == "__main__":
    print("\n".join(run.run_id for run in ten_runs(sys.argv[1:])))
