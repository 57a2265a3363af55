"""`status`: how far a study is, from its folder alone, on any machine (design, 6)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from study.errors import StudyError
from study.scheduling.progress import duration
from study.store.checkpoints import FOLDER, read_attempts
from study.store.door import Storage
from study.store.folder import STUDY, require_study
from study.store.lock import is_alive, read_heartbeat
from study.store.registry import Registry
from study.store.shards import read_runs

SEEDS = ("seed_weights", "seed_data", "seed_architecture")
COLUMNS = ("status", "setting", "pack_id", "host", "attempts", "seconds", *SEEDS)


def study_status(location: str) -> dict[str, Any]:
    """Counts and names of a study folder's runs, ready for JSON.

    `runs` is the number asked for, `done` those in `runs/` (diverged and stopped ones
    included), `running` and `failed` those of packs that are. `state` is running, finished,
    failed, interrupted (also where the driver was killed), or not started; `passed_over` names
    files of `runs/` that cannot be read, and why. `hosts` counts the runs done by host; `attempts`
    how often packs were begun, and those begun more than once by pack; `hours` are those of
    processors and GPUs that the runs of a setting took. Raises `StudyError` where the folder holds
    no study or cannot be read.
    """
    folder = Storage.open(location)
    description = require_study(folder)
    try:
        heartbeat = read_heartbeat(folder)
        registry = Registry.read(folder)
        unfinished = {name: read_attempts(folder, name) for name in folder.names(FOLDER)}
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
    begun = {row["pack_id"]: row["attempts"] or 1 for row in rows.values()}
    begun |= {pack: len(attempts) for pack, attempts in unfinished.items() if attempts}
    return {
        "study": description.get("name", ""),
        "state": "interrupted" if state == "running" and not alive else state,
        "runs": total,
        "done": len(rows),
        "running": heartbeat.get("runs_running", 0) if alive else 0,
        "failed": sum(len(registry.packs.get(pack, ())) for pack in failed),
        "diverged": _count(rows, "diverged"),
        "stopped_early": _count(rows, "stopped_early"),
        "packs": {name: heartbeat.get(f"packs_{name}") for name in ("done", "total")},
        "epochs": {name: heartbeat.get(f"epochs_{name}") for name in ("done", "total")},
        "best_valid_accuracy": heartbeat.get("best_valid_accuracy"),
        "seconds_left": heartbeat.get("seconds_left") if alive else None,
        "hosts": dict(Counter(row["host"] for row in rows.values())),
        "attempts": {
            "packs": len(begun),
            "begun": sum(begun.values()),
            "again": {pack: n for pack, n in sorted(begun.items()) if n > 1},
            "unfinished": unfinished,
        },
        "hours": _hours(rows, description.get("resources") or {}),
        "failed_packs": [
            {"pack_id": pack, "runs": [_named(registry, r) for r in registry.packs.get(pack, ())],
             "error": line}
            for pack, line in failed.items()
        ],
        "passed_over": runs.passed_over,
        "diverged_runs": [_spell(row) for row in rows.values() if row["status"] == "diverged"],
    }  # fmt: skip


def storage_status(location: str) -> list[dict[str, Any]]:
    """Every study of a storage, as `study_status` tells it; one that cannot be read has `error`.

    Raises `StudyError` where there is none.
    """
    storage = Storage.open(location)
    found = []
    try:
        names = [name for name in storage.names() if storage.exists(f"{name}/{STUDY}")]
    except OSError as error:
        raise StudyError(f"{storage}: cannot be read ({error})") from None
    for name in names:
        try:
            found.append(study_status(str(storage.folder(name))))
        except StudyError as error:
            found.append({"study": name, "error": error.lines[0]})
    if not found:
        raise StudyError(f"{storage}: is not a study (no {STUDY} in it), and holds none")
    return found


def is_study(location: str) -> bool:
    """Whether a folder is a study's."""
    return Storage.open(location).exists(STUDY)


def _hours(rows: dict[str, dict[str, Any]], resources: dict[str, Any]) -> dict[str, Any]:
    """By setting: a run's seconds are its share of its pack's."""
    seconds: dict[str, float] = {}
    for row in rows.values():
        seconds[row["setting"]] = seconds.get(row["setting"], 0.0) + (row["seconds"] or 0.0)
    cpu, gpu = float(resources.get("cpu", 1)), float(resources.get("gpu", 0))
    return {
        setting: {"cpu": round(total * cpu / 3600, 4), "gpu": round(total * gpu / 3600, 4)}
        for setting, total in seconds.items()
    }


def _count(rows: dict[str, dict[str, Any]], status: str) -> int:
    return sum(row["status"] == status for row in rows.values())


def _named(registry: Registry, run_id: str) -> str:
    run = registry.runs.get(run_id)
    return _label(run["setting"], run["seeds"]) if run else run_id


def _spell(row: dict[str, Any]) -> str:
    return _label(row["setting"], [row[name] for name in SEEDS])


def _label(setting: str, seeds: list[int]) -> str:
    """`transition, seed 3`, or all three seeds where they differ."""
    if len(set(seeds)) == 1:
        return f"{setting}, seed {seeds[0]}"
    return f"{setting}, seeds {'/'.join(map(str, seeds))} (weights/data/architecture)"


def status_lines(status: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [
        f"{status['study']}: {status['state']}",
        f"runs {status['runs']} · done {status['done']} · running {status['running']} · "
        f"failed {status['failed']} · diverged {status['diverged']} · "
        f"stopped early {status['stopped_early']}",
    ]
    if status["seconds_left"] is not None:
        epochs, best = status["epochs"], status["best_valid_accuracy"]
        told = "" if best is None else f" · best {best:.3f}"
        lines.append(
            f"epochs {epochs['done']}/{epochs['total']}{told} · "
            f"time left {duration(status['seconds_left'])}"
        )
    if status["hosts"]:
        hosts = ", ".join(f"{host} ({n})" for host, n in sorted(status["hosts"].items()))
        again = status["attempts"]["again"]
        lines.append(f"hosts {hosts}" + (f" · packs begun again {len(again)}" if again else ""))
    for setting, hours in status["hours"].items():
        gpu = f", {hours['gpu']:.3g} GPU hours" if hours["gpu"] else ""
        lines.append(f"{setting}: {hours['cpu']:.3g} processor hours{gpu}")
    for pack in status["failed_packs"]:
        lines.append(f"failed: pack {pack['pack_id']} ({'; '.join(pack['runs'])}): {pack['error']}")
    lines += [f"{name}: passed over ({why})" for name, why in status["passed_over"].items()]
    lines += [f"diverged: {name}" for name in status["diverged_runs"]]
    return lines


def storage_lines(studies: list[dict[str, Any]]) -> list[str]:
    """A line for every study of a storage."""
    lines = []
    for one in studies:
        if "error" in one:
            lines.append(f"{one['study']}: {one['error']}")
            continue
        left = one["seconds_left"]
        lines.append(
            f"{one['study']}: {one['state']} · runs {one['done']}/{one['runs']} · "
            f"failed {one['failed']}" + (f" · time left {duration(left)}" if left else "")
        )
    return lines
