"""Shards against the contract, `runs` read back past broken files, and the benchmark columns."""

from __future__ import annotations

import math
import os
import sys
import time
import types
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
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
            gpu=None, attempts=2, started=STARTED, lookup=lookup,
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
            assert (row["gpu"], row["attempts"]) == (None, 2)
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


def values(folder, *columns):
    return {tuple(row[c] for c in columns) for row in read(folder, "runs").to_pylist()}


def test_a_benchmark_added_later_fills_its_columns_alone(folder, trained, write_study):
    packs = trained(write_study)
    written(folder, packs)
    before = read(folder, "runs")
    lookup = {r.genotype: (1.0, 2.0) for _, results in packs for r in results}
    assert fill_benchmark(folder, lookup) == 4
    after = read(folder, "runs")
    assert values(folder, "benchmark_valid", "benchmark_test") == {(1.0, 2.0)}
    columns = [c for c in before.column_names if not c.startswith("benchmark_")]
    assert after.select(columns).equals(before.select(columns))
    for name in folder.names("runs"):
        check("runs", pq.read_table(folder.path(f"runs/{name}")))
    assert fill_benchmark(folder, lookup) == 0


def test_another_benchmark_replaces_the_first_in_all_rows(folder, trained, write_study):
    """Of the second data set nothing is known but one genotype: no number of the first stays."""
    packs = trained(write_study)
    genotypes = [r.genotype for _, results in packs for r in results]
    known = genotypes[0]
    written(folder, packs, lookup=dict.fromkeys(genotypes, (1.0, 2.0)))
    assert fill_benchmark(folder, {known: (3.0, 4.0)}) == 4
    for row in read(folder, "runs").to_pylist():
        expected = (3.0, 4.0) if row["genotype"] == known else (None, None)
        assert (row["benchmark_valid"], row["benchmark_test"]) == expected
    assert fill_benchmark(folder, {known: (3.0, None)}) == genotypes.count(known)


def test_only_shards_that_differ_are_written(folder, trained, write_study, monkeypatch):
    packs = trained(write_study)
    first, second = ([r.genotype for r in results] for _, results in packs)
    lookup = dict.fromkeys(first + second, (1.0, 2.0))
    written(folder, packs, lookup)
    changed = next(g for g in second if g not in first)
    wrote = []
    monkeypatch.setattr(
        Storage, "write", lambda self, name, content, real=Storage.write:
            (wrote.append(name), real(self, name, content))
    )  # fmt: skip
    assert fill_benchmark(folder, lookup | {changed: (1.0, 9.0)}) == second.count(changed)
    assert wrote == [f"runs/{packs[1][0].pack_id}.parquet"]


def test_a_filled_shard_keeps_the_columns_that_others_added(folder, trained, write_study):
    written(folder, trained(write_study)[:1])
    (name,) = folder.names("runs")
    path = folder.path(f"runs/{name}")
    table = pq.read_table(path)
    pq.write_table(table.append_column("mine", pa.array(["a", "b"])), path)
    lookup = dict.fromkeys(table["genotype"].to_pylist(), (1.0, 2.0))
    assert fill_benchmark(folder, lookup) == 2
    after = pq.read_table(path)
    assert after["mine"].to_pylist() == ["a", "b"]
    assert after.schema.metadata[b"schema_version"] == b"1"


def test_runs_of_older_releases_are_read_and_filled(folder, trained, write_study):
    """Their shards lack the columns that were added since."""
    packs = trained(write_study)
    written(folder, packs)
    added = ["backend", "gpu", "attempts"]
    assert {r["backend"] for r in read_runs(folder, added).rows} == {"torch mixed"}
    for name in folder.names("runs"):
        path = folder.path(f"runs/{name}")
        pq.write_table(pq.read_table(path).drop_columns([*added, "benchmark_valid"]), path)
    older = read_runs(folder, added)
    assert {tuple(row[name] for name in added) for row in older.rows} == {(None, None, None)}
    assert not older.passed_over
    lookup = {r.genotype: (1.0, 2.0) for _, results in packs for r in results}
    assert fill_benchmark(folder, lookup) == 4
    assert values(folder, "backend", "benchmark_valid", "benchmark_test") == {(None, 1.0, 2.0)}


