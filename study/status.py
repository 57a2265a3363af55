"""`status`: how far a study is, from its folder alone (design, 6)."""

from __future__ import annotations

from typing import Any

from study.errors import StudyError
from study.store.door import Storage
from study.store.folder import require_study
from study.store.lock import is_alive, read_heartbeat
from study.store.registry import Registry
from study.store.shards import read_runs

COLUMNS = ("status", "setting", "seed_weights", "seed_data", "seed_architecture")


def study_status(location: str) -> dict[str, Any]:
    """Counts and names of a study folder's runs, ready for JSON.

    `runs` is the number asked for, `done` those in `runs/` (diverged and stopped ones
    included), `running` and `failed` those of packs that are. `state` is running, finished,
    failed, interrupted (also where the driver was killed), or not started; `passed_over` names
    files of `runs/` that cannot be read, and why. Raises `StudyError` where the folder holds no
    study or cannot be read.
    """
    folder = Storage.open(location)
    description = require_study(folder)
    try:
        heartbeat = read_heartbeat(folder)
        registry = Registry.read(folder)
    except OSError as error:
        raise StudyError(f"{folder}: cannot be read ({error})") from None
    runs = read_runs(folder, COLUMNS)
    rows = {row["run_id"]: row for row in runs.rows}
    alive = is_alive(heartbeat)
    state = heartbeat.get("state", "not started")
    failed = {
        pack: line
        for pack, line in heartbeat.get("failed", {}).items()
        if not rows.keys() >= set(registry.packs.get(pack, ()))
    }
    total = len(registry.runs.keys() | rows.keys())
    if description.get("command") == "tune":  # later trials are not packed yet
        total = max(total, heartbeat.get("runs_total", 0))
    return {
        "study": description.get("name", ""),
        "state": "interrupted" if state == "running" and not alive else state,
        "runs": total,
        "done": len(rows),
        "running": heartbeat.get("runs_running", 0) if alive else 0,
        "failed": sum(len(registry.packs.get(pack, ())) for pack in failed),
        "diverged": _count(rows, "diverged"),
        "stopped_early": _count(rows, "stopped_early"),
        "seconds_left": heartbeat.get("seconds_left") if alive else None,
        "failed_packs": [
            {"pack_id": pack, "runs": [_named(registry, r) for r in registry.packs.get(pack, ())],
             "error": line}
            for pack, line in failed.items()
        ],
        "passed_over": runs.passed_over,
        "diverged_runs": [_spell(row) for row in rows.values() if row["status"] == "diverged"],
    }  # fmt: skip


def _count(rows: dict[str, dict[str, Any]], status: str) -> int:
    return sum(row["status"] == status for row in rows.values())


def _named(registry: Registry, run_id: str) -> str:
    run = registry.runs.get(run_id)
    return _label(run["setting"], run["seeds"]) if run else run_id


def _spell(row: dict[str, Any]) -> str:
    return _label(row["setting"], [row[name] for name in COLUMNS[2:]])


def _label(setting: str, seeds: list[int]) -> str:
    """`transition, seed 3`, or all three seeds where they differ."""
    if len(set(seeds)) == 1:
        return f"{setting}, seed {seeds[0]}"
    return f"{setting}, seeds {'/'.join(map(str, seeds))} (weights/data/architecture)"


def status_lines(status: dict[str, Any]) -> list[str]:
    """The same for people."""
    from study.scheduling.progress import duration

    lines = [
        f"{status['study']}: {status['state']}",
        f"runs {status['runs']} · done {status['done']} · running {status['running']} · "
        f"failed {status['failed']} · diverged {status['diverged']} · "
        f"stopped early {status['stopped_early']}",
    ]
    if status["seconds_left"] is not None:
        lines.append(f"time left {duration(status['seconds_left'])}")
    for pack in status["failed_packs"]:
        lines.append(f"failed: pack {pack['pack_id']} ({'; '.join(pack['runs'])}): {pack['error']}")
    lines += [f"{name}: passed over ({why})" for name, why in status["passed_over"].items()]
    lines += [f"diverged: {name}" for name in status["diverged_runs"]]
    return lines
