"""Bad input through the command line: exit 2, a few lines, never a traceback.

What users run into first goes through a process of its own, the rest through `main`.
"""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.scheduling.progress import Progress
from study.status import status_lines, study_status
from study.store.door import Storage
from tests.study.cli import NOBODY, heartbeat, refused, run, run_here


def launch(write_study, tmp_path, *overrides, by=run_here, **changes):
    options = [word for text in overrides for word in ("--set", text)]
    words = ("launch", str(write_study(**changes)), "--storage", str(tmp_path / "out"), *options)
    return refused(*words, by=by)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("space=nasbench", "space: 'nasbench' is not allowed; nas-bench-201, darts"),
        ("search.architecture_lr=-1", "search.architecture_lr: -1.0 is not allowed"),
        ("data.source=parquet:/nowhere", "/nowhere"),
        ("benchmark.table=/nowhere.parquet", "/nowhere.parquet does not exist"),
        ("engine.device=cuda", "engine.device: cuda needs resources.gpu above 0"),
        ("resources.cpu=4096", "no node has"),
        ("resources.gpu=64", "CUDA"),
        ("search.batch_size=512", "too few for search.batch_size 512"),
    ],
)
def test_launch_refuses(write_study, tmp_path, override, expected):
    assert expected in launch(write_study, tmp_path, override)
    assert not (tmp_path / "out" / "tiny" / "runs").exists()


def test_a_typo_a_missing_folder_and_a_strange_one_in_a_process_of_its_own(write_study, tmp_path):
    typo = launch(write_study, tmp_path, serach={}, by=run)
    assert typo.startswith(f"{tmp_path / 'study.yaml'}: serach: unknown key; did you mean search?")
    missing = launch(write_study, tmp_path, "data.source=imagefolder:/nowhere", by=run)
    assert "/nowhere" in missing
    (tmp_path / "out" / "tiny").mkdir(parents=True)
    (tmp_path / "out" / "tiny" / "x").write_text("")
    assert "is not a study" in launch(write_study, tmp_path, by=run)


@pytest.mark.faults
def test_a_request_that_no_node_satisfies_does_not_hang(write_study, tmp_path):
    message = launch(write_study, tmp_path, "resources.gpu=64", "engine.device=cpu", by=run)
    assert "resources: no node has {cpu: 1, gpu: 64}" in message


def test_unreadable_data(write_study, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.table({"x": [1]}), folder / "train-0.parquet")
    message = launch(write_study, tmp_path, data={"source": f"parquet:{folder}"})
    assert str(folder) in message


def test_a_folder_that_is_no_study(write_study, tmp_path):
    (tmp_path / "out" / "tiny").mkdir(parents=True)
    (tmp_path / "out" / "tiny" / "thesis.tex").write_text("")
    assert "is not a study (it holds thesis.tex" in launch(write_study, tmp_path)
    assert "is not a study" in refused("status", str(tmp_path / "out" / "tiny"))
    assert os.listdir(tmp_path / "out" / "tiny") == ["thesis.tex"]


def test_a_storage_that_is_a_file(write_study, tmp_path):
    (tmp_path / "out").write_text("")
    assert "cannot be used as a folder" in launch(write_study, tmp_path)


def test_a_study_of_another_command(write_study, tmp_path):
    folder = tmp_path / "out" / "tiny"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text("name: tiny\ncommand: tune\n")
    (folder / "packs.json").write_text("{}")
    (folder / "runs").mkdir()
    (folder / "runs" / "x.parquet").write_text("")
    assert "is a study under `tune`" in launch(write_study, tmp_path)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", "no such cluster"),
        ("nowhere.invalid:6379", "no such cluster"),
        ("127.0.0.1", "expected auto or HOST:PORT"),
        ("auto", "cluster"),  # its words depend on whether Ray remembers one that has ended
    ],
)
def test_no_such_cluster(write_study, tmp_path, address, expected):
    study = str(write_study())
    message = refused(
        "launch", study, "--storage", str(tmp_path / "out"), "--address", address,
        by=run if address == "auto" else run_here,
    )  # fmt: skip
    assert f"--address {address}: " in message
    assert expected in message
    assert not (tmp_path / "out").exists()


