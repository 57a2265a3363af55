"""Who runs a study: `logs/launch.json`, the beat of the driver that holds the study's lock.

A launch that wants the lock puts up a claim beside it, looks who else has one, and leaves if an
earlier token (in the order of their letters) is there; it waits for later ones, which leave.
Then it reads the lock, and takes it where its holder is dead. Of any number of launches at once
one is left. Nothing of this needs more than files that are seen once they are written, so it
holds on shared folders and object stores alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from study.errors import StudyError
from study.store.door import Storage

HEARTBEAT = "logs/launch.json"
CLAIM = "claim-"
BEAT_SECONDS = 3.0
STALE_SECONDS = 60.0
"""a beat that has not changed for so long, by the reader's clock, has no driver any more"""
LOOK_SECONDS = 0.2


def read_heartbeat(folder: Storage) -> dict[str, Any]:
    """The last heartbeat; {} if nothing was ever launched."""
    return _read(folder, HEARTBEAT)


def _read(folder: Storage, name: str) -> dict[str, Any]:
    text = folder.read(name)
    try:
        content = json.loads(text) if text else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def holds(folder: Storage, token: str) -> bool:
    """Whether the launch of that token still has the study; its workers ask before they write."""
    return read_heartbeat(folder).get("token") == token


def is_alive(heartbeat: dict[str, Any]) -> bool:
    """Whether the driver that wrote this heartbeat seems to run, for a reader who does not wait.

    On the driver's own machine its process is looked for; elsewhere the beat's time is compared
    with this machine's clock, so that a wrong clock can deceive (`status`; never a launch).
    """
    if heartbeat.get("state") != "running":
        return False
    here = _lives_here(heartbeat)
    if here is False or (here and "process_started" in heartbeat):
        return here
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(heartbeat["beat"])
    except (KeyError, TypeError, ValueError):
        return False
    return age.total_seconds() <= STALE_SECONDS


def machine() -> str:
    """What tells processes of one machine (and container) from those of others."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    return " ".join(parts)


def _identity() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "machine": machine(),
        "pid": process.pid,
        "process_started": process.create_time(),
    }


def _lives_here(content: dict[str, Any]) -> bool | None:
    """Whether the process of a heartbeat or claim runs on this machine; None if it is elsewhere.

    A process of that number that began at another time is another one.
    """
    if "machine" in content:
        here = content["machine"] == machine()
    else:  # of an earlier version
        here = content.get("host") == socket.gethostname()
    if not here:
        return None
    try:
        started = psutil.Process(int(content["pid"])).create_time()
        return abs(started - float(content.get("process_started", started))) < 1.0
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def refuse_if_running(
    folder: Storage,
    stale_seconds: float = STALE_SECONDS,
    notify: Callable[[str], None] = print,
    dead: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`StudyError` where another driver is running this study; the last heartbeat where none is.

    A driver of another machine is watched: alive once its beat changes, dead when it has not
    changed for `stale_seconds` of this process's clock. It is not watched again while its beat is
    the one that was found `dead` before.
    """
    content = read_heartbeat(folder)
    if content.get("state") != "running" or content == dead:
        return content
    alive = _lives_here(content)
    if alive is None:
        notify(
            f"{folder}: was running on host {content.get('host')}; "
            f"looking up to {stale_seconds:g} s whether it still is"
        )
        alive = _changes(folder, HEARTBEAT, content, stale_seconds)
    if alive:
        raise StudyError(
            f"{folder}: is running elsewhere (host {content.get('host')}, process "
            f"{content.get('pid')}, last seen {content.get('beat')}); wait for it or stop it"
        )
    return content


