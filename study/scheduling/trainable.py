"""What runs inside a trial: one pack, trained from its newest checkpoint, and written down.

Ray calls `train_pack`. All a trial has to say it says by `tune.report`: where it begins, every
epoch, and in its last report how it `ENDED`. It writes to the study only while its launch holds the
study's lock.
"""

from __future__ import annotations

import gc
import math
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from itnas.settings import EngineSettings
from study.cluster.nodes import differing
from study.errors import with_kind
from study.scheduling.failures import Retries, failure_of
from study.store.benchmark import Lookup
from study.store.checkpoints import Checkpoints
from study.store.door import Storage
from study.store.lock import holds, read_heartbeat
from study.store.registry import Pack
from study.store.shards import pack_tables, write_shards

ENDED = "ended"
COMPLETE, PAUSED, FAILED, UNFIT = "complete", "paused", "failed", "unfit"
"""how a trial ended: rows written; to go on later; by a failure; its node cannot take part"""


@dataclass(frozen=True)
class TrialContext:
    """What all trials of a launch share."""

    study: str
    folder: Storage
    token: str
    """of the launch's lock"""
    engine: EngineSettings
    threads: int
    lookup: Lookup | None
    versions: dict[str, str]
    """of the driver, which every node shares"""
    checkpoint_epochs: int
    checkpoint_minutes: float
    max_failures: int
    retry_seconds: float


class _LostError(Exception):
    """The launch of this trial no longer holds the study."""


def train_pack(config: dict[str, Any], *, context: TrialContext, data: dict[str, Any]) -> None:
    """Train a pack to its end and write its shards; an exception becomes the trial's last report.

    `config["pack"]` is the `Pack`. A worker that is killed reports nothing: the driver sees it.
    """
    from ray import tune

    try:
        unfit = _unfit(context)
        if unfit:
            tune.report({ENDED: UNFIT, "why": unfit, **_where()})
            return
        last = _Trial(config["pack"], context, tune.report).run(data)
    except _LostError:
        last = {ENDED: PAUSED}
    except Exception as error:
        last = {ENDED: FAILED, "final": False, **failure_of(error).as_report()}
    _release(context.engine.device)
    tune.report(last)


def _as_new(threads: int) -> None:
    """What a pack before may have changed in this process, as a new process has it.

    A search keys its own random streams; an operation or a model of the user's may draw from the
    global ones, or change a default.
    """
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.set_num_threads(threads)


