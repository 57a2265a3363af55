"""One door into a study, for `launch` and `tune`: all that can be refused first, all writing last.

`open_study` reads and refuses. `OpenStudy.training` starts Ray or joins it, looks at its nodes, and
takes the study's lock; only then is anything of the study written. A launch that is refused leaves
the storage as it found it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from itnas.data import DataError, ImageData, load_data
from study.errors import StudyError
from study.file.grid import Expansion, expand
from study.file.schema import StudyFile
from study.scheduling.interrupt import Interrupt
from study.scheduling.loggers import check_logger, logger_callbacks
from study.scheduling.progress import LiveLine, Progress
from study.scheduling.queue import PackQueue, Source
from study.store import checkpoints
from study.store.benchmark import Lookup, read_benchmark
from study.store.door import Storage
from study.store.folder import Command, check_folder, clear_leftovers, study_folder
from study.store.lock import Lock, refuse_if_running
from study.store.shards import BENCHMARK, Runs, fill_benchmark, read_runs

Notify = Callable[[str], None]

COLUMNS = (
    *("setting", "status", "genotype", "derived_accuracy", "valid_accuracy"),
    *("architecture_displacement", *BENCHMARK),
)
"""of `runs`: all that a launch looks at, so that a shard is opened once"""


@dataclass(frozen=True)
class Launching:
    """How a launch is to run: where, and whom it tells."""

    address: str | None = None
    """of a Ray cluster; None: Ray on this machine"""
    wait_minutes: float = 0.0
    """how long to wait for a node that can take a pack"""
    notify: Notify = print
    """given lines worth telling while it goes"""


@dataclass
class OpenStudy:
    """A study file with all that it needs, found sound; nothing is written yet."""

    file: StudyFile
    folder: Storage
    data: ImageData
    lookup: Lookup | None
    expansion: Expansion
    how: Launching
    before: dict[str, Any] = field(default_factory=dict)
    """the last heartbeat of a driver before this one"""

    @cached_property
    def runs(self) -> Runs:
        """What was complete when it was first asked for."""
        return self.complete()

    def complete(self) -> Runs:
        """The runs that are complete now, with `COLUMNS`."""
        return read_runs(self.folder, COLUMNS)

    def tidy(self, runs: Runs, packs: set[str]) -> None:
        """Remove what dead launches left, but for these packs' checkpoints; fill in the benchmark.

        For the launch that holds the study; `runs` are those that are complete, with `COLUMNS`.
        """
        clear_leftovers(self.folder)
        checkpoints.clear_all_but(self.folder, packs)
        filled = fill_benchmark(self.folder, self.lookup, runs) if self.lookup is not None else 0
        if filled:
            self.how.notify(f"benchmark accuracies filled in for {filled} complete runs")

    def gpu_bytes(self) -> float | None:
        """Of the smallest GPU that a pack may be given on the cluster that was joined; None where
        that does not matter, or is this machine's.
        """
        asked = self.file.pack == "auto" and self.file.resources.gpu_memory == "auto"
        if self.how.address is None or not asked or not self.file.resources.gpu:
            return None
        from study.cluster.nodes import gpu_bytes

        return gpu_bytes(self.file.resources)

    @contextlib.contextmanager
    def held(self, progress: Progress) -> Iterator[Lock]:
        """The study's lock, without Ray."""
        stale = self.file.waits.stale_seconds
        with Lock(self.folder, progress.snapshot, stale, self.how.notify, self.before) as lock:
            yield lock

    @contextlib.contextmanager
    def training(self, progress: Progress) -> Iterator[Callable[[Source, int | None], None]]:
        """Ray and the study's lock; gives a function that trains a source's packs to their end.

        The second argument of that is the largest number of packs at once, None for as many as
        there is room for.
        """
        from study.cluster.backends import LocalBackend, cluster_backends
        from study.cluster.join import HeadWatch, cluster

        file, how, engine = self.file, self.how, self.file.engine_settings()
        local = LocalBackend(engine) if how.address is None else None
        if local is not None:
            local.start()
        arrays = self.data.to_arrays()
        size = sum(getattr(value, "nbytes", 0) for value in arrays.values())
        joined = cluster(
            how.address, file.resources, self.folder, size, how.wait_minutes, how.notify
        )
        with self.folder.footprint(), Interrupt() as interrupt, joined:
            interrupt.install()
            loggers = logger_callbacks(file, self.folder, how.notify)
            with self.held(progress) as lock, LiveLine(progress) as line:
                from study.cluster.nodes import versions
                from study.scheduling.failures import Retries
                from study.scheduling.orders import Orders
                from study.scheduling.trainable import TrialContext
                from study.scheduling.tuner import Conductor, run_packs

                def head_lost(address: str) -> None:
                    """Runs in a thread, while the main one may wait for Ray for ever."""
                    lock.end("interrupted")
                    print(_head_lost(address), file=sys.stderr, flush=True)
                    os._exit(1)

                def train(source: Source, at_once: int | None = None) -> None:
                    told = local.lines() if local else cluster_backends(engine, file.resources)
                    for backend in told:
                        how.notify(backend)
                    queue = PackQueue(
                        source,
                        Retries(file.max_failures, file.waits.retry_seconds),
                        progress,
                        self.folder,
                        how.notify,
                        file.fail_fast,
                    )
                    context = TrialContext(
                        study=file.name,
                        folder=self.folder,
                        token=lock.token,
                        engine=engine,
                        threads=max(int(file.resources.cpu), 1),
                        lookup=self.lookup,
                        versions=versions(),
                        checkpoint_epochs=file.checkpoint_epochs,
                        checkpoint_minutes=file.checkpoint_minutes,
                        max_failures=file.max_failures,
                        retry_seconds=file.waits.retry_seconds,
                    )
                    conductor = Conductor(
                        queue,
                        file.resources,
                        lock,
                        line,
                        interrupt,
                        Orders(lock.token),
                        file.waits.stop_seconds,
                        loggers,
                    )
                    run_packs(conductor, {"context": context, "data": arrays}, at_once)

                with HeadWatch(file.waits.head_seconds, head_lost):
                    yield train


def _head_lost(address: str) -> str:
    return (
        f"the cluster's head at {address} has been lost; once a cluster is there again, the same "
        "command goes on: what is complete is kept, packs go on from their checkpoints"
    )


def open_study(file: StudyFile, storage: str, command: Command, how: Launching) -> OpenStudy:
    """Read all that a command needs and refuse, with `StudyError`, what can be refused by that."""
    folder = study_folder(storage, file.name)
    check_folder(folder, command)
    before = refuse_if_running(folder, file.waits.stale_seconds, how.notify)
    check_device(file, local=how.address is None)
    check_logger(file, folder)
    lookup = read_benchmark(file.benchmark) if file.benchmark else None
    data = read_data(file)
    return OpenStudy(file, folder, data, lookup, expand(file, data), how, before)


def read_data(file: StudyFile) -> ImageData:
    """The study's images, decoded. `StudyError` with one line where they cannot be used."""
    try:
        return load_data(file.data)
    except DataError as error:
        text = str(error)
        raise StudyError(text if text.startswith("data") else f"data.source: {text}") from None


def check_device(file: StudyFile, local: bool) -> None:
    """`StudyError` where CUDA is asked for on this machine and is not there."""
    device = file.engine_settings().device
    if not local or device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise StudyError(
            f"engine.device: {device} is asked for and this machine has no CUDA; "
            "cpu computes on the processor (resources: {gpu: 0})"
        )
