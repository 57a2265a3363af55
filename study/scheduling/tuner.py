"""A `PackQueue` through Ray Tune: a trial for every time a pack begins.

`Tuner.restore` re-ran finished trials and restarted others from nothing, so nothing is restored
here: what is complete is known from the study's own folder, what was trained from its checkpoints.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.cloudpickle as cloudpickle
from ray import tune
from ray.exceptions import RayError
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from itnas.settings import Seeds
from study.cluster.nodes import is_alive, leaving, usable
from study.errors import LaunchEnded, first_line
from study.file.schema import Resources
from study.scheduling.failures import Failure, Kind
from study.scheduling.interrupt import Interrupt
from study.scheduling.orders import Orders
from study.scheduling.progress import LiveLine
from study.scheduling.queue import PackQueue
from study.scheduling.trainable import COMPLETE, ENDED, FAILED, PAUSED, UNFIT, train_pack
from study.store.lock import Lock

DRAIN_SECONDS = 2.0
"""between two looks for nodes that are being drained"""
MOST_TRIALS = 64
"""that Tune holds before those that have ended are taken from it"""
SCRATCH = "itnas-tune-"
NODE_LABEL = "ray.io/node-id"


@dataclass
class Conductor:
    """What goes on between Tune and the queue: every event of a trial, and all that may end it."""

    queue: PackQueue
    resources: Resources
    lock: Lock
    line: LiveLine
    interrupt: Interrupt
    orders: Orders
    stop_seconds: float
    loggers: list[Callback] = field(default_factory=list)
    """Tune's own callbacks, beside ours: set up already, and they raise nothing"""
    _looked: float = 0.0
    _leaving: set[str] = field(default_factory=set)
    """nodes that are being drained: a pack that left one would begin there again"""

    def look(self) -> None:
        """Called often, by Tune's loop."""
        self.line.update()
        self.interrupt.check()
        if self.lock.lost:
            raise LaunchEnded(f"{self.lock.folder}: another launch has taken it over")
        asked = self.interrupt.asked
        if (asked is not None or self.queue.stopping) and not self.orders.stopped:
            self.queue.stopping = True
            with contextlib.suppress(RayError):  # said again at the next look
                self.orders.stop()
                if self.queue.running:
                    self.queue.notify("packs write their checkpoints (Ctrl-C again: end at once)")
        if asked is not None:
            waited = time.monotonic() - asked
            if not self.queue.running or waited > self.stop_seconds:
                raise KeyboardInterrupt
        if time.monotonic() - self._looked > DRAIN_SECONDS:
            self._looked = time.monotonic()
            with contextlib.suppress(RayError):
                self._leaving = leaving()
                self.orders.leave(self._leaving)

    def request(self) -> dict[str, Any] | None:
        """The configuration of a trial for the next pack; None where there is none now."""
        pack = self.queue.next()
        if pack is None:
            return None
        return {
            "pack": pack,
            "setting": ", ".join(dict.fromkeys(run.name for run in pack.runs)),
            "seeds": " ".join(_spelled(run.seeds) for run in pack.runs),
            "avoid": sorted(self.queue.excluded | self._leaving),
        }

    def heard(self, trial: Trial, report: dict[str, Any]) -> None:
        """A trial's report."""
        how, queue, name = report.get(ENDED), self.queue, trial.trial_id
        if how is None:
            queue.reported(name, report)
        elif how == COMPLETE:
            queue.completed(name)
        elif how == PAUSED:
            queue.paused(name)
        elif how == UNFIT:
            queue.unfit(name, report["node_id"], report["host"], report["why"])
            if not usable(self.resources, queue.excluded):
                raise LaunchEnded("no node is left that can take part; see the lines above")
        elif how == FAILED:
            queue.failed(name, Failure.from_report(report), report["final"])

    def broke(self, trial: Trial) -> None:
        """A trial's worker is gone."""
        if trial.trial_id not in self.queue.begun:  # its worker could not even start
            self.queue.started(trial.trial_id, trial.config["pack"])
        if trial.trial_id not in self.queue.running:
            return  # it had said how it ended
        error = _error(trial)
        one = self.queue.running[trial.trial_id]
        taken = getattr(error, "preempted", False)
        taken = taken or bool(one.node_id and not is_alive(one.node_id))
        told = f"its worker was lost ({first_line(error)})" if error else "its worker was lost"
        self.queue.lost(trial.trial_id, told, str(error or ""), taken)

    def killed_for_memory(self, error: ray.exceptions.OutOfMemoryError) -> None:
        """Ray's memory monitor ended one worker, and Tune with it the whole experiment."""
        text = str(error)
        process = re.search(r"pid[=: ]+(\d+)", text)
        victims = {
            trial
            for trial, one in self.queue.running.items()
            if process and one.process == int(process[1])
        } or set(self.queue.running)
        line = f"Ray's memory monitor ended its worker ({first_line(error)})"
        for trial in victims:  # the others go back with `recall`
            self.queue.failed(trial, Failure(Kind.TROUBLE, line, text))