def test_a_benchmark_that_cannot_be_written_is_one_line(folder, trained, write_study, monkeypatch):
    packs = trained(write_study)
    written(folder, packs)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Storage, "write", full)
    lookup = {r.genotype: (1.0, 2.0) for _, results in packs for r in results}
    with pytest.raises(StudyError, match=r"runs/\w+.parquet: .*No space left") as caught:
        fill_benchmark(folder, lookup)
    assert len(caught.value.lines) == 1


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
    (tmp_path / "e.csv").write_text("")
    assert "cannot be read" in line(tmp_path / "e.csv")
    (tmp_path / "f.csv").write_text("architecture,cifar10_valid,cifar10_valid,cifar10_test\n")
    assert "two columns cifar10_valid" in line(tmp_path / "f.csv")
    (tmp_path / "g.csv").write_bytes(b"architecture,cifar10_valid,cifar10_test\n\xff,1,1\n")
    assert "cannot be read" in line(tmp_path / "g.csv")
    (tmp_path / "h.parquet").mkdir()
    assert "cannot be read" in line(tmp_path / "h.parquet")
    assert "does not exist" in line(f"file://{tmp_path}/none.csv")
    assert "cannot be opened" in line("nowhere://x/y.csv")
    assert "neither .parquet nor .csv" in line("fsspec+memory:///")
    (tmp_path / "d.pickle.pbz2").write_text("")
    assert "nats_bench" in line(tmp_path / "d.pickle.pbz2")


def test_a_benchmark_by_uri_and_its_empty_values(tmp_path):
    path = tmp_path / "a table.CSV"
    path.write_text("architecture,cifar10_valid,cifar10_test\n|a~0|,80.5,nan\n|b~0|,,91\n")
    expected = {"|a~0|": (80.5, None), "|b~0|": (None, 91.0)}
    assert read_benchmark(Benchmark(table=str(path))) == expected
    assert read_benchmark(Benchmark(table=path.as_uri())) == expected


def test_the_uri_of_a_benchmark_stays_as_it_is(write_study):
    uri = "s3://bucket/table.parquet?region=x"
    assert load_study(write_study(benchmark={"table": uri})).benchmark.table == uri


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


# -- runs read back -----------------------------------------------------------------------


@pytest.fixture
def sound(folder, trained, write_study):
    """A study of two packs of two runs; gives the run_ids of the first and the second's shard."""
    (first, _), (second, _) = packs = trained(write_study)
    written(folder, packs)
    return {run.run_id for run in first.runs}, folder.path(f"runs/{second.pack_id}.parquet")


def test_runs_are_read_back_and_each_shard_opened_once(folder, trained, write_study, monkeypatch):
    packs = trained(write_study)
    written(folder, packs)
    folder.write("runs/broken.parquet", b"PAR1")
    opened = []
    monkeypatch.setattr(
        Storage, "read", lambda self, name, real=Storage.read:
            (opened.append(name), real(self, name))[1]
    )  # fmt: skip
    runs = read_runs(folder, ["genotype", "seed_data", "finished"])
    assert sorted(opened) == sorted(f"runs/{name}" for name in folder.names("runs"))
    expected = {
        run.run_id: (result.genotype, run.seeds.data)
        for pack, results in packs for run, result in zip(pack.runs, results, strict=True)
    }  # fmt: skip
    assert {r["run_id"]: (r["genotype"], r["seed_data"]) for r in runs.rows} == expected
    assert runs.run_ids == expected.keys()
    assert all(row["finished"] > STARTED for row in runs.rows)
    assert list(runs.passed_over) == ["runs/broken.parquet"]


def test_no_runs_yet(folder):
    assert read_runs(folder, ["status"]).rows == []
    folder.write("runs/.y.parquet.0123abcd", b"half")  # a writer at work
    folder.write("runs/y.parquet.tmp", b"half")
    found = read_runs(folder, [])
    assert (found.rows, found.passed_over) == ([], {})


