"""`launch`: everything of a study file that is not complete yet is trained (design, 6)."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from itnas.data import DataError, ImageData, load_data
from study.errors import StudyError
from study.file.grid import expand
from study.file.schema import StudyFile
from study.scheduling.progress import LiveLine, Progress
from study.store.benchmark import Lookup, read_benchmark
from study.store.door import Storage
from study.store.folder import check_folder, study_folder, write_description
from study.store.lock import Heartbeat, refuse_if_running
from study.store.registry import Pack, Registry, pack_size
from study.store.shards import fill_benchmark, read_runs

Notify = Callable[[str], None]


@dataclass
class Outcome:
    """What a launch came to."""

    folder: Storage
    runs_total: int
    """runs asked for"""
    runs_new: int = 0
    """runs completed by this launch"""
    failed: dict[str, str] = field(default_factory=dict)
    """the last line of each failed pack's error"""
    unfinished: list[str] = field(default_factory=list)
    """run_ids asked for and not in `runs/`"""


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


def launch(
    file: StudyFile, storage: str, address: str | None = None, notify: Notify = print
) -> Outcome:
    """Train all packs of a study that are not complete, locally or on a cluster.

    `notify` is given lines worth telling while it goes. Raises `StudyError` for what can be
    refused before anything runs, `KeyboardInterrupt` on SIGINT and SIGTERM.
    """
    folder = study_folder(storage, file.name)
    check_folder(folder, "launch")
    refuse_if_running(folder)
    check_device(file, local=address is None)
    lookup = read_benchmark(file.benchmark) if file.benchmark else None
    data = read_data(file)
    expansion = expand(file, data)
    for notice in expansion.merged:
        notify(notice)
    complete = {row["run_id"] for row in read_runs(folder, [])}
    registry = Registry.read(folder)
    todo = registry.include(expansion, file, complete, pack_size(file, expansion, data))
    asked = [run.run_id for run in expansion.runs]
    outcome = Outcome(folder, len(asked))
    if not todo:
        if lookup and complete:
            _fill(folder, lookup, notify)
        return outcome
    epochs = sum(run.setting.search.epochs for pack in todo for run in pack.runs)
    done = len(complete.intersection(asked))
    progress = Progress(done + sum(len(pack.runs) for pack in todo), done, epochs)
    write_description(folder, file, "launch")
    with Heartbeat(folder, progress) as heartbeat:
        registry.write(folder)
        if lookup and complete:
            _fill(folder, lookup, notify)
        with running(file, folder, address, data, lookup, heartbeat, notify) as start:
            packs = {pack.pack_id: pack for pack in todo}
            start(
                partial(_by_id, packs),
                lambda config: (config["pack"], len(packs[config["pack"]].runs)),
                lambda: _next_round(folder, todo, progress),
            )
    found = {row["run_id"] for row in read_runs(folder, [])}
    outcome.runs_new = len(found - complete)
    outcome.failed = progress.failed
    outcome.unfinished = [run_id for run_id in asked if run_id not in found]
    return outcome


def _by_id(packs: dict[str, Pack], config: dict[str, Any]) -> tuple[Pack, None]:
    return packs[config["pack"]], None


def _next_round(
    folder: Storage, packs: list[Pack], progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Packs that are neither complete nor failed, for a Tuner."""
    from ray import tune

    complete = {row["run_id"] for row in read_runs(folder, [])}
    left = [
        pack.pack_id
        for pack in packs
        if pack.pack_id not in progress.failed
        and not all(run.run_id in complete for run in pack.runs)
    ]
    return ({"pack": tune.grid_search(left)}, {}) if left else None


def _fill(folder: Storage, lookup: Lookup, notify: Notify) -> None:
    filled = fill_benchmark(folder, lookup)
    if filled:
        notify(f"benchmark accuracies filled in for {filled} complete runs")


@contextlib.contextmanager
def running(
    file: StudyFile,
    folder: Storage,
    address: str | None,
    data: ImageData,
    lookup: Lookup | None,
    heartbeat: Heartbeat,
    notify: Notify,
) -> Iterator[Callable[..., None]]:
    """Ray, the live line and the signal handlers; gives `start(pack_of, identify, next_round)`."""
    from study.scheduling.backends import LocalBackend, cluster_backends
    from study.scheduling.cluster import Interrupt, cluster

    engine = file.engine_settings()
    local = LocalBackend(engine) if address is None else None
    if local is not None:
        local.start()
    arrays = data.to_arrays()
    size = sum(getattr(value, "nbytes", 0) for value in arrays.values())
    with (
        Interrupt() as interrupt,
        cluster(address, file.resources, folder, size),
        LiveLine(heartbeat.progress) as line,
    ):
        interrupt.install()
        from study.scheduling.trainable import TrialContext
        from study.scheduling.tuner import Watch, run_trials

        context = TrialContext(
            study=file.name,
            folder=folder,
            engine=engine,
            threads=max(int(file.resources.cpu), 1),
            lookup=lookup,
        )

        def start(pack_of: Any, identify: Any, next_round: Any) -> None:
            for told in local.lines() if local else cluster_backends(engine, file.resources):
                notify(told)
            watch = Watch(heartbeat.progress, line, heartbeat, interrupt, identify)
            arguments = {"pack_of": pack_of, "context": context, "data": arrays}
            run_trials(arguments, file.resources, watch, next_round)

        yield start


def summary(folder: Storage) -> list[dict[str, Any]]:
    """One row per setting: runs, accuracies, displacement, number of genotypes."""
    columns = (
        *("setting", "status", "genotype", "derived_accuracy", "valid_accuracy"),
        *("architecture_displacement", "benchmark_test"),
    )
    by_setting: dict[str, list[dict[str, Any]]] = {}
    for row in read_runs(folder, columns):
        by_setting.setdefault(row["setting"], []).append(row)
    table = []
    for name, rows in by_setting.items():
        sound = [row for row in rows if row["status"] != "diverged"]
        table.append({
            "setting": name,
            "runs": len(rows),
            "diverged": len(rows) - len(sound),
            "genotypes": len(Counter(row["genotype"] for row in sound)),
            **{c: _mean([row[c] for row in sound]) for c in columns[3:]},
        })  # fmt: skip
    return table


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
