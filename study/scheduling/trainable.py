"""What runs inside a trial: one pack, trained and written down. Ray calls `train_pack`."""

from __future__ import annotations

import statistics
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from itnas.method.records import RunResult
from itnas.settings import EngineSettings
from study.errors import with_kind
from study.store.benchmark import Lookup
from study.store.door import Storage
from study.store.registry import Pack
from study.store.shards import pack_tables, write_shards

OBJECTIVE = "objective"
FAILED = "failed"

PackOf = Callable[[dict[str, Any]], tuple[Pack, int | None]]
"""a trial's configuration to its pack and, under `tune`, its number"""


@dataclass(frozen=True)
class TrialContext:
    """What all trials of a launch share."""

    study: str
    folder: Storage
    engine: EngineSettings
    threads: int
    lookup: Lookup | None


def train_pack(
    config: dict[str, Any], *, pack_of: PackOf, context: TrialContext, data: dict[str, Any]
) -> None:
    """Train a pack to its end, write its shards, and report scalars once an epoch.

    An exception of the search is the same the next time: it is written to
    `logs/<pack_id>.error.txt` and reported as `failed`, so that Tune does not try again. A
    worker that is killed reports nothing, and Tune starts the pack anew.
    """
    import torch
    from ray import tune

    torch.set_num_threads(context.threads)
    pack, tune_trial = pack_of(config)
    log = f"logs/{pack.pack_id}.error.txt"
    try:
        results = _search(pack, context, data, tune_trial, tune.report)
    except Exception as error:
        context.folder.write(log, traceback.format_exc())
        tune.report({FAILED: with_kind(error, -1)})
        return
    context.folder.delete(log)
    tune.report({OBJECTIVE: objective(results)})


def _search(
    pack: Pack,
    context: TrialContext,
    data: dict[str, Any],
    tune_trial: int | None,
    report: Callable[[dict[str, Any]], None],
) -> list[RunResult]:
    from itnas.data import ImageData
    from itnas.method.search import SearchPack

    started = datetime.now(UTC)
    search = SearchPack(
        [run.setting for run in pack.runs],
        [run.seeds for run in pack.runs],
        ImageData.from_arrays(data),
        context.engine,
    )
    while not search.finished:
        search.run_epoch()
        report({"epoch": search.epoch})
    results = search.results()
    tables = pack_tables(
        pack,
        results,
        study=context.study,
        device=context.engine.device,
        backend=search.engine.backend_name,
        started=started,
        lookup=context.lookup,
        tune_trial=tune_trial,
    )
    write_shards(context.folder, pack.pack_id, tables)
    return results


def objective(results: Sequence[RunResult]) -> float:
    """Mean derived accuracy at the last epoch; a run that diverged counts 0."""
    return statistics.fmean(
        0.0 if r.status == "diverged" else float(r.metrics["derived_accuracy"] or 0.0)
        for r in results
    )
