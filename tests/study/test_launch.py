"""`launch` end to end with Ray on this machine, and what happens when it is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import yaml

from analysis.contract import SCHEMAS, TABLES, check
from study.status import study_status
from study.store.door import Storage
from study.store.lock import read_heartbeat
from tests.study.cli import ROOT, TINY, command, environment, run, run_here
from tests.study.faults.support import Launch

LONG = {**TINY["search"], "epochs": 500}  # a minute or so, to be stopped on its way


def rows(folder: Path, table: str = "runs"):
    return ds.dataset(folder / table, SCHEMAS[table], format="parquet").to_table().to_pylist()


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """A tiny study launched once; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("launched")
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(TINY, sort_keys=False))
    result = run("launch", str(study), "--storage", str(folder / "out"),
                 "--set", "logger=tensorboard")  # fmt: skip
    return study, folder / "out" / "tiny", result


@pytest.fixture
def copied(launched, tmp_path):
    study, folder, _ = launched
    shutil.copytree(folder, tmp_path / "out" / "tiny")
    return study, tmp_path / "out" / "tiny"


def test_launch_leaves_the_contract(launched):
    _, folder, result = launched
    assert result.returncode == 0, result.stderr
    for table in TABLES:
        content = ds.dataset(folder / table, SCHEMAS[table], format="parquet").to_table()
        check(table, content)
    assert len(rows(folder)) == 4
    assert {row["setting"] for row in rows(folder)} == {"independent", "transition"}
    description = yaml.safe_load((folder / "study.yaml").read_text())
    assert description["command"] == "launch"
    assert description["software"]["ray"]
    assert "git_commit" in description
    assert description["search"]["weights_lr"] == 0.025  # defaults filled in


def test_launch_says_how_it_goes_and_what_next(launched):
    _, folder, result = launched
    assert "runs 4/4 · running 0 · failed 0" in result.stderr
    assert f"python run_study.py analyze {folder}" in result.stdout
    assert "transition" in result.stdout
    assert "ray" not in result.stderr.lower()  # none of its chatter


def test_launch_names_the_backend_before_the_first_trial_and_runs_keep_it(launched):
    _, folder, result = launched
    (backend,) = {row["backend"] for row in rows(folder)}
    lines = result.stderr.splitlines()
    told = lines.index(f"node {socket.gethostname()}: {backend}")
    assert told < next(n for n, line in enumerate(lines) if line.startswith("runs "))
    assert backend.split()[0] in ("compiled", "torch")


def test_launch_leaves_no_clutter(launched):
    _, folder, _ = launched
    names = {path.name for path in folder.iterdir()}
    assert names == {"study.yaml", "packs.json", "logs", *TABLES}
    assert {path.name for path in (folder / "logs").iterdir()} == {"launch.json", "tensorboard"}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 500_000


def test_status_of_a_finished_study(launched):
    _, folder, _ = launched
    status = json.loads(run_here("status", str(folder), "--json").stdout)
    expected = {"study": "tiny", "state": "finished", "runs": 4, "done": 4, "running": 0,
                "failed": 0, "diverged": 0, "stopped_early": 0}  # fmt: skip
    assert expected.items() <= status.items()


def test_relaunch_does_nothing_and_says_so(launched):
    study, folder, _ = launched
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    began = time.process_time()
    result = run("launch", str(study), "--storage", str(folder.parent))
    assert result.returncode == 0
    assert "nothing to do: all 4 runs" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert time.process_time() - began < 10


def test_relaunch_opens_every_shard_of_runs_once_and_no_others(launched, monkeypatch):
    study, folder, _ = launched
    opened, read = [], Storage.read

    def counted(self, name):
        opened.append(self.path(name))
        return read(self, name)

    monkeypatch.setattr(Storage, "read", counted)
    result = run_here("launch", str(study), "--storage", str(folder.parent))
    assert "nothing to do" in result.stdout
    assert "transition" in result.stdout  # the table of the settings is there all the same
    shards = [name for name in opened if name.endswith(".parquet")]
    assert sorted(shards) == sorted(map(str, (folder / "runs").glob("*.parquet")))


def test_the_table_of_a_launch_has_the_study_files_order(copied):
    study, folder = copied
    for models in (["transition", "independent"], ["independent", "transition"]):
        grid = ", ".join(f"{{model: {model}}}" for model in models)
        result = run_here("launch", str(study), "--storage", str(folder.parent),
                          "--set", f"grid.dependence=[{grid}]")  # fmt: skip
        lines = [line.split()[0] for line in result.stdout.splitlines()]
        assert [word for word in lines if word in models] == models


def test_what_is_new_in_a_study_file_and_what_is_left_behind_is_told(copied):
    study, folder = copied
    result = run_here("launch", str(study), "--storage", str(folder.parent), "--set",
                      "grid.dependence=[{model: placebo}]", "--address", "127.0.0.1:1")  # fmt: skip
    assert "new setting: placebo" in result.stderr.splitlines()
    assert "4 complete runs are left behind" in result.stderr


def test_tensorboard_has_every_epoch_of_every_pack(launched):
    """Read by its own protocol: the curves, and the setting and seeds as hyper-parameters."""
    _, folder, _ = launched
    packs = {row["pack_id"]: row for row in rows(folder)}
    assert {path.name for path in (folder / "logs" / "tensorboard").iterdir()} == packs.keys()
    for path in (folder / "logs" / "tensorboard").glob("*/events*"):
        events = list(tensorboard_events(path))
        curve = [(e.step, v.simple_value) for e in events for v in e.summary.value
                 if v.tag == "ray/tune/derived_accuracy"]  # fmt: skip
        of_pack = [r for r in rows(folder, "epochs") if r["run_id"] in run_ids(folder, path)]
        mean = sum(row["derived_accuracy"] for row in of_pack) / len(of_pack)
        assert curve == [(1, pytest.approx(mean, rel=1e-6))]
        text = "".join(str(v.metadata) for e in events for v in e.summary.value)
        assert packs[path.parent.name]["setting"] in text
        assert "0 1" in text


