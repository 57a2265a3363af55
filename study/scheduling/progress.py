"""How far a launch is: counted from what Tune reports, shown as one live line on stderr."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_SECONDS = 60.0
"""between two lines where stderr is no terminal"""
REDRAW_SECONDS = 0.3


class Progress:
    """Counts of one launch. Safe to read from the thread that writes the heartbeat.

    Epochs are those of runs: a pack of four runs that trains one epoch has trained four.
    """

    def __init__(self, runs_total: int, runs_done: int, epochs_left: int, packs: int = 0) -> None:
        """See `expect`."""
        self.running: dict[str, int] = {}
        """runs of each pack that is being trained"""
        self.failed: dict[str, str] = {}
        """the last line of each failed pack's error"""
        self.runs_failed = 0
        self.packs_done = 0
        self.best: float | None = None
        """best valid_accuracy of any run at the end of any epoch of this launch, 0..1"""
        self._epochs: dict[str, int] = {}
        """finished epochs of every pack that has begun"""
        self._last: dict[str, int] = {}
        """epochs in all, of the same"""
        self._seconds = 0.0  # that packs spent in the epochs seen by this launch
        self._trained = 0.0  # epochs of runs in them
        self._lock = threading.Lock()
        self.expect(runs_total, runs_done, epochs_left, packs)

    def expect(self, runs_total: int, runs_done: int, epochs_left: int, packs: int) -> None:
        """What the launch is to do: runs in all and done before it, and of what it trains the
        epochs (were none of them in a checkpoint) and packs.
        """
        with self._lock:
            self.runs_total, self.runs_done = runs_total, runs_done
            self.epochs_total = self._epochs_left = epochs_left
            self.packs_total = packs

    def fewer(self, runs: int, epochs: int, packs: int) -> None:
        """So many of the runs that were expected, their epochs and packs, are not needed."""
        with self._lock:
            self.runs_total -= runs
            self.packs_total -= packs
            self.epochs_total -= epochs
            self._epochs_left -= epochs

    def started(self, pack: str, runs: int, epochs: int) -> None:
        """A pack of so many runs, of so many epochs each, was given a worker."""
        with self._lock:
            self.running[pack] = runs
            self._last[pack] = epochs

    def resumed(self, pack: str, epoch: int) -> None:
        """A pack begins, with `epoch` epochs behind it."""
        with self._lock:
            self._count(pack, epoch)

    def advanced(self, pack: str, epoch: int, seconds: float, best: float | None = None) -> None:
        """A pack finished `epoch` epochs, the last one in so many seconds; its best accuracy."""
        with self._lock:
            self._count(pack, epoch)
            self._seconds += seconds
            self._trained += self.running.get(pack, 0)
            if best is not None:
                self.best = best if self.best is None else max(self.best, best)

    def _count(self, pack: str, epoch: int) -> None:
        runs = self.running.get(pack, 0)
        self._epochs_left -= (epoch - self._epochs.get(pack, 0)) * runs
        self._epochs[pack] = epoch

    def _settle(self, pack: str) -> None:
        """Nobody waits for the epochs that a pack did not train: it failed, or all its runs ended
        early.
        """
        rest = (self._last.get(pack, 0) - self._epochs.get(pack, 0)) * self.running.get(pack, 0)
        self._epochs_left -= rest
        self.epochs_total -= rest

    def returned(self, pack: str) -> None:
        """A pack no longer runs and will go on later."""
        with self._lock:
            self.running.pop(pack, None)

    def completed(self, pack: str) -> None:
        """A pack's shards are written."""
        with self._lock:
            self._settle(pack)
            self.runs_done += self.running.pop(pack, 0)
            self.packs_done += 1

    def broke(self, pack: str, line: str) -> None:
        """A pack failed for good."""
        with self._lock:
            self._settle(pack)
            self.failed[pack] = line
            self.runs_failed += self.running.pop(pack, 0)

    @property
    def epochs_done(self) -> int:
        """Of the packs that this launch trains, those in their checkpoints included."""
        return self.epochs_total - self._epochs_left

    @property
    def seconds_left(self) -> float | None:
        """From the mean time of the epochs seen and the packs that run; None before the first."""
        with self._lock:
            if not self._trained:
                return None
            each = self._seconds / self._trained
            return max(self._epochs_left, 0) * each / max(len(self.running), 1)

    def snapshot(self) -> dict[str, Any]:
        """What the heartbeat writes down."""
        seconds = self.seconds_left
        with self._lock:
            return {
                "running": sorted(self.running),
                "runs_running": sum(self.running.values()),
                "failed": dict(self.failed),
                "runs_done": self.runs_done,
                "runs_total": self.runs_total,
                "packs_done": self.packs_done,
                "packs_total": self.packs_total,
                "epochs_done": self.epochs_done,
                "epochs_total": self.epochs_total,
                "best_valid_accuracy": self.best,
                "seconds_left": None if seconds is None else round(seconds, 1),
            }

    def counts(self) -> str:
        """`runs 12/80 · running 8 · failed 0 · packs 3/20`."""
        with self._lock:
            return (
                f"runs {self.runs_done}/{self.runs_total} · "
                f"running {sum(self.running.values())} · failed {self.runs_failed} · "
                f"packs {self.packs_done}/{self.packs_total}"
            )

    def line(self) -> str:
        """The counts, the epochs, the best accuracy and the time left."""
        best = "" if self.best is None else f" · best {self.best:.3f}"
        return (
            f"{self.counts()} · epochs {self.epochs_done}/{self.epochs_total}{best} · "
            f"time left {duration(self.seconds_left)}"
        )


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 10 s`, `5 h 02 min`, `3 d 4 h`; `?` if not known."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


class LiveLine:
    """Shows a `Progress`: redrawn in place on a terminal; in a log a line a minute."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._shown, self._when = "", -PLAIN_SECONDS

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(Text(self.progress.line()), console=self._console, transient=True)
            self._live.start()
        return self

    def update(self) -> None:
        """Draw, if it is time; called often."""
        now = time.monotonic()
        if self._live is not None:
            if now - self._when > REDRAW_SECONDS:
                self._live.update(Text(self.progress.line()))
                self._when = now
        elif now - self._when >= PLAIN_SECONDS and self.progress.line() != self._shown:
            self._print()
            self._when = now

    def _print(self) -> None:
        self._shown = self.progress.line()
        self._console.print(self._shown, soft_wrap=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self.progress.line() != self._shown:
            self._print()
