"""Study folders written by nothing but the results contract, with a known truth.

Another program could have written these: neither itnas nor study has a hand in them. Edges
follow the spaces' published orders, probabilities and matrices are drawn around known means.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NB201_OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
DARTS_OPS = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
DARTS_EDGES = [(s, t) for t in range(2, 6) for s in range(t)]
NB201_EDGES = [(s, t) for t in range(1, 4) for s in range(t)]

# Rectangular links: lists of different lengths, not only different names as in S1.
RAGGED = [DARTS_OPS[i % 3 : i % 3 + 2 + i % 2] for i in range(len(DARTS_EDGES))]

SPACES: Mapping[str, Any] = {
    "nas-bench-201": (1, {"normal": dict.fromkeys(NB201_EDGES, NB201_OPS)}),
    "darts": (2, {c: dict.fromkeys(DARTS_EDGES, DARTS_OPS) for c in ("normal", "reduce")}),
    "s1": (2, {c: dict(zip(DARTS_EDGES, RAGGED, strict=True)) for c in ("normal", "reduce")}),
}

SCHEMAS = {
    "runs": "run_id:s study:s pack_id:s status:s space:s setting:s seed_weights:i seed_data:i "
    "seed_architecture:i model:s sharing:s attention:s init:s init_strength:d trainable:b "
    "own_weight:d temperature:d stop_gradient:b architecture_lr:d transition_lr:d "
    "attention_lr:d epochs:i epochs_completed:i genotype:s genotype_normal:s "
    "genotype_reduce:s tied_edges:i skip_connections:i parameterless_operations:i "
    "inner_edges_kept:i train_loss:d valid_loss:d valid_accuracy:d derived_accuracy:d "
    "architecture_displacement:d transition_displacement:d dependence_strength:d "
    "benchmark_valid:d benchmark_test:d tune_trial:i seconds:d seconds_per_step:d device:s "
    "backend:s gpu:s attempts:i host:s started:t finished:t",
    "epochs": "run_id:s epoch:i train_loss:d train_accuracy:d valid_loss:d valid_accuracy:d "
    "derived_accuracy:d architecture_entropy:d architecture_displacement:d "
    "transition_displacement:d dependence_strength:d hessian_eigenvalue:d seconds:d",
    "edges": "run_id:s epoch:i cell:s source:i target:i inner:b operations:S probabilities:F "
    "edge_weight:f",
    "links": "run_id:s epoch:i cell:s predecessor_source:i predecessor_target:i source:i "
    "target:i attention_weight:f matrix:F rows:i columns:i",
}
TYPES = {
    "s": pa.string(), "i": pa.int32(), "f": pa.float32(), "d": pa.float64(), "b": pa.bool_(),
    "t": pa.timestamp("us", tz="UTC"), "S": pa.list_(pa.string()), "F": pa.list_(pa.float32()),
}  # fmt: skip


def schema(table: str) -> pa.Schema:
    """The contract's schema, spelt out here once more so that two spellings must agree."""
    pairs = (item.split(":") for item in SCHEMAS[table].split())
    return pa.schema([(n, TYPES[t]) for n, t in pairs], metadata={b"schema_version": b"1"})


@dataclass
class Setting:
    """One synthetic setting: its model, and how far it moves away from its start."""

    name: str
    model: str = "transition"
    moved: float = 0.4
    trainable: bool | None = True
    accuracy: float = 0.6
    rates: tuple[float, float, float] = (0.01, 0.02, 0.03)
    trial: int | None = None


@dataclass
class Study:
    """What to write. `diverged` and `short` name (setting, seed) pairs."""

    space: str = "nas-bench-201"
    name: str = "synthetic"
    settings: Sequence[Setting] = field(
        default_factory=lambda: [
            Setting("independent", "independent", trainable=None),
            Setting("placebo", "placebo"),
            Setting("transition"),
        ]
    )
    seeds: Sequence[int] = range(4)
    epochs: int = 5
    start: bool = True  # whether epoch -1 is written
    benchmark: bool = False
    crossed: bool = False
    diverged: Sequence[tuple[str, int]] = ()
    short: Sequence[tuple[str, int]] = ()
    noise: float = 0.3
    backends: Sequence[str | None] = ("compiled avx2",)  # of the seeds, in turn


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def write_study(folder: Path, study: Study, metadata: bool = True) -> dict[str, pa.Table]:
    """Write one shard per run into folder/{runs,epochs,edges,links}; the tables written."""
    rows: dict[str, list[dict]] = {t: [] for t in SCHEMAS}
    for setting in study.settings:
        for seed in study.seeds:
            run = _run(study, setting, seed)
            for table, new in run.items():
                rows[table] += new
            write_shards(folder, run, run["runs"][0]["pack_id"])
    if metadata:
        _write_metadata(folder, study, rows["runs"])
    return {t: pa.Table.from_pylist(r, schema=schema(t)) for t, r in rows.items()}