def foreign(**columns):
    """Gives a function that makes of a shard a file with other columns; None takes one away."""

    def change(table):
        for name, column in columns.items():
            index = table.schema.get_field_index(name)
            if index >= 0:
                table = table.remove_column(index)
            if column is not None:
                table = table.append_column(name, pa.array(column))
        return table

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda table: pa.table({"run_id": ["a", "b"], "x": [1, 2]}), "no column pack_id"),
        (lambda table: pa.table({"x": [1, 2]}), "no column run_id"),
        (lambda table: pa.table({"run_id": ["a"], "epoch": pa.array([0], pa.int32())}),
         "no column pack_id"),
        (foreign(status=None), "no column status"),
        (foreign(run_id=[1, 2]), "run_id is int64, not string"),
        (foreign(run_id=["a", None]), "a row has no run_id"),
        (foreign(epochs_completed=["1", "1"]), "epochs_completed is string, not int32"),
        (foreign(benchmark_test=["high", "low"]), "benchmark_test is string, not double"),
        (lambda table: table.append_column("run_id", pa.array(["a", "b"])), "two columns run_id"),
    ],
)  # fmt: skip
def test_a_foreign_parquet_file_is_passed_over(folder, sound, change, why):
    first, shard = sound
    pq.write_table(change(pq.read_table(shard)), shard)
    found = read_runs(folder, ["status"])
    assert found.run_ids == first
    (told,) = found.passed_over.values()
    assert why in told
    assert fill_benchmark(folder, {}) == 0


def test_a_shard_cut_anywhere_is_passed_over(folder, sound):
    first, shard = sound
    with open(shard, "rb") as file:
        content = file.read()
    for length in [*range(0, len(content), 97), len(content) - 1]:
        with open(shard, "wb") as file:
            file.write(content[:length])
        found = read_runs(folder, ["genotype"])
        assert found.run_ids == first
        (told,) = found.passed_over.values()
        assert len(told.splitlines()) == 1


def test_no_damage_stops_the_reading(folder, sound):
    first, shard = sound
    with open(shard, "rb") as file:
        content = bytearray(file.read())
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = content.copy()
        for place in random.integers(0, len(content), 3):
            damaged[place] = random.integers(256)
        with open(shard, "wb") as file:
            file.write(damaged)
        assert first <= read_runs(folder, ["genotype", "seconds", "started"]).run_ids


def test_a_shard_without_permission_is_passed_over(folder, sound, monkeypatch):
    first, shard = sound

    def read(self, name, real=Storage.read):
        if self.path(name) == shard:
            raise PermissionError(13, "Permission denied", shard)
        return real(self, name)

    monkeypatch.setattr(Storage, "read", read)
    found = read_runs(folder, [])
    assert found.run_ids == first
    assert "Permission denied" in found.passed_over[f"runs/{os.path.basename(shard)}"]


def test_a_folder_in_the_place_of_a_shard_is_passed_over(folder, sound):
    first, shard = sound
    os.remove(shard)
    os.mkdir(shard)
    assert read_runs(folder, []).run_ids == first


def test_trouble_with_the_storage_is_no_damage(folder, sound, monkeypatch):
    """A complete run must not be trained again because the storage had a bad moment."""

    def broken(self, name):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Storage, "read", broken)
    with pytest.raises(StudyError, match=r"runs/\w+.parquet: cannot be read .*Input") as caught:
        read_runs(folder, [])
    assert len(caught.value.lines) == 1


def test_a_shard_written_again_and_a_doubled_row(folder, trained, write_study):
    (_, _), (pack, results) = trained(write_study)
    written(folder, [(replace(pack, runs=pack.runs[:1]), results[:1])])
    assert read_runs(folder, []).run_ids == {pack.runs[0].run_id}
    written(folder, [(pack, results)])
    assert read_runs(folder, []).run_ids == {run.run_id for run in pack.runs}
    folder.write("runs/joined.parquet", folder.read(f"runs/{pack.pack_id}.parquet"))
    assert [row["run_id"] for row in read_runs(folder, []).rows] == [r.run_id for r in pack.runs]
    written(folder, [(replace(pack, runs=pack.runs[1:]), results[1:])])
    folder.delete("runs/joined.parquet")
    assert read_runs(folder, []).run_ids == {pack.runs[1].run_id}


@pytest.mark.slow
def test_two_thousand_shards_are_read_in_seconds(folder, sound):
    _, shard = sound
    table = pq.read_table(shard).slice(0, 1)
    place = table.schema.get_field_index("run_id")
    for n in range(2000):
        one = table.set_column(place, table.schema.field(place), pa.array([f"{n:012x}"]))
        pq.write_table(one, folder.path(f"runs/{n:012x}.parquet"), compression="zstd")
    began = time.process_time()
    found = read_runs(folder, ["status"])
    assert len(found.rows) == 2004
    assert time.process_time() - began < 4  # 1.4 where it was measured
