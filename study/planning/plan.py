"""`plan`: what a study file would run, how large and how long, and what its seeds can show."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from itnas.data import ImageData
from itnas.method.search import steps_per_run
from itnas.method.spaces import get_space
from itnas.settings import Setting
from study.file.grid import Run, expand
from study.file.left_behind import left_behind
from study.file.schema import StudyFile
from study.file.tune import seeds_of_trials
from study.opening import read_data
from study.planning.costs import Kind, durations, measured_here, measured_on_nodes, shape_of
from study.planning.power import paired_seeds, seed_power
from study.planning.sizes import sizes
from study.store.door import Storage
from study.store.folder import check_folder, read_description, study_folder
from study.store.registry import Registry, pack_size
from study.store.shards import read_runs
from study.tuning import CONFIRM, MOST_CONFIRMED


@dataclass(frozen=True)
class Asked:
    """What `plan` is asked beside the study file."""

    address: str | None = None
    """of the cluster whose nodes are to be measured; None: this machine"""
    measure: bool = True
    """whether to measure at all"""
    trials: int = 30
    """of a tuning"""
    difference: float | None = None
    """between two settings, that is to be found"""
    spread: float | None = None
    """standard deviation over seeds of the paired difference, in the same unit"""


def make_plan(file: StudyFile, storage: str, asked: Asked | None = None) -> dict[str, Any]:
    """Everything `plan` says, ready for JSON.

    `parameters` are the supernet's without the architecture, of the largest setting; edges and
    links are those of one cell; `steps_per_run` of the longest run. Hours are extrapolated from
    a few steps on this machine, or on the nodes of a cluster, for what is not complete yet; null
    where the device is not there. Bytes are those of checkpoints and results. Nothing is written.
    Raises `StudyError` as `launch` would.
    """
    from itnas.method.dependence import count_parameters as architecture_parameters

    asked = asked or Asked()
    folder = study_folder(storage, file.name)
    description = read_description(folder)
    check_folder(folder, (description or {}).get("command", "launch"))
    data = read_data(file)
    expansion = expand(file, data)
    complete = read_runs(folder, []).run_ids
    registry = Registry.read(folder)
    behind = left_behind(file, data, expansion, *registry.complete_runs(complete))
    new = registry.new_settings(expansion)
    left = [run for run in expansion.runs if run.run_id not in complete]
    steps = {s.setting_id: steps_per_run(s.setting, data) for s in expansion.settings}
    with _place(file, folder, asked) as gpu:
        pack = pack_size(file, expansion, data, gpu)
        kinds, problems = _measured(file, left, data, asked, pack)
    todo = registry.include(expansion, file, complete, pack)
    run_ids = {run.run_id for run in expansion.runs}
    cell = get_space(file.space).cells["normal"]
    hours = durations(kinds, left, steps, pack, file.resources)
    room = sum(kind.slots for kind in kinds) or 1
    return {
        "study": file.name,
        "space": file.space,
        "runs": len(expansion.runs),
        "settings": len(expansion.settings),
        "setting_names": [registry.name(one) for one in expansion.settings],
        "merged_runs": expansion.merged_runs,
        "pack": pack,
        "packs": sum(not run_ids.isdisjoint(of_pack) for of_pack in registry.packs.values()),
        "complete": len(run_ids & complete),
        "new_settings": new,
        "left_behind": behind,
        "packs_left": len(todo),
        "parameters": max(_parameters(one.setting, data) for one in expansion.settings),
        "architecture_parameters": {
            registry.name(one): architecture_parameters(
                get_space(file.space), one.setting.dependence
            )
            for one in expansion.settings
        },
        "outer_edges": len(cell.outer_edges),
        "inner_edges": len(cell.inner_edges),
        "links": len(cell.links),
        "images": data.part_sizes(),
        "steps_per_run": max(steps.values()),
        **hours,
        "measured_on": [{"nodes": kind.name, "packs_at_once": kind.slots} for kind in kinds],
        "not_measured": problems,
        **sizes(left, data, file.engine_settings(), pack, min(room, len(todo) or 1)),
        "tuning": _tuning(file, kinds, expansion.runs, steps, asked.trials),
        "seeds": seed_power(len(file.seed_list())),
        "paired": paired_seeds(asked.difference, asked.spread),
    }


@contextlib.contextmanager
def _place(file: StudyFile, folder: Storage, asked: Asked) -> Iterator[float | None]:
    """The cluster, joined for the block where one is named; gives its smallest GPU's bytes."""
    if asked.address is None:
        yield None
        return
    from study.cluster.join import cluster
    from study.cluster.nodes import gpu_bytes

    with cluster(asked.address, file.resources, None, 0):
        yield gpu_bytes(file.resources) if file.resources.gpu and file.pack == "auto" else None


def _measured(
    file: StudyFile, left: list[Run], data: ImageData, asked: Asked, pack: int
) -> tuple[list[Kind], list[str]]:
    """On each kind of node, every shape of supernet that is still to be trained.

    On the CPU a pack takes its runs' time, so one run is measured; on a GPU less, so a pack is.
    """
    if not asked.measure:
        return [], []
    engine = file.engine_settings()
    shapes = {shape_of(run.setting.setting): run.setting.setting for run in left}
    given = shapes, data, engine, file.resources, pack if engine.device != "cpu" else 1
    return measured_on_nodes(*given) if asked.address else (measured_here(*given), [])


