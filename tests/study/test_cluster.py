"""Two nodes on one machine, joined by `--address`: no node shares this process's checkout."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from study.cluster import nodes as cluster_nodes
from study.cluster.address import find
from study.cluster.nodes import fits, lacking, slots
from study.file import Resources
from study.status import study_status
from tests.study.cli import command, environment, refused, run
from tests.study.faults.support import cluster
from tests.study.test_launch import LONG, beat, rows, wait_for

SMI = """#!/bin/sh
echo 81559
echo 24564
"""
"""what nvidia-smi says of a node with two unlike GPUs: MiB"""


def reachable(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A head without processors and a node with two; both ask for a token."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "bin").mkdir()
    (folder / "bin" / "nvidia-smi").write_text(SMI)
    (folder / "bin" / "nvidia-smi").chmod(0o755)
    path = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    with cluster(folder) as ray, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", ray.env["RAY_AUTH_TOKEN"])  # found by the driver, too
        ray.add(2, env=path)
        yield ray


@pytest.fixture
def two_nodes(made):
    return made.address


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


@pytest.mark.faults
def test_a_request_that_no_node_satisfies_is_refused(two_nodes, write_study, tmp_path):
    """The nodes have two processors together with the head's none, but no node has three."""
    began = time.monotonic()
    result = run("launch", str(write_study()), "--storage", str(tmp_path / "out"),
                 "--address", two_nodes, "--set", "resources.cpu=3")  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert "resources: no node has {cpu: 3, gpu: 0}" in result.stderr
    assert time.monotonic() - began < 120  # Ray itself would wait for ever


@pytest.mark.faults
def test_terminated_on_a_cluster_that_goes_on(two_nodes, write_study, tmp_path):
    study, storage = write_study(search=LONG), tmp_path / "out"
    process = subprocess.Popen(
        command("launch", str(study), "--storage", str(storage), "--address", two_nodes),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    wait_for(lambda: beat(storage / "tiny").get("runs_running", 0) > 0, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert f"--address {two_nodes}" in errors.splitlines()[-1]
    assert study_status(str(storage / "tiny"))["state"] == "interrupted"
    assert reachable(int(two_nodes.rpartition(":")[2]))


def test_plan_measures_on_a_node(two_nodes, write_study, tmp_path):
    """In a pack's resources there; nothing is written."""
    result = run("plan", str(write_study()), "--storage", str(tmp_path / "out"), "--address",
                 two_nodes, "--json", cwd=tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["measured_on"] == [{"nodes": "nodes with 2 CPU", "packs_at_once": 2}]
    assert plan["not_measured"] == []
    assert plan["seconds_per_step"] > 0
    assert plan["hours_here"] > 0
    assert not (tmp_path / "out").exists()


SMALLEST = """
import sys, ray
from study.cluster import nodes
from study.file import Resources
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(nodes.gpu_bytes(Resources(cpu=1)), nodes.gpu_bytes(Resources(cpu=3)))
"""


def test_the_smallest_gpu_of_the_nodes_is_asked_for(two_nodes):
    """`pack: auto` is sized on it: no GPU of the driver's machine, nor of a node too small."""
    result = subprocess.run(
        [sys.executable, "-c", SMALLEST, two_nodes], capture_output=True, text=True, timeout=600,
        env=environment() | {"RAY_AUTH_MODE": "token"},
    )  # fmt: skip
    assert result.stdout.split() == [str(24564.0 * 2**20), "None"], result.stderr


# -- drivers that cannot join --------------------------------------------------------------


def launch_at(address, write_study, tmp_path):
    began = time.monotonic()
    words = ("launch", str(write_study()), "--storage", str(tmp_path / "out"))
    line = refused(*words, "--address", address, by=run)
    assert time.monotonic() - began < 60  # ten seconds, on an idle machine
    assert not (tmp_path / "out").exists()
    return line


@pytest.mark.parametrize("token", ["f" * 32, pytest.param("", marks=pytest.mark.faults)])
def test_another_token_or_none_is_told_in_one_line(two_nodes, write_study, tmp_path, monkeypatch,
                                                   token):  # fmt: skip
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setenv("HOME", str(tmp_path))
    line = launch_at(two_nodes, write_study, tmp_path)
    assert line.startswith(f"--address {two_nodes}: the cluster refuses this driver's token; set")
    assert len(line.splitlines()) == 1


@pytest.mark.faults
def test_a_driver_outside_the_cluster_is_told_where_to_run(write_study, tmp_path, monkeypatch):
    """A head that answers, on a machine on which no raylet runs: it is killed, the head stays."""
    with cluster(tmp_path / "ray") as ray:
        monkeypatch.setenv("RAY_AUTH_TOKEN", ray.env["RAY_AUTH_TOKEN"])
        ray.head.process.send_signal(signal.SIGSTOP)  # it would end the head with its raylet
        for raylet in ray.head.raylets():
            raylet.kill()
        try:
            line = launch_at(ray.address, write_study, tmp_path)
        finally:
            ray.head.process.send_signal(signal.SIGCONT)
            ray.head.kill()
    assert "this machine is no node of that cluster, and the driver must run on one" in line
    assert f"ray start --address={ray.address} --num-cpus=0" in line
    assert len(line.splitlines()) == 1


def test_a_driver_on_a_node_is_let_in(two_nodes, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert find(two_nodes) == two_nodes


# -- what nodes have -----------------------------------------------------------------------


def test_slots_are_counted_per_node(monkeypatch):
    made = [
        {"Resources": {"CPU": 3.0}},
        {"Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Resources": {}},
    ]
    monkeypatch.setattr("study.cluster.nodes.nodes", lambda: made)
    assert slots(Resources(cpu=2)) == 3
    assert slots(Resources(cpu=1, gpu=0.5)) == 2
    assert slots(Resources(cpu=0.1, gpu=1)) == 1


def test_a_type_of_gpu_and_memory_are_asked_for(monkeypatch):
    node = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0, "memory": 10 * 2.0**30}
    assert fits(node, Resources(gpu=0.5, gpu_type="A100")) == 4
    assert fits(node, Resources(gpu=1, gpu_type="H100")) == 0
    assert fits(node, Resources(memory=3)) == 3
    assert fits(node, Resources(memory=11)) == 0
    monkeypatch.setattr(cluster_nodes, "nodes", lambda: [{"Resources": node}])
    assert str(lacking(Resources(gpu=1, gpu_type="H100", memory=20))) == (
        "resources: no node has {cpu: 1, gpu: 1, gpu_type: H100, memory: 20} for a pack; "
        "nodes have 8 CPU, 2 GPU (A100), 10.0 GiB"
    )
    assert Resources(gpu=0.5, gpu_type="A100", memory=0.5).bundle == {
        "CPU": 1, "GPU": 0.5, "accelerator_type:A100": 0.001, "memory": 2.0**29,
    }  # fmt: skip


def test_versions_that_differ_are_named(monkeypatch):
    """Without what follows a +, and of Python the minor version."""
    python, found = ["3", "12", "1"], {"torch": "2.13.0+cu128", "numpy": "2.4", "pyarrow": "26"}
    monkeypatch.setattr(cluster_nodes.platform, "python_version_tuple", lambda: tuple(python))
    monkeypatch.setattr(cluster_nodes.importlib.metadata, "version", lambda name: found[name])
    here = cluster_nodes.versions()
    python[2], found["torch"] = "9", "2.13.0+cpu"
    assert cluster_nodes.differing(here) == ""
    python[1], found["numpy"] = "11", "2.3"
    assert cluster_nodes.differing(here) == "python 3.11 (here 3.12), numpy 2.3 (here 2.4)"
