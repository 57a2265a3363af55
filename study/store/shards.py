"""Results of a pack as four Parquet shards, and the study's `runs` read back (design, 5)."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.contract import SCHEMAS, TABLES, check
from itnas.method.records import EpochRecord, RunResult
from itnas.method.spaces import Space, get_space
from study.errors import StudyError, first_line
from study.store.benchmark import Lookup
from study.store.door import Storage
from study.store.registry import Pack, PackRun

RUN_METRICS = (
    *("train_loss", "valid_loss", "valid_accuracy", "derived_accuracy"),
    *("architecture_displacement", "transition_displacement", "dependence_strength"),
)
RUN_FIELDS = (
    *("status", "epochs_completed", "genotype", "genotype_normal", "genotype_reduce"),
    *("tied_edges", "skip_connections", "parameterless_operations", "inner_edges_kept"),
    *("seconds", "seconds_per_step"),
)

IDENTIFYING = (
    *("run_id", "pack_id", "status", "space", "setting", "seed_weights", "seed_data"),
    *("seed_architecture", "model", "genotype", "epochs_completed"),
)
"""columns that every shard of `runs` ever written has, by which it is known as one"""
RUN_TYPES = dict(zip(SCHEMAS["runs"].names, SCHEMAS["runs"].types, strict=True))
BENCHMARK = ("benchmark_valid", "benchmark_test")
Accuracies = tuple[float | None, float | None]
"""of validation and test, as `BENCHMARK`"""
NOT_KNOWN: Accuracies = (None, None)
READERS = 16
"""shards of an object store that are read at a time"""


@dataclass(frozen=True)
class Runs:
    """What `read_runs` found in `runs/`."""

    rows: list[dict[str, Any]]
    """run_id and the columns asked for of every complete run, each run once"""
    passed_over: dict[str, str]
    """files that hold no runs to go by, such as `runs/x.parquet`, and why"""
    shards: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """all rows of every file that was read, in its order"""

    @cached_property
    def run_ids(self) -> set[str]:
        """Of the complete runs."""
        return {row["run_id"] for row in self.rows}


def shard_name(table: str, pack_id: str) -> str:
    """Where a pack's shard of a table lies in the study's folder."""
    return f"{table}/{pack_id}.parquet"


def write_shards(storage: Storage, pack_id: str, tables: dict[str, list[pa.Table]]) -> None:
    """Write a pack's shards, `runs` last: a run is complete when its row is there.

    `tables` holds for each table its row groups (one per epoch), as `pack_tables` gives them.
    """
    for table in (*(t for t in TABLES if t != "runs"), "runs"):
        storage.write(shard_name(table, pack_id), parquet(table, tables[table]))


def parquet(table: str, groups: list[pa.Table]) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SCHEMAS[table], compression="zstd") as writer:
        for group in groups:
            check(table, group)
            writer.write_table(group, row_group_size=max(group.num_rows, 1))
    return sink.getvalue().to_pybytes()


def pack_tables(
    pack: Pack,
    results: Sequence[RunResult],
    *,
    study: str,
    device: str,
    backend: str,
    gpu: str | None,
    attempts: int,
    started: datetime,
    lookup: Lookup | None = None,
    tune_trial: int | None = None,
) -> dict[str, list[pa.Table]]:
    """The four tables of a finished pack, each as its row groups.

    `results` are those of `pack.runs`, in order; `attempts` is how often the pack was begun, over
    all launches.
    """
    common = {
        "study": study,
        "pack_id": pack.pack_id,
        "tune_trial": tune_trial,
        "device": device,
        "backend": backend,
        "gpu": gpu,
        "attempts": attempts,
        "host": socket.gethostname(),
        "started": started,
        "finished": datetime.now(UTC),
    }
    pairs = list(zip(pack.runs, results, strict=True))
    runs = [run_row(run, result, lookup) | common for run, result in pairs]
    groups: dict[str, list[list[dict[str, Any]]]] = {"epochs": [], "edges": [], "links": []}
    for epoch in sorted({record.epoch for result in results for record in result.history}):
        rows: dict[str, list[dict[str, Any]]] = {"epochs": [], "edges": [], "links": []}
        for run, result in pairs:
            space = get_space(run.setting.space)
            for record in (r for r in result.history if r.epoch == epoch):
                key = {"run_id": run.run_id, "epoch": epoch}
                if epoch >= 0:
                    rows["epochs"].append({**record.metrics, **key})
                rows["edges"] += [edge | key for edge in edge_rows(space, record)]
                rows["links"] += [link | key for link in link_rows(space, record)]
        for table, found in rows.items():
            if found:
                groups[table].append(found)
    return {
        "runs": [_table("runs", runs)],
        **{name: [_table(name, rows) for rows in found] for name, found in groups.items()},
    }


def _table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    schema = SCHEMAS[name]
    return pa.Table.from_pylist([{k: r.get(k) for k in schema.names} for r in rows], schema)


def run_row(run: PackRun, result: RunResult, lookup: Lookup | None) -> dict[str, Any]:
    """One row of `runs`, but for what its whole pack shares."""
    valid, test = (lookup or {}).get(result.genotype, NOT_KNOWN)
    return {
        **{f"seed_{part}": seed for part, seed in vars(run.seeds).items()},
        **run.columns,
        **{name: getattr(result, name) for name in RUN_FIELDS},
        **{name: result.metrics.get(name) for name in RUN_METRICS},
        "run_id": run.run_id,
        "setting": run.name,
        "benchmark_valid": valid,
        "benchmark_test": test,
    }


def edge_rows(space: Space, record: EpochRecord) -> list[dict[str, Any]]:
    """Rows of `edges` of one run and epoch, without run_id and epoch."""
    return [
        {
            "cell": kind,
            "source": edge.source,
            "target": edge.target,
            "inner": edge.inner,
            "operations": list(edge.operations),
            "probabilities": probabilities,
        }
        for kind, cell in space.cells.items()
        for edge, probabilities in zip(cell.edges, record.cells[kind].probabilities, strict=True)
    ]


def link_rows(space: Space, record: EpochRecord) -> list[dict[str, Any]]:
    """Rows of `links` of one run and epoch; none where the model has no links."""
    rows: list[dict[str, Any]] = []
    for kind, cell in space.cells.items():
        architecture = record.cells[kind]
        if not architecture.matrices:
            continue
        for link, weight, matrix in zip(
            cell.links, architecture.attention, architecture.matrices, strict=True
        ):
            before, edge = cell.edges[link.predecessor], cell.edges[link.edge]
            rows.append({
                "cell": kind,
                "predecessor_source": before.source,
                "predecessor_target": before.target,
                "source": edge.source,
                "target": edge.target,
                "attention_weight": weight,
                "matrix": [value for row in matrix for value in row],
                "rows": len(matrix),
                "columns": len(matrix[0]),
            })  # fmt: skip
    return rows


def read_runs(storage: Storage, columns: Sequence[str], packs: Sequence[str] | None = None) -> Runs:
    """Some columns of `runs`, of some packs only where they are named; null where a shard is older
    than the column.

    Every `.parquet` file of `runs/` is opened once. One that is truncated, damaged, not permitted
    or not a shard of `runs` (by columns, types, or a row without run_id) is passed over. Raises
    `StudyError` with one line where the storage cannot be read: trouble, not damage.
    """
    rows: dict[str, dict[str, Any]] = {}
    passed_over: dict[str, str] = {}
    shards: dict[str, list[dict[str, Any]]] = {}
    for name, shard in _shards(storage, list(dict.fromkeys(("run_id", *columns))), packs):
        if isinstance(shard, str):
            passed_over[name] = shard
        else:
            shards[name] = shard.to_pylist()
            for row in shards[name]:
                rows.setdefault(row["run_id"], row)
    return Runs(list(rows.values()), passed_over, shards)


def benchmark_changes(runs: Runs, lookup: Lookup) -> dict[str, list[Accuracies]]:
    """By file of `runs/`, the benchmark columns of its rows, where they are not those of `lookup`.

    `runs` has the columns genotype and `BENCHMARK`. Null where `lookup` does not know a genotype.
    """
    wanted = {
        name: [lookup.get(row["genotype"], NOT_KNOWN) for row in rows]
        for name, rows in runs.shards.items()
    }
    return {name: pairs for name, pairs in wanted.items() if pairs != _present(runs, name)}


def _present(runs: Runs, name: str) -> list[Accuracies]:
    return [(row[BENCHMARK[0]], row[BENCHMARK[1]]) for row in runs.shards[name]]


def fill_benchmark(storage: Storage, lookup: Lookup, runs: Runs | None = None) -> int:
    """Make the benchmark columns of all complete runs those of `lookup`; returns the runs changed.

    Only files that differ are written (and of these alone those of `runs` are opened again, if it
    is given: what was read now, with the columns of `benchmark_changes`). Raises `StudyError` with
    one line where the storage cannot be read or written.
    """
    runs = runs or read_runs(storage, ("genotype", *BENCHMARK))
    changed = 0
    for name, pairs in benchmark_changes(runs, lookup).items():
        changed += sum(old != new for old, new in zip(_present(runs, name), pairs, strict=True))
        _rewrite(storage, name, pairs)
        for row, pair in zip(runs.shards[name], pairs, strict=True):
            row.update(zip(BENCHMARK, pair, strict=True))
    return changed


def _rewrite(storage: Storage, name: str, pairs: list[Accuracies]) -> None:
    """Write a shard of `runs` again, all of it as it was but for the benchmark columns."""
    try:
        shard = pq.ParquetFile(pa.BufferReader(storage.read(name) or b"")).read(use_threads=False)
        for column, values in zip(BENCHMARK, zip(*pairs, strict=True), strict=True):
            field = SCHEMAS["runs"].field(column)
            array, index = pa.array(values, field.type), shard.schema.get_field_index(column)
            if index < 0:
                shard = shard.append_column(field, array)
            else:
                shard = shard.set_column(index, field, array)
        sink = pa.BufferOutputStream()
        pq.write_table(shard, sink, compression="zstd")
        storage.write(name, sink.getvalue().to_pybytes())
    except (pa.ArrowException, OSError) as error:
        raise StudyError(
            f"{storage.path(name)}: benchmark accuracies cannot be written ({first_line(error)})"
        ) from None


def _shards(
    storage: Storage, columns: list[str], packs: Sequence[str] | None
) -> Iterator[tuple[str, pa.Table | str]]:
    """Columns of every shard of `runs`, or why it is passed over; by name, in order."""
    schema = pa.schema([SCHEMAS["runs"].field(name) for name in columns])
    try:
        if packs is not None:
            names = [shard_name("runs", pack_id) for pack_id in packs]
        else:
            names = [f"runs/{name}" for name in storage.names("runs") if name.endswith(".parquet")]
    except OSError as error:
        raise StudyError(f"{storage.path('runs')}: cannot be read ({error})") from None
    read = partial(_shard, storage, schema)
    if storage.is_local:  # threads would only get in each other's way
        yield from zip(names, map(read, names), strict=True)
        return
    with ThreadPoolExecutor(READERS) as readers:
        yield from zip(names, readers.map(read, names), strict=True)


def _shard(storage: Storage, schema: pa.Schema, name: str) -> pa.Table | str:
    try:
        content = storage.read(name)
    except (PermissionError, IsADirectoryError) as error:
        return f"cannot be read: {error}"
    except OSError as error:
        raise StudyError(
            f"{storage.path(name)}: cannot be read ({error}); "
            "if that stays so, remove it to train its pack again"
        ) from None
    if content is None:
        return "was removed meanwhile"
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        own = file.schema_arrow
        why = _foreign(own.names, own.types)
        if why:
            return f"is no shard of runs: {why}"
        known = [name for name in schema.names if name in own.names]
        table = file.read(known, use_threads=False)
        table.validate(full=True)
    except Exception as error:  # whatever a damaged file raises
        return f"is damaged: {first_line(error)}"
    if table["run_id"].null_count:
        return "is no shard of runs: a row has no run_id"
    nulls = {name: pa.nulls(len(table), schema.field(name).type) for name in schema.names}
    return pa.table(nulls | dict(zip(known, table.columns, strict=True)), schema)


def _foreign(names: list[str], types: list[pa.DataType]) -> str:
    """Why a Parquet file with these columns is no shard of `runs`; "" if it may be one."""
    for name in IDENTIFYING:
        if names.count(name) != 1:
            return f"it has {'two columns' if name in names else 'no column'} {name}"
    for name, kind in zip(names, types, strict=True):
        if kind != RUN_TYPES.get(name, kind):
            return f"{name} is {kind}, not {RUN_TYPES[name]}"
    return ""
