"""A small study to disturb, launches as processes, clusters of several nodes, tables compared."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pyarrow.dataset as ds
import yaml

from analysis.contract import SCHEMAS, TABLES
from study.store.checkpoints import read_attempts
from study.store.door import Storage
from tests.study.cli import ROOT, command, environment

RAY = shutil.which("ray", path=os.path.dirname(sys.executable))
INJECT = Path(__file__).parent / "inject"

STUDY: dict[str, Any] = {
    "name": "tiny",
    "space": "nas-bench-201",
    "data": {"source": "digits", "resolution": 8, "subset": 400},
    "search": {"epochs": 12, "batch_size": 32, "channels": 4, "cells": 1},
    "grid": {"dependence": [{"model": "independent"}, {"model": "transition"}]},
    "seeds": "0..1",
    "pack": 1,
    "checkpoint_minutes": 0.005,
    "waits": {"retry_seconds": 0.5, "stale_seconds": 10, "head_seconds": 10, "stop_seconds": 40},
}
BRAKE = {"at": "study.scheduling.trainable:_Trial._pauses", "do": "wait"}
"""between two steps, so that packs last as long as a test needs them, on any machine"""
PATIENCE = 600.0
"""seconds: for what happens within some on an idle machine"""
VOLATILE = {
    *("seconds", "seconds_per_step", "started", "finished", "host", "device"),
    *("attempts", "backend", "gpu"),
}
KEYS = {
    "runs": ("run_id",),
    "epochs": ("run_id", "epoch"),
    "edges": ("run_id", "epoch", "cell", "source", "target"),
    "links": ("run_id", "epoch", "cell", "predecessor_source", "predecessor_target", "source",
              "target"),
}  # fmt: skip


def write_study(folder: Path, **changes: Any) -> Path:
    """The study file, some of its keys changed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return path


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """A table's rows, sorted."""
    files = [str(p) for p in sorted((folder / name).glob("[!.]*.parquet"))]
    rows = ds.dataset(files, SCHEMAS[name], format="parquet").to_table().to_pylist()
    return sorted(rows, key=lambda row: [row[key] for key in KEYS[name]])


def lasting(folder: Path) -> dict[str, list[str]]:
    """All rows of all tables, exactly, but for columns that say when, where and how often."""

    def spelled(value: Any) -> str:
        return value.hex() if isinstance(value, float) and not math.isnan(value) else repr(value)

    return {
        name: [
            " ".join(
                f"{k}={[spelled(v) for v in value] if isinstance(value, list) else spelled(value)}"
                for k, value in row.items()
                if k not in VOLATILE
            )
            for row in table(folder, name)
        ]
        for name in TABLES
    }


def attempts(folder: Path) -> list[int]:
    """Of every run."""
    return [row["attempts"] for row in table(folder, "runs")]


class Brake:
    """A file: while it is there, packs that were begun with it wait between two steps.

    By itself a pack of `STUDY`, of 48 such waits, lasts longer than clusters take to change.
    """

    def __init__(self, folder: Path, seconds: float = 3.0) -> None:
        self.file = folder / f"brake-{uuid.uuid4().hex[:6]}"
        self.file.touch()
        self.fault = BRAKE | {"seconds": seconds, "while": str(self.file)}

    def release(self) -> None:
        """From now on they train as fast as they can."""
        self.file.unlink()


