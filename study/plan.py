"""`plan`: what a study file would run, how large and how long, and what its seeds can show."""

from __future__ import annotations

import os
from typing import Any

from itnas.data import ImageData
from itnas.method.search import seconds_per_step, steps_per_run
from itnas.method.spaces import get_space
from itnas.settings import Setting
from study.file.grid import Run, expand
from study.file.left_behind import left_behind
from study.file.schema import StudyFile
from study.opening import read_data
from study.power import seed_power
from study.store.folder import check_folder, read_description, study_folder
from study.store.registry import Registry, pack_size
from study.store.shards import read_runs

MEASURING_SECONDS = 5.0


def make_plan(file: StudyFile, storage: str, measure: bool = True) -> dict[str, Any]:
    """Everything `plan` says, ready for JSON.

    `parameters` are the supernet's without the architecture, of the largest setting; edges and
    links are those of one cell; `steps_per_run` of the longest run. Hours are extrapolated from
    a few steps on this machine, for what is not complete yet; null where the device is not
    here. Raises `StudyError` as `launch` would.
    """
    from itnas.method.dependence import count_parameters as architecture_parameters

    folder = study_folder(storage, file.name)
    description = read_description(folder)
    check_folder(folder, (description or {}).get("command", "launch"))
    data = read_data(file)
    expansion = expand(file, data)
    complete = read_runs(folder, []).run_ids
    registry = Registry.read(folder)
    pack = pack_size(file, expansion, data)
    behind = left_behind(file, data, expansion, *registry.complete_runs(complete))
    todo = registry.include(expansion, file, complete, pack)
    asked = {run.run_id for run in expansion.runs}
    cell = get_space(file.space).cells["normal"]
    left = [run for run in expansion.runs if run.run_id not in complete]
    steps = {s.setting_id: steps_per_run(s.setting, data) for s in expansion.settings}
    return {
        "study": file.name,
        "space": file.space,
        "runs": len(expansion.runs),
        "settings": len(expansion.settings),
        "setting_names": [registry.name(one) for one in expansion.settings],
        "merged_runs": expansion.merged_runs,
        "pack": pack,
        "packs": sum(not asked.isdisjoint(run_ids) for run_ids in registry.packs.values()),
        "complete": len(asked & complete),
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
        **_duration(file, left, steps, data, measure, pack),
        "seeds": seed_power(len(file.seed_list())),
    }


def _parameters(setting: Setting, data: ImageData) -> int:
    from itnas.engine.plan.blueprint import count_parameters

    search = setting.search
    assert isinstance(search.cells, int)  # resolved
    space = get_space(setting.space)
    return count_parameters(space, search.channels, search.cells, data.channels, data.classes)


def _duration(
    file: StudyFile, left: list[Run], steps: dict[str, int], data: ImageData, measure: bool,
    pack: int,
) -> dict[str, Any]:  # fmt: skip
    """Seconds per step and run of each shape of supernet, measured here, and hours in all."""
    nothing = {"seconds_per_step": None, "processor_hours": None, "hours_here": None}
    engine = file.engine_settings()
    if not measure or not _present(engine.device):
        return nothing
    if not left:
        return {"seconds_per_step": None, "processor_hours": 0.0, "hours_here": 0.0}
    import torch

    shapes = {_shape(run.setting.setting): run.setting.setting for run in left}
    threads = torch.get_num_threads()
    # more threads than processors would spin and wait for each other: forty times slower
    torch.set_num_threads(max(min(int(file.resources.cpu), os.cpu_count() or 1), 1))
    try:
        budget = MEASURING_SECONDS / len(shapes)
        # on the CPU a pack takes its runs' time; on a GPU less, so it is measured as a pack
        replicas = pack if engine.device != "cpu" else 1
        seconds = {
            shape: seconds_per_step(setting, data, engine, budget, replicas) / replicas
            for shape, setting in shapes.items()
        }
    finally:
        torch.set_num_threads(threads)
    total = sum(
        steps[run.setting.setting_id] * seconds[_shape(run.setting.setting)] for run in left
    )
    at_once = max(int((os.cpu_count() or 1) / file.resources.cpu), 1)
    return {
        "seconds_per_step": max(seconds.values()),
        "processor_hours": total * file.resources.cpu / 3600,
        "hours_here": total / at_once / 3600,
    }


def _shape(setting: Setting) -> tuple[Any, ...]:
    search = setting.search
    return (search.channels, search.cells, search.batch_size)


def _present(device: str) -> bool:
    if device == "cpu":
        return True
    import torch

    return torch.cuda.is_available()


def plan_rows(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """The plan as (what, value) for a table."""
    from study.scheduling.progress import duration

    seeds, hours = plan["seeds"], plan["hours_here"]
    names = plan["setting_names"]
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
    rows += [("left behind", line) for line in plan["left_behind"]]
    if hours is None:
        rows.append(("time", "not estimated: the device is not on this machine"))
    else:
        rows.append((
            "time",
            f"about {duration(hours * 3600)} on this machine "
            f"({plan['processor_hours']:.2g} processor hours)",
        ))  # fmt: skip
    return rows


def _architecture(counts: dict[str, int]) -> str:
    low, high = min(counts.values()), max(counts.values())
    return f"{low:,} parameters" if low == high else f"{low:,} to {high:,} parameters"
