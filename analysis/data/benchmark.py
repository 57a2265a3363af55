"""Tabular test accuracies, where the study names a table that can be read here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

Accuracies = Mapping[str, float]
"""Architecture string to its test accuracy (percent)."""


def test_accuracies(study: Mapping[str, Any] | None) -> Accuracies:
    """The study file's `benchmark` table; empty where there is none or it is not here.

    A Parquet or CSV file with the columns `architecture` and `<dataset>_test`. A study may be
    analysed where its table is not: then only what needs the whole table is missing.
    """
    known = (study or {}).get("benchmark") or {}
    path, column = Path(str(known.get("table", ""))), f"{known.get('dataset')}_test"
    if path.suffix not in (".parquet", ".csv") or not path.is_file():
        return {}
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
        names, values = (table.column(c).to_pylist() for c in ("architecture", column))
    except (pa.ArrowException, OSError, KeyError):
        return {}
    return {str(name): float(x) for name, x in zip(names, values, strict=True) if x is not None}
