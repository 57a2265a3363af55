"""Both cores for large studies: functions mapped over settings in processes of their own.

Threads would not do, since most of the work is many small numpy calls. Processes are forked, so
that nothing is imported or sent twice; where that is not safe (no Linux, a remote store whose
client does not survive a fork, a process with a cluster's threads) the work is done here.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_function: Callable[[Any], Any]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def mapped(
    function: Callable[[Item], Result], items: Iterable[Item], parallel: bool
) -> list[Result]:
    """[function(item) for item in items], on all cores where `parallel` and where that is safe.

    function may be a closure: forked processes have it. Results are pickled back. An exception
    in it is raised here.
    """
    items = list(items)
    safe = sys.platform == "linux" and cores() > 1 and "ray" not in sys.modules
    if not (parallel and safe and len(items) > 1):
        return [function(item) for item in items]
    global _function
    _function = function
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(min(cores(), len(items)), context) as pool:
            return list(pool.map(_call, items))
    finally:
        del _function


def _call(item: Any) -> Any:
    return _function(item)
