"""Bytes of a study: its checkpoints while it runs, and its results."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from analysis.contract import SCHEMAS
from itnas.data import ImageData
from itnas.method.search import SearchPack
from itnas.settings import EngineSettings
from study.file.grid import Run
from study.planning.costs import shape_of
from study.store.checkpoints import KEPT
from study.store.registry import Pack, pack_run
from study.store.shards import pack_tables, parquet


def sizes(
    left: Sequence[Run], data: ImageData, engine: EngineSettings, pack: int, at_once: int
) -> dict[str, float]:  # fmt: skip
    """Bytes of a pack's checkpoint, of all that lie there at once, and of the results.

    Measured on the largest setting's supernet and on the rows of its initialisation, by epoch.
    """
    if not left:
        return {"checkpoint_bytes": 0.0, "checkpoints_bytes": 0.0, "result_bytes": 0.0}
    import torch

    on_cpu = EngineSettings(device="cpu", precision=engine.precision)
    largest = max(left, key=lambda run: shape_of(run.setting.setting)[:2])
    content, rows = io.BytesIO(), {}
    torch.save(_beginning(largest, data, on_cpu).state_dict(), content)
    for run in left:  # a model has links or not
        if run.setting.setting.dependence.model not in rows:
            rows[run.setting.setting.dependence.model] = _Rows.of(run, data, on_cpu)
    epochs = max(run.setting.setting.search.epochs for run in left)
    history = max(one.numbers for one in rows.values()) * 8
    checkpoint = pack * (len(content.getvalue()) + history * (epochs + 1))
    results = sum(
        rows[run.setting.setting.dependence.model].bytes(run.setting.setting.search.epochs, pack)
        for run in left
    )
    return {
        "checkpoint_bytes": float(checkpoint),
        "checkpoints_bytes": float(checkpoint * (KEPT + 1) * at_once),
        "result_bytes": float(results),
    }


def _beginning(run: Run, data: ImageData, engine: EngineSettings) -> SearchPack:
    return SearchPack([run.setting.setting], [run.seeds], data, engine)


@dataclass(frozen=True)
class _Rows:
    """What a run writes, by the rows of its initialisation."""

    epoch: int
    """bytes of one epoch"""
    group: int
    """bytes that an epoch takes once a pack, for where its rows lie"""
    fixed: int
    """bytes of a pack's files beside those"""
    numbers: int
    """of one epoch"""

    @classmethod
    def of(cls, run: Run, data: ImageData, engine: EngineSettings) -> _Rows:
        found = pack_tables(
            Pack("0" * 12, (pack_run(run, run.setting.name),)),
            _beginning(run, data, engine).results(),
            study="", device="cpu", backend="", gpu=None, attempts=1, started=datetime.now(UTC),
        )  # fmt: skip
        found["epochs"] = [_epochs_row()]  # the initialisation has none
        by_epoch = {name: found[name][0] for name in ("epochs", "edges", "links") if found[name]}
        epoch = sum(_growth(name, group) for name, group in by_epoch.items())
        group = sum(_growth(name, group.slice(0, 1)) for name, group in by_epoch.items())
        files = sum(len(parquet(name, groups)) for name, groups in found.items())
        numbers = sum(map(_numbers, by_epoch.values()))
        return cls(max(epoch - group, 0), group, files - epoch, numbers)

    def bytes(self, epochs: int, pack: int) -> float:
        """Of a run in a pack of so many."""
        return (self.epoch + self.group / pack) * (epochs + 1) + self.fixed / pack


def _growth(name: str, group: pa.Table) -> int:
    """Bytes that one more epoch takes."""
    return len(parquet(name, [group, group])) - len(parquet(name, [group]))


def _epochs_row() -> pa.Table:
    """A row of `epochs` of numbers that do not compress."""
    import numpy as np

    chance = np.random.default_rng(0)
    schema = SCHEMAS["epochs"]
    values = {
        field.name: [float(chance.random())] if pa.types.is_floating(field.type) else
        ["0" * 16] if pa.types.is_string(field.type) else [1]
        for field in schema
    }  # fmt: skip
    return pa.table({k: pa.array(v, schema.field(k).type) for k, v in values.items()}, schema)


def _numbers(table: pa.Table) -> int:
    """Floating-point numbers in a table's lists and columns."""
    count = 0
    for column in table.columns:
        kind = column.type
        if pa.types.is_list(kind) and pa.types.is_floating(kind.value_type):
            count += len(column.combine_chunks().flatten())
        elif pa.types.is_floating(kind):
            count += len(column)
    return count