def _error(trial: Trial) -> Exception | None:
    """What Ray raised for a trial. Tune's own reader looks where it has not copied it to yet."""
    with contextlib.suppress(Exception):  # only a message and a hint hang on it
        with open(trial.pickled_error_file, "rb") as file:
            error = cloudpickle.load(file)
        return error if isinstance(error, Exception) else None
    return None


class _Searcher(Searcher):
    """Tune asks here for trials."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles it for `Tuner.restore`, which nobody calls."""
        return {}

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        """A configuration, None for none now, or FINISHED."""
        self._conductor.look()
        config = self._conductor.request()
        if config is None and self._conductor.queue.exhausted:
            return Searcher.FINISHED
        return config

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """The callback below hears more."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError


class _Events(Callback):
    """Tune tells here what its trials do."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._conductor.queue.started(trial.trial_id, trial.config["pack"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        if trial.trial_id in self._conductor.queue.running:
            self._conductor.heard(trial, result)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._conductor.queue.restarted(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._conductor.broke(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        self._conductor.look()
        if len(trials) > MOST_TRIALS:
            _forget_ended(trials)


def _forget_ended(trials: list[Trial]) -> None:
    """Keep Tune from growing with the study: it holds every trial it has had, with averages of all
    that was ever reported, and looks through them all at every snapshot.

    `trials` is Tune's own list. The last one stays: of an empty list it would read its snapshot.
    """
    ended = [trial for trial in trials[:-1] if trial.is_finished()]
    for trial in ended:
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()
        trial.run_metadata.last_result = {}
        trial.config = trial.evaluated_params = {}
    gone = {id(trial) for trial in ended}
    trials[:] = [trial for trial in trials if id(trial) not in gone]


def _name(trial: Trial) -> str:
    """`placebo, seeds 0 1`, as loggers show a trial."""
    return f"{trial.config['setting']}, seeds {trial.config['seeds']}"


def _spelled(seeds: Seeds) -> str:
    """`3`, or all three of a run's seeds where they differ: `0/3/1`."""
    values = list(vars(seeds).values())
    return "/".join(map(str, values if len(set(values)) > 1 else values[:1]))


def _request(resources: Resources, config: dict[str, Any]) -> tune.PlacementGroupFactory:
    bundle = resources.bundle
    avoid = config.get("avoid")
    if not avoid:
        return tune.PlacementGroupFactory([bundle])
    selector = [{NODE_LABEL: f"!in({','.join(avoid)})"}]
    return tune.PlacementGroupFactory([bundle], bundle_label_selector=selector)


def run_packs(
    conductor: Conductor, arguments: dict[str, Any], max_concurrent: int | None = None
) -> None:
    """Run trials of `train_pack` (given `arguments`) until the queue is exhausted.

    Raises `KeyboardInterrupt` where the launch was interrupted, once packs have written their
    checkpoints; `LaunchEnded` where it cannot go on.
    """
    resources = conductor.resources
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by the queue
    trainable = tune.with_resources(
        tune.with_parameters(train_pack, **arguments), lambda config: _request(resources, config)
    )
    with scratch_folder() as own, conductor.interrupt.gently():
        while not conductor.queue.exhausted:
            tuner = tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=_Searcher(conductor),
                    num_samples=-1,
                    max_concurrent_trials=max_concurrent,
                    reuse_actors=True,
                    trial_name_creator=_name,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=own,  # its state is of no use to us and stays out of the study
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=0),  # the queue decides
                    callbacks=[_Events(conductor), *conductor.loggers],
                ),
            )
            try:
                tuner.fit()
            except RuntimeError as error:
                killed = _out_of_memory(error)
                if killed is None:
                    raise
                conductor.killed_for_memory(killed)
            conductor.queue.recall()
    if conductor.interrupt.asked is not None:
        raise KeyboardInterrupt


def _out_of_memory(error: BaseException | None) -> ray.exceptions.OutOfMemoryError | None:
    """The kill of Ray's memory monitor behind an error, which Tune does not know how to take."""
    while error is not None:
        if isinstance(error, ray.exceptions.OutOfMemoryError):
            return error
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def scratch_folder() -> Any:
    """A folder for Tune's own state, under this process's name; those of dead ones are removed."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{SCRATCH}*"):
        process = left.name.removeprefix(SCRATCH).partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    own = tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-")
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
