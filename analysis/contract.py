"""The results contract as code: the schemas of the four Parquet tables (design, section 5).

A study folder holds `runs/`, `epochs/`, `edges/` and `links/`, one shard per pack in each.
Whoever writes such shards writes them with `SCHEMAS[table]`; whoever reads them passes the
same schema, so that shards with fewer or more columns than these still read as one table.
More columns are welcome in a shard, these must be there.

Every Arrow field is nullable: Parquet files of other programs seldom say that a column is
required, and Arrow refuses to read such a file under a stricter schema. Which columns may
really hold nulls is in `Column.nullable`, and `check` holds a table to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

SCHEMA_VERSION = 1

TABLES = ("runs", "epochs", "edges", "links")

STATUSES = ("complete", "stopped_early", "diverged")

STRING, INT, FLOAT, DOUBLE = pa.string(), pa.int32(), pa.float32(), pa.float64()
BOOL, TIMESTAMP = pa.bool_(), pa.timestamp("us", tz="UTC")
STRINGS, FLOATS = pa.list_(STRING), pa.list_(FLOAT)


class Column(NamedTuple):
    """One column of the contract: its Arrow type, whether it may be null, and its meaning."""

    name: str
    type: pa.DataType
    nullable: bool
    meaning: str


def _columns(*rows: tuple[str, pa.DataType, str]) -> tuple[Column, ...]:
    """Columns from (name, type, meaning); a name that ends in `?` may be null."""
    return tuple(
        Column(name.removesuffix("?"), kind, name.endswith("?"), meaning)
        for name, kind, meaning in rows
    )


COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "runs": _columns(
        ("run_id", STRING, "hash of the run's resolved setting and its seeds"),
        ("study", STRING, "name of the study"),
        ("pack_id", STRING, "hash of the run_ids trained together; names the shard"),
        ("status", STRING, "complete, stopped_early or diverged"),
        ("space", STRING, "search space: darts, s1, s2, s3, s4, nas-bench-201"),
        ("setting", STRING, "short readable name of the setting, unique in the study"),
        ("seed_weights", INT, "seed of the supernet's initial weights"),
        ("seed_data", INT, "seed of split, order, augmentation and the noise operation"),
        ("seed_architecture", INT, "seed of the initial a, T and w"),
        ("model", STRING, "transition, independent or placebo"),
        ("sharing?", STRING, "one matrix per link, edge or cell"),
        ("attention?", STRING, "weights of predecessors: learned, content or uniform"),
        ("init?", STRING, "start of the matrices: identity, uniform or random"),
        ("init_strength?", DOUBLE, "size of the logits at the start (no unit)"),
        ("trainable?", BOOL, "false where the matrices are frozen"),
        ("own_weight?", DOUBLE, "lambda, the share of an inner edge's own logits (0..1)"),
        ("temperature", DOUBLE, "tau of the edges' softmax"),
        ("stop_gradient", BOOL, "whether inner edges send no gradient to predecessors"),
        ("architecture_lr?", DOUBLE, "learning rate of the edges' logits a (logit per step)"),
        ("transition_lr?", DOUBLE, "learning rate of the matrices' logits (logit per step)"),
        ("attention_lr?", DOUBLE, "learning rate of attention and queries (logit per step)"),
        ("epochs", INT, "epochs asked for"),
        ("epochs_completed", INT, "epochs done"),
        ("genotype", STRING, "NAS-Bench-201's string, or DARTS's Genotype(...) literal"),
        ("genotype_normal?", STRING, "the normal cell's part of the genotype"),
        ("genotype_reduce?", STRING, "the reduction cell's part of the genotype"),
        ("tied_edges", INT, "edges whose two best operations are equal within 1e-6"),
        ("skip_connections", INT, "kept edges of all cell kinds that are skip_connect"),
        ("parameterless_operations", INT, "kept edges that are skip, a pool, none or noise"),
        ("inner_edges_kept", INT, "inner edges in the genotype, none left out"),
        ("train_loss", DOUBLE, "last epoch's mean training cross-entropy (nats)"),
        ("valid_loss", DOUBLE, "last epoch's relaxed cross-entropy on holdout (nats)"),
        ("valid_accuracy", DOUBLE, "last epoch's relaxed accuracy on holdout (0..1)"),
        ("derived_accuracy", DOUBLE, "accuracy of the genotype's path on holdout (0..1)"),
        ("architecture_displacement", DOUBLE, "mean total variation of edges from the start"),
        ("transition_displacement?", DOUBLE, "the same over rows of the matrices (0..1)"),
        ("dependence_strength", DOUBLE, "normalised mutual information along links (0..1)"),
        ("benchmark_valid?", DOUBLE, "tabular validation accuracy of the genotype (percent)"),
        ("benchmark_test?", DOUBLE, "tabular test accuracy of the genotype (percent)"),
        ("tune_trial?", INT, "number of the tuning trial this run belongs to"),
        ("seconds", DOUBLE, "duration of the run (s)"),
        ("seconds_per_step", DOUBLE, "mean duration of one search step (s)"),
        ("device", STRING, "device the run was computed on"),
        ("backend?", STRING, "what computed it, such as compiled avx2; null in older results"),
        ("gpu?", STRING, "model of the GPU; null on a CPU and in older results"),
        ("attempts?", INT, "times the run was begun, 1: never again; null in older results"),
        ("host", STRING, "machine the run was computed on"),
        ("started", TIMESTAMP, "start of the run (UTC)"),
        ("finished", TIMESTAMP, "end of the run (UTC)"),
    ),
    "epochs": _columns(
        ("run_id", STRING, "the run"),
        ("epoch", INT, "epoch, from 0"),
        ("train_loss", DOUBLE, "mean training cross-entropy (nats)"),
        ("train_accuracy", DOUBLE, "mean training accuracy (0..1)"),
        ("valid_loss", DOUBLE, "relaxed cross-entropy on holdout (nats)"),
        ("valid_accuracy", DOUBLE, "relaxed accuracy on holdout (0..1)"),
        ("derived_accuracy", DOUBLE, "accuracy of the genotype's path on holdout (0..1)"),
        ("architecture_entropy", DOUBLE, "mean entropy of the edges (nats)"),
        ("architecture_displacement", DOUBLE, "mean total variation of edges from the start"),
        ("transition_displacement?", DOUBLE, "the same over rows of the matrices (0..1)"),
        ("dependence_strength", DOUBLE, "normalised mutual information along links (0..1)"),
        ("hessian_eigenvalue?", DOUBLE, "largest eigenvalue of the validation loss's Hessian"),
        ("seconds", DOUBLE, "duration of the epoch (s)"),
    ),
    "edges": _columns(
        ("run_id", STRING, "the run"),
        ("epoch", INT, "epoch, from 0; -1 is the initialisation"),
        ("cell", STRING, "cell kind: normal or reduce"),
        ("source", INT, "node the edge starts at"),
        ("target", INT, "node the edge ends at"),
        ("inner", BOOL, "false where the edge starts at a cell input"),
        ("operations", STRINGS, "the edge's candidate operations"),
        ("probabilities", FLOATS, "their probabilities, in the same order"),
        ("edge_weight?", FLOAT, "weight of the edge at its node (partial channels)"),
    ),
    "links": _columns(
        ("run_id", STRING, "the run"),
        ("epoch", INT, "epoch, from 0; -1 is the initialisation"),
        ("cell", STRING, "cell kind: normal or reduce"),
        ("predecessor_source", INT, "node the predecessor edge starts at"),
        ("predecessor_target", INT, "node the predecessor edge ends at, the inner edge's source"),
        ("source", INT, "node the inner edge starts at"),
        ("target", INT, "node the inner edge ends at"),
        ("attention_weight", FLOAT, "w, the predecessor's weight (0..1)"),
        ("matrix", FLOATS, "the row-stochastic T, row-major"),
        ("rows", INT, "number of the predecessor's operations"),
        ("columns", INT, "number of the inner edge's operations"),
    ),
}

KEYS: Mapping[str, tuple[str, ...]] = {
    "runs": ("run_id",),
    "epochs": ("run_id", "epoch"),
    "edges": ("run_id", "epoch", "cell", "source", "target"),
    "links": ("run_id", "epoch", "cell", "predecessor_source", "predecessor_target", "source",
              "target"),
}  # fmt: skip
"""The columns that identify one row of each table."""

SCHEMAS: Mapping[str, pa.Schema] = {
    name: pa.schema(
        [pa.field(c.name, c.type, metadata={"meaning": c.meaning}) for c in columns],
        metadata={b"schema_version": str(SCHEMA_VERSION).encode()},
    )
    for name, columns in COLUMNS.items()
}
RUNS, EPOCHS, EDGES, LINKS = (SCHEMAS[name] for name in TABLES)


def check(name: str, table: pa.Table) -> None:
    """Hold one shard to the contract before it is written.

    Raises ValueError with one line naming table and column where a column is missing, has
    another type, or holds a null that it may not hold.
    """
    for column in COLUMNS[name]:
        if column.name not in table.column_names:
            raise ValueError(f"{name}: no column {column.name}")
        if (got := table.schema.field(column.name).type) != column.type:
            raise ValueError(f"{name}.{column.name} is {got}, not {column.type}")
        if not column.nullable and table.column(column.name).null_count:
            raise ValueError(f"{name}.{column.name} holds a null")


def data_dictionary() -> str:
    """The contract as Markdown, a table per Parquet table: column, type, meaning."""
    lines = [
        "# The results contract",
        "",
        f"Schema version {SCHEMA_VERSION}, in the metadata of every file. A study's folder holds",
        "`runs/`, `epochs/`, `edges/` and `links/`, one Parquet file of each per pack. More",
        "columns are welcome; a `?` marks what may be null. Generated from `analysis/contract.py`.",
    ]
    for name, columns in COLUMNS.items():
        lines += ["", f"## {name}", "", f"One row per {', '.join(KEYS[name])}.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| {c.name}{'?' * c.nullable} | {c.type} | {c.meaning} |" for c in columns]
    return "\n".join(lines) + "\n"
