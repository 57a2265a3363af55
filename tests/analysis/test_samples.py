"""Samples: tables to arrays, with runs that are short, doubled, broken or not there."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis
from analysis.data.samples import Sample, read_samples, seed_label
from tests.analysis.synthetic import Setting, Study, schema, write_study


def sample(folder: Path, setting: str = "transition", at: int | str = "last") -> Sample:
    results = analysis.load(folder)
    runs = results.runs[results.runs["setting"] == setting]
    return read_samples(results, runs, [at])[at]


def rewrite(folder: Path, table: str, change) -> None:
    """change: a shard's rows to its new rows."""
    for path in sorted((folder / table).glob("*.parquet")):
        rows = change(pq.read_table(path, schema=schema(table)).to_pylist())
        pq.write_table(pa.Table.from_pylist(rows, schema=schema(table)), path)


def test_arrays_are_the_written_rows(darts: Path) -> None:
    results = analysis.load(darts)
    got = sample(darts)
    assert got.n == 3
    assert got.seeds.tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    assert got.cells == ("normal", "reduce")
    rows = results.links(epoch="last")
    for link in got.links[::7]:
        for run_id, matrix in zip(got.run_ids, link.matrices, strict=True):
            row = rows[(rows["run_id"] == run_id) & (rows["cell"] == link.cell)]
            for name, node in zip(
                ("predecessor_source", "predecessor_target", "source", "target"),
                link.nodes,
                strict=True,
            ):
                row = row[row[name] == node]
            np.testing.assert_array_equal(matrix.ravel(), row["matrix"].iloc[0])
    # A run that stopped early counts with its own last epoch.
    assert sample(darts, at=3).run_ids == (got.run_ids[0], got.run_ids[2])


def test_order_of_rows_and_doubled_shards_do_not_matter(nb201: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(nb201, tmp_path / "copy"))
    for table in ("runs", "edges", "links", "epochs"):
        rewrite(copy, table, lambda rows: rows[::-1])
        first = sorted((copy / table).glob("*.parquet"))[0]
        shutil.copy(first, first.with_name("again.parquet"))
    want, got = sample(nb201), sample(copy)
    assert got.run_ids == want.run_ids
    for a, b in zip(want.links, got.links, strict=True):
        assert a.nodes == b.nodes
        np.testing.assert_array_equal(a.matrices, b.matrices)


def test_shards_that_were_joined_are_found(nb201: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(nb201, tmp_path / "copy"))
    for table in ("edges", "links"):
        paths = sorted((copy / table).glob("*.parquet"))
        joined = pa.concat_tables([pq.read_table(p) for p in paths])
        for path in paths:
            path.unlink()
        pq.write_table(joined, copy / table / "all.parquet")
    for a, b in zip(sample(nb201).edges, sample(copy).edges, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_a_run_without_its_rows_or_with_nan_is_left_out_by_name(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("transition")], seeds=range(4)))
    ids = sample(tmp_path).run_ids

    def change(rows: list[dict]) -> list[dict]:
        kept = [r for r in rows if not (r["run_id"] == ids[1] and r["source"] == 2)]
        for row in kept:
            if row["run_id"] == ids[2]:
                row["matrix"][3] = float("nan")
        return kept

    rewrite(tmp_path, "links", change)
    got = sample(tmp_path)
    assert got.run_ids == (ids[0], ids[3])
    assert got.left_out == (ids[1], ids[2])


def test_no_rows_at_all_is_an_empty_sample(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("transition")], seeds=range(2)))
    rewrite(tmp_path, "edges", lambda rows: [])
    got = sample(tmp_path)
    assert (got.n, got.edges, got.links, got.cells) == (0, (), (), ())
    assert len(got.left_out) == 2


def test_without_links_the_edges_are_there(nb201: Path) -> None:
    got = sample(nb201, "independent")
    assert got.links == ()
    assert len(got.edges) == 6


def test_differing_lists_and_shapes_are_one_line(tmp_path: Path) -> None:
    write_study(tmp_path / "a", Study(settings=[Setting("transition")], seeds=range(2)))

    def other_list(rows: list[dict]) -> list[dict]:
        if rows[-1]["run_id"].endswith("1"):
            rows[-1]["operations"] = ["a", "b", "c", "d", "e"]  # of the last epoch
        return rows

    rewrite(tmp_path / "a", "edges", other_list)
    with pytest.raises(analysis.ResultsError, match="several different lists of operations"):
        sample(tmp_path / "a")
    write_study(tmp_path / "b", Study(settings=[Setting("transition")], seeds=range(2)))
    rewrite(tmp_path / "b", "links", lambda rows: [r | {"rows": 4} for r in rows])
    with pytest.raises(analysis.ResultsError, match="its matrix is not 5 x 5"):
        sample(tmp_path / "b")


def test_some_runs_in_another_order(darts: Path) -> None:
    got = sample(darts)
    part = got.of_runs([got.run_ids[2], "unknown", got.run_ids[0]])
    assert part.run_ids == (got.run_ids[2], got.run_ids[0])
    np.testing.assert_array_equal(part.links[3].matrices, got.links[3].matrices[[2, 0]])
    assert part.links[3].edge in part.edges


def test_links_are_read_only_where_they_are_asked_for(nb201: Path) -> None:
    results = analysis.load(nb201)
    runs = results.runs[results.runs["setting"] == "transition"]
    some = read_samples(results, runs, [-1, 1, "last"], links_at=[-1, "last"])
    every = read_samples(results, runs, [-1, 1, "last"])
    assert [len(some[at].links) for at in (-1, 1, "last")] == [4, 0, 4]
    assert [len(every[at].links) for at in (-1, 1, "last")] == [4, 4, 4]
    for at in (-1, 1, "last"):
        assert some[at].run_ids == every[at].run_ids
        for a, b in zip(some[at].edges, every[at].edges, strict=True):
            np.testing.assert_array_equal(a.probabilities, b.probabilities)
        for a, b in zip(some[at].links, every[at].links, strict=False):
            np.testing.assert_array_equal(a.matrices, b.matrices)
    rows = results.links(epoch=-1, run_ids=runs["run_id"])
    stack = rows[(rows["source"] == 1) & (rows["target"] == 2)]["matrix"].to_list()
    (first,) = [k for k in some[-1].links if k.nodes == (0, 1, 1, 2)]
    np.testing.assert_array_equal(first.matrices.reshape(4, -1), np.array(stack, float))
    nothing = read_samples(results, runs, ["last"], links_at=[])
    assert nothing["last"].links == ()


def test_a_seed_is_named_by_one_number_where_the_three_are_equal() -> None:
    assert seed_label((3, 3, 3)) == "seed 3"
    assert seed_label(np.array([3, 0, 1])) == "seeds 3/0/1"
    assert seed_label((1, 1, 0)) == "seeds 1/1/0"
