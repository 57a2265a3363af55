"""`launch`: everything of a study file that is not complete yet is trained (design, 6)."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from study.file.left_behind import left_behind
from study.file.schema import StudyFile
from study.opening import Launching, OpenStudy, open_study
from study.scheduling.progress import Progress
from study.store import checkpoints
from study.store.door import Storage
from study.store.folder import clear_leftovers, write_description
from study.store.lock import read_heartbeat
from study.store.registry import Pack, Registry, pack_size
from study.store.shards import fill_benchmark, read_runs


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


class PackList:
    """A study's packs as a `Source`: each once, in order."""

    def __init__(self, packs: list[Pack]) -> None:
        self._left = deque(packs)

    def next(self) -> Pack | None:
        return self._left.popleft() if self._left else None

    @property
    def exhausted(self) -> bool:
        return not self._left

    def ended(self, pack: Pack, objective: float | None) -> None:
        """What has become of it stands in `runs/` and in the progress."""


def launch(file: StudyFile, storage: str, how: Launching | None = None) -> Outcome:
    """Train all packs of a study that are not complete, locally or on a cluster.

    Raises `StudyError` for what can be refused before anything runs, `LaunchEnded` where it cannot
    go on, `KeyboardInterrupt` on SIGINT and SIGTERM (once packs have written their checkpoints).
    """
    study = open_study(file, storage, "launch", how or Launching())
    notify, folder = study.how.notify, study.folder
    for notice in study.expansion.merged:
        notify(notice)
    before = study.runs
    for name, why in before.passed_over.items():
        notify(f"{name}: passed over ({why})")
    asked = [run.run_id for run in study.expansion.runs]
    outcome = Outcome(folder, len(asked))
    registry = Registry.read(folder)
    known = registry.complete_runs(before.run_ids)
    for line in left_behind(study.file, study.data, study.expansion, *known):
        notify(line)
    progress = Progress(len(asked), len(before.run_ids.intersection(asked)), 0)
    if before.run_ids.issuperset(asked):
        if study.lookup is not None or left_by_a_dead_launch(folder):
            with study.held(progress):
                _tidy(study, set())
        return outcome
    size = pack_size(file, study.expansion, study.data)
    for line in registry.kept_packs(asked, before.run_ids, size):
        notify(line)
    with study.training(progress) as train:
        registry = Registry.read(folder)  # another launch may have ended since
        complete = study.complete().run_ids
        todo = registry.include(study.expansion, file, complete, size)
        progress.expect(*_expected(todo, asked, complete))
        write_description(folder, file, "launch")
        registry.write(folder)
        _tidy(study, {pack.pack_id for pack in todo})
        train(PackList(todo), None)
        found = study.complete().run_ids
        left = [pack for pack in todo if not found.issuperset(r.run_id for r in pack.runs)]
        checkpoints.clear_all_but(folder, {pack.pack_id for pack in left})
    outcome.runs_new = len(found - before.run_ids)
    outcome.failed = progress.failed
    outcome.unfinished = [run_id for run_id in asked if run_id not in found]
    return outcome


def _expected(todo: list[Pack], asked: list[str], complete: set[str]) -> tuple[int, int, int, int]:
    """Runs in all, runs complete, and epochs and packs left."""
    done = len(complete.intersection(asked))
    epochs = sum(run.setting.search.epochs for pack in todo for run in pack.runs)
    return done + sum(len(pack.runs) for pack in todo), done, epochs, len(todo)


def left_by_a_dead_launch(folder: Storage) -> bool:
    """Whether a launch ended after its last pack and before it could put things in order."""
    return read_heartbeat(folder).get("state") == "running" or folder.exists(checkpoints.FOLDER)


def _tidy(study: OpenStudy, packs: set[str]) -> None:
    """Remove what dead launches left, but for these packs' checkpoints; fill in the benchmark."""
    clear_leftovers(study.folder)
    checkpoints.clear_all_but(study.folder, packs)
    filled = fill_benchmark(study.folder, study.lookup) if study.lookup is not None else 0
    if filled:
        study.how.notify(f"benchmark accuracies filled in for {filled} complete runs")


def summary(folder: Storage) -> list[dict[str, Any]]:
    """One row per setting: runs, accuracies, displacement, number of genotypes."""
    columns = (
        *("setting", "status", "genotype", "derived_accuracy", "valid_accuracy"),
        *("architecture_displacement", "benchmark_test"),
    )
    by_setting: dict[str, list[dict[str, Any]]] = {}
    for row in read_runs(folder, columns).rows:
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