def run_ids(folder: Path, path: Path) -> list[str]:
    return json.loads((folder / "packs.json").read_text())["packs"][path.parent.name]


def tensorboard_events(path: Path):
    """Records of an event file: length (8 bytes), its checksum (4), content, checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    content, place = path.read_bytes(), 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 8], "little")
        yield Event.FromString(content[place + 12 : place + 12 + length])
        place += 16 + length


def test_the_written_study_launches_again(launched):
    _, folder, _ = launched
    result = run_here("launch", str(folder / "study.yaml"), "--storage", str(folder.parent))
    assert "nothing to do" in result.stdout


def test_a_benchmark_added_later_is_filled_in(copied, tmp_path):
    study, folder = copied
    genotypes = [row["genotype"] for row in rows(folder)]
    table = tmp_path / "table.csv"
    lines = [f"{genotype},91.0,94.0" for genotype in sorted(set(genotypes))]
    table.write_text("\n".join(["architecture,cifar10_valid,cifar10_test", *lines]))
    result = run_here("launch", str(study), "--storage", str(folder.parent),
                 "--set", f"benchmark.table={table}")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "filled in for 4 complete runs" in result.stderr
    assert {row["benchmark_test"] for row in rows(folder)} == {94.0}
    assert "nothing to do" in result.stdout


def test_more_seeds_extend_the_study_and_a_failing_pack_is_named(copied):
    """A third seed, which breaks under one setting: the others go on, exit status 1."""
    study, folder = copied
    before = {row["run_id"]: row["finished"] for row in rows(folder)}
    packs = json.loads((folder / "packs.json").read_text())["packs"]
    fault = {"at": "itnas.method.bilevel:SearchPack.__init__", "do": "raise", "times": 99,
             "when": "model='transition'"}  # fmt: skip
    launch = Launch(study, folder.parent, "--set", "seeds=0..2", inject=[fault])
    assert launch.ends() == 1, launch.errors
    assert "RuntimeError: the last line" in launch.errors
    assert "1 of 6 runs are not complete" in launch.errors
    after = {row["run_id"]: row["finished"] for row in rows(folder)}
    assert len(after) == 5
    assert before.items() <= after.items()  # nothing was trained again
    assert packs.items() <= json.loads((folder / "packs.json").read_text())["packs"].items()
    (pack,) = read_heartbeat(Storage.open(folder))["failed"]
    assert "Traceback" in (folder / "logs" / f"{pack}.error.txt").read_text()
    status = study_status(str(folder))
    assert (status["state"], status["runs"], status["done"], status["failed"]) == (
        "failed", 6, 5, 1,
    )  # fmt: skip


@pytest.mark.faults
def test_a_logger_that_cannot_start_leaves_nothing(write_study, tmp_path):
    """A package of that name which is none: Ray has been started by the time that is known."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mlflow.py").write_text("")
    path = os.pathsep.join((str(tmp_path / "site"), str(ROOT)))
    result = subprocess.run(
        command("launch", str(write_study()), "--storage", str(tmp_path / "out"),
                "--set", "logger=mlflow"),
        capture_output=True, text=True, env=environment() | {"PYTHONPATH": path},
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("logger: mlflow cannot be used (")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


# -- stopped on its way -------------------------------------------------------------------


def started(study: Path, storage: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("launch", str(study), "--storage", str(storage), *words),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip


def wait_for(condition, process, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def beat(folder: Path):
    return read_heartbeat(Storage.open(folder))


@pytest.mark.faults
def test_interrupted(write_study, tmp_path):
    study, storage = write_study(search=LONG), tmp_path / "out"
    process = started(study, storage, "--set", "pack=1")
    wait_for(lambda: beat(storage / "tiny").get("runs_running", 0) > 0, process)
    second = run_here("launch", str(study), "--storage", str(storage))
    assert second.returncode == 2
    assert "is running elsewhere" in second.stderr
    status = json.loads(run_here("status", str(storage / "tiny"), "--json").stdout)
    assert status["state"] == "running"
    assert status["running"] >= 1
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert f"to resume: python run_study.py launch {study} --storage {storage}" in errors
    assert "Traceback" not in errors
    assert beat(storage / "tiny")["state"] == "interrupted"


@pytest.mark.faults
def test_a_killed_launch_redoes_only_what_had_not_ended(write_study, tmp_path):
    """The driver is killed when some packs have ended; the relaunch keeps these as they are."""
    study, storage = write_study(grid={}, pack=1, seeds="0..1"), tmp_path / "out"
    folder = storage / "tiny"
    two_kinds = "grid.search.epochs=[1, 500]"  # one setting ends at once, one does not
    process = started(study, storage, "--set", two_kinds)
    wait_for(lambda: len(Storage.open(folder).names("runs")) == 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    before = {row["run_id"]: row["finished"] for row in rows(folder)}
    assert len(before) == 2
    assert json.loads(run_here("status", str(folder), "--json").stdout)["state"] == "interrupted"
    result = run("launch", str(study), "--storage", str(storage), "--set", "seeds=0..2")
    assert result.returncode == 0, result.stderr
    after = {row["run_id"]: row["finished"] for row in rows(folder)}
    assert len(after) == 3
    assert before.items() <= after.items()