def _release(device: str) -> None:
    """Give back what a pack held, before the next one comes to this process."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def _unfit(context: TrialContext) -> str:
    """Why this node cannot take part in the study; "" where it can. A node may have joined late."""
    other = differing(context.versions)
    if other:
        return f"has {other}"
    if not read_heartbeat(context.folder):
        return f"does not see the files of {context.folder}"
    return ""


def _where() -> dict[str, Any]:
    import ray

    here = ray.get_runtime_context()
    return {"node_id": here.get_node_id(), "host": socket.gethostname(), "process": os.getpid()}


class _Trial:
    """A pack in training: its checkpoints, its listener, and what it reports."""

    def __init__(
        self, pack: Pack, context: TrialContext, report: Callable[[dict[str, Any]], None]
    ) -> None:
        from study.scheduling.orders import Listener

        self.pack, self.context, self.report = pack, context, report
        self.where = _where()
        run_ids = [run.run_id for run in pack.runs]
        self.checkpoints = Checkpoints(context.folder, pack.pack_id, run_ids)
        self.listener = Listener(context.token, self.where["node_id"])
        self.saved = time.monotonic()
        """when a checkpoint was last written, or tried"""

    def run(self, data: dict[str, Any]) -> dict[str, Any]:
        """Train, write, and give the last report."""
        from itnas.data import ImageData
        from itnas.method.search import SearchPack

        started, context = datetime.now(UTC), self.context
        _as_new(context.threads)
        self._held()
        if self.listener.ends():  # the worker of a pack that has left a node takes the next one
            return {ENDED: PAUSED}
        gpu = _gpu_model(context.engine.device)
        begun = self.checkpoints.begin(
            {"launch": context.token, "host": self.where["host"], "gpu": gpu}
        )
        images = ImageData.from_arrays(data)
        images = replace(images, settings=replace(images.settings, **dict(self.pack.runs[0].data)))
        self.search = SearchPack(
            [run.setting for run in self.pack.runs],
            [run.seeds for run in self.pack.runs],
            images,
            context.engine,
        )
        found = self.checkpoints.restore(self.search.load_state_dict)
        self.report({
            **self.where,
            "epoch": self.search.epoch,
            "moment": list(found.moment or (0, 0)),
            "attempt": len(begun),
            "warnings": [f"{path}: {why}; passed over" for path, why in found.passed_over.items()],
        })  # fmt: skip
        if not self._train():
            return {ENDED: PAUSED}
        results = self.search.results()
        tables = pack_tables(
            self.pack,
            results,
            study=context.study,
            device=context.engine.device,
            backend=self.search.engine.backend_name,
            gpu=gpu,
            attempts=len(begun),
            started=started,
            lookup=context.lookup,
            tune_trial=self.pack.tune_trial,
        )
        return self._written(tables) or {ENDED: COMPLETE}

    def _train(self) -> bool:
        """Train to the end, with checkpoints; False where the pack was told to end before."""
        search, every = self.search, self.context.checkpoint_epochs
        search.pause = self._pauses
        while not search.finished:
            began, epoch = time.monotonic(), search.epoch
            search.run_epoch()
            ended = search.epoch > epoch
            if ended:
                self.report({
                    "epoch": search.epoch,
                    "timesteps_total": search.epoch,  # loggers' axis, also after a resume
                    "epoch_seconds": time.monotonic() - began,
                    **_metrics(search.progress(), search.best_valid_accuracy),
                })  # fmt: skip
            stops = self.listener.ends()
            if not ended or stops or search.finished or search.epoch % every == 0:
                self._save()
            if stops and not search.finished:
                return False
        return True

    def _pauses(self) -> bool:
        due = time.monotonic() - self.saved >= self.context.checkpoint_minutes * 60
        return due or self.listener.ends()

    def _save(self) -> None:
        """Write a checkpoint. Trouble with the storage is told and does not end the training."""
        search = self.search
        try:
            self._held()
            self.checkpoints.save((search.epoch, search.epoch_step), search.state_dict())
        except OSError as error:
            self.report({"warnings": [f"a checkpoint could not be written: {with_kind(error)}"]})
        self.saved = time.monotonic()

    def _written(self, tables: dict[str, Any]) -> dict[str, Any] | None:
        """Write the shards, again after waits that grow; the last report where it is given up.

        What was trained stays in this process meanwhile, whether its checkpoint could be written
        or not.
        """
        context, pack_id = self.context, self.pack.pack_id
        retries = Retries(context.max_failures, context.retry_seconds)
        while True:
            try:
                self._held()
                write_shards(context.folder, pack_id, tables)
                break
            except OSError as error:
                failure = failure_of(error)
                wait = retries.after(pack_id, failure)
                if wait is None:
                    return {ENDED: FAILED, "final": True, **failure.as_report()}
                told = f"results could not be written: {failure.line}; again in {wait:g} s"
                self.report({"warnings": [told]})
                end = time.monotonic() + wait
                while time.monotonic() < end:
                    if self.listener.ends():
                        return {ENDED: PAUSED}
                    time.sleep(min(1.0, wait))
        try:
            self.checkpoints.clear()
            context.folder.delete(error_log(pack_id))
        except OSError:
            pass  # the next launch removes what is of no use
        return None

    def _held(self) -> None:
        if not holds(self.context.folder, self.context.token):
            raise _LostError


def _metrics(means: dict[str, float], best: float | None) -> dict[str, float]:
    """The pack's metrics, means over its runs; those that are not known are left out."""
    found = {name: value for name, value in means.items() if math.isfinite(value)}
    return found | ({} if best is None else {"best_valid_accuracy": best})


def error_log(pack_id: str) -> str:
    """Where all that is known of a pack's failure stands."""
    return f"logs/{pack_id}.error.txt"


def _gpu_model(device: str) -> str | None:
    """The model of the GPU that computes; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(torch.device(device)))
