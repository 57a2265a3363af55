"""Checkpoints of a pack in the study's storage: `checkpoints/<pack_id>/` (design, section 5).

A checkpoint is one file: a mark, the checksum of what follows, and a search's state as
`torch.save` writes it, under the run_ids it belongs to. The newest is the one with the largest
epoch and step; what is truncated, damaged or foreign is passed over for the one before.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from study.store.door import Storage

FOLDER = "checkpoints"
KEPT = 2
"""newest checkpoints of a pack that are kept: the one before stands in for a damaged one"""
ATTEMPTS = "attempts.json"
_MARK = b"ITNAS checkpoint 1\n"
_NAME = re.compile(r"(\d{6})-(\d{9})\.ckpt")
_DIGEST = 32

Moment = tuple[int, int]
"""finished epochs, and finished steps of the next one"""


class NoCheckpointError(ValueError):
    """A file that is no sound checkpoint of this pack; the message says why."""


@dataclass(frozen=True)
class Found:
    """The newest sound checkpoint of a pack, and what was passed over for it."""

    moment: Moment | None = None
    """None: there is none, the pack starts at its beginning"""
    passed_over: dict[str, str] = field(default_factory=dict)
    """by file, why"""


class Checkpoints:
    """The checkpoints of one pack."""

    def __init__(self, storage: Storage, pack_id: str, run_ids: list[str]) -> None:
        self.storage, self.pack_id, self.run_ids = storage, pack_id, run_ids
        self.folder = f"{FOLDER}/{pack_id}"

    def moments(self) -> list[Moment]:
        """All that lie there, oldest first."""
        return sorted(_moments(self.storage.names(self.folder)))

    def save(self, moment: Moment, state: dict[str, Any]) -> int:
        """Write a checkpoint and remove all but the last two; its bytes. OSError passes."""
        import torch

        payload = io.BytesIO()
        torch.save({"runs": self.run_ids, "state": state}, payload)
        content = payload.getvalue()
        self.storage.write(self._path(moment), _MARK + _digest(content) + content)
        older = [m for m in self.moments() if m < moment]
        for old in older[: len(older) - (KEPT - 1)]:
            self.storage.delete(self._path(old))
        return len(content)

    def restore(self, load: Callable[[dict[str, Any]], None]) -> Found:
        """Give `load` the newest state that is sound. It raises ValueError for one it cannot take.

        OSError of a storage that cannot be read passes: trouble, not damage.
        """
        passed_over: dict[str, str] = {}
        for moment in reversed(self.moments()):
            path = self._path(moment)
            content = self.storage.read(path)
            if content is None:  # removed meanwhile
                continue
            try:
                load(self._state(content))
            except ValueError as error:
                passed_over[path] = str(error)
                continue
            return Found(moment, passed_over)
        return Found(None, passed_over)

    def _state(self, content: bytes) -> dict[str, Any]:
        import torch

        head = len(_MARK) + _DIGEST
        if not content.startswith(_MARK):
            raise NoCheckpointError("is no checkpoint of this program")
        if _digest(content[head:]) != content[len(_MARK) : head]:
            raise NoCheckpointError("is truncated or damaged (its checksum differs)")
        try:
            saved = torch.load(io.BytesIO(content[head:]), map_location="cpu", weights_only=True)
            runs, state = saved["runs"], saved["state"]
        except Exception as error:  # written whole, yet not by a version that this one can read
            raise NoCheckpointError(f"cannot be read ({type(error).__name__})") from None
        if runs != self.run_ids:
            raise NoCheckpointError("belongs to other runs")
        return dict(state)

    def begin(self, who: dict[str, Any]) -> list[dict[str, Any]]:
        """Write down that the pack begins, by whom; every beginning so far, this one last."""
        name = f"{self.folder}/{ATTEMPTS}"
        begun = read_attempts(self.storage, self.pack_id)
        begun.append({**who, "began": datetime.now(UTC).isoformat(timespec="seconds")})
        self.storage.write(name, json.dumps(begun, indent=1) + "\n")
        return begun

    def clear(self) -> None:
        """Remove them all: the pack's rows are in `runs/`."""
        self.storage.delete_folder(self.folder)

    def _path(self, moment: Moment) -> str:
        return f"{self.folder}/{moment[0]:06d}-{moment[1]:09d}.ckpt"


def read_attempts(storage: Storage, pack_id: str) -> list[dict[str, Any]]:
    """Every beginning of a pack that is not complete: host, gpu, launch, began; oldest first."""
    text = storage.read(f"{FOLDER}/{pack_id}/{ATTEMPTS}")
    try:
        content = json.loads(text) if text else []
    except ValueError:
        return []
    return content if isinstance(content, list) else []


def newest(storage: Storage, pack_id: str) -> Moment | None:
    """The epoch and step of a pack's newest checkpoint, unread."""
    return max(_moments(storage.names(f"{FOLDER}/{pack_id}")), default=None)


def clear_all_but(storage: Storage, pack_ids: set[str]) -> None:
    """Remove checkpoints of packs that nobody will train any more."""
    names = storage.names(FOLDER)
    for name in names:
        if name not in pack_ids:
            storage.delete_folder(f"{FOLDER}/{name}")
    if pack_ids.isdisjoint(names):
        storage.delete_folder(FOLDER)


def _moments(names: list[str]) -> list[Moment]:
    matches = (_NAME.fullmatch(name) for name in names)
    return [(int(match[1]), int(match[2])) for match in matches if match]


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
