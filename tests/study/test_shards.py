"""Shards against the contract, the storage beneath them, and the benchmark columns."""

from __future__ import annotations

import math
import os
import pickle
import sys
import types
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from analysis.contract import KEYS, SCHEMAS, TABLES, check
from itnas.data import DataSettings
from itnas.data.sources import load_data
from itnas.method.search import SearchPack
from study.errors import StudyError
from study.file import Benchmark, load_study
from study.file.grid import expand
from study.store.benchmark import read_benchmark
from study.store.door import Storage
from study.store.registry import Registry, pack_size
from study.store.shards import fill_benchmark, pack_tables, read_runs, write_shards

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def trained():
    """Two packs (independent, transition) of two runs, two epochs."""
    from tests.study.cli import TINY

    data = load_data(DataSettings(resolution=8, subset=200))
    search = {**TINY["search"], "epochs": 2}

    def train(write_study):
        file = load_study(write_study(search=search))
        expansion = expand(file, data)
        size = pack_size(file, expansion, data)
        packs = Registry().include(expansion, file, set(), size)
        found = []
        for pack in packs:
            trained = SearchPack([r.setting for r in pack.runs], [r.seeds for r in pack.runs], data)
            while not trained.finished:
                trained.run_epoch()
            found.append((pack, trained.results()))
        return found

    cache: list = []

    def once(write_study):
        if not cache:
            cache.extend(train(write_study))
        return cache

    return once


def written(folder, trained, lookup=None, results=None):
    for pack, own in trained:
        tables = pack_tables(
            pack, results or own, study="tiny", device="cpu", backend="torch mixed",
            started=STARTED, lookup=lookup,
        )  # fmt: skip
        write_shards(folder, pack.pack_id, tables)


@pytest.fixture
def folder(tmp_path):
    return Storage.open(tmp_path / "tiny")


def read(folder, table):
    return ds.dataset(folder.path(table), SCHEMAS[table], format="parquet").to_table()


def test_shards_hold_the_contract(folder, trained, write_study):
    packs = trained(write_study)
    written(folder, packs)
    rows = {}
    for table in TABLES:
        for name in folder.names(table):
            shard = pq.read_table(folder.path(f"{table}/{name}"))
            check(table, shard)
            assert shard.schema.metadata[b"schema_version"] == b"1"
        content = read(folder, table)
        keys = [tuple(row[k] for k in KEYS[table]) for row in content.to_pylist()]
        assert len(keys) == len(set(keys))
        rows[table] = content.num_rows
    # 4 runs, 2 epochs; 6 edges and 4 links an epoch, and epoch -1
    assert rows == {"runs": 4, "epochs": 8, "edges": 4 * 3 * 6, "links": 2 * 3 * 4}


def test_a_shard_has_one_row_group_per_epoch(folder, trained, write_study):
    packs = trained(write_study)
    written(folder, packs)
    (independent, _), (transition, _) = packs

    def epochs(table, pack):
        shard = pq.ParquetFile(folder.path(f"{table}/{pack.pack_id}.parquet"))
        groups = [shard.read_row_group(n) for n in range(shard.num_row_groups)]
        return [set(group.column("epoch").to_pylist()) for group in groups]

    assert epochs("edges", transition) == [{-1}, {0}, {1}]
    assert epochs("links", transition) == [{-1}, {0}, {1}]
    assert epochs("epochs", transition) == [{0}, {1}]
    empty = pq.ParquetFile(folder.path(f"links/{independent.pack_id}.parquet"))
    assert empty.metadata.num_rows == 0
    assert empty.schema_arrow.names == SCHEMAS["links"].names


def test_rows_say_what_the_search_said(folder, trained, write_study):
    packs = trained(write_study)
    written(folder, packs)
    by_id = {row["run_id"]: row for row in read(folder, "runs").to_pylist()}
    for pack, results in packs:
        for run, result in zip(pack.runs, results, strict=True):
            row = by_id[run.run_id]
            assert row["genotype"] == result.genotype
            assert row["derived_accuracy"] == result.metrics["derived_accuracy"]
            assert row["seed_data"] == run.seeds.data
            assert row["setting"] == run.name
            assert row["started"] == STARTED
            assert row["finished"] > STARTED
    transition, results = packs[1]
    last = results[0].history[-1].cells["normal"]
    links = [
        row
        for row in read(folder, "links").to_pylist()
        if row["run_id"] == transition.runs[0].run_id and row["epoch"] == 1
    ]
    for row, matrix, weight in zip(links, last.matrices, last.attention, strict=True):
        assert row["predecessor_target"] == row["source"]
        assert row["attention_weight"] == pytest.approx(weight)
        assert row["matrix"] == pytest.approx([value for line in matrix for value in line])
        assert (row["rows"], row["columns"]) == (5, 5)


def test_a_run_that_diverged_at_once_is_a_row(folder, trained, write_study):
    from dataclasses import replace

    packs = trained(write_study)
    nothing = dict.fromkeys(("train_loss", "valid_loss", "valid_accuracy", "derived_accuracy"),
                            math.nan)  # fmt: skip
    pack, results = packs[1]
    broken = replace(results[0], status="diverged", epochs_completed=0,
                     metrics={**results[0].metrics, **nothing},
                     history=results[0].history[:1])  # fmt: skip
    written(folder, [(pack, [broken, results[1]])])
    row = next(r for r in read(folder, "runs").to_pylist() if r["status"] == "diverged")
    assert math.isnan(row["derived_accuracy"])
    assert read(folder, "epochs").num_rows == 2  # only its neighbour's


