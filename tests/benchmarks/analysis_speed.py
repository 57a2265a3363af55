"""How fast `analyze` is, and how much memory it takes, on a study of any size.

    python -m tests.benchmarks.analysis_speed write FOLDER --settings 100 --seeds 100
    python -m tests.benchmarks.analysis_speed time FOLDER --no-trajectories

`write` makes a folder by the contract alone (DARTS space, 50 epochs, ten runs to a shard, one
row group per epoch): matrices drift from an identity start towards a truth of their own with
noise of each seed. `time` runs `run_study.py analyze` on it in a process of its own and prints
seconds and peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.contract import SCHEMAS
from tests.analysis.synthetic import DARTS_EDGES, DARTS_OPS, softmax, write_genotype

K = len(DARTS_OPS)
LINKS = [(p, e) for e in DARTS_EDGES if e[0] >= 2 for p in DARTS_EDGES if p[1] == e[0]]
CELLS = ("normal", "reduce")
PER_SHARD = 10


def write(folder: Path, settings: int, seeds: int, epochs: int) -> None:
    """Write the study; settings alternate between placebo and transition, one is independent."""
    for table in SCHEMAS:
        (folder / table).mkdir(parents=True, exist_ok=True)
    truth = np.random.default_rng(0).normal(size=(len(CELLS) * len(LINKS), K, K))
    for setting in range(settings):
        model = "independent" if setting == 0 else ("placebo", "transition")[setting % 2]
        for first in range(0, seeds, PER_SHARD):
            chunk = range(first, min(first + PER_SHARD, seeds))
            _shard(folder, setting, model, chunk, epochs, truth)


def _shard(folder, setting, model, seeds, epochs, truth) -> None:
    n, pack = len(seeds), f"p{setting:04d}-{seeds[0]:04d}"
    rng = np.random.default_rng([setting, seeds[0]])
    ids = [f"{setting:04d}{seed:06d}" for seed in seeds]
    edges = len(CELLS) * len(DARTS_EDGES)
    goal = 1.5 * rng.normal(size=(n, edges, K)) + np.sin(np.arange(edges * K)).reshape(edges, K)
    learn = 0.5 * truth + rng.normal(size=(n, len(truth), K, K))
    writers = {
        t: pq.ParquetWriter(folder / t / f"{pack}.parquet", SCHEMAS[t])
        for t in ("edges", "links", "epochs")
    }
    for epoch in range(-1, epochs):
        share = (epoch + 1) / epochs
        p = softmax(share * goal).astype(np.float32)
        writers["edges"].write_table(_edges(ids, epoch, p))
        T = softmax(2 * np.eye(K) + share * learn).astype(np.float32)
        none = model == "independent"
        writers["links"].write_table(_links(ids[: 0 if none else n], epoch, T[: 0 if none else n]))
        if epoch >= 0:
            writers["epochs"].write_table(_epochs(ids, epoch, share, rng, none))
    for writer in writers.values():
        writer.close()
    pq.write_table(
        _runs(ids, setting, model, seeds, epochs, p, pack, rng), folder / "runs" / f"{pack}.parquet"
    )


def _lists(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    offsets = np.arange(0, values.size + 1, values.shape[-1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel(), kind.value_type))


def _table(name: str, columns: dict) -> pa.Table:
    schema = SCHEMAS[name]
    rows = len(next(iter(columns.values())))
    arrays = [
        columns[f.name]
        if isinstance(columns.get(f.name), pa.Array)
        else pa.array(columns[f.name], f.type)
        if f.name in columns
        else pa.nulls(rows, f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _edges(ids, epoch, p) -> pa.Table:
    per_run = [(c, s, t) for c in CELLS for s, t in DARTS_EDGES]
    cells, sources, targets = zip(*per_run, strict=True)
    n, kinds = len(ids), SCHEMAS["edges"]
    names = np.tile(np.array(DARTS_OPS, object), (n * len(per_run), 1))
    columns = {
        "run_id": np.repeat(ids, len(per_run)), "epoch": np.full(n * len(per_run), epoch, np.int32),
        "cell": list(cells) * n, "source": list(sources) * n, "target": list(targets) * n,
        "inner": [s >= 2 for s in sources] * n,
        "operations": _lists(names, kinds.field("operations").type),
        "probabilities": _lists(p.reshape(-1, K), kinds.field("probabilities").type),
    }  # fmt: skip
    return _table("edges", columns)


def _links(ids, epoch, T) -> pa.Table:
    per_run = [(c, *p, *e) for c in CELLS for p, e in LINKS]
    cells, *nodes = zip(*per_run, strict=True)
    n = len(ids)
    names = ("predecessor_source", "predecessor_target", "source", "target")
    into = [sum(x[0] == c and x[3:] == (s, t) for x in per_run) for c, _, _, s, t in per_run]
    columns = {
        "run_id": list(np.repeat(ids, len(per_run))),
        "epoch": np.full(n * len(per_run), epoch, np.int32),
        "cell": list(cells) * n, **{k: list(v) * n for k, v in zip(names, nodes, strict=True)},
        "attention_weight": [1 / k for k in into] * n,
        "matrix": _lists(T.reshape(-1, K * K), SCHEMAS["links"].field("matrix").type),
        "rows": [K] * (n * len(per_run)), "columns": [K] * (n * len(per_run)),
    }  # fmt: skip
    return _table("links", columns)


def _epochs(ids, epoch, share, rng, none) -> pa.Table:
    n = len(ids)
    accuracy = 0.6 * share + 0.02 * rng.normal(size=n)
    columns = {
        "run_id": ids, "epoch": [epoch] * n, "train_loss": [2.3 - share] * n,
        "train_accuracy": accuracy, "valid_loss": [2.4 - share] * n, "valid_accuracy": accuracy,
        "derived_accuracy": 0.9 * accuracy, "architecture_entropy": [2 - share] * n,
        "architecture_displacement": [0.4 * share] * n,
        "dependence_strength": [0.0 if none else 0.2 * share] * n, "seconds": [1.0] * n,
    }  # fmt: skip
    if not none:
        columns["transition_displacement"] = [0.3 * share] * n
    return _table("epochs", columns)


def _runs(ids, setting, model, seeds, epochs, p, pack, rng) -> pa.Table:
    n, none = len(ids), model == "independent"
    cells = {c: dict.fromkeys(DARTS_EDGES, DARTS_OPS) for c in CELLS}
    places = [(c, s, t) for c in CELLS for s, t in DARTS_EDGES]
    genotypes = [write_genotype("darts", dict(zip(places, run, strict=True)), cells) for run in p]
    moment = np.full(n, 1_700_000_000_000_000)
    name = model if none else f"{model} init_strength={2 + setting // 2}"
    columns = {
        "run_id": ids, "study": ["large"] * n, "pack_id": [pack] * n, "status": ["complete"] * n,
        "space": ["darts"] * n, "setting": [name] * n, "seed_weights": list(seeds),
        "seed_data": list(seeds), "seed_architecture": list(seeds), "model": [model] * n,
        "temperature": [1.0] * n, "stop_gradient": [False] * n, "architecture_lr": [0.01] * n,
        "epochs": [epochs] * n, "epochs_completed": [epochs] * n, "genotype": genotypes,
        "genotype_normal": genotypes, "tied_edges": [0] * n,
        "skip_connections": [g.count("skip_connect") for g in genotypes],
        "parameterless_operations": [4] * n, "inner_edges_kept": [4] * n, "train_loss": [1.3] * n,
        "valid_loss": [1.4] * n, "valid_accuracy": 0.6 + 0.02 * rng.normal(size=n),
        "derived_accuracy": 0.5 + 0.02 * rng.normal(size=n), "architecture_displacement": [0.4] * n,
        "dependence_strength": [0.0 if none else 0.2] * n, "seconds": [50.0] * n,
        "seconds_per_step": [0.1] * n, "device": ["cpu"] * n, "backend": ["torch mixed"] * n,
        "host": ["somewhere"] * n, "started": moment, "finished": moment + 50_000_000,
    }  # fmt: skip
    if not none:
        columns |= {
            "sharing": ["link"] * n, "attention": ["learned"] * n, "init": ["identity"] * n,
            "init_strength": [2.0 + setting // 2] * n, "trainable": [True] * n,
            "own_weight": [0.0] * n, "transition_lr": [0.01] * n, "attention_lr": [0.01] * n,
            "transition_displacement": [0.3] * n,
        }  # fmt: skip
    return _table("runs", columns)


def timed(folder: Path, options: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MiB, of the largest process) of one `analyze` on its own."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "run_study.py", "analyze", str(folder), "--out", out, *options]
        start = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"MPLBACKEND": "agg"})
        seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("write", "time"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--no-trajectories", action="store_true")
    options = parser.parse_args()
    if options.what == "write":
        write(options.folder, options.settings, options.seeds, options.epochs)
        return
    seconds, memory = timed(options.folder, ["--no-trajectories"] * options.no_trajectories)
    print(f"analyze {options.folder}: {seconds:.1f} s, peak {memory:.0f} MiB")


if __name__ == "__main__":
    main()
