"""What is written: tables in both forms."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis.report.write import Output


def written(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    Output(folder).write_table("name", frame)
    assert (folder / "tables" / "name.csv").is_file()
    return pq.read_table(folder / "tables" / "name.parquet").to_pandas()


def test_both_forms_have_the_same_columns_and_no_index(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"setting": ["a", "b"], "mean": [math.pi, float("nan")], "n": [3, 0], "ok": [True, False]},
        index=[7, 5],
    )
    back = written(frame, tmp_path)
    text = pd.read_csv(tmp_path / "tables" / "name.csv")
    assert list(back.columns) == list(text.columns) == list(frame.columns)
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True))


def test_parquet_keeps_full_precision_and_the_csv_that_of_float32(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=1000)
    single = values.astype("float32").astype(float)
    back = written(pd.DataFrame({"x": values, "single": single}), tmp_path)
    np.testing.assert_array_equal(back["x"], values)
    text = pd.read_csv(tmp_path / "tables" / "name.csv")
    np.testing.assert_array_equal(text["single"].astype("float32"), single)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([None, None, None], [None, None, None]),
        ([1, "a", None], ["1", "a", None]),
        ([True, 0.5, float("nan")], ["True", "0.5", None]),
        ([(1, 2), "x", 3], ["(1, 2)", "x", "3"]),
        ([1, None, 3], [1.0, None, 3.0]),
    ],
)
def test_object_columns_of_any_kind_are_written(values, expected, tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object), "y": 1})
    before = frame.copy()
    back = written(frame, tmp_path)
    assert [None if pd.isna(v) else v for v in back["x"]] == expected
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame(columns=["setting", "mean"])])
def test_empty_tables_are_written(frame: pd.DataFrame, tmp_path: Path) -> None:
    back = written(frame, tmp_path)
    # A file without any column could not be read again.
    assert (list(back.columns), len(back)) == (list(frame.columns) or ["note"], 0)
