"""Two nodes on one machine, joined by `--address`: no node shares this process's checkout."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from study.file import Resources
from study.scheduling.nodes import slots
from study.status import study_status
from tests.study.cli import command, environment, run
from tests.study.test_launch import LONG, beat, rows, wait_for

RAY = shutil.which("ray", path=os.path.dirname(sys.executable))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def ray_start(*words: str, log: Path):
    """A `ray start` child process with its node, ended by SIGTERM."""
    own = {k: v for k, v in environment().items() if k != "PYTHONPATH"}
    own["RAY_AUTH_MODE"] = "token"
    with log.open("w") as file:
        process = subprocess.Popen(
            [RAY, "start", *words, "--block", "--disable-usage-stats"],
            stdout=file, stderr=file, env=own, cwd=log.parent,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def reachable(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    """A head without processors and a worker node with two, which ask for a token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)  # found by the driver, too
        yield from start_nodes(tmp_path_factory)


def start_nodes(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("cluster"), free_port()
    head = ("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false",
            "--node-ip-address=127.0.0.1", "--object-store-memory=100000000")  # fmt: skip
    worker = (f"--address=127.0.0.1:{port}", "--num-cpus=2", "--node-ip-address=127.0.0.1",
              "--object-store-memory=100000000")  # fmt: skip
    with ray_start(*head, log=folder / "head.log") as process:
        wait_for(lambda: reachable(port), process)
        with ray_start(*worker, log=folder / "worker.log") as process:
            wait_for(lambda: "Ray runtime started" in (folder / "worker.log").read_text(), process)
            yield f"127.0.0.1:{port}"


def test_launch_on_two_nodes(two_nodes, write_study, tmp_path, monkeypatch):
    """As a Ray job, the entrypoint of `ray job submit` and of a RayJob, which Ray marks so."""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {}, "metadata": {}}')
    study, folder = str(write_study()), tmp_path / "out" / "tiny"
    result = run("launch", study, "--storage", str(tmp_path / "out"), "--address", two_nodes,
                 cwd=tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(rows(folder)) == 4
    told = [line for line in result.stderr.splitlines() if line.startswith("node ")]
    (backend,) = {row["backend"] for row in rows(folder)}
    assert sorted(line.split(": ")[1] for line in told) == sorted([backend, "no room for a pack"])
    assert list((folder / "logs").iterdir()) == [folder / "logs" / "launch.json"]  # no probes


def test_a_request_that_no_node_satisfies_is_refused(two_nodes, write_study, tmp_path):
    """The nodes have two processors together with the head's none, but no node has three."""
    began = time.monotonic()
    result = run("launch", str(write_study()), "--storage", str(tmp_path / "out"),
                 "--address", two_nodes, "--set", "resources.cpu=3")  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert "resources: no node has {cpu: 3, gpu: 0}" in result.stderr
    assert time.monotonic() - began < 60


def test_terminated_on_a_cluster_that_goes_on(two_nodes, write_study, tmp_path):
    study, storage = write_study(search=LONG), tmp_path / "out"
    process = subprocess.Popen(
        command("launch", str(study), "--storage", str(storage), "--address", two_nodes),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    wait_for(lambda: beat(storage / "tiny").get("runs_running", 0) > 0, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"--address {two_nodes}" in errors.splitlines()[-1]
    assert study_status(str(storage / "tiny"))["state"] == "interrupted"
    assert reachable(int(two_nodes.rpartition(":")[2]))


def test_slots_are_counted_per_node(monkeypatch):
    made = [
        {"Resources": {"CPU": 3.0}},
        {"Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Resources": {}},
    ]
    monkeypatch.setattr("study.scheduling.nodes.nodes", lambda: made)
    assert slots(Resources(cpu=2)) == 3
    assert slots(Resources(cpu=1, gpu=0.5)) == 2
    assert slots(Resources(cpu=0.1, gpu=1)) == 1
