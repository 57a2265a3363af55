"""A tiny study of the digits, and the real command line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from run_study import main

ROOT = Path(__file__).parents[2]

TINY: dict[str, Any] = {
    "name": "tiny",
    "space": "nas-bench-201",
    "data": {"source": "digits", "resolution": 8, "subset": 200},
    "search": {"epochs": 1, "batch_size": 32, "channels": 4, "cells": 1},
    "grid": {"dependence": [{"model": "independent"}, {"model": "transition"}]},
    "seeds": "0..1",
    "pack": 2,
}


def command(*words: str) -> list[str]:
    """The command line of a `run_study.py` call."""
    return [sys.executable, str(ROOT / "run_study.py"), *words]


def environment() -> dict[str, str]:
    """This environment with one thread for torch and no Ray address to join by accident."""
    own = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(*words: str, cwd: Path = ROOT, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the real command line to its end."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, cwd=cwd, timeout=timeout,
        env=environment(),
    )  # fmt: skip


def run_here(*words: str) -> subprocess.CompletedProcess[str]:
    """As `run`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(words))
    except SystemExit as end:  # argparse
        status = int(end.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


NOBODY = 2**22 + 1
"""no process of that number"""


def heartbeat(**changes: Any) -> dict[str, Any]:
    """A driver that runs here, as an earlier version wrote it."""
    now = datetime.now(UTC)
    content = {"host": socket.gethostname(), "pid": os.getpid(), "state": "running",
               "beat": now.isoformat()}  # fmt: skip
    return content | changes


def refused(*words: str, by: Any = run_here) -> str:
    """The lines of a refusal: exit status 2, a few lines, no traceback."""
    result = by(*words)
    output = result.stdout + result.stderr
    assert result.returncode == 2, output
    assert "Traceback" not in output
    assert 1 <= len(result.stderr.splitlines()) <= 4, output
    return result.stderr
