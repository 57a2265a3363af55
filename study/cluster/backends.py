"""What computes the packs on each node, built and told before the first trial."""

from __future__ import annotations

import contextlib
import socket
import threading
import warnings

from itnas.engine.pack import prepare
from itnas.settings import EngineSettings
from study.cluster.nodes import fits, nodes
from study.errors import with_kind
from study.file.schema import Resources

BUILD_SECONDS = 180.0
"""for a node to import torch and build the kernels"""


class LocalBackend(threading.Thread):
    """Prepares this machine while Ray starts; a refusal does not wait for it."""

    def __init__(self, engine: EngineSettings) -> None:
        super().__init__(daemon=True)
        self.engine, self.told = engine, "not known"

    def run(self) -> None:
        """In the thread."""
        with contextlib.suppress(Exception):  # the trials say what is wrong, this is a notice
            self.told = _prepared(self.engine)

    def lines(self) -> list[str]:
        """`node HOST: compiled avx2`, once it is known."""
        self.join()
        return [f"node {socket.gethostname()}: {self.told}"]


def cluster_backends(engine: EngineSettings, resources: Resources) -> list[str]:
    """A line per node of the cluster that Ray has joined, all nodes prepared at once.

    A node that cannot be prepared is no reason to refuse a study: its trials fail by themselves.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0, max_retries=0)
    def told() -> str:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            name = _prepared(engine)
        reasons = [str(w.message) for w in caught if w.category is UserWarning]
        return "; ".join([name, *reasons])

    alive, tasks = nodes(), {}
    for node in alive:
        if fits(node["Resources"], resources):
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            tasks[node["NodeID"]] = told.options(scheduling_strategy=here).remote()
    lines = []
    for node in alive:
        text = "no room for a pack"
        if node["NodeID"] in tasks:
            try:
                text = ray.get(tasks[node["NodeID"]], timeout=BUILD_SECONDS)
            except Exception as error:  # a lost node, a timeout: one line for each
                text = f"not known ({with_kind(error)})"
        lines.append(f"node {node['NodeManagerHostname']}: {text}")
    return lines


def _prepared(engine: EngineSettings) -> str:
    try:
        return prepare(engine)
    except RuntimeError as error:
        return f"none, {error}"
