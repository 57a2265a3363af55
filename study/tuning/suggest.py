"""Optuna behind `tune`: its SQLite study as a source of packs (ask and tell)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.file.schema import Tune
from study.store.door import Storage
from study.store.registry import Pack
from study.store.shards import read_runs

DATABASE = "tune/optuna.db"

PackOf = Callable[[dict[str, float], int], Pack]
"""the pack of a trial, from its rates and its number"""


class Suggestions:
    """The trials of a tuning, a pack each, until so many are finished (a `Source` of packs).

    Trials that an earlier driver left running are settled first: told from their rows where these
    are written, else their packs are given again, to go on from their checkpoints.
    """

    def __init__(self, folder: Storage, name: str, tuning: Tune) -> None:
        """Makes the database on first use."""
        self.folder, self.tuning = folder, tuning
        Path(folder.path(DATABASE)).parent.mkdir(parents=True, exist_ok=True)
        self._study = optuna.create_study(
            storage=_database(folder), study_name=name, direction="maximize", load_if_exists=True
        )
        self._space: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(*bounds, log=True)
            for name, bounds in tuning.ranges.items()
        }
        self._out: dict[str, int] = {}
        self._again: deque[FrozenTrial] = deque()
        self._failed = 0

    def begin(self, trials: int, pack_of: PackOf, announce: Callable[[Pack], None]) -> None:
        """Settle what an earlier driver left, and give packs until `trials` trials are finished.

        `announce` is told every pack before it is given.
        """
        self._wanted, self._pack_of, self._announce = trials, pack_of, announce
        self._failed = 0
        stale = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        rows: dict[int, list[dict[str, Any]]] = {}
        if stale:
            columns = ("tune_trial", "status", "derived_accuracy")
            for row in read_runs(self.folder, columns).rows:
                rows.setdefault(row["tune_trial"], []).append(row)
        for trial in stale:
            known = rows.get(trial.number, [])
            if not self._space.keys() <= trial.params.keys():  # killed while it was suggested
                self._study.tell(trial.number, state=TrialState.FAIL)
            elif len(known) == len(pack_of(trial.params, trial.number).runs):
                self._study.tell(trial.number, _objective(known))
            else:
                self._again.append(trial)

    def finished(self) -> int:
        """Trials with an objective."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

    def unfinished(self) -> list[FrozenTrial]:
        """Trials of an earlier driver whose packs are to go on."""
        return list(self._again)

    def best(self) -> tuple[int, float, dict[str, float]]:
        """Number, objective and rates of the best trial; ValueError if none is finished."""
        trial = self._study.best_trial
        return trial.number, float(trial.value or 0.0), dict(trial.params)

    # -- as a source --------------------------------------------------------------------------

    def next(self) -> Pack | None:
        """The pack of a trial that was left, else of a new suggestion."""
        if self.finished() + self._failed + len(self._out) >= self._wanted:
            return None
        if self._again:
            left = self._again.popleft()
            number, rates = left.number, left.params
        else:
            # a sampler of its own for each trial: suggestions are the same, killed or not
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = optuna.samplers.TPESampler(
                seed=self.tuning.seed + number, n_startup_trials=self.tuning.startup_trials
            )
            trial = self._study.ask(self._space)
            number, rates = trial.number, trial.params
        pack = self._pack_of(rates, number)
        self._announce(pack)
        self._out[pack.pack_id] = number
        return pack

    @property
    def exhausted(self) -> bool:
        """Enough trials are finished, or have failed."""
        return self.finished() + self._failed >= self._wanted

    def ended(self, pack: Pack, objective: float | None) -> None:
        """Tell Optuna; a pack that failed is a failed trial."""
        number = self._out.pop(pack.pack_id)
        if objective is None:
            self._failed += 1
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, objective)


def count_finished(folder: Storage, name: str) -> int:
    """Trials with an objective in a database that is there."""
    try:
        study = optuna.load_study(storage=_database(folder), study_name=name)
    except KeyError:
        return 0
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _database(folder: Storage) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.storages.RDBStorage(
        f"sqlite:///{folder.path(DATABASE)}", engine_kwargs={"connect_args": {"timeout": 60}}
    )


def _objective(rows: list[dict[str, Any]]) -> float:
    """Mean derived accuracy; a run that diverged counts 0."""
    values = [0.0 if r["status"] == "diverged" else float(r["derived_accuracy"]) for r in rows]
    return math.fsum(values) / len(values)
