"""Optuna behind `tune`: its SQLite study, and the searcher that Ray Tune asks for rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.optuna import OptunaSearch

from study.file.schema import Resources, Tune
from study.scheduling.cluster import slots
from study.scheduling.trainable import FAILED, OBJECTIVE
from study.store.door import Storage
from study.store.shards import read_runs

DATABASE = "tune/optuna.db"

Announce = Callable[[dict[str, Any]], None]
"""told every configuration before its trial starts"""


class Suggestions:
    """The Optuna study of a tuning, in `tune/optuna.db`, made on first use.

    Trials that an earlier driver left running are settled first: told from their shards where
    these are written, otherwise as failed.
    """

    def __init__(self, folder: Storage, name: str, tuning: Tune, runs_per_trial: int) -> None:
        self.folder, self.name, self.tuning = folder, name, tuning
        self.runs_per_trial = runs_per_trial
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = Path(folder.path(DATABASE))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._storage = optuna.storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        self._study = optuna.create_study(
            storage=self._storage, study_name=name, direction="maximize", load_if_exists=True
        )
        self.settle()

    def finished(self) -> int:
        """Trials with an objective."""
        return len(self._trials(TrialState.COMPLETE))

    def best(self) -> tuple[int, float, dict[str, float]]:
        """Number, objective and rates of the best trial; ValueError if none is finished."""
        trial = self._study.best_trial
        return trial.number, float(trial.value or 0.0), dict(trial.params)

    def settle(self) -> None:
        """End the trials that are still running in the database and nowhere else."""
        stale = self._trials(TrialState.RUNNING)
        values: dict[int, list[float]] = {}
        if stale:
            for row in read_runs(self.folder, ["tune_trial", "status", "derived_accuracy"]):
                value = 0.0 if row["status"] == "diverged" else row["derived_accuracy"]
                values.setdefault(row["tune_trial"], []).append(value)
        for trial in stale:
            known = values.get(trial.number, [])
            if len(known) == self.runs_per_trial:
                self._study.tell(trial.number, math.fsum(known) / len(known))
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)

    def options(self, trials: int, announce: Announce, resources: Resources) -> dict[str, Any]:
        """Options of TuneConfig for that many more trials.

        The sampler has a seed of its own for each continuation, or it would suggest the first
        rates again; and no more trials run at once than fit, as TPE learns from finished ones.
        """
        self.settle()
        seed = self.tuning.seed + len(self._study.get_trials(deepcopy=False))
        searcher = Searcher(
            announce,
            space={
                name: optuna.distributions.FloatDistribution(*bounds, log=True)
                for name, bounds in self.tuning.ranges.items()
            },
            sampler=optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=self.tuning.startup_trials
            ),
            storage=self._storage,
            study_name=self.name,
        )
        concurrent = min(max(slots(resources), 1), trials)
        return {
            "search_alg": searcher,
            "num_samples": trials,
            "max_concurrent_trials": concurrent,
        }

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))


class Searcher(OptunaSearch):
    """OptunaSearch that numbers its trials in their configuration and knows failed packs."""

    def __init__(self, announce: Announce, **options: Any) -> None:
        super().__init__(metric=OBJECTIVE, mode="max", **options)
        self._announce = announce

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher for `Tuner.restore`, which nobody calls."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """As above: the database is the state."""
        Path(checkpoint_path).touch()

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Rates, and `tune_trial`, the number of the Optuna trial."""
        rates: dict[str, Any] = super().suggest(trial_id) or {}
        config = {**rates, "tune_trial": self._ot_trials[trial_id].number}
        self._announce(config)
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports between epochs carry no objective."""
        if OBJECTIVE in result:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A pack that reported its own failure is a failed trial, not a pruned one."""
        failed = error or result is None or FAILED in result
        super().on_trial_complete(trial_id, None if failed else result, error=failed)
