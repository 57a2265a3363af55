"""Packs through Ray Tune: a fresh Tuner each time, its events counted and shown.

`Tuner.restore` re-ran finished trials and restarted others from nothing, so a relaunch never
uses it: what is complete is known from the study's own folder.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial

from study.errors import StudyError, with_kind
from study.file.schema import Resources
from study.scheduling.cluster import Interrupt
from study.scheduling.progress import LiveLine, Progress
from study.scheduling.trainable import FAILED, train_pack
from study.store.lock import Heartbeat

MEMORY_KILLS = 3
"""fresh Tuners after Ray's memory monitor has ended a whole experiment"""
MAX_FAILURES = 2
"""restarts of a pack whose worker or node was lost"""


@dataclass
class Watch:
    """Who looks on while Tune runs."""

    progress: Progress
    line: LiveLine
    heartbeat: Heartbeat
    interrupt: Interrupt
    identify: Callable[[dict[str, Any]], tuple[str, int]]
    """a trial's configuration to a name for its pack and its number of runs"""


class _Events(Callback):
    """Tune's events, told to the progress."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for `Tuner.restore`, which nobody calls."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self.watch.progress.started(*self.watch.identify(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        name, _runs = self.watch.identify(trial.config)
        if FAILED in result:
            self.watch.progress.broke(name, result[FAILED])
        elif "epoch" in result:
            self.watch.progress.advanced(name, result["epoch"])

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        self.watch.progress.completed(self.watch.identify(trial.config)[0])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        name, _runs = self.watch.identify(trial.config)
        self.watch.progress.broke(name, _told(trial))

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        self.watch.line.update()
        self.watch.interrupt.check()
        if self.watch.heartbeat.lost:
            raise StudyError(f"{self.watch.heartbeat.folder}: another launch has taken it over")


def _told(trial: Trial) -> str:
    with contextlib.suppress(Exception):  # only a message hangs on it
        error = trial.get_error()
        if error is not None:
            return with_kind(error)
    return "the worker was lost"


def run_trials(
    arguments: dict[str, Any],
    resources: Resources,
    watch: Watch,
    next_round: Callable[[], tuple[dict[str, Any], dict[str, Any]] | None],
) -> None:
    """Run trials of `train_pack` (given `arguments`) until `next_round` has nothing left.

    `next_round` gives the parameter space and the options of TuneConfig for what is still to be
    done. It is asked again only when Ray's memory monitor ended an experiment as a whole.
    """
    trainable = tune.with_resources(
        tune.with_parameters(train_pack, **arguments),
        {"cpu": resources.cpu, "gpu": resources.gpu},
    )
    for attempt in range(MEMORY_KILLS + 1):
        todo = next_round()
        if todo is None:
            return
        space, options = todo
        with tempfile.TemporaryDirectory(prefix="itnas-tune-", ignore_cleanup_errors=True) as own:
            tuner = tune.Tuner(
                trainable,
                param_space=space,
                tune_config=tune.TuneConfig(reuse_actors=True, **options),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=own,  # its state is of no use to us and stays out of the study
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                    callbacks=[_Events(watch)],
                ),
            )
            try:
                tuner.fit()
                return
            except RuntimeError as error:
                if "memory" not in _chain(error).lower() or attempt == MEMORY_KILLS:
                    raise
                watch.progress.running.clear()


def _chain(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__} {error}")
        error = error.__cause__ or error.__context__
    return " ".join(texts)