def _tuning(
    file: StudyFile, kinds: list[Kind], runs: list[Run], steps: dict[str, int], trials: int
) -> dict[str, Any] | None:
    """Of a file with `tune:`: so many trials and their confirmation, were no trial to race out;
    none counted as complete.
    """
    if file.tune is None:
        return None
    seeds, spent = seeds_of_trials(file.tune, file.seeds)
    confirmation = CONFIRM * MOST_CONFIRMED
    searches = trials * len(seeds)
    hours = durations(kinds, runs[:1] * searches, steps, spent.start or 1, file.resources)
    more = durations(kinds, runs[:1] * confirmation, steps, 1, file.resources)
    for name in ("hours_here", "processor_hours", "gpu_hours"):
        hours[name] = None if hours[name] is None else hours[name] + more[name]
    del hours["seconds_per_step"]
    return {
        "trials": trials,
        "searches_a_trial": len(seeds),
        "searches_at_least": spent.start,
        "confirmation": confirmation,
        **hours,
    }


def _parameters(setting: Setting, data: ImageData) -> int:
    from itnas.engine.plan.blueprint import count_parameters

    search = setting.search
    assert isinstance(search.cells, int)  # resolved
    space = get_space(setting.space)
    return count_parameters(space, search.channels, search.cells, data.channels, data.classes)


def plan_rows(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """The plan as (what, value) for a table."""
    seeds, names = plan["seeds"], plan["setting_names"]
    needed = ", ".join(f"{n} for {points}" for points, n in seeds["needed"].items())
    detectable = seeds["detectable"]
    rows = [
        ("study", f"{plan['study']} in space {plan['space']}"),
        ("settings", f"{plan['settings']}: " + "; ".join(names[:12]) + "; ..." * (len(names) > 12)),
        ("runs", f"{plan['runs']} ({plan['complete']} complete, {plan['merged_runs']} merged)"),
        ("packs", f"{plan['packs']} of at most {plan['pack']} runs, {plan['packs_left']} to train"),
        ("supernet", f"{plan['parameters']:,} parameters without the architecture"),
        ("architecture", _architecture(plan["architecture_parameters"])),
        ("one cell", f"{plan['outer_edges']} outer and {plan['inner_edges']} inner edges, "
                     f"{plan['links']} links"),
        ("images", ", ".join(f"{n:,} {part}" for part, n in plan["images"].items())),
        ("steps per run", f"{plan['steps_per_run']:,}"),
        ("seeds", f"{seeds['per_setting']} per setting: "
                  + ("one seed shows no difference" if detectable is None else
                     f"a difference of {detectable:.2f} standard deviations over seeds is found "
                     "with 80% power")),
        ("seeds needed", f"{needed} points of accuracy (published spread over seeds: 0.2 points)"),
    ]  # fmt: skip
    paired = plan["paired"]
    if paired is not None:
        rows.append((
            "for a difference",
            f"{paired['seeds']} seeds a setting find {paired['difference']:g}, where its standard "
            f"deviation over paired seeds is {paired['spread']:g} (two-sided 5%, 80% power)",
        ))  # fmt: skip
    rows += [("new", name) for name in plan["new_settings"]]
    rows += [("left behind", line) for line in plan["left_behind"]]
    where = "; ".join(
        f"{kind['nodes']}, {kind['packs_at_once']} packs at once" for kind in plan["measured_on"]
    )
    if plan["hours_here"] is None:
        rows.append(("time", "not estimated: the device is not on this machine"))
    else:
        rows.append(("time", f"about {_hours(plan)}" + (f"; measured on {where}" if where else "")))
    if plan["tuning"] is not None:
        tuning = plan["tuning"]
        least, most = tuning["searches_at_least"], tuning["searches_a_trial"]
        each = f"{most}" if least == most else f"{least} to {most}"
        told = f"{tuning['trials']} trials of {each} searches, {tuning['confirmation']} to confirm"
        if tuning["hours_here"] is not None:
            told += f": at most about {_hours(tuning)}"
        rows.append(("tuning", told))
    rows += [("not measured", line) for line in plan["not_measured"]]
    rows.append((
        "storage",
        f"{_bytes(plan['result_bytes'])} of results, {_bytes(plan['checkpoint_bytes'])} a "
        f"checkpoint, at most {_bytes(plan['checkpoints_bytes'])} of them at once",
    ))  # fmt: skip
    return rows


def _hours(costs: dict[str, Any]) -> str:
    """`3 h 20 min (13 processor hours, 3.3 GPU hours)`."""
    from study.scheduling.progress import duration

    gpu = f", {costs['gpu_hours']:.2g} GPU hours" if costs["gpu_hours"] else ""
    clock = duration(costs["hours_here"] * 3600)
    return f"{clock} ({costs['processor_hours']:.2g} processor hours{gpu})"


def _bytes(count: float) -> str:
    """`1.5 MB`."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    n = min(int(math.log(count, 1000)), len(units) - 1) if count >= 1 else 0
    return f"{count / 1000**n:.3g} {units[n]}"


def _architecture(counts: dict[str, int]) -> str:
    low, high = min(counts.values()), max(counts.values())
    return f"{low:,} parameters" if low == high else f"{low:,} to {high:,} parameters"
