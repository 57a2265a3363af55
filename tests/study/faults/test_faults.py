"""The fault matrix: whatever breaks, no run is lost, none doubled, and no number changes.

`pytest -m faults`; each fault is real unless its docstring says where it is injected.
"""

from __future__ import annotations

import contextlib
import errno
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.store.checkpoints import newest
from study.store.door import Storage
from study.store.lock import read_heartbeat
from tests.study.cli import run_here
from tests.study.faults.support import (
    PATIENCE,
    Brake,
    Launch,
    attempts,
    beginnings,
    checkpoints,
    cluster,
    lasting,
    saved,
    table,
    write_study,
)

pytestmark = pytest.mark.faults

BOOM = {"at": "itnas.method.bilevel:SearchPack.run_epoch", "do": "raise"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The tables of the study when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    launch = Launch(write_study(folder), folder / "out")
    assert launch.ends() == 0, launch.errors
    assert attempts(folder / "out" / "tiny") == [1] * 4
    assert not (folder / "out" / "tiny" / "checkpoints").exists()
    return lasting(folder / "out" / "tiny")


@pytest.fixture
def place(tmp_path):
    """Study file, storage, and the study's folder in it."""
    return write_study(tmp_path / "file"), tmp_path / "out", tmp_path / "out" / "tiny"


@pytest.fixture(autouse=True)
def _nothing_goes_on():
    yield
    Launch.end_all()


@pytest.fixture
def brake(tmp_path):
    """What packs of a launch obey that is given its fault."""
    return Brake(tmp_path)


def test_fault_01_driver_killed(place, undisturbed, tmp_path):
    """SIGKILL at three random moments; every relaunch goes on from the newest checkpoint."""
    study, storage, folder = place
    chance, killed, brake = random.Random(1), [], Brake(tmp_path, seconds=0.2)
    for _ in range(3):
        before = {p.name for p in checkpoints(folder)}
        launch = Launch(study, storage, inject=[brake.fault])
        launch.until(lambda before=before: {p.name for p in checkpoints(folder)} - before)
        time.sleep(chance.uniform(0, 1))
        launch.kill()
        killed.append(launch.process.pid)
    door = Storage.open(folder)
    left = {p.name: newest(door, p.name) for p in (folder / "checkpoints").iterdir()}
    assert any(left.values())
    begun = {
        pack: len(json.loads((folder / "checkpoints" / pack / "attempts.json").read_text()))
        for pack in left
    }
    launch = Launch(study, storage)
    assert launch.ends() == 0, launch.errors
    for pack, moment in left.items():
        if moment is not None:
            epoch, step = moment
            assert f"pack {pack}: goes on after epoch {epoch}, step {step}" in launch.errors
    assert lasting(folder) == undisturbed
    after = {row["pack_id"]: row["attempts"] for row in table(folder, "runs")}
    assert all(after[pack] == n + 1 for pack, n in begun.items())
    assert max(after.values()) <= 4
    assert not (folder / "checkpoints").exists()
    scratch = Path(tempfile.gettempdir())
    assert not [p for n in killed for p in scratch.glob(f"itnas-tune-{n}-*")]


def test_fault_02_worker_killed(place, undisturbed, brake):
    """More often than `max_failures`, each time after progress: taken away, not failed."""
    study, storage, folder = place
    launch = Launch(study, storage, "--set", "max_failures=0", "--set", "seeds=[0]", "--set",
                    "grid.dependence=[{model: transition}]", inject=[brake.fault])  # fmt: skip
    seen: set[str] = set()
    for _ in range(3):
        launch.until(lambda seen=seen: {p.name for p in checkpoints(folder)} - seen)
        launch.kill_workers()
        seen = {p.name for p in checkpoints(folder)}
    brake.release()
    assert launch.ends() == 0, launch.errors
    assert attempts(folder) == [4]
    launch = Launch(study, storage)
    assert launch.ends() == 0, launch.errors
    assert lasting(folder) == undisturbed


def test_fault_02_worker_killed_without_progress(place):
    """Counted, told apart from the run's own fault, and named with a log that is there.

    Injected: the worker ends itself by SIGKILL at the beginning of its first epoch.
    """
    study, storage, folder = place
    fault = BOOM | {"do": "kill", "times": 9}
    launch = Launch(study, storage, "--set", "max_failures=1", "--set", "seeds=[0]",
                    "--set", "grid.dependence=[{model: transition}]", inject=[fault])  # fmt: skip
    assert launch.ends() == 1, launch.errors
    (line,) = [x for x in launch.errors.splitlines() if x.startswith("failed: pack")]
    assert "its worker was lost" in line
    assert (folder / line.rpartition("(")[2].rstrip(")")).is_file()
    assert "Traceback" not in launch.errors


def test_fault_03_node_killed(place, undisturbed, tmp_path):
    """One of two computing nodes; its packs go on at the other one."""
    study, storage, folder = place
    with cluster(tmp_path / "ray", 1, 1, braked=True) as ray:
        launch = ray.launch(study, storage, "--set", "max_failures=0")
        launch.until(lambda: saved(folder) == 2)
        assert all(node.trains() for node in ray.nodes[1:])
        ray.nodes[1].kill()
        ray.brake.release()
        assert launch.ends() == 0, launch.errors
    assert lasting(folder) == undisturbed
    assert max(attempts(folder)) == 2


@pytest.mark.skipif(
    subprocess.run(["unshare", "-u", "true"], capture_output=True).returncode != 0,
    reason="needs the right to give a node a host name of its own",
)
def test_fault_03_node_replaced(place, tmp_path):
    """Two nodes of one processor, one killed and replaced: `status --json` tells who did what."""
    study, storage, folder = place

    def named(name):
        return ("unshare", "-u", "sh", "-c", f'hostname {name} && exec "$@"', "sh")

    with cluster(tmp_path / "ray", braked=True) as ray:
        nodes = [ray.add(1, prefix=named(name)) for name in ("first", "second")]
        launch = ray.launch(study, storage)
        launch.until(lambda: saved(folder) == 2)
        nodes[0].kill()
        third = ray.add(1, prefix=named("third"))
        launch.until(lambda: third.trains() and max(map(len, beginnings(folder))) == 2)
        ray.brake.release()
        launch.until(lambda: json.loads(run_here("status", str(folder), "--json").stdout)["done"])
        assert launch.ends() == 0, launch.errors
    status = json.loads(run_here("status", str(folder), "--json").stdout)
    assert (status["state"], status["done"], status["failed"]) == ("finished", 4, 0)
    assert status["hosts"].keys() == {"second", "third"}
    assert sum(status["hosts"].values()) == 4
    assert (status["attempts"]["packs"], status["attempts"]["begun"]) == (4, 5)
    assert list(status["attempts"]["again"].values()) == [2]
    assert status["attempts"]["unfinished"] == {}
    assert status["hours"].keys() == {"independent", "transition"}


def test_fault_04_head_killed(place, undisturbed, tmp_path):
    study, storage, folder = place
    with cluster(tmp_path / "ray", 2, braked=True) as ray:
        launch = ray.launch(study, storage)
        launch.until(lambda: checkpoints(folder))
        killed = time.monotonic()
        ray.head.kill()
        assert launch.ends() == 1, launch.errors
        assert time.monotonic() - killed < 90
    (line,) = [x for x in launch.errors.splitlines() if "has been lost" in x]
    assert "the same command goes on" in line
    assert "Traceback" not in launch.errors
    again = Launch(study, storage)
    assert again.ends() == 0, again.errors
    assert lasting(folder) == undisturbed


def test_fault_05_node_preempted(place, undisturbed, tmp_path):
    """Drained with reason preemption, then its raylet is killed: packs leave with a checkpoint, and
    do not begin on that node again.
    """
    study, storage, folder = place
    with cluster(tmp_path / "ray", 1, 1, braked=True) as ray:
        launch = ray.launch(study, storage, "--set", "max_failures=0")
        launch.until(lambda: saved(folder) == 2)
        listed = subprocess.run(
            [sys.executable, "-c", NODE_IDS, ray.address], env=ray.env, capture_output=True,
            text=True, timeout=PATIENCE,
        )  # fmt: skip
        node_id = json.loads(listed.stdout.splitlines()[-1])[0]
        ray.ray("drain-node", "--node-id", node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION",
                "--reason-message", "test", "--deadline-remaining-seconds", "60")  # fmt: skip
        door = Storage.open(folder)
        launch.until(lambda: read_heartbeat(door)["runs_running"] == 1)
        time.sleep(5)  # a worker for it would have started by now
        assert [len(begun) for begun in beginnings(folder)] == [1, 1]
        for node in ray.nodes[1:]:
            for raylet in node.raylets():  # with nothing to do it may have ended by itself
                if raylet in node.having(node_id):
                    with contextlib.suppress(psutil.Error):
                        raylet.kill()
        ray.brake.release()
        assert launch.ends() == 0, launch.errors
    assert lasting(folder) == undisturbed
    assert max(attempts(folder)) == 2


NODE_IDS = """
import json, sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(json.dumps([n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]))
"""


def test_fault_06_raises_once(place, undisturbed):
    """Injected at `SearchPack.run_epoch`."""
    study, storage, folder = place
    launch = Launch(study, storage, inject=[BOOM])
    assert launch.ends() == 0, launch.errors
    assert "RuntimeError: the last line; again" in launch.errors
    assert lasting(folder) == undisturbed
    assert sorted(attempts(folder)) == [1, 1, 1, 2]


def test_fault_07_always_raises(place, undisturbed):
    """Injected: named with its log; a relaunch tries again."""
    study, storage, folder = place
    fault = {"at": "itnas.method.bilevel:SearchPack._result", "do": "raise", "times": 99}
    launch = Launch(study, storage, "--set", "grid.dependence=[{model: transition}]",
                    "--set", "seeds=[0]", inject=[fault])  # fmt: skip
    assert launch.ends() == 1, launch.errors
    (line,) = [x for x in launch.errors.splitlines() if x.startswith("failed: pack")]
    assert "RuntimeError: the last line" in line
    assert "first line" in (folder / line.rpartition("(")[2].rstrip(")")).read_text()
    launch = Launch(study, storage)
    assert launch.ends() == 0, launch.errors
    assert lasting(folder) == undisturbed
    assert not list((folder / "logs").glob("*.error.txt"))


def test_fault_08_memory_monitor(place, undisturbed):
    """Ray's memory monitor ends a worker that takes all it can; injected in one epoch of one pack.

    The launch itself takes 1.5 GiB, and other programs take and give back meanwhile.
    """
    study, storage, folder = place
    memory = psutil.virtual_memory()
    taken = min(10 << 30, int(memory.available * 0.7))
    limit = memory.total - memory.available + (1 << 30) + taken // 2
    env = {
        "RAY_memory_usage_threshold": f"{limit / memory.total:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    fault = BOOM | {"do": "allocate", "bytes": taken}
    launch = Launch(study, storage, "--set", "max_failures=9", inject=[fault], env=env)
    assert launch.ends() == 0, launch.errors
    assert "memory monitor" in launch.errors
    assert lasting(folder) == undisturbed


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_fault_09_shard_write(place, undisturbed, number):
    """Injected at `os.replace`, for two tables once: nothing is trained again."""
    study, storage, folder = place
    faults = [
        {"at": "os:replace", "do": number, "when": f"/{name}/[0-9a-f]+.parquet", "times": 1}
        for name in ("runs", "links")
    ]
    launch = Launch(study, storage, inject=faults)
    assert launch.ends() == 0, launch.errors
    assert launch.errors.count("results could not be written: OSError") == 2
    assert attempts(folder) == [1] * 4
    assert lasting(folder) == undisturbed


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_fault_10_checkpoint_write(place, undisturbed, number):
    """Injected at `os.replace`: the search goes on, and the next checkpoint is tried."""
    study, storage, folder = place
    fault = {"at": "os:replace", "do": number, "when": r"/checkpoints/.*\.ckpt", "times": 3}
    launch = Launch(study, storage, inject=[fault])
    assert launch.ends() == 0, launch.errors
    assert launch.errors.count("a checkpoint could not be written: OSError") == 3
    assert attempts(folder) == [1] * 4
    assert lasting(folder) == undisturbed


def test_fault_11_strange_files(place, undisturbed):
    """A truncated shard is trained again; a stray temporary and a foreign file change nothing."""
    study, storage, folder = place
    launch = Launch(study, storage)
    launch.until(lambda: len(list((folder / "runs").glob("*.parquet"))) >= 2)
    launch.kill()
    shard = sorted((folder / "runs").glob("[!.]*.parquet"))[0]
    shard.write_bytes(shard.read_bytes()[:300])
    for name in ("runs", "edges"):
        (folder / name / f".{shard.name}.1a2b3c4d").write_bytes(b"half")
        foreign = pa.table({"run_id": [1, 2], "mine": ["a", "b"]})
        pq.write_table(foreign, folder / name / "foreign.parquet")
    for checkpoint in checkpoints(folder)[:1]:
        checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    status = run_here("status", str(folder), "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["done"] < 4
    launch = Launch(study, storage)
    assert launch.ends() == 0, launch.errors
    assert shard.name in launch.errors
    assert "foreign.parquet" in launch.errors
    assert not list(folder.glob("*/.*.parquet.*"))
    for name in ("runs", "edges"):
        (folder / name / "foreign.parquet").unlink()
    assert lasting(folder) == undisturbed


def test_fault_12_two_launches(place, undisturbed, brake):
    """Exactly one trains; the other exits 2 before its first trial, and leaves nothing behind."""
    study, storage, folder = place
    both = [Launch(study, storage, inject=[brake.fault]) for _ in range(2)]
    while all(launch.process.poll() is None for launch in both):
        time.sleep(0.1)
    brake.release()
    statuses = sorted(launch.ends() for launch in both)
    assert statuses == [0, 2], [launch.errors for launch in both]
    (refused,) = [launch for launch in both if launch.process.returncode == 2]
    assert "elsewhere" in refused.errors
    assert attempts(folder) == [1] * 4
    assert lasting(folder) == undisturbed
    assert not list((folder / "logs").glob("claim-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_fault_13_interrupted(place, undisturbed, brake, number):
    study, storage, folder = place
    launch = Launch(study, storage, inject=[brake.fault])
    launch.until(lambda: checkpoints(folder))
    before = max(p.stat().st_mtime for p in checkpoints(folder))
    launch.process.send_signal(number)
    assert launch.ends() == 130, launch.errors
    assert "Traceback" not in launch.errors
    assert [x for x in launch.errors.splitlines() if x.startswith("to resume: ")]
    assert max(p.stat().st_mtime for p in checkpoints(folder)) > before
    launch = Launch(study, storage)
    assert launch.ends() == 0, launch.errors
    assert "goes on after epoch" in launch.errors
    assert lasting(folder) == undisturbed


def test_fault_14_no_node_can(place, undisturbed, tmp_path):
    """Refused in seconds, and nothing is left; with `--wait` a node that comes is taken."""
    study, storage, folder = place
    with cluster(tmp_path / "ray") as ray:
        began = time.monotonic()
        launch = ray.launch(study, storage)
        assert launch.ends() == 2, launch.errors
        assert time.monotonic() - began < 60  # Ray itself would wait for ever
        assert "no node has {cpu: 1, gpu: 0} for a pack; nodes have 0 CPU, 0 GPU" in launch.errors
        assert not storage.exists()
        launch = ray.launch(study, storage, "--wait", "9")
        launch.until(lambda: "waiting up to 9 minutes" in launch.errors)
        ray.add(2)
        assert launch.ends() == 0, launch.errors
    assert lasting(folder) == undisturbed


def other_torch(folder: Path) -> dict[str, str]:
    """An environment in which another version of torch seems to be installed."""
    (folder / "torch-0.0.1.dist-info").mkdir(parents=True)
    (folder / "torch-0.0.1.dist-info" / "METADATA").write_text("Name: torch\nVersion: 0.0.1\n")
    return {"PYTHONPATH": str(folder)}


def test_fault_15_unfit_nodes(place, tmp_path):
    """A node with another torch is named before the first trial; one that joins later gets none."""
    study, storage, folder = place
    env = other_torch(tmp_path / "other")
    with cluster(tmp_path / "ray", 1, braked=True) as ray:
        odd = ray.add(1, env=env)
        launch = ray.launch(study, storage)
        assert launch.ends() == 2, launch.errors
        assert "torch 0.0.1" in launch.errors
        assert not storage.exists()
        odd.stop()
        launch = ray.launch(study, storage)
        launch.until(lambda: checkpoints(folder))
        ray.add(1, env=env)
        launch.until(lambda: "torch 0.0.1" in launch.errors)
        ray.brake.release()
        assert launch.ends() == 0, launch.errors
    assert attempts(folder) == [1] * 4


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="needs the right to make a mount namespace",
)
def test_fault_15_storage_not_shared(place, tmp_path):
    """A node that sees an empty disk where the storage is."""
    study, storage, folder = place
    storage.mkdir()
    hidden = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none {storage} && exec "$@"', "sh")
    with cluster(tmp_path / "ray", 1, braked=True) as ray:
        odd = ray.add(1, prefix=hidden)
        launch = ray.launch(study, storage)
        assert launch.ends() == 2, launch.errors
        assert "does not share it" in launch.errors
        assert not list(storage.iterdir())
        odd.stop()
        launch = ray.launch(study, storage)
        launch.until(lambda: checkpoints(folder))
        ray.add(1, prefix=hidden)
        launch.until(lambda: "does not see the files" in launch.errors)
        ray.brake.release()
        assert launch.ends() == 0, launch.errors
    assert attempts(folder) == [1] * 4


def test_fault_16_one_replica_diverges(tmp_path):
    """It is a result; the other runs of its pack are what they are without it."""
    changes = {"grid": {"search.weights_lr": [0.025, 1e20]}, "pack_across_settings": True,
               "seeds": [0], "pack": 2}  # fmt: skip
    study, storage = write_study(tmp_path / "file", **changes), tmp_path / "out"
    launch = Launch(study, storage)
    assert launch.ends() == 0, launch.errors
    rows = table(storage / "tiny", "runs")
    assert sorted(row["status"] for row in rows) == ["complete", "diverged"]
    alone = write_study(tmp_path / "alone", grid={"search.weights_lr": [0.025]}, seeds=[0])
    launch = Launch(alone, tmp_path / "alone-out")
    assert launch.ends() == 0, launch.errors
    (sound,) = [row for row in rows if row["status"] == "complete"]
    (expected,) = table(tmp_path / "alone-out" / "tiny", "runs")
    assert sound["genotype"] == expected["genotype"]
    assert sound["valid_loss"] == pytest.approx(expected["valid_loss"], rel=1e-4)
