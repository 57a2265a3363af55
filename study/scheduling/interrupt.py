"""SIGINT and SIGTERM: at once where nothing can be lost, after a checkpoint where packs train."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupt:
    """SIGINT and SIGTERM as `KeyboardInterrupt` while a `with` block runs.

    Inside `gently()` the first signal only sets `asked`, for packs to write their checkpoints;
    the second one ends it. Ray replaces the handler of SIGTERM when it starts, so `install` is to
    be called again then; and it swallows an exception that hits it in some callbacks, so `check`
    is there as well.
    """

    def __init__(self) -> None:
        self.asked: float | None = None
        """when the first signal came, by the monotonic clock"""
        self._gently = False
        self._now = False
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Set the handlers, again if need be; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._handle)

    @contextlib.contextmanager
    def gently(self) -> Iterator[None]:
        """A block in which the first signal is only noted."""
        self._gently = True
        try:
            yield
        finally:
            self._gently = False

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if one was swallowed."""
        if self._now:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self.asked is None
        if first:
            self.asked = time.monotonic()
        elif time.monotonic() - (self.asked or 0.0) < 1.0:
            return  # a terminal's Ctrl-C may come twice, from the shell and from a parent
        if first and self._gently:
            return
        self._now = True
        raise KeyboardInterrupt

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
