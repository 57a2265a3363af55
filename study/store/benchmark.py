"""Tabular accuracies of NAS-Bench-201: a table of ours or the files of `nats_bench`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from study.errors import StudyError, first_line
from study.file.schema import Benchmark

Lookup = dict[str, tuple[float | None, float | None]]
"""validation and test accuracy in percent, by the architecture's string"""


def read_benchmark(benchmark: Benchmark) -> Lookup:
    """Every architecture's accuracies on the asked data set.

    Raises `StudyError` with one line for a file that is missing, unreadable or without the
    columns `architecture`, `<dataset>_valid` and `<dataset>_test`.
    """
    path = Path(benchmark.table)
    if not path.exists():
        raise StudyError(f"benchmark.table: {path} does not exist")
    kind = path.suffix.lower()
    if path.is_file() and kind in (".parquet", ".csv"):
        return _from_table(path, benchmark.dataset)
    return _from_nats_bench(path, benchmark.dataset)


def _from_table(path: Path, dataset: str) -> Lookup:
    names = ["architecture", f"{dataset}_valid", f"{dataset}_test"]
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
        missing = [name for name in names if name not in table.column_names]
        if missing:
            raise StudyError(f"benchmark.table: {path} has no column {missing[0]}")
        text, valid, test = (table.column(name) for name in names)
        text = text.cast(pa.string())
        valid, test = (column.cast(pa.float64()) for column in (valid, test))
    except (pa.ArrowException, OSError) as error:
        first = first_line(error)
        raise StudyError(f"benchmark.table: {path} cannot be read ({first})") from None
    rows = zip(text.to_pylist(), valid.to_pylist(), test.to_pylist(), strict=True)
    return {architecture: (v, t) for architecture, v, t in rows}


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
