"""How far a launch is: counted from what Tune reports, shown as one live line on stderr."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_SECONDS = 5.0  # between two lines where stderr is no terminal


class Progress:
    """Counts of one launch. Safe to read from the thread that writes the heartbeat."""

    def __init__(self, runs_total: int, runs_done: int, epochs_left: float) -> None:
        """`epochs_left`: of all runs together, were none of them to go on from a checkpoint."""
        self.runs_total, self.runs_done = runs_total, runs_done
        self.running: dict[str, int] = {}
        """runs of each pack that is being trained"""
        self.failed: dict[str, str] = {}
        """the last line of each failed pack's error"""
        self.runs_failed = 0
        self._epochs_left = epochs_left
        self._epochs: dict[str, int] = {}
        """finished epochs of every pack that has begun"""
        self._seconds = 0.0  # that packs spent in the epochs seen by this launch
        self._trained = 0.0  # epochs of runs in them
        self._lock = threading.Lock()

    def expect(self, runs_total: int, runs_done: int, epochs_left: float) -> None:
        """What the launch is to do, once that is known."""
        with self._lock:
            self.runs_total, self.runs_done = runs_total, runs_done
            self._epochs_left = epochs_left

    def started(self, pack: str, runs: int) -> None:
        """A pack was given a worker."""
        with self._lock:
            self.running[pack] = runs

    def resumed(self, pack: str, epoch: int) -> None:
        """A pack begins, with `epoch` epochs behind it."""
        with self._lock:
            self._count(pack, epoch)

    def advanced(self, pack: str, epoch: int, seconds: float) -> None:
        """A pack finished `epoch` epochs, the last one in so many seconds."""
        with self._lock:
            self._count(pack, epoch)
            self._seconds += seconds
            self._trained += self.running.get(pack, 0)

    def _count(self, pack: str, epoch: int) -> None:
        runs = self.running.get(pack, 0)
        self._epochs_left -= (epoch - self._epochs.get(pack, 0)) * runs
        self._epochs[pack] = epoch

    def returned(self, pack: str) -> None:
        """A pack no longer runs and will go on later."""
        with self._lock:
            self.running.pop(pack, None)

    def completed(self, pack: str) -> None:
        """A pack's shards are written."""
        with self._lock:
            self.runs_done += self.running.pop(pack, 0)

    def broke(self, pack: str, line: str) -> None:
        """A pack failed for good."""
        with self._lock:
            self.failed[pack] = line
            self.runs_failed += self.running.pop(pack, 0)

    @property
    def seconds_left(self) -> float | None:
        """From the mean time of the epochs seen and the packs that run; None before the first."""
        with self._lock:
            if not self._trained:
                return None
            each = self._seconds / self._trained
            return max(self._epochs_left, 0.0) * each / max(len(self.running), 1)

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
                "seconds_left": None if seconds is None else round(seconds, 1),
            }

    def counts(self) -> str:
        """`runs 12/80 · running 8 · failed 0`."""
        with self._lock:
            return (
                f"runs {self.runs_done}/{self.runs_total} · "
                f"running {sum(self.running.values())} · failed {self.runs_failed}"
            )

    def line(self) -> str:
        """The counts and the time left."""
        seconds = self.seconds_left
        return f"{self.counts()} · time left {duration(seconds)}"


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
    """Shows a `Progress`: redrawn in place on a terminal, otherwise a line per change."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._shown, self._when = "", 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(Text(self.progress.line()), console=self._console, transient=True)
            self._live.start()
        return self

    def update(self) -> None:
        """Draw, if there is something new and it is time; called often."""
        now = time.monotonic()
        if self._live is not None:
            if now - self._when > 0.3:
                self._live.update(Text(self.progress.line()))
                self._when = now
            return
        counts = self.progress.counts()
        if counts != self._shown and now - self._when > PLAIN_SECONDS:
            self._print(counts)
            self._when = now

    def _print(self, counts: str) -> None:
        self._console.print(self.progress.line(), soft_wrap=True)
        self._shown = counts

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self.progress.counts() != self._shown:
            self._print(self.progress.counts())
