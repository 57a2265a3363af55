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
from study.store.folder import write_description
from study.store.lock import read_heartbeat
from study.store.registry import Pack, Registry, pack_size
from study.store.shards import Runs, benchmark_changes

MEANS = ("derived_accuracy", "valid_accuracy", "architecture_displacement", "benchmark_test")
"""of a setting's runs, in its row of the summary"""


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
    settings: list[str] = field(default_factory=list)
    """names of the settings asked for, in the study file's order"""
    complete: Runs = field(default_factory=lambda: Runs([], {}))
    """all that is in `runs/`, with the columns of `opening.COLUMNS`"""


class PackList:
    """A study's packs as a `Source`: each once, in order."""

    def __init__(self, packs: list[Pack]) -> None:
        self._left = deque(packs)

    def next(self) -> Pack | None:
        return self._left.popleft() if self._left else None

    @property
    def exhausted(self) -> bool:
        return not self._left

    def ended(self, pack: Pack, complete: bool) -> None:
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
    outcome = Outcome(folder, len(asked), complete=before)
    registry = Registry.read(folder)
    known = registry.complete_runs(before.run_ids)
    for name in registry.new_settings(study.expansion):
        notify(f"new setting: {name}")
    for line in left_behind(study.file, study.data, study.expansion, *known):
        notify(line)
    progress = Progress(len(asked), len(before.run_ids.intersection(asked)), 0)
    if before.run_ids.issuperset(asked):
        outcome.settings = [registry.name(one) for one in study.expansion.settings]
        if _untidy(study):
            with study.held(progress):
                study.tidy(before, set())
        return outcome
    with study.training(progress) as train:
        registry = Registry.read(folder)  # another launch may have ended since
        now = study.complete()
        size = pack_size(file, study.expansion, study.data, study.gpu_bytes())
        for line in registry.kept_packs(asked, now.run_ids, size):
            notify(line)
        todo = registry.include(study.expansion, file, now.run_ids, size)
        progress.expect(*_expected(todo, asked, now.run_ids))
        write_description(folder, file, "launch")
        registry.write(folder)
        study.tidy(now, {pack.pack_id for pack in todo})
        train(PackList(todo), None)
        outcome.complete = study.complete()
        found = outcome.complete.run_ids
        left = [pack for pack in todo if not found.issuperset(r.run_id for r in pack.runs)]
        checkpoints.clear_all_but(folder, {pack.pack_id for pack in left})
    outcome.settings = [registry.name(one) for one in study.expansion.settings]
    outcome.runs_new = len(found - before.run_ids)
    outcome.failed = progress.failed
    outcome.unfinished = [run_id for run_id in asked if run_id not in found]
    return outcome


def _expected(todo: list[Pack], asked: list[str], complete: set[str]) -> tuple[int, int, int, int]:
    """Runs in all, runs complete, and epochs and packs left."""
    done = len(complete.intersection(asked))
    epochs = sum(run.setting.search.epochs for pack in todo for run in pack.runs)
    return done + sum(len(pack.runs) for pack in todo), done, epochs, len(todo)


def _untidy(study: OpenStudy) -> bool:
    """Whether there is something to do although all runs are complete: a launch ended after its
    last pack and before it could put things in order, or the benchmark is another.
    """
    folder, lookup = study.folder, study.lookup
    state = read_heartbeat(folder).get("state")
    if state == "running" or folder.exists(checkpoints.FOLDER):
        return True
    return lookup is not None and bool(benchmark_changes(study.runs, lookup))


def summary(outcome: Outcome) -> list[dict[str, Any]]:
    """One row per setting: runs, accuracies, displacement, number of genotypes.

    In the study file's order; settings that are complete and not in it any more come last.
    """
    by_setting: dict[str, list[dict[str, Any]]] = {name: [] for name in outcome.settings}
    for row in outcome.complete.rows:
        by_setting.setdefault(row["setting"], []).append(row)
    table = []
    for name, rows in by_setting.items():
        if not rows:
            continue
        sound = [row for row in rows if row["status"] != "diverged"]
        table.append({
            "setting": name,
            "runs": len(rows),
            "diverged": len(rows) - len(sound),
            "genotypes": len(Counter(row["genotype"] for row in sound)),
            **{c: _mean([row[c] for row in sound]) for c in MEANS},
        })  # fmt: skip
    return table


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