def _changes(folder: Storage, name: str, before: dict[str, Any], seconds: float) -> bool:
    """Whether a file still says that somebody runs and changes within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        now = _read(folder, name)
        if name == HEARTBEAT and now.get("state") != "running":
            return False
        if now != before:
            return True
    return False


class Lock:
    """Holds a study while a `with` block runs and writes down how far it is.

    A driver that was killed leaves a heartbeat whose process is gone or whose beat stands still;
    the next launch takes over. Raises `StudyError` where another driver is alive, and leaves no
    file then.
    """

    def __init__(
        self,
        folder: Storage,
        snapshot: Callable[[], dict[str, Any]],
        stale_seconds: float = STALE_SECONDS,
        notify: Callable[[str], None] = print,
        dead: dict[str, Any] | None = None,
    ) -> None:
        """`snapshot` gives what each beat tells of the launch (see `Progress.snapshot`); `dead` is
        what `refuse_if_running` gave.
        """
        self.folder, self.snapshot = folder, snapshot
        self.token = uuid.uuid4().hex
        self.lost = False
        """whether another driver has taken the study over"""
        self._stale, self._notify, self._dead = stale_seconds, notify, dead
        self._state = "running"
        self._who = _identity()
        self._began = datetime.now(UTC).isoformat(timespec="seconds")
        self._end = threading.Event()
        self._writing = threading.Lock()
        self._beats = 0
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        while not self._taken():
            continue
        self._thread.start()
        return self

    def _taken(self) -> bool:
        """One attempt; false where a dead launch's claim was in the way: to be made again."""
        own = f"{CLAIM}{self.token}.json"
        self.folder.write(f"logs/{own}", json.dumps(self._who))
        try:
            others = self._claims(own)
            earlier = {name: claim for name, claim in others.items() if name < own}
            if not earlier:
                for name in others:  # later ones leave, unless they were alone when they looked
                    self._outlast(name)
                refuse_if_running(self.folder, self._stale, self._notify, self._dead)
                self._beat()
                return True
        finally:
            self.folder.delete(f"logs/{own}")
        for name, claim in earlier.items():
            if _lives_here(claim):
                raise StudyError(
                    f"{self.folder}: is being launched elsewhere (host {claim.get('host')}, "
                    f"process {claim.get('pid')}); wait for it or stop it"
                )
            self._outlast(name)
        return False

    def _claims(self, own: str) -> dict[str, dict[str, Any]]:
        """Claims of other launches, those of dead ones of this machine removed."""
        found: dict[str, dict[str, Any]] = {}
        for name in self.folder.names("logs"):
            if name.startswith(CLAIM) and name != own:
                content = _read(self.folder, f"logs/{name}")
                if content and _lives_here(content) is False:
                    self.folder.delete(f"logs/{name}")
                elif content:
                    found[name] = content
        return found

    def _outlast(self, claim: str) -> None:
        """Wait until a claim is gone; one that stays longer than any living launch's is removed."""
        end = time.monotonic() + 2 * self._stale + 10
        while time.monotonic() < end:
            content = _read(self.folder, f"logs/{claim}")
            if not content:
                return
            if _lives_here(content) is False:
                break
            time.sleep(LOOK_SECONDS)
        self.folder.delete(f"logs/{claim}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.end("failed" if self.snapshot()["failed"] else "finished")
        else:
            interrupted = issubclass(kind, (KeyboardInterrupt, SystemExit))
            self.end("interrupted" if interrupted else "failed")

    def end(self, state: str) -> None:
        """Give the study back, with what became of the launch."""
        self._end.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._state = state
        if not self.lost:
            with contextlib.suppress(OSError):  # a beat that stands still ends the lock as well
                self._beat()

    def _keep(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            # a hiccup of the storage must not end the study; a stale beat only lends the lock
            with contextlib.suppress(OSError):
                if read_heartbeat(self.folder).get("token", self.token) != self.token:
                    self.lost = True
                    return
                self._beat()

    def _beat(self) -> None:
        with self._writing:
            self._beats += 1
            content = {
                **self._who,
                "token": self.token,
                "started": self._began,
                "beat": datetime.now(UTC).isoformat(timespec="seconds"),
                "beats": self._beats,
                "state": self._state,
                **self.snapshot(),
            }
            if self._state != "running":
                content |= {"running": [], "runs_running": 0, "seconds_left": None}
            self.folder.write(HEARTBEAT, json.dumps(content, indent=1) + "\n")
