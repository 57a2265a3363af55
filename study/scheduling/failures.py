"""What became of a pack that did not end well, and whether it is tried again.

Three kinds (see `Kind`). Losses are told from failures by progress: a worker that is gone after
its pack wrote a newer checkpoint than the one it began from was taken away, however it went.
"""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from study.errors import with_kind

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")
"""in a RuntimeError: of CUDA, of PyTorch's allocator of main memory, of cuBLAS and cuDNN"""


class Kind(StrEnum):
    """Why a pack's trial ended before its rows were written."""

    TAKEN = "taken"
    """its node or worker was taken away: it goes on elsewhere, as often as it takes"""
    TROUBLE = "trouble"
    """around the run (storage, memory, a worker gone without progress): again after a wait"""
    OWN = "own"
    """an exception of the run itself: the same one twice is its own fault"""


@dataclass(frozen=True)
class Failure:
    """One end of a pack's trial that is no result; plain values, as a trial reports it."""

    kind: Kind
    line: str
    """what a user is told"""
    text: str = ""
    """all there is to know of it, for the log"""
    place: str = ""
    """the exception and where it was raised: equal for the same one"""

    def as_report(self) -> dict[str, str]:
        """For `tune.report`."""
        return {k: str(v) for k, v in vars(self).items()}

    @classmethod
    def from_report(cls, report: dict[str, Any]) -> Failure:
        """The failure that `as_report` told."""
        return cls(Kind(report["kind"]), report["line"], report["text"], report["place"])


def failure_of(error: Exception) -> Failure:
    """An exception inside a trial: trouble around the run, or its own."""
    frames = traceback.extract_tb(error.__traceback__)
    last = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    around = isinstance(error, (OSError, MemoryError)) or _of_device_memory(error)
    return Failure(
        Kind.TROUBLE if around else Kind.OWN,
        with_kind(error, -1),
        "".join(traceback.format_exception(error)),
        f"{type(error).__name__} {last}",
    )


def _of_device_memory(error: Exception) -> bool:
    """Whether a device, the processor or one of CUDA's libraries had no memory to give.

    PyTorch has a class for what its own allocator of GPU memory lacks; the rest is told by words.
    """
    import torch

    text = str(error)
    told = any(words in text for words in OUT_OF_MEMORY)
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and told)


@dataclass
class _Record:
    troubles: int = 0
    own: Counter[str] = field(default_factory=Counter)


class Retries:
    """Whether a pack is tried again, and after how long; counted per pack."""

    def __init__(self, max_failures: int, retry_seconds: float) -> None:
        self.max_failures, self.retry_seconds = max_failures, retry_seconds
        self._records: dict[str, _Record] = {}

    def after(self, pack_id: str, failure: Failure) -> float | None:
        """Seconds to wait before the pack begins again; None: it has failed for good.

        Waits double with every failure of the pack. An exception of the run counts against
        `max_failures` as well, and ends the pack when it comes a second time.
        """
        if failure.kind is Kind.TAKEN:
            return 0.0
        record = self._records.setdefault(pack_id, _Record())
        if failure.kind is Kind.OWN:
            record.own[failure.place] += 1
            if record.own[failure.place] > 1:
                return None
        record.troubles += 1
        if record.troubles > self.max_failures:
            return None
        if failure.kind is Kind.OWN:
            return 0.0
        return self.retry_seconds * 2.0 ** (record.troubles - 1)
