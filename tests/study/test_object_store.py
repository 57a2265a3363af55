"""A study in an object store: a server that speaks S3, started by the test.

A launch that is killed on it belongs to the fault matrix.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import urllib.request
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.contract import SCHEMAS, TABLES
from study.errors import StudyError
from study.file import Benchmark
from study.store.benchmark import read_benchmark
from study.store.door import Storage
from study.store.folder import clear_leftovers
from study.store.shards import fill_benchmark, read_runs
from tests.study.cli import ROOT, environment, run_here
from tests.study.faults import support as disturbed


def inside(uri, name):
    """The URI of a name in a bucket, put together by hand."""
    place, query = uri.split("?")
    return f"{place}/{name}?{query}"


def objects(uri):
    """What a bucket holds by the server's own account: key to size."""
    place, query = uri.removeprefix("s3://").split("?")
    server = query.split("&")[0].removeprefix("endpoint_override=")
    with urllib.request.urlopen(f"http://{server}/{place}?list-type=2") as answer:
        found = ElementTree.fromstring(answer.read())
    name = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
    return {
        item.findtext("s3:Key", "", name): int(item.findtext("s3:Size", "", name))
        for item in found.findall("s3:Contents", name)
    }


def test_round_trip(s3):
    storage = Storage.open(inside(s3, "results")).folder("study")
    assert storage.names() == []
    assert storage.read("logs/a") is None
    assert not storage.exists("")
    storage.write("logs/a", "text")
    storage.write("logs/a", "other")
    storage.write("runs/b", b"\x00" * (11 << 20))  # more than one part of an upload
    clear_leftovers(storage)
    assert objects(s3) == {"results/study/logs/a": 5, "results/study/runs/b": 11 << 20}
    assert storage.read("logs/a") == b"other"
    assert storage.read("runs/b") == b"\x00" * (11 << 20)
    assert storage.names() == ["logs", "runs"]
    assert storage.names("runs") == ["b"]
    assert storage.exists("runs")
    storage.delete("logs/a")
    storage.delete("logs/a")
    storage.delete_folder("runs")
    storage.delete_folder("runs")
    assert not storage.exists("logs/a")
    assert sum(objects(s3).values()) == 0  # pyarrow leaves marks of folders, and they are empty


def test_the_query_is_kept(s3):
    folder = Storage.open(inside(s3, "results")).folder("study")
    assert str(folder) == inside(s3, "results/study")
    folder.write("study.yaml", "name: study")
    assert Storage.open(str(folder)).read("study.yaml") == b"name: study"
    assert Storage.open(s3).folder("results").folder("study").read("study.yaml") == b"name: study"


def test_passed_to_another_process(s3, tmp_path):
    storage = Storage.open(inside(s3, "study"))
    (tmp_path / "storage").write_bytes(pickle.dumps(storage))
    code = (
        "import pickle, sys; storage = pickle.load(open(sys.argv[1], 'rb')); "
        "storage.write('from/there', 'text'); print(storage)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "storage")],
        capture_output=True, text=True, check=True, cwd=ROOT, env=environment(),
    )  # fmt: skip
    assert storage.read("from/there") == b"text"
    assert told.stdout.strip() == inside(s3, "study")


def shard(*run_ids, genotype="|a~0|"):
    """A shard of `runs` that says nothing but which runs are complete, and their genotype."""
    said = {"run_id": list(run_ids), "genotype": [genotype] * len(run_ids)}
    sink, schema = pa.BufferOutputStream(), SCHEMAS["runs"]
    columns = [pa.array(said.get(c.name, [None] * len(run_ids)), c.type) for c in schema]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), sink)
    return sink.getvalue().to_pybytes()


def test_runs_and_their_benchmark(s3):
    storage = Storage.open(inside(s3, "study"))
    for n in range(40):
        content = shard(f"{n:04x}-0", f"{n:04x}-1", genotype="|a~0|" if n % 2 else "|b~0|")
        storage.write(f"runs/{n:04x}.parquet", content)
    storage.write("runs/cut.parquet", shard("x")[:-20])
    runs = read_runs(storage, ["genotype"])
    assert [r["run_id"] for r in runs.rows] == [f"{n:04x}-{k}" for n in range(40) for k in (0, 1)]
    assert list(runs.passed_over) == ["runs/cut.parquet"]
    table = "architecture,cifar10_valid,cifar10_test\n|a~0|,80,90\n"
    storage.write("table.csv", table)
    lookup = read_benchmark(Benchmark(table=inside(s3, "study/table.csv")))
    assert fill_benchmark(storage, lookup) == 40
    assert fill_benchmark(storage, lookup) == 0
    filled = {(r["genotype"], r["benchmark_test"]) for r in
              read_runs(storage, ["genotype", "benchmark_test"]).rows}  # fmt: skip
    assert filled == {("|a~0|", 90.0), ("|b~0|", None)}


