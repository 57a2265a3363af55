"""`--address`: where the cluster is, and within seconds whether this driver can join it.

Ray's own driver would try for a minute, or wait for ever, and says on the way what no user can
read. So its head is asked beforehand (`probe.py`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from study.cluster import probe
from study.errors import StudyError

REACH_SECONDS = 3.0
ANSWER_SECONDS = 20.0
"""for a head to answer that takes connections, once it is asked"""
IMPORT_SECONDS = 180.0
"""for the process that asks to import Ray"""
LOOK_SECONDS = 0.1
REFUSED = b"Unauthenticated"
"""what Ray's client writes when its token is not the cluster's"""


def show_token() -> None:
    """Have a driver that joins a cluster show its token, if there is one; before Ray is imported.

    Ray's head nodes ask for a token by default, its joining drivers show none by default; a
    cluster without tokens takes a driver that shows one.
    """
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if named or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def find(asked: str) -> str:
    """HOST:PORT of the cluster behind `--address`, which takes this driver; "" where Ray is to look
    for itself.

    Raises `StudyError` with one line: no address, nobody there, not a node of it, another token.
    """
    address = asked if asked != "auto" else _current()
    if address:
        _check_reachable(address, asked)
        _check_joins(address, asked)
    return address


def _current() -> str:
    """Where Ray's own `auto` would look, or "": a cluster that has ended leaves its address."""
    from ray._private.utils import read_ray_address

    return os.environ.get("RAY_ADDRESS") or read_ray_address() or ""


def _check_reachable(address: str, asked: str) -> None:
    """`asked` is what the user wrote."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise StudyError(f"--address {address}: expected auto or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        text = "no such cluster" if asked == address else f"no cluster at {address} any more"
        raise StudyError(f"--address {asked}: {text} ({reason})") from None


def _check_joins(address: str, asked: str) -> None:
    """Ask the head; a process that is refused for its token is ended at once."""
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-P", str(Path(probe.__file__)), address]
        process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        try:
            end, asks = time.monotonic() + IMPORT_SECONDS, False
            while time.monotonic() < end:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
                    break
                text = _text(said)
                if REFUSED in text:
                    break
                if not asks and probe.ASKS.encode() in text:
                    end, asks = time.monotonic() + ANSWER_SECONDS, True
        finally:
            process.kill()
            status = process.wait()
        text = _text(said)
    if REFUSED in text:
        raise StudyError(
            f"--address {asked}: the cluster refuses this driver's token; set RAY_AUTH_TOKEN (or "
            "~/.ray/auth_token) to the one its head was started with"
        )
    if status == probe.OUTSIDE:
        raise StudyError(
            f"--address {asked}: this machine is no node of that cluster, and the driver must run "
            "on one: give the command on a node, with --address auto, or make this machine a node "
            f"first by `ray start --address={address} --num-cpus=0`"
        )
    if status != 0:
        lines = text.decode(errors="replace").strip().splitlines()
        last = ["no answer", *(line for line in lines if line != probe.ASKS)][-1]
        raise StudyError(f"--address {asked}: no Ray cluster answers at {address} ({last})")


def _text(file: IO[bytes]) -> bytes:
    """All that is in it; the writing process shares its place in the file, which stays."""
    return os.pread(file.fileno(), 1 << 20, 0)
