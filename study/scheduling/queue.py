"""Packs in the order in which they are to be trained, and what has become of each.

The queue knows nothing of Ray: it is asked for the next pack, and told how one began, went and
ended. New packs come from a `Source` (a study's list, or Optuna's suggestions); one that is to be
tried again waits here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from study.scheduling.failures import Failure, Kind, Retries
from study.scheduling.progress import Progress
from study.scheduling.trainable import error_log
from study.store.checkpoints import Moment, newest
from study.store.door import Storage
from study.store.registry import Pack

Notify = Callable[[str], None]


class Source(Protocol):
    """Where new packs come from, and who wants to know how they ended."""

    def next(self) -> Pack | None:
        """The next pack to begin; None where there is none now."""

    @property
    def exhausted(self) -> bool:
        """Whether `next` will never give a pack again, whatever becomes of those that run."""

    def ended(self, pack: Pack, complete: bool) -> None:
        """A pack is complete, its rows are written; or it has failed for good."""


@dataclass
class Running:
    """A pack whose trial was given to Ray."""

    pack: Pack
    moment: Moment | None = None
    """from where it began; None until it has said so"""
    node_id: str = ""
    process: int = 0


@dataclass
class PackQueue:
    """See above. `stopping`: no pack begins any more."""

    source: Source
    retries: Retries
    progress: Progress
    storage: Storage
    notify: Notify
    fail_fast: bool = False
    stopping: bool = False
    running: dict[str, Running] = field(default_factory=dict)
    """by trial"""
    excluded: set[str] = field(default_factory=set)
    """nodes that turned out unfit"""
    begun: set[str] = field(default_factory=set)
    """trials that were given a worker"""
    _waiting: list[tuple[float, Pack]] = field(default_factory=list)
    _given: dict[str, Pack] = field(default_factory=dict)
    """packs whose trial has no worker yet"""

    def next(self) -> Pack | None:
        """The pack to begin now: one that has waited long enough, else a new one."""
        if self.stopping:
            return None
        pack = self._rested() or self.source.next()
        if pack is not None:
            self._given[pack.pack_id] = pack
        return pack

    def _rested(self) -> Pack | None:
        """A pack that has waited long enough."""
        now = time.monotonic()
        for n, (when, pack) in enumerate(self._waiting):
            if when <= now:
                del self._waiting[n]
                return pack
        return None

    @property
    def exhausted(self) -> bool:
        """Whether no pack will begin any more."""
        if self.stopping:
            return True
        left = self._waiting or self._given or self.running
        return self.source.exhausted and not left

    def recall(self) -> None:
        """Nobody runs trials any more: what was given and not ended goes back."""
        for trial in list(self.running):
            self.paused(trial)
        for pack in self._given.values():
            self._again(pack, 0.0)
        self._given.clear()

    # -- what a trial does ------------------------------------------------------------------

    def started(self, trial: str, pack: Pack) -> None:
        """A trial was given its worker, for the first time or again."""
        self._given.pop(pack.pack_id, None)
        self.begun.add(trial)
        self.running[trial] = Running(pack)
        epochs = max((run.setting.search.epochs for run in pack.runs), default=0)
        self.progress.started(pack.pack_id, len(pack.runs), epochs)

    def reported(self, trial: str, report: dict[str, Any]) -> None:
        """A report of a trial that goes on."""
        one = self.running[trial]
        for line in report.get("warnings", ()):
            self.notify(f"pack {one.pack.pack_id}: {line}")
        if "moment" in report:
            epoch, step = report["moment"]
            one.moment = epoch, step
            one.node_id, one.process = report["node_id"], report["process"]
            if one.moment > (0, 0):
                self.notify(f"pack {one.pack.pack_id}: goes on after epoch {epoch}, step {step}")
            self.progress.resumed(one.pack.pack_id, report["epoch"])
        elif "epoch" in report:
            self.progress.advanced(
                one.pack.pack_id,
                report["epoch"],
                report["epoch_seconds"],
                report.get("best_valid_accuracy"),
            )

    def completed(self, trial: str) -> None:
        """A trial has written its rows."""
        pack = self.running.pop(trial).pack
        self.progress.completed(pack.pack_id)
        self.source.ended(pack, True)

    def paused(self, trial: str) -> None:
        """A trial has ended before its pack's end, because it was told to."""
        self._again(self.running.pop(trial).pack, 0.0)

    def unfit(self, trial: str, node_id: str, host: str, why: str) -> None:
        """A trial found that its node cannot take part: the pack goes back, uncounted."""
        if node_id not in self.excluded:
            self.excluded.add(node_id)
            self.notify(f"node {host}: cannot take part: {why}; its packs go elsewhere")
        self._again(self.running.pop(trial).pack, 0.0)

    def failed(self, trial: str, failure: Failure, final: bool = False) -> None:
        """A trial has reported a failure; `final` where it has tried all there is to try."""
        one = self.running.pop(trial)
        self._judge(one.pack, failure, final)

    def lost(self, trial: str, line: str, text: str, taken: bool) -> None:
        """A trial's worker is gone; `taken`: with its node.

        One whose pack has a newer checkpoint than the one it began from was taken away as well.
        """
        one = self.running.pop(trial)
        if not taken and one.moment is not None:
            latest = self._newest(one.pack)
            taken = latest is not None and latest > one.moment
        kind = Kind.TAKEN if taken else Kind.TROUBLE
        self._judge(one.pack, Failure(kind, line, text), False)

    def restarted(self, trial: str) -> None:
        """Ray gives a trial of its own accord a new worker, its node having been taken away."""
        pack = self.running.pop(trial).pack
        self.progress.returned(pack.pack_id)

    def _newest(self, pack: Pack) -> Moment | None:
        try:
            return newest(self.storage, pack.pack_id)
        except OSError:
            return None

    def _judge(self, pack: Pack, failure: Failure, final: bool) -> None:
        wait = None if final else self.retries.after(pack.pack_id, failure)
        if wait is not None:
            if failure.kind is not Kind.TAKEN:
                when = f"again in {wait:g} s" if wait else "again"
                self.notify(f"pack {pack.pack_id}: {failure.line}; {when}")
            self._again(pack, wait)
            return
        try:
            self.storage.write(error_log(pack.pack_id), failure.text or failure.line)
        except OSError as error:
            self.notify(f"{error_log(pack.pack_id)}: cannot be written ({error})")
        self.progress.broke(pack.pack_id, failure.line)
        self.source.ended(pack, False)
        if self.fail_fast:
            self.stopping = True

    def _again(self, pack: Pack, wait: float) -> None:
        self.progress.returned(pack.pack_id)
        self._waiting.append((time.monotonic() + wait, pack))
