"""Loading: the four rules of the contract, filters, and one clear line for what is wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis
from analysis.contract import KEYS
from tests.analysis.synthetic import Setting, Study, schema, write_study


@pytest.fixture
def copy(nb201: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nb201, tmp_path / "copy"))


def test_tables_come_back_as_written(tmp_path: Path) -> None:
    written = write_study(tmp_path, Study(seeds=range(2), epochs=3))
    results = analysis.load(tmp_path)
    for table, got in (
        ("epochs", results.epochs()),
        ("edges", results.edges()),
        ("links", results.links()),
    ):
        want = written[table].to_pandas().sort_values(list(KEYS[table]), ignore_index=True)
        assert list(got.columns) == list(want.columns)
        for column in want:
            assert got[column].map(str).equals(want[column].map(str)), (table, column)
    assert sorted(results.runs["run_id"]) == sorted(written["runs"]["run_id"].to_pylist())
    assert results.name == "synthetic"
    assert results.planned_runs == 6


def test_filters_by_columns_epochs_and_runs(nb201: Path) -> None:
    results = analysis.load(nb201)
    some = results.runs["run_id"].iloc[:2].to_list()
    frame = results.edges(columns=["probabilities"], epoch=[-1, 4], run_ids=some)
    assert set(frame.columns) == {*KEYS["edges"], "probabilities"}
    assert set(frame["epoch"]) == {-1, 4}
    assert set(frame["run_id"]) == set(some)
    assert set(results.edges(epoch="first")["epoch"]) == {-1}
    assert set(results.links(epoch=np.int64(2))["epoch"]) == {2}
    with pytest.raises(ValueError, match="no column nonsense"):
        results.edges(columns=["nonsense"])


def test_last_is_each_runs_own_last_epoch(darts: Path) -> None:
    results = analysis.load(darts)
    runs = results.runs.set_index("run_id")
    frame = results.links(columns=["matrix"], epoch="last")
    assert sorted(set(frame["epoch"])) == [1, 3]
    assert (frame["epoch"] == frame["run_id"].map(runs["epochs_completed"]) - 1).all()
    assert frame.groupby("run_id").size().eq(32).all()


def test_a_doubled_shard_counts_once(copy: Path) -> None:
    before = analysis.load(copy)
    sizes = [len(before.runs), len(before.edges()), len(before.links()), len(before.epochs())]
    for table in KEYS:
        for shard in list((copy / table).glob("*.parquet")):
            shutil.copy(shard, shard.with_name(f"again-{shard.name}"))
    after = analysis.load(copy)
    assert sizes == [len(after.runs), len(after.edges()), len(after.links()), len(after.epochs())]


def test_rows_of_runs_that_are_not_complete_are_ignored(copy: Path) -> None:
    gone = sorted((copy / "runs").glob("*.parquet"))[0]
    run_id = pq.read_table(gone)["run_id"][0].as_py()
    gone.unlink()
    results = analysis.load(copy)
    assert len(results.runs) == 11
    for frame in (results.runs, results.epochs(), results.edges(), results.links()):
        assert run_id not in set(frame["run_id"])
    assert len(results.epochs(run_ids=[run_id])) == 0


def test_dot_names_and_other_files_are_ignored(copy: Path) -> None:
    (copy / "runs" / ".half.parquet").write_bytes(b"PAR1 half written")
    (copy / "edges" / ".p1.parquet.tmp").write_bytes(b"")
    (copy / "links" / "README").write_text("hello")
    results = analysis.load(copy)
    assert len(results.runs) == 12
    assert len(results.links(epoch=0)) == 2 * 4 * 4


def test_extra_columns_and_missing_nullable_ones_are_welcome(copy: Path) -> None:
    for shard in (copy / "runs").glob("*.parquet"):
        table = pq.read_table(shard)
        table = table.append_column("more", pa.array([1] * table.num_rows))
        table = table.drop_columns(["tune_trial", "stop_gradient"])
        epochs = table.schema.get_field_index("epochs")
        table = table.set_column(epochs, "epochs", table["epochs"].cast(pa.int64()))
        pq.write_table(table, shard)
    runs = analysis.load(copy).runs
    assert runs["tune_trial"].isna().all()
    assert "more" not in runs
    assert runs["epochs"].eq(5).all()


def test_results_from_before_backends_were_written_are_read(copy: Path) -> None:
    for shard in (copy / "runs").glob("*.parquet"):
        pq.write_table(pq.read_table(shard).drop_columns(["backend"]), shard)
    assert analysis.load(copy).runs["backend"].isna().all()


def test_no_links_at_all_is_an_empty_table(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("independent", "independent")]))
    assert len(analysis.load(tmp_path).links(epoch="last")) == 0
    shutil.rmtree(tmp_path / "links")
    assert len(analysis.load(tmp_path).links(epoch="last")) == 0


def test_a_file_uri_is_as_good_as_a_path(nb201: Path) -> None:
    assert len(analysis.load(nb201.as_uri()).edges(epoch=0)) == 12 * 6


def one_line(error: pytest.ExceptionInfo[analysis.ResultsError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("table", list(KEYS))
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_shard_is_named_in_one_line(copy: Path, table: str, damage: str) -> None:
    shard = sorted((copy / table).glob("*.parquet"))[1]
    content = shard.read_bytes()
    shard.write_bytes(
        {"truncated": content[: len(content) // 2], "empty": b"", "text": b"no"}[damage]
    )
    results = analysis.load(copy)
    with pytest.raises(analysis.ResultsError) as error:
        results.runs if table == "runs" else getattr(results, table)()
    assert f"{table}/{shard.name} cannot be read" in one_line(error)


@pytest.mark.parametrize("table", list(KEYS))
@pytest.mark.parametrize("columns", [{"run_id": [1, 2]}, {"mine": ["a"]}, {"epoch": ["x"]}])
def test_a_foreign_file_changes_nothing(copy: Path, table: str, columns: dict) -> None:
    before = analysis.load(copy)
    foreign = copy / table / "foreign.parquet"
    pq.write_table(pa.table(columns), foreign)
    for name in (table, "runs"):
        pd.testing.assert_frame_equal(
            *(one.runs if name == "runs" else getattr(one, name)()
              for one in (before, analysis.load(copy)))
        )  # fmt: skip


def test_what_is_no_study_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(analysis.ResultsError) as error:
        analysis.load(tmp_path / "nowhere")
    assert "no such folder" in one_line(error)
    (tmp_path / "file").write_text("x")
    with pytest.raises(analysis.ResultsError) as error:
        analysis.load(tmp_path / "file")
    assert "a file, not a study folder" in one_line(error)
    with pytest.raises(analysis.ResultsError) as error:
        analysis.load(tmp_path)
    assert "not a study folder" in one_line(error)
    with pytest.raises(analysis.ResultsError) as error:
        analysis.load("nonsense://somewhere")
    assert "cannot be opened" in one_line(error)


def test_a_study_without_a_complete_run_says_so(nb201: Path, tmp_path: Path) -> None:
    for name in ("study.yaml", "packs.json"):
        shutil.copy(nb201 / name, tmp_path / name)
    with pytest.raises(analysis.ResultsError) as error:
        analysis.load(tmp_path)
    assert "no run of 12 of this study is complete yet" in one_line(error)


def test_settings_are_in_the_order_of_the_study_file(copy: Path) -> None:
    names = ["independent", "placebo", "transition"]
    assert analysis.load(copy).settings == names
    path = copy / "packs.json"
    packs = json.loads(path.read_text())
    settings = dict(reversed(packs["settings"].items()))
    path.write_text(json.dumps(packs | {"settings": settings}))
    assert analysis.load(copy).settings == names[::-1]
    del packs["settings"]
    for text in (json.dumps(packs), "{", "[]", "null", json.dumps({"settings": {"a": {}}})):
        path.write_text(text)
        assert analysis.load(copy).settings == []
    path.unlink()
    assert analysis.load(copy).settings == []


def test_a_broken_study_file_is_one_line_and_a_broken_plan_is_no_plan(copy: Path) -> None:
    (copy / "packs.json").write_text("{")
    assert analysis.load(copy).planned_runs is None
    (copy / "study.yaml").write_text("a: [1\nb: }")
    with pytest.raises(analysis.ResultsError) as error:
        _ = analysis.load(copy).name
    assert "study.yaml cannot be read" in one_line(error)


def test_a_needed_column_that_is_missing_is_named(copy: Path) -> None:
    shard = sorted((copy / "runs").glob("*.parquet"))[0]
    pq.write_table(pq.read_table(shard).drop_columns(["setting"]), shard)
    with pytest.raises(analysis.ResultsError, match="column setting is missing"):
        _ = analysis.load(copy).runs


def test_the_synthetic_writer_keeps_the_contract(tmp_path: Path) -> None:
    write_study(tmp_path, Study("darts", seeds=[0], epochs=2))
    for table in KEYS:
        for shard in (tmp_path / table).glob("*.parquet"):
            assert pq.read_schema(shard).equals(schema(table))
