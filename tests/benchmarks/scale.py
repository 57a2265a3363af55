"""What a pack costs its driver: a study of thousands of packs, each a stub of a search.

    python -m tests.benchmarks.scale --runs 2000
    python -m tests.benchmarks.scale --written 10000

The second one trains nothing: it writes the tables of that many packs, and times what reads them.

Packs of one run and one epoch, trained by the real trainable with `stub.StubPack` in place of the
search, on this machine. Prints the driver's CPU seconds a pack, its memory at the end and its
growth a pack (least squares over samples of the second half and over all), packs a second, and
what a relaunch with nothing to do reads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import yaml

ROOT = Path(__file__).parents[2]
INJECT = ROOT / "tests" / "study" / "faults" / "inject"
FAULT = {"at": "itnas.method.search:SearchPack", "by": "tests.benchmarks.stub:StubPack"}
SAMPLE_SECONDS = 0.5
WARM = 100
"""packs after which the workers have started and imported what they need"""


def study(folder: Path, runs: int) -> Path:
    content = {
        "name": "scale",
        "space": "nas-bench-201",
        "data": {"source": "digits", "resolution": 8, "subset": 200},
        "search": {"epochs": 1, "batch_size": 32, "channels": 4, "cells": 1},
        "seeds": f"0..{runs - 1}",
        "pack": 1,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


class Sampler(threading.Thread):
    """Packs done, CPU seconds and memory of this process, twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.rows: list[tuple[float, float, float, float]] = []
        self.packs = 0
        self.ended = threading.Event()

    def take(self) -> None:
        memory = psutil.Process().memory_info().rss / 2**20
        self.rows.append((self.packs, time.process_time(), memory, time.perf_counter()))

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_SECONDS):
            self.take()


def measure(runs: int) -> dict[str, float]:
    """Launch, and launch again."""
    from study.file import load_study
    from study.launch import launch
    from study.opening import Launching
    from study.scheduling.progress import Progress

    sampler, completed = Sampler(), Progress.completed

    def on_end(self: Progress, pack: str) -> None:
        completed(self, pack)
        sampler.packs = self.packs_done

    Progress.completed = on_end  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        path, out = study(Path(folder), runs), str(Path(folder) / "out")
        how = Launching(notify=lambda line: print(line, file=sys.stderr))
        sampler.start()
        outcome = launch(load_study(path), out, how)
        sampler.ended.set()
        sampler.take()
        assert outcome.runs_new == runs, outcome
        began = time.perf_counter()
        again = launch(load_study(path), out, how)
        assert not again.runs_new
        relaunch = time.perf_counter() - began
    rows = np.array([row for row in sampler.rows if row[0] >= WARM])
    late = rows[rows[:, 0] >= runs / 2]
    return {
        "packs": float(runs),
        "cpu_seconds_a_pack": float(np.polyfit(rows[:, 0], rows[:, 1], 1)[0]),
        "cpu_seconds_a_pack_late": float(np.polyfit(late[:, 0], late[:, 1], 1)[0]),
        "memory_mib": float(rows[:, 2].max()),
        "growth_mib_a_pack": float(np.polyfit(rows[:, 0], rows[:, 2], 1)[0]),
        "growth_mib_a_pack_late": float(np.polyfit(late[:, 0], late[:, 2], 1)[0]),
        "packs_a_second": float((rows[-1, 0] - rows[0, 0]) / (rows[-1, 3] - rows[0, 3])),
        "relaunch_seconds": relaunch,
    }


def written(runs: int) -> dict[str, float]:
    """A study whose packs are all complete: its files, and the seconds of who reads them."""
    from itnas.settings import EngineSettings
    from study.file import load_study
    from study.file.grid import expand
    from study.launch import launch
    from study.opening import Launching, read_data
    from study.status import study_status
    from study.store.folder import study_folder, write_description
    from study.store.registry import Registry
    from study.store.shards import pack_tables, write_shards
    from tests.benchmarks.stub import StubPack

    with tempfile.TemporaryDirectory() as folder:
        path, out = study(Path(folder), runs), str(Path(folder) / "out")
        file = load_study(path)
        data, registry, storage = read_data(file), Registry(), study_folder(out, file.name)
        began = time.perf_counter()
        packs = registry.include(expand(file, data), file, set(), 1)
        write_description(storage, file, "launch")
        registry.write(storage)
        found = {"prepare_seconds": time.perf_counter() - began}
        result = StubPack([packs[0].runs[0].setting], [packs[0].runs[0].seeds], data,
                          EngineSettings()).results()  # fmt: skip
        for pack in packs:
            tables = pack_tables(pack, result, study=file.name, device="cpu", backend="stub",
                                 gpu=None, attempts=1, started=datetime.now(UTC))  # fmt: skip
            write_shards(storage, pack.pack_id, tables)
        how = Launching(notify=lambda line: None)
        for name, do in (
            ("relaunch_seconds", lambda: launch(load_study(path), out, how)),
            ("status_seconds", lambda: study_status(f"{out}/scale")),
        ):
            began = time.perf_counter()
            do()
            found[name] = time.perf_counter() - began
        found["packs_json_mib"] = (Path(out) / "scale" / "packs.json").stat().st_size / 2**20
        found["memory_mib"] = psutil.Process().memory_info().rss / 2**20
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--written", type=int)
    options = parser.parse_args()
    if options.written:
        found = written(options.written)
        print(", ".join(f"{name} {value:.4g}" for name, value in found.items()))
        return
    os.environ["INJECT"] = json.dumps([FAULT])
    os.environ["PYTHONPATH"] = os.pathsep.join((str(INJECT), str(ROOT)))
    found = measure(options.runs)
    print(", ".join(f"{name} {value:.4g}" for name, value in found.items()))


if __name__ == "__main__":
    main()
