"""What a launch costs a pack beyond its bare search: trial start to row in `runs/`, checkpoints on.

    python -m tests.benchmarks.launch_overhead --epochs 40 --repeats 3

Both in processes of their own, one after the other, `repeats` times: the search alone (a pack
trained to its end, Python's imports left out), and a launch of that one pack on this machine (Ray's
start left out), from the moment Ray gives the trial its worker to the moment its rows are written.
Prints both, and the median of their ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from itnas.settings import EngineSettings, Seeds
from study.file import load_study
from study.file.grid import expand
from study.opening import Launching, read_data

SEEDS = 4


def study(folder: Path, epochs: int) -> Path:
    content = {
        "name": "overhead",
        "space": "nas-bench-201",
        "data": {"source": "digits", "resolution": 8},
        "search": {"epochs": epochs, "batch_size": 64, "channels": 16, "cells": 1},
        "seeds": f"0..{SEEDS - 1}",
        "pack": SEEDS,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def bare(path: Path) -> float:
    """Seconds of the search alone."""
    import torch

    from itnas.method.search import SearchPack

    torch.set_num_threads(1)
    file = load_study(path)
    data = read_data(file)
    setting = expand(file, data).settings[0].setting
    began = time.perf_counter()
    pack = SearchPack(
        [setting] * SEEDS, [Seeds.all(n) for n in range(SEEDS)], data, EngineSettings()
    )
    while not pack.finished:
        pack.run_epoch()
    pack.results()
    return time.perf_counter() - began


def launched(path: Path) -> float:
    """Seconds of the pack's trial, in a launch on this machine."""
    from study.launch import launch
    from study.scheduling.queue import PackQueue

    moments: list[float] = []
    started, completed = PackQueue.started, PackQueue.completed

    def on_start(self: PackQueue, *given: object) -> None:
        moments.append(time.perf_counter())
        started(self, *given)  # type: ignore[arg-type]

    def on_end(self: PackQueue, *given: object) -> None:
        moments.append(time.perf_counter())
        completed(self, *given)  # type: ignore[arg-type]

    PackQueue.started, PackQueue.completed = on_start, on_end  # type: ignore[method-assign]
    outcome = launch(load_study(path), str(path.parent / "out"), Launching(notify=lambda _: None))
    assert outcome.runs_new == SEEDS, outcome
    return moments[1] - moments[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=("bare", "launched"))
    parser.add_argument("--study", type=Path)
    options = parser.parse_args()
    if options.one:
        function = {"bare": bare, "launched": launched}[options.one]
        print(json.dumps(function(options.study)))
        return
    ratios = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            path = study(Path(folder), options.epochs)
            seconds = {}
            for one in ("bare", "launched"):
                command = [sys.executable, "-m", __spec__.name, "--one", one, "--study", str(path)]
                result = subprocess.run(command, check=True, capture_output=True, text=True)
                seconds[one] = float(result.stdout.splitlines()[-1])
        ratios.append(seconds["launched"] / seconds["bare"])
        print(f"bare {seconds['bare']:.1f} s, launched {seconds['launched']:.1f} s", flush=True)
    overhead = 100 * (statistics.median(ratios) - 1)
    print(f"overhead {overhead:.1f}% (median of {len(ratios)})")


if __name__ == "__main__":
    main()
