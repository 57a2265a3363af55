"""The nodes of a cluster: what they have, what a pack needs, and whether they are fit for one."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import socket
import subprocess
import uuid
from typing import Any

from study.cluster.address import REACH_SECONDS
from study.errors import StudyError, with_kind
from study.file.schema import Resources
from study.store.door import Storage

PROBE_SECONDS = 60.0
COMPARED = ("torch", "numpy", "pyarrow")
"""packages whose versions all nodes share; what follows a + (cpu, cu128) may differ"""


def nodes() -> list[dict[str, Any]]:
    """The alive nodes of the cluster."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def is_alive(node_id: str) -> bool:
    """Whether a node is still part of the cluster and its raylet answers.

    The head notices a raylet that is gone only after some seconds.
    """
    for node in nodes():
        if node["NodeID"] == node_id:
            try:
                place = (node["NodeManagerAddress"], node["NodeManagerPort"])
                socket.create_connection(place, timeout=REACH_SECONDS).close()
            except OSError:
                return False
            return True
    return False


def leaving() -> set[str]:
    """Nodes that are being drained: they will be taken away."""
    from ray._private.state import state

    return set(state.get_draining_nodes())


def slots(resources: Resources) -> int:
    """How many packs fit into the cluster at once."""
    return sum(fits(node["Resources"], resources) for node in nodes())


def fits(node: dict[str, float], resources: Resources) -> int:
    """How many packs fit into a node at once. Packs with a share of a GPU fill it one by one."""
    counts = []
    for name, asked in resources.bundle.items():
        has = node.get(name, 0.0)
        if name == "GPU" and asked < 1:
            counts.append(int(has + 1e-9) * int(1 / asked + 1e-9))
        else:
            counts.append(int(has / asked + 1e-9))
    return min(counts)


def usable(resources: Resources, excluded: set[str] = frozenset()) -> bool:  # type: ignore[assignment]
    """Whether some node could take a pack."""
    return any(
        fits(node["Resources"], resources) for node in nodes() if node["NodeID"] not in excluded
    )


def gpu_bytes(resources: Resources) -> float | None:
    """Memory of the smallest GPU among the nodes that can take a pack, as nvidia-smi tells there.

    None where no node tells. `resources.gpu_memory` is for GPUs that are shared by other means.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0, max_retries=0)
    def told() -> list[float]:  # bytes
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        result = subprocess.run(query, capture_output=True, text=True, timeout=REACH_SECONDS * 5)
        return [float(line) * 2**20 for line in result.stdout.split()]

    tasks = [
        told.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes()
        if fits(node["Resources"], resources)
    ]
    found: list[float] = []
    for task in tasks:
        with contextlib.suppress(Exception):  # no such program, a lost node: others may tell
            answer: Any = ray.get(task, timeout=PROBE_SECONDS)
            found += answer
    return min(found, default=None)


def lacking(resources: Resources, has: list[str] | None = None) -> StudyError:
    """What is told where no node has the resources of one pack."""
    if has is None:
        has = [_told(node["Resources"], resources) for node in nodes()]
    wanted = f"cpu: {resources.cpu:g}, gpu: {resources.gpu:g}"
    if resources.gpu_type is not None:
        wanted += f", gpu_type: {resources.gpu_type}"
    if resources.memory is not None:
        wanted += f", memory: {resources.memory:g}"
    return StudyError(
        f"resources: no node has {{{wanted}}} for a pack; nodes have {'; '.join(has) or 'nothing'}"
    )


def _told(node: dict[str, float], resources: Resources) -> str:
    """What a node has of what is asked for."""
    parts = [f"{node.get('CPU', 0):g} CPU", f"{node.get('GPU', 0):g} GPU"]
    if resources.gpu_type is not None:
        types = [name.partition(":")[2] for name in node if name.startswith("accelerator_type:")]
        parts[1] += f" ({', '.join(types) or 'no type'})"
    if resources.memory is not None:
        parts.append(f"{node.get('memory', 0) / 2**30:.1f} GiB")
    return ", ".join(parts)


def versions() -> dict[str, str]:
    """Versions on which the bits of a search depend, of this process."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in COMPARED:
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def differing(expected: dict[str, str]) -> str:
    """How this process's versions differ from the driver's; "" where they do not."""
    own = versions()
    return ", ".join(
        f"{name} {own.get(name, 'none')} (here {version})"
        for name, version in expected.items()
        if own.get(name) != version
    )


def check_nodes(storage: Storage) -> None:
    """Every node has the driver's versions, writes a file that is read here, and reads one of ours.

    Raises `StudyError` with a line for each node that is not fit.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = uuid.uuid4().hex

    @ray.remote(num_cpus=0, max_retries=0)
    def probe(folder: Storage, name: str, expected: dict[str, str]) -> tuple[str, str]:
        other = differing(expected)
        if other:
            return "versions", f"has {other}"
        try:
            if folder.read(f"logs/.probe.{token[:8]}") != token.encode():
                return "storage", "does not see the files that this machine wrote"
            folder.write(name, token)
        except Exception as error:  # whatever the node's file system says, told in one line
            return "storage", with_kind(error)
        return "", ""

    alive = nodes()
    names = [f"logs/.probe-{n}.{token[:8]}" for n in range(len(alive))]
    problems = []
    try:
        storage.write(f"logs/.probe.{token[:8]}", token)
        tasks = [
            probe.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(storage, name, versions())
            for node, name in zip(alive, names, strict=True)
        ]
        for node, name, task in zip(alive, names, tasks, strict=True):
            place = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                kind, problem = ray.get(task, timeout=PROBE_SECONDS)
            except Exception as error:  # lost node, no import, timeout: one line for each
                kind, problem = "node", with_kind(error)
            if not kind and storage.read(name) != token.encode():
                kind, problem = "storage", "what it writes does not arrive here"
            if kind == "storage":
                problems.append(
                    f"storage {storage}: {place} does not share it: {problem}; "
                    "use a shared folder or an object store"
                )
            elif kind:
                problems.append(f"{place}: cannot take part: {problem}")
    finally:
        for name in (f"logs/.probe.{token[:8]}", *names):
            storage.delete(name)
    if problems:
        raise StudyError(*problems)