def test_runs_come_last(folder, trained, write_study, monkeypatch):
    packs = trained(write_study)
    order = []
    monkeypatch.setattr(Storage, "write", lambda self, name, content: order.append(name))
    written(folder, packs[:1])
    assert [name.split("/")[0] for name in order] == ["epochs", "edges", "links", "runs"]


# -- benchmark ----------------------------------------------------------------------------


def benchmark_table(path, genotypes):
    table = pa.table({
        "architecture": genotypes,
        "cifar10_valid": [float(80 + n) for n in range(len(genotypes))],
        "cifar10_test": [float(90 + n) for n in range(len(genotypes))],
        "cifar100_valid": [float(50 + n) for n in range(len(genotypes))],
        "cifar100_test": [float(60 + n) for n in range(len(genotypes))],
    })  # fmt: skip
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_benchmark_fills_runs(folder, trained, write_study, tmp_path, name):
    packs = trained(write_study)
    genotypes = sorted({r.genotype for _, results in packs for r in results})
    table = benchmark_table(tmp_path / name, genotypes)
    lookup = read_benchmark(Benchmark(table=str(table), dataset="cifar100"))
    written(folder, packs, lookup)
    for row in read(folder, "runs").to_pylist():
        assert row["benchmark_test"] == 60 + genotypes.index(row["genotype"])
        assert row["benchmark_valid"] == 50 + genotypes.index(row["genotype"])


def test_benchmark_added_later_fills_nulls_only(folder, trained, write_study):
    packs = trained(write_study)
    written(folder, packs)
    before = read(folder, "runs")
    lookup = {r.genotype: (1.0, 2.0) for _, results in packs for r in results}
    assert fill_benchmark(folder, lookup) == 4
    after = read(folder, "runs")
    assert set(after.column("benchmark_test").to_pylist()) == {2.0}
    columns = [c for c in before.column_names if not c.startswith("benchmark_")]
    assert after.select(columns).equals(before.select(columns))
    assert fill_benchmark(folder, lookup) == 0


def test_runs_from_before_backends_were_written_are_read_and_filled(folder, trained, write_study):
    packs = trained(write_study)
    written(folder, packs)
    assert {row["backend"] for row in read_runs(folder, ["backend"])} == {"torch mixed"}
    for name in folder.names("runs"):
        path = folder.path(f"runs/{name}")
        pq.write_table(pq.read_table(path).drop_columns(["backend"]), path)
    assert {row["backend"] for row in read_runs(folder, ["backend"])} == {None}
    lookup = {r.genotype: (1.0, 2.0) for _, results in packs for r in results}
    assert fill_benchmark(folder, lookup) == 4
    assert {row["backend"] for row in read_runs(folder, ["backend"])} == {None}


def test_benchmark_refusals(tmp_path):
    def line(path, **content):
        with pytest.raises(StudyError) as caught:
            read_benchmark(Benchmark(table=str(path)))
        (only,) = caught.value.lines
        return only

    assert "does not exist" in line(tmp_path / "none.parquet")
    pq.write_table(pa.table({"architecture": ["x"]}), tmp_path / "a.parquet")
    assert "no column cifar10_valid" in line(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("no parquet")
    assert "cannot be read" in line(tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("architecture,cifar10_valid,cifar10_test\nx,high,1\n")
    assert "cannot be read" in line(tmp_path / "c.csv")
    (tmp_path / "d.pickle.pbz2").write_text("")
    assert "nats_bench" in line(tmp_path / "d.pickle.pbz2")


def test_nats_bench_is_asked_as_its_documentation_says(tmp_path, monkeypatch):
    asked = []

    class Api:
        def __init__(self):
            self.arch2infos_dict = {0: "memory"}

        def __len__(self):
            return 1

        def arch(self, index):
            return "|a~0|"

        def get_more_info(self, index, dataset, iepoch=None, hp="12", is_random=True):
            asked.append((index, dataset, hp, is_random))
            return {"valid-accuracy": 91.0, "test-accuracy": 94.0}

    def create(path, space, fast_mode=False, verbose=True):
        assert (path, space, fast_mode, verbose) == (str(tmp_path), "tss", True, False)
        return Api()

    monkeypatch.setitem(sys.modules, "nats_bench", types.SimpleNamespace(create=create))
    found = read_benchmark(Benchmark(table=str(tmp_path)))
    assert found == {"|a~0|": (91.0, 94.0)}
    assert asked == [(0, "cifar10-valid", "200", False), (0, "cifar10", "200", False)]


# -- storage ------------------------------------------------------------------------------


def test_storage_round_trip(tmp_path):
    storage = Storage.open(tmp_path / "new" / "folder")
    assert storage.names() == []
    assert storage.read("a/b") is None
    assert not storage.exists("a/b")
    storage.write("a/b", "text")
    assert storage.read("a/b") == b"text"
    assert storage.names("a") == ["b"]
    assert pickle.loads(pickle.dumps(storage)).read("a/b") == b"text"
    assert Storage.open(f"file://{tmp_path}/new/folder").read("a/b") == b"text"
    storage.delete("a/b")
    storage.delete("a/b")
    assert not storage.exists("a/b")


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    storage = Storage.open(tmp_path)
    storage.write("x", "old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        storage.write("x", "new")
    assert storage.read("x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_unknown_scheme_is_one_line():
    with pytest.raises(StudyError, match="cannot be opened"):
        Storage.open("nowhere://x/y")


def test_a_broken_shard_is_named(tmp_path):
    storage = Storage.open(tmp_path)
    storage.write("runs/x.parquet", b"PAR1")
    with pytest.raises(StudyError, match="remove it to train its pack again"):
        read_runs(storage, [])
    storage.delete("runs/x.parquet")
    storage.write("runs/.y.parquet", b"half")  # a writer at work
    assert read_runs(storage, []) == []