def test_a_refused_launch_leaves_a_study_as_it_was(write_study, tmp_path):
    """Its packs, its description and the last launch's beat: other seeds change none of them."""
    folder = tmp_path / "out" / "tiny"
    door = Storage.open(folder)
    door.write("study.yaml", "name: tiny\ncommand: launch\n")
    door.write("packs.json", json.dumps({"settings": {}, "runs": {}, "packs": {}}))
    door.write("logs/launch.json", json.dumps(heartbeat(state="finished")))
    before = {p: p.is_file() and p.read_bytes() for p in (tmp_path / "out").rglob("*")}
    study = str(write_study(seeds="5..6"))
    refused("launch", study, "--storage", str(tmp_path / "out"), "--address", "127.0.0.1:1")
    assert before == {p: p.is_file() and p.read_bytes() for p in (tmp_path / "out").rglob("*")}


def test_unknown_commands_and_options():
    assert "retrain" in refused("retrain", "x")
    assert refused("lunch")
    assert refused("tune", "x.yaml", "--trials", "0")


def test_plan_counts_structurally(write_study, tmp_path):
    study = str(write_study(search={"epochs": 2, "batch_size": 32}))
    result = run_here("plan", study, "--json", "--storage", str(tmp_path), "--set", "seeds=0..3")
    plan = json.loads(result.stdout)
    assert (plan["study"], plan["runs"], plan["settings"], plan["packs"]) == ("tiny", 8, 2, 4)
    assert (plan["outer_edges"], plan["inner_edges"], plan["links"]) == (3, 3, 4)
    assert plan["steps_per_run"] == 4  # 90 images, 2 batches of 32, 2 epochs
    assert plan["seconds_per_step"] > 0
    assert plan["seeds"]["per_setting"] == 4
    assert plan["seeds"]["needed"] == {"0.3": 9, "0.2": 17, "0.15": 29, "0.1": 64}
    text = run_here("plan", study, "--storage", str(tmp_path))
    assert text.returncode == 0
    assert "80% power" in text.stdout
    assert not list((tmp_path / "tiny").glob("*"))  # plan writes nothing


# -- what is told ------------------------------------------------------------------------


def test_status_names_what_failed(tmp_path):
    folder = Storage.open(tmp_path / "s")
    folder.write("study.yaml", "name: s\ncommand: launch\n")
    assert study_status(folder.root)["state"] == "not started"
    registry = {
        "settings": {},
        "runs": {"r0": {"setting": "transition", "seeds": [0, 0, 0]},
                 "r1": {"setting": "transition", "seeds": [1, 0, 2]}},
        "packs": {"p": ["r0", "r1"]},
    }  # fmt: skip
    folder.write("packs.json", json.dumps(registry))
    failed = heartbeat(state="failed", failed={"p": "RuntimeError: no"})
    folder.write("logs/launch.json", json.dumps(failed))
    status = study_status(folder.root)
    assert status["runs"] == 2
    assert status["failed"] == 2
    assert status["done"] == status["running"] == status["diverged"] == 0
    text = "\n".join(status_lines(status))
    assert "transition, seed 0; transition, seeds 1/0/2" in text
    assert "RuntimeError: no" in text
    folder.write("logs/launch.json", json.dumps(heartbeat(pid=NOBODY, runs_running=2)))
    assert study_status(folder.root)["state"] == "interrupted"  # its driver was killed
    assert study_status(folder.root)["running"] == 0


def test_time_left_is_that_of_the_epochs_seen():
    progress = Progress(runs_total=6, runs_done=2, epochs_left=40, packs=2)
    assert progress.seconds_left is None
    progress.started("a", 2, 10)
    progress.resumed("a", 3)  # 6 run-epochs are in its checkpoint
    assert progress.seconds_left is None
    progress.advanced("a", 4, 5.0)  # 2 run-epochs in 5 s, 32 are left
    assert progress.seconds_left == 32 * 2.5
    progress.started("b", 2, 10)
    progress.advanced("b", 1, 5.0)
    assert progress.seconds_left == 30 * 2.5 / 2  # two at once
    progress.returned("a")  # its worker was lost
    progress.started("a", 2, 10)
    progress.resumed("a", 2)  # from the checkpoint before
    assert progress.seconds_left == 34 * 2.5 / 2
    progress.broke("a", "x")
    assert progress.counts() == "runs 2/6 · running 2 · failed 2 · packs 0/2"
    assert progress.seconds_left == 18 * 2.5  # nobody waits for its 8 epochs any more
    progress.advanced("b", 2, 5.0)
    progress.completed("b")  # all its runs have diverged
    assert (progress.seconds_left, progress.epochs_done, progress.epochs_total) == (0, 8, 8)