def write_shards(folder: Path, rows: Mapping[str, list[dict]], pack: str) -> None:
    for table, new in rows.items():
        (folder / table).mkdir(parents=True, exist_ok=True)
        shard = pa.Table.from_pylist(new, schema=schema(table))
        pq.write_table(shard, folder / table / f"{pack}.parquet")


def _write_metadata(folder: Path, study: Study, runs: list[dict]) -> None:
    import yaml

    content = {
        "name": study.name, "space": study.space, "command": "launch", "git_commit": "0" * 40,
        "data": {"source": "digits", "resolution": 8},
        "search": {"epochs": study.epochs, "channels": 4},
        "seeds": f"{min(study.seeds)}..{max(study.seeds)}",
        "software": {"python": "3.11.2", "torch": "2.13.0"},
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    packs = {
        "settings": {f"{zlib.crc32(s.name.encode()):08x}": {"name": s.name}
                     for s in study.settings},
        "packs": {r["pack_id"]: [r["run_id"]] for r in runs},
        "runs": {r["run_id"]: {"setting": r["setting"], "seeds": [0, 0, 0]} for r in runs},
    }  # fmt: skip
    (folder / "packs.json").write_text(json.dumps(packs))


def _run(study: Study, setting: Setting, seed: int) -> dict[str, list[dict]]:
    key = zlib.crc32(setting.name.encode())
    rng = np.random.default_rng([seed, key, setting.trial or 0])
    run_id = f"{key:08x}{setting.trial or 0:03d}{seed:03d}"
    inputs, cells = SPACES[study.space]
    diverged = (setting.name, seed) in study.diverged
    completed = study.epochs - 2 if (setting.name, seed) in study.short else study.epochs
    bad = float("nan") if diverged else 1.0
    start = -1 if study.start else 0
    out: dict[str, list[dict]] = {t: [] for t in SCHEMAS}
    last: dict[tuple[str, int, int], np.ndarray] = {}
    for cell, edges in cells.items():
        for index, ((s, t), ops) in enumerate(edges.items()):
            goal = true_logits(len(ops), index) + study.noise * rng.normal(size=len(ops))
            for epoch in range(start, completed):
                share = setting.moved * (epoch + 1) / completed
                p = softmax(2 * share * goal)
                last[cell, s, t] = p
                out["edges"].append(
                    {"run_id": run_id, "epoch": epoch, "cell": cell, "source": s, "target": t,
                     "inner": s >= inputs, "operations": list(ops),
                     "probabilities": (p * bad).tolist()}
                )  # fmt: skip
        if setting.model != "independent":
            out["links"] += _links(run_id, cell, edges, inputs, range(start, completed), rng, study)
    out["epochs"] = [_epoch(run_id, e, completed, setting, rng, bad) for e in range(completed)]
    genotype = write_genotype(study.space, last, cells)
    out["runs"] = [
        _run_row(study, setting, seed, run_id, completed, diverged, genotype, out["epochs"][-1])
    ]
    return out


def true_logits(k: int, index: int) -> np.ndarray:
    """The direction in which edge `index` with k operations moves, the same in every seed."""
    return 2.0 * np.cos(np.arange(k) * (index + 1) + index)


def true_matrix(rows: int, columns: int) -> np.ndarray:
    """The logits of every link's matrix before noise: a diagonal."""
    return 2.0 * np.eye(rows, columns)


def _links(run_id, cell, edges, inputs, epochs, rng, study) -> list[dict]:
    rows = []
    for s, t in edges:
        if s < inputs:
            continue
        before = [e for e in edges if e[1] == s]
        for ps, pt in before:
            k, m = len(edges[ps, pt]), len(edges[s, t])
            noise = study.noise * rng.normal(size=(k, m))
            for epoch in epochs:
                logits = true_matrix(k, m) + noise * (epoch + 1) / epochs.stop
                rows.append(
                    {"run_id": run_id, "epoch": epoch, "cell": cell, "predecessor_source": ps,
                     "predecessor_target": pt, "source": s, "target": t,
                     "attention_weight": 1 / len(before),
                     "matrix": softmax(logits).ravel().tolist(), "rows": k, "columns": m}
                )  # fmt: skip
    return rows


def _epoch(run_id, epoch, epochs, setting, rng, bad) -> dict:
    done = (epoch + 1) / epochs
    accuracy = setting.accuracy * done + 0.01 * rng.normal()
    transition = setting.moved / 2 * done
    return {
        "run_id": run_id, "epoch": epoch, "train_loss": (2.3 - done) * bad,
        "train_accuracy": accuracy * bad, "valid_loss": (2.4 - done) * bad,
        "valid_accuracy": accuracy * bad, "derived_accuracy": accuracy * 0.9 * bad,
        "architecture_entropy": 1.6 - setting.moved * done,
        "architecture_displacement": setting.moved * done,
        "transition_displacement": None if setting.model == "independent" else transition,
        "dependence_strength": 0.2 * done * (setting.model == "transition"), "seconds": 1.5,
    }  # fmt: skip


def _run_row(study, setting, seed, run_id, completed, diverged, genotype, end) -> dict:
    has_matrices = setting.model != "independent"
    status = "diverged" if diverged else "complete"
    if completed < study.epochs:
        status = "stopped_early"
    seeds = (seed % 2, seed // 2, 0) if study.crossed else (seed, seed, seed)
    carried = (
        "train_loss", "valid_loss", "valid_accuracy", "derived_accuracy",
        "architecture_displacement", "transition_displacement", "dependence_strength",
    )  # fmt: skip
    row = {
        "run_id": run_id, "study": study.name, "pack_id": f"p{run_id}", "status": status,
        "space": study.space, "setting": setting.name, "model": setting.model,
        "temperature": 1.0, "epochs": study.epochs, "epochs_completed": completed,
        "genotype": genotype, "genotype_normal": genotype, "tied_edges": 0,
        "skip_connections": genotype.count("skip_connect"), "parameterless_operations": 3,
        "inner_edges_kept": 3, "tune_trial": setting.trial, "seconds": 12.0 + seed,
        "seconds_per_step": 0.05, "device": "cpu", "host": "somewhere",
        "backend": study.backends[seed % len(study.backends)],
        "started": 1_700_000_000_000_000 + seed, "finished": 1_700_000_100_000_000 + seed,
    } | {key: end[key] for key in carried}  # fmt: skip
    row |= dict(zip(("seed_weights", "seed_data", "seed_architecture"), seeds, strict=True))
    row |= dict(
        zip(("architecture_lr", "transition_lr", "attention_lr"), setting.rates, strict=True)
    )
    if has_matrices:
        row |= {"sharing": "link", "attention": "learned", "init": "identity", "own_weight": 0.0}
        row |= {"init_strength": 2.0, "trainable": setting.trainable, "stop_gradient": False}
    if study.benchmark:
        row |= {"benchmark_valid": 80.0 + seed, "benchmark_test": 81.0 + seed}
    return row


def write_genotype(space: str, p: Mapping[tuple[str, int, int], np.ndarray], cells: Mapping) -> str:
    """The published rule: every edge's best (NAS-Bench-201), or a node's two best (DARTS)."""
    if space == "nas-bench-201":
        best = {e: NB201_OPS[int(p["normal", *e].argmax())] for e in NB201_EDGES}
        return "+".join(
            "|" + "|".join(f"{best[s, t]}~{s}" for s in range(t)) + "|" for t in range(1, 4)
        )
    parts = []
    for cell, edges in cells.items():
        pairs = []
        for target in range(2, 6):
            scored = []
            for source in range(target):
                ops = edges[source, target]
                weights = [
                    (w, op)
                    for w, op in zip(p[cell, source, target], ops, strict=True)
                    if op != "none"
                ]
                weight, op = max(weights)
                scored.append((weight, source, op))
            kept = sorted(sorted(scored, reverse=True)[:2], key=lambda x: x[1])
            pairs += [(op, source) for _, source, op in kept]
        parts.append(f"{cell}={pairs}, {cell}_concat=range(2, 6)")
    return f"Genotype({', '.join(parts)})"
