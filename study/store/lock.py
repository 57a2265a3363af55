"""Who is running a study: `logs/launch.json`, a heartbeat that is also the study's lock."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import uuid
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from study.errors import StudyError
from study.scheduling.progress import Progress
from study.store.door import Storage

HEARTBEAT = "logs/launch.json"
BEAT_SECONDS = 3.0
STALE_SECONDS = 60.0
"""a heartbeat this old has no driver any more, wherever that ran"""


def read_heartbeat(folder: Storage) -> dict[str, Any]:
    """The last heartbeat; {} if nothing was ever launched."""
    text = folder.read(HEARTBEAT)
    try:
        content = json.loads(text) if text else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def is_alive(heartbeat: dict[str, Any]) -> bool:
    """Whether the driver that wrote this heartbeat still runs."""
    if heartbeat.get("state") != "running":
        return False
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(heartbeat["beat"])
        pid = int(heartbeat["pid"])
    except (KeyError, TypeError, ValueError):
        return False
    if age.total_seconds() > STALE_SECONDS:
        return False
    return heartbeat.get("host") != socket.gethostname() or _process_exists(pid)


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def refuse_if_running(folder: Storage) -> None:
    """`StudyError` where another driver is running this study."""
    heartbeat = read_heartbeat(folder)
    if is_alive(heartbeat):
        raise StudyError(
            f"{folder}: is running elsewhere (host {heartbeat['host']}, process "
            f"{heartbeat['pid']}, last seen {heartbeat['beat']}); wait for it or stop it"
        )


class Heartbeat:
    """Holds a study while a `with` block runs and writes down how far it is.

    A driver that was killed leaves a heartbeat whose process is gone or whose beat is stale;
    the next launch takes over. Raises `StudyError` where another driver is alive.
    """

    def __init__(self, folder: Storage, progress: Progress) -> None:
        self.folder, self.progress = folder, progress
        self.lost = False
        """whether another driver has taken the study over"""
        self._state = "running"
        self._token = uuid.uuid4().hex
        self._began = datetime.now(UTC).isoformat(timespec="seconds")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        refuse_if_running(self.folder)
        self._beat()
        if read_heartbeat(self.folder).get("token") != self._token:
            refuse_if_running(self.folder)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
        if kind is None:
            self._state = "failed" if self.progress.failed else "finished"
        else:
            interrupted = issubclass(kind, (KeyboardInterrupt, SystemExit))
            self._state = "interrupted" if interrupted else "failed"
        if not self.lost:
            self._beat()

    def _keep(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            # a hiccup of the storage must not end the study; a stale beat only lends the lock
            with contextlib.suppress(OSError):
                if read_heartbeat(self.folder).get("token", self._token) != self._token:
                    self.lost = True
                    return
                self._beat()

    def _beat(self) -> None:
        content = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "token": self._token,
            "started": self._began,
            "beat": datetime.now(UTC).isoformat(timespec="seconds"),
            "state": self._state,
            **self.progress.snapshot(),
        }
        if self._state != "running":
            content |= {"running": [], "runs_running": 0, "seconds_left": None}
        self.folder.write(HEARTBEAT, json.dumps(content, indent=1) + "\n")