class Launch:
    """`run_study.py launch` as a process of its own, its stderr readable while it runs."""

    verb = "launch"
    started: ClassVar[list[Launch]] = []

    def __init__(
        self, study: Path, storage: Path | str, *words: str, inject: list[dict[str, Any]] = (),
        env: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.log = study.parent / f"stderr-{uuid.uuid4().hex[:6]}.txt"
        own = environment() | (env or {})
        if inject:
            counter = study.parent / "counter"
            counter.mkdir(exist_ok=True)
            own["INJECT"] = json.dumps([{"times": 1, "counter": str(counter), **i} for i in inject])
            own["PYTHONPATH"] = os.pathsep.join((str(INJECT), str(ROOT)))
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(
                command(self.verb, str(study), "--storage", str(storage), *words),
                stdout=subprocess.DEVNULL, stderr=errors, text=True, env=own,
            )  # fmt: skip
        self.started.append(self)

    @classmethod
    def end_all(cls) -> None:
        """For the end of a test: one that failed may have left launches."""
        while cls.started:
            cls.started.pop().kill()

    @property
    def errors(self) -> str:
        return self.log.read_text()

    def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Wait until something holds while the launch goes on."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < end, self.errors
            time.sleep(0.05)
        return found

    def ends(self, seconds: float = PATIENCE) -> int:
        """Its exit status."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout=seconds)
        raise AssertionError(f"has not ended: {self.errors}")

    def kill(self) -> None:
        """SIGKILL; comes back when the workers, which notice, have ended as well."""
        workers = self.workers()
        self.process.kill()
        self.process.wait()
        _, left = psutil.wait_procs(workers, timeout=PATIENCE)
        assert not left

    def workers(self) -> list[psutil.Process]:
        """Processes in which packs are trained, of a local launch."""
        found = []
        with contextlib.suppress(psutil.Error):  # it has ended
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "ImplicitFunc" in " ".join(child.cmdline()):
                        found.append(child)
        return found

    def kill_workers(self) -> None:
        """SIGKILL to every worker that trains; comes back when they have ended."""
        workers = self.until(self.workers)
        for worker in workers:
            worker.kill()
        psutil.wait_procs(workers, timeout=PATIENCE)


class Tuning(Launch):
    """`run_study.py tune`, likewise."""

    verb = "tune"


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoints/*/*.ckpt"))


def beginnings(folder: Path) -> list[list[dict[str, Any]]]:
    """Of every pack that was begun and is not complete, all that is noted."""
    door = Storage.open(folder)
    return [read_attempts(door, pack) for pack in door.names("checkpoints")]


def saved(folder: Path) -> int:
    """Packs that have a checkpoint."""
    return len({path.parent for path in checkpoints(folder)})


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    """A `ray start --block` process; `kill` ends all of the node at once, as a power cut does."""

    def __init__(self, *words: str, log: Path, env: dict[str, str], prefix: tuple[str, ...] = ()):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*prefix, str(RAY), "start", *words, "--block", "--disable-usage-stats",
                 "--node-ip-address=127.0.0.1", "--object-store-memory=100000000"],
                stdout=file, stderr=file, env=env, cwd=log.parent, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while "Ray runtime started" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    def _all(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def kill(self) -> None:
        for process in self._all():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def having(self, words: str) -> list[psutil.Process]:
        """Its processes whose command line holds these words."""
        found = []
        for process in self._all():
            with contextlib.suppress(psutil.Error):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def raylets(self) -> list[psutil.Process]:
        return self.having("raylet/raylet ")

    def trains(self) -> bool:
        """Whether a pack is being trained there."""
        return bool(self.having("ImplicitFunc"))

    def stop(self) -> None:
        everything = self._all()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=60)  # it takes leave of the head
        for process in everything:
            with contextlib.suppress(psutil.Error):
                process.kill()


class Cluster:
    """A head without processors; computing nodes are added to it. Packs obey its `brake`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.brake = Brake(folder)
        self.env = environment() | {
            "PYTHONPATH": str(INJECT), "INJECT": json.dumps([self.brake.fault])
        }  # fmt: skip
        self.env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
        self.nodes: list[Node] = []
        self.head = self._start(
            "--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false"
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _start(self, *words: str, env: dict[str, str] | None = None, **named: Any) -> Node:
        log = self.folder / f"node-{len(self.nodes)}.log"
        node = Node(*words, log=log, env=self.env | (env or {}), **named)
        self.nodes.append(node)
        node.wait()
        return node

    def add(self, cpus: int = 1, env: dict[str, str] | None = None, **named: Any) -> Node:
        """A computing node."""
        return self._start(f"--address={self.address}", f"--num-cpus={cpus}", env=env, **named)

    def launch(self, study: Path, storage: Path | str, *words: str, **named: Any) -> Launch:
        env = {"RAY_AUTH_TOKEN": self.env["RAY_AUTH_TOKEN"]}
        return Launch(study, storage, "--address", self.address, *words, env=env, **named)

    def ray(self, *words: str) -> str:
        """`ray ...` against this cluster."""
        result = subprocess.run(
            [str(RAY), *words], env=self.env | {"RAY_ADDRESS": self.address}, text=True,
            capture_output=True, timeout=PATIENCE,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.stop()


@contextlib.contextmanager
def cluster(folder: Path, *cpus: int, braked: bool = False) -> Iterator[Cluster]:
    """A cluster with computing nodes of so many processors."""
    made = Cluster(folder)
    if not braked:
        made.brake.release()
    try:
        for count in cpus:
            made.add(count)
        yield made
    finally:
        made.stop()
