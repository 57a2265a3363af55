"""The threads of a step, so that no bit depends on how many there are.

A step is cut into tasks that depend on shapes alone. Each runs on one thread, with torch's own
operations confined to that thread, and what tasks have summed is added up in the order of the
tasks. What is not worth a task runs on the calling thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

Task = Callable[[int], None]
Each = Callable[[int, Task], None]
"""(count, task): task(0) .. task(count - 1), on whatever threads there are"""

BLOCK = 16
"""images of a task; with fewer, torch's convolutions take slower forms"""


class Workers:
    """As many threads as torch had when a step began; torch itself has one meanwhile."""

    def __init__(self, each: Each | None = None, use: Callable[[int], None] | None = None) -> None:
        """`each` runs tasks on threads, whose number `use` is told; without them the threads are
        Python's, which sleep where there is nothing to do.
        """
        self._each, self._use = each, use
        self._pool: ThreadPoolExecutor | None = None
        self._working = False
        self.count = 1
        """threads of the step that is running"""

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Around a step, or around many: inside, what torch has is taken over."""
        if self._working:
            yield
            return
        self._set(torch.get_num_threads())
        self._working = True
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(self.count)
            self._working = False

    def _set(self, count: int) -> None:
        if self._use is not None:
            self._use(count)
        elif count != self.count and self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self.count = count

    def each(self, count: int, task: Task) -> None:
        """Run task(0) .. task(count - 1), without gradients; the first exception is raised."""
        if self.count == 1 or count == 1:
            with torch.no_grad():
                for n in range(count):
                    task(n)
            return
        failed: list[BaseException] = []

        def guarded(n: int) -> None:
            torch.get_num_threads()  # makes torch's one thread known to a new thread
            try:
                with torch.no_grad():  # a thread has its own mode
                    task(n)
            except BaseException as error:  # an interrupt too: a library's callback would drop it
                failed.append(error)

        if self._each is not None:
            self._each(count, guarded)
        else:
            self._pool = self._pool or ThreadPoolExecutor(self.count)
            list(self._pool.map(guarded, range(count)))
        if failed:
            raise failed[0]


def blocks(images: int, size: int = BLOCK) -> list[slice]:
    """Consecutive images, `size` at a time."""
    return [slice(n, min(n + size, images)) for n in range(0, images, size)]


def ordered_sum(parts: Sequence[Tensor]) -> Tensor:
    """The parts added up one after another; the first is overwritten."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total
