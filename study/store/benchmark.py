"""Tabular accuracies of NAS-Bench-201: a table of ours or the files of `nats_bench`."""

from __future__ import annotations

import importlib
import math
import posixpath
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from study.errors import StudyError, first_line
from study.file.schema import Benchmark
from study.store.door import Storage

Lookup = dict[str, tuple[float | None, float | None]]
"""validation and test accuracy in percent, by the architecture's string"""


def read_benchmark(benchmark: Benchmark) -> Lookup:
    """Every architecture's accuracies on the asked data set; None where the table has none.

    The table is a local file or a URI, the files of nats_bench are local. Raises `StudyError` with
    one line for a file that is missing, unreadable or without the columns `architecture`,
    `<dataset>_valid` and `<dataset>_test`.
    """
    try:
        place = Storage.open(benchmark.table)
    except StudyError as error:
        raise StudyError(f"benchmark.table: {str(error).removeprefix('storage ')}") from None
    kind = posixpath.splitext(place.root)[1].lower()
    try:
        if not place.exists(""):
            raise StudyError(f"benchmark.table: {place} does not exist")
        if kind in (".parquet", ".csv"):
            return _from_table(place.read("") or b"", kind, benchmark.dataset)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StudyError(f"benchmark.table: {place} cannot be read ({first_line(error)})") from None
    if not place.is_local:
        raise StudyError(f"benchmark.table: {place} is neither .parquet nor .csv")
    return _from_nats_bench(Path(place.root), benchmark.dataset)


def _from_table(content: bytes, kind: str, dataset: str) -> Lookup:
    """ValueError, pyarrow's errors among them, for what is no such table."""
    source = pa.BufferReader(content)
    table = pq.ParquetFile(source).read() if kind == ".parquet" else csv.read_csv(source)
    columns = []
    for name, type_ in (
        ("architecture", pa.string()),
        (f"{dataset}_valid", pa.float64()),
        (f"{dataset}_test", pa.float64()),
    ):
        if table.column_names.count(name) != 1:
            twice = name in table.column_names
            raise ValueError(f"{'two columns' if twice else 'no column'} {name}")
        columns.append(table.column(name).cast(type_).to_pylist())
    return {
        architecture: (_number(valid), _number(test))
        for architecture, valid, test in zip(*columns, strict=True)
        if architecture is not None
    }


def _number(value: float | None) -> float | None:
    """None for what is no number, so that a value can be compared with itself."""
    return None if value is None or math.isnan(value) else value


def _from_nats_bench(path: Path, dataset: str) -> Lookup:
    """All 15,625 architectures after 200 epochs, averaged over their seeds.

    As in NAS-Bench-201, CIFAR-10's validation accuracy is of the training on half of its
    training set (`cifar10-valid`) and its test accuracy of that on the whole. A folder is read
    architecture by architecture, in minutes, and needs little memory; the single file is read
    whole.
    """
    try:
        nats_bench: Any = importlib.import_module("nats_bench")
    except ImportError:
        raise StudyError(
            f"benchmark.table: {path} is neither .parquet nor .csv, and the nats_bench package "
            "that would read its own files is not installed (pip install nats_bench)"
        ) from None
    try:
        api = nats_bench.create(str(path), "tss", fast_mode=path.is_dir(), verbose=False)
        found: Lookup = {}
        for index in range(len(api)):
            valid_set = "cifar10-valid" if dataset == "cifar10" else dataset
            valid = api.get_more_info(index, valid_set, hp="200", is_random=False)
            test = api.get_more_info(index, dataset, hp="200", is_random=False)
            found[api.arch(index)] = (valid["valid-accuracy"], test["test-accuracy"])
            if path.is_dir():  # otherwise everything ever asked for stays in memory
                api.arch2infos_dict.pop(index, None)
    except Exception as error:  # whatever a damaged pickle raises
        raise StudyError(
            f"benchmark.table: nats_bench cannot read {path} ({type(error).__name__}: {error})"
        ) from None
    return found