def test_a_refused_launch_leaves_the_bucket_as_it_was(s3):
    storage = Storage.open(inside(s3, "results/study"))

    def refused():
        storage.write("logs/claim", "x")
        storage.write("runs/a", "x")
        storage.delete("logs/claim")
        storage.delete("runs/a")
        raise StudyError("refused")

    with pytest.raises(StudyError, match="refused"), storage.footprint():
        refused()
    assert objects(s3) == {}
    storage.write("study.yaml", "name: x")
    storage.write("logs/launch.json", "{}")
    with pytest.raises(StudyError, match="refused"), storage.footprint():
        refused()
    sizes = {"results/study/study.yaml": 7, "results/study/logs/launch.json": 2}
    found = objects(s3)
    assert {key: size for key, size in found.items() if not key.endswith("/")} == sizes
    assert "results/study/runs/" not in found


def test_status_reads_it_and_tells_trouble_in_a_line(s3):
    storage = Storage.open(inside(s3, "study"))
    storage.write("study.yaml", "name: study\ncommand: launch\n")
    storage.write("runs/a.parquet", shard("a"))
    storage.write("runs/b.parquet", b"PAR1")
    result = run_here("status", str(storage), "--json")
    status = json.loads(result.stdout)
    assert (status["study"], status["done"]) == ("study", 1)
    assert list(status["passed_over"]) == ["runs/b.parquet"]
    text = run_here("status", str(storage)).stdout
    assert "runs/b.parquet: passed over (is damaged: " in text
    nobody = run_here("status", inside(s3, "study").replace("endpoint_override=", "x=1&y="))
    assert nobody.returncode == 2
    assert len(nobody.stderr.splitlines()) == 1
    missing = run_here("status", "s3://no-such-bucket/study?" + s3.split("?")[1])
    assert missing.returncode == 2
    assert "is not a study" in missing.stderr


@pytest.mark.faults
def test_a_killed_study_goes_on_in_an_object_store(s3, tmp_path):
    """Shards, checkpoints and lock lie there; tables are those of a study on a disk."""
    changes = {"checkpoint_minutes": 0.005, "data": {**disturbed.STUDY["data"], "subset": 200}}
    study = disturbed.write_study(tmp_path / "file", **changes)
    folder = Storage.open(s3).folder("tiny")
    brake = disturbed.Brake(tmp_path)
    launch = disturbed.Launch(study, s3, inject=[brake.fault])

    def saved():
        packs = folder.names("checkpoints")
        return any("ckpt" in n for pack in packs for n in folder.names(f"checkpoints/{pack}"))

    launch.until(saved)
    assert run_here("launch", str(study), "--storage", s3).returncode == 2  # it is running
    launch.kill()
    launch = disturbed.Launch(study, s3)
    assert launch.ends() == 0, launch.errors
    assert "goes on after epoch" in launch.errors
    status = json.loads(run_here("status", str(folder), "--json").stdout)
    assert (status["state"], status["done"]) == ("finished", 4)
    assert status["attempts"]["again"]
    assert not folder.names("checkpoints")
    for name in TABLES:
        for shard in folder.names(name):
            copy = tmp_path / "copy" / name / shard
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(folder.read(f"{name}/{shard}"))
    analyzed = run_here("analyze", str(folder), "--no-trajectories")
    assert analyzed.returncode == 0, analyzed.stderr
    assert analyzed.stdout == f"report: {inside(s3, 'tiny/report/report.html')}\n"
    assert b"transition" in folder.read("report/report.html")
    launch = disturbed.Launch(study, tmp_path / "disk")
    assert launch.ends() == 0, launch.errors
    assert disturbed.lasting(tmp_path / "copy") == disturbed.lasting(tmp_path / "disk" / "tiny")
