"""Hours of a study: of the clock, of processors and of GPUs, measured on what may compute it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from itnas.data import ImageData
from itnas.method.search import seconds_per_step
from itnas.settings import EngineSettings, Setting
from study.cluster.nodes import fits, nodes
from study.errors import with_kind
from study.file.grid import Run
from study.file.schema import Resources

MEASURING_SECONDS = 5.0
"""on each kind of node, for all shapes together"""
BUSY_SECONDS = 120.0
"""for a node to have room for the measuring"""

Shape = tuple[Any, ...]
"""what the seconds of a step depend on"""


def shape_of(setting: Setting) -> Shape:
    """Channels, cells and batch; and the model of the dependence, for its own share."""
    search = setting.search
    return (search.channels, search.cells, search.batch_size, setting.dependence.model)


@dataclass(frozen=True)
class Kind:
    """Nodes of one kind."""

    name: str
    """`this machine`, or a GPU's or a processor count's"""
    slots: int
    """packs at once, on all of them"""
    seconds: dict[Shape, float]
    """per step and run"""


def measured(
    shapes: dict[Shape, Setting], data: ImageData, engine: EngineSettings, threads: int,
    replicas: int,
) -> dict[Shape, float]:  # fmt: skip
    """Seconds per step and run of every shape, in this process, as a pack of `replicas`."""
    import torch

    kept = torch.get_num_threads()
    # more threads than processors would spin and wait for each other: forty times slower
    torch.set_num_threads(max(min(threads, os.cpu_count() or 1), 1))
    try:
        budget = MEASURING_SECONDS / max(len(shapes), 1)
        return {
            shape: seconds_per_step(setting, data, engine, budget, replicas) / replicas
            for shape, setting in shapes.items()
        }
    finally:
        torch.set_num_threads(kept)


def measured_here(
    shapes: dict[Shape, Setting], data: ImageData, engine: EngineSettings, resources: Resources,
    replicas: int,
) -> list[Kind]:  # fmt: skip
    """On this machine; [] where it does not have the device."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if engine.device != "cpu" and not gpus:
        return []
    here = {"CPU": float(os.cpu_count() or 1), "GPU": float(gpus)}
    plain = resources.model_copy(update={"gpu_type": None, "memory": None})
    seconds = measured(shapes, data, engine, int(resources.cpu), replicas)
    return [Kind("this machine", max(fits(here, plain), 1), seconds)]


def measured_on_nodes(
    shapes: dict[Shape, Setting], data: ImageData, engine: EngineSettings, resources: Resources,
    replicas: int,
) -> tuple[list[Kind], list[str]]:  # fmt: skip
    """On one node of every kind that can take a pack, in the resources of a pack.

    A kind is a type of GPU and a number of processors. Also a line for each that could not be
    measured, such as one that is busy.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    groups: dict[str, list[dict[str, Any]]] = {}
    for node in nodes():
        if fits(node["Resources"], resources):
            groups.setdefault(_kind(node["Resources"]), []).append(node)
    bundle = resources.bundle
    options: dict[str, Any] = {
        "num_cpus": bundle.pop("CPU"),
        "num_gpus": bundle.pop("GPU", 0),
        "max_retries": 0,
        **({"memory": bundle.pop("memory")} if "memory" in bundle else {}),
    }
    task = ray.remote(**options, resources=bundle)(measured)
    images = ray.put(data)
    tasks = {
        name: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(group[0]["NodeID"], soft=False)
        ).remote(shapes, images, engine, int(resources.cpu), replicas)
        for name, group in groups.items()
    }
    kinds, problems = [], []
    for name, group in groups.items():
        slots = sum(fits(node["Resources"], resources) for node in group)
        try:
            seconds: Any = ray.get(tasks[name], timeout=BUSY_SECONDS)
        except Exception as error:  # busy, lost, out of memory: one line for each
            ray.cancel(tasks[name], force=True)
            problems.append(f"{name}: not measured ({with_kind(error)})")
            continue
        kinds.append(Kind(name, slots, seconds))
    return kinds, problems


def _kind(node: dict[str, float]) -> str:
    types = [name.partition(":")[2] for name in node if name.startswith("accelerator_type:")]
    return "nodes with " + ", ".join((*sorted(types), f"{node.get('CPU', 0):g} CPU"))


def durations(
    kinds: Sequence[Kind], runs: Iterable[Run], steps: dict[str, int], pack: int,
    resources: Resources,
) -> dict[str, Any]:  # fmt: skip
    """Hours of the clock and of processors and GPUs, all packs at once that fit.

    `steps`: of a run, by setting_id. Every kind of node takes packs as fast as it trains them. A
    study does not end before its longest pack. Null without kinds.
    """
    names = ("seconds_per_step", "hours_here", "processor_hours", "gpu_hours")
    left = list(runs)
    if not left:
        return dict.fromkeys(names, 0.0) | {"seconds_per_step": None}
    if not kinds:
        return dict.fromkeys(names)
    times = {
        kind.name: [
            steps[run.setting.setting_id] * kind.seconds[shape_of(run.setting.setting)]
            for run in left
        ]
        for kind in kinds
    }
    longest = max(min(times[kind.name][n] for kind in kinds) for n in range(len(left))) * pack
    packs, used = max(math.ceil(len(left) / pack), 1), {}
    for kind in sorted(kinds, key=lambda kind: sum(times[kind.name])):  # the fastest first
        used[kind.name] = min(kind.slots, packs)
        packs -= used[kind.name]
    rate = sum(used[kind.name] / sum(times[kind.name]) for kind in kinds)  # studies a second
    clock = 1 / rate
    slot_hours = clock * sum(used.values()) / 3600
    return {
        "seconds_per_step": max(max(kind.seconds.values()) for kind in kinds),
        "hours_here": max(clock, longest) / 3600,
        "processor_hours": slot_hours * resources.cpu,
        "gpu_hours": slot_hours * resources.gpu,
    }
