"""Results of a pack as four Parquet shards, and the study's `runs` read back (design, 5)."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
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


def shard_name(table: str, pack_id: str) -> str:
    """Where a pack's shard of a table lies in the study's folder."""
    return f"{table}/{pack_id}.parquet"


def write_shards(storage: Storage, pack_id: str, tables: dict[str, list[pa.Table]]) -> None:
    """Write a pack's shards, `runs` last: a run is complete when its row is there.

    `tables` holds for each table its row groups (one per epoch), as `pack_tables` gives them.
    """
    for table in (*(t for t in TABLES if t != "runs"), "runs"):
        storage.write(shard_name(table, pack_id), _parquet(table, tables[table]))


def _parquet(table: str, groups: list[pa.Table]) -> bytes:
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

    `results` are those of `pack.runs`, in order.
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
    valid, test = (lookup or {}).get(result.genotype, (None, None))
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


class Runs:
    def __init__(self, rows, passed_over=None):
        self.rows, self.passed_over = rows, passed_over or {}
        self.run_ids = {r["run_id"] for r in rows}


def read_runs(storage: Storage, columns: Sequence[str]) -> Runs:
    """Some columns of `runs`, a row per completed run, each run once.

    Raises `StudyError` with one line for a shard that cannot be read.
    """
    names = [name for name in storage.names("runs") if name.endswith(".parquet")]
    if not names:
        return Runs([])
    paths = [storage.path(f"runs/{name}") for name in names]
    wanted = list(dict.fromkeys(("run_id", *columns)))
    try:
        table = ds.dataset(
            paths, SCHEMAS["runs"], format="parquet", filesystem=storage.filesystem
        ).to_table(columns=wanted)
    except (pa.ArrowException, OSError) as error:
        first = first_line(error)
        raise StudyError(
            f"{storage.path('runs')}: a shard cannot be read ({first}); "
            "remove it to train its pack again"
        ) from None
    return Runs(list({row["run_id"]: row for row in table.to_pylist()}.values()))


def fill_benchmark(storage: Storage, lookup: Lookup) -> int:
    """Fill benchmark columns that are null in completed shards; returns the runs filled."""
    filled = 0
    for row in {r["pack_id"] for r in read_runs(storage, ["pack_id", "benchmark_test"]).rows
                if r["benchmark_test"] is None}:  # fmt: skip
        name = shard_name("runs", row)
        content = storage.read(name)
        if content is None:
            continue
        rows = pq.read_table(pa.BufferReader(content), schema=SCHEMAS["runs"]).to_pylist()
        for run in rows:
            if run["benchmark_test"] is None and run["genotype"] in lookup:
                run["benchmark_valid"], run["benchmark_test"] = lookup[run["genotype"]]
                filled += 1
        storage.write(name, _parquet("runs", [_table("runs", rows)]))
    return filled
