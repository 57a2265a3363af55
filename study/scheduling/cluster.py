"""Starting Ray here or joining a cluster, and the checks that keep a study from hanging there."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from study.errors import StudyError, first_line, with_kind
from study.file.schema import Resources
from study.store.door import Storage

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our shards are the record
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours also ends the study on SIGTERM
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed pack reports no objective
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # named by ours, with its last line
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
REACH_SECONDS = 3.0
PROBE_SECONDS = 60.0


@contextlib.contextmanager
def cluster(
    address: str | None, resources: Resources, storage: Storage, data_bytes: int
) -> Iterator[None]:
    """Ray, started on this machine (`address` None) or joined, for a `with` block.

    A cluster started here ends with the block; one that was joined is left as it was. Raises
    `StudyError` where there is no such cluster, where no node has the resources of one pack, or
    where a node cannot read and write the storage.
    """
    os.environ.update({k: v for k, v in QUIET.items() if k not in os.environ})
    if address is not None:
        _show_token()
    import ray

    try:
        if address is None:
            _start(resources, data_bytes)
        else:
            _join(address)
        _check_resources(resources)
        if address is not None:
            _check_storage(storage)
        yield
    finally:
        ray.shutdown()


def _start(resources: Resources, data_bytes: int) -> None:
    import ray

    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if resources.cpu > (here or 1):  # known before the seconds that Ray takes to start
        raise StudyError(_no_node(resources, [f"{here} CPU"]))
    ray.init(
        address="local",
        num_cpus=here,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=max(100 << 20, 2 * data_bytes + (60 << 20)),
        _node_ip_address="127.0.0.1",
    )


def _show_token() -> None:
    """Have a driver that joins a cluster show its token, if there is one; before Ray is imported.

    Ray's head nodes ask for a token by default, its joining drivers show none by default; a
    cluster without tokens takes a driver that shows one.
    """
    named = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if named or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _join(address: str) -> None:
    import ray

    import analysis
    import itnas
    import study

    found = address if address != "auto" else _current_cluster()
    if found:
        _check_reachable(found, address)
    try:
        ray.init(
            address=found or address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"py_modules": [itnas, study, analysis]},  # nodes need no checkout
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        first = first_line(error)
        raise StudyError(f"--address {address}: no Ray cluster could be joined ({first})") from None


def _current_cluster() -> str:
    """Where Ray's own `auto` would look, or "": a cluster that has ended leaves its address."""
    from ray._private.utils import read_ray_address

    return os.environ.get("RAY_ADDRESS") or read_ray_address() or ""


def _check_reachable(address: str, asked: str) -> None:
    """Ray itself would try for a minute. `asked` is what the user wrote."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise StudyError(f"--address {address}: expected auto or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        text = "no such cluster" if asked == address else f"no cluster at {address} any more"
        raise StudyError(f"--address {asked}: {text} ({reason})") from None


def nodes() -> list[dict[str, Any]]:
    """The alive nodes of the cluster."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def slots(resources: Resources) -> int:
    """How many packs fit into the cluster at once."""
    return sum(fits(node["Resources"], resources) for node in nodes())


def fits(node: dict[str, float], resources: Resources) -> int:
    """How many packs fit into a node at once."""
    counts = [node.get("CPU", 0.0) / resources.cpu]
    if resources.gpu > 0:
        counts.append(node.get("GPU", 0.0) / resources.gpu)
    return int(min(counts) + 1e-9)


def _check_resources(resources: Resources) -> None:
    """Ray would wait for ever for a request that no node can satisfy."""
    alive = nodes()
    if not any(fits(node["Resources"], resources) for node in alive):
        has = [
            f"{node['Resources'].get('CPU', 0):g} CPU, {node['Resources'].get('GPU', 0):g} GPU"
            for node in alive
        ]
        raise StudyError(_no_node(resources, has))


def _no_node(resources: Resources, has: list[str]) -> str:
    wanted = f"cpu: {resources.cpu:g}, gpu: {resources.gpu:g}"
    return f"resources: no node has {{{wanted}}} for a pack; nodes have {'; '.join(has)}"


def _check_storage(storage: Storage) -> None:
    """Every node writes a file that is read here, and reads one that was written here."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = uuid.uuid4().hex
    storage.write(f"logs/.probe-{token}", token)

    @ray.remote(num_cpus=0, max_retries=0)
    def probe(folder: Storage, name: str) -> str:
        try:
            if folder.read(f"logs/.probe-{token}") != token.encode():
                return "does not see the files that this machine wrote"
            folder.write(name, token)
        except Exception as error:  # whatever the node's file system says, told in one line
            return with_kind(error)
        return ""

    alive = nodes()
    names = [f"logs/.probe-{token}-{n}" for n in range(len(alive))]
    tasks = [
        probe.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(storage, name)
        for node, name in zip(alive, names, strict=True)
    ]
    try:
        for node, name, task in zip(alive, names, tasks, strict=True):
            try:
                problem = ray.get(task, timeout=PROBE_SECONDS)
            except Exception as error:  # lost node, no import, timeout: one line for each
                problem = with_kind(error, -1)
            if not problem and storage.read(name) != token.encode():
                problem = "what it writes does not arrive here"
            if problem:
                where = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                raise StudyError(
                    f"storage {storage}: node {where} does not share it: {problem}; "
                    "use a shared folder or an object store"
                )
    finally:
        for name in (f"logs/.probe-{token}", *names):
            storage.delete(name)


class Interrupt:
    """SIGINT and SIGTERM as `KeyboardInterrupt` while a `with` block runs.

    Ray replaces the handler of SIGTERM when it starts, so `install` is to be called again then;
    and it swallows an exception that hits it in some callbacks, so `check` is there as well.
    """

    def __init__(self) -> None:
        self._when: float | None = None
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Set the handlers, again if need be; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._handle)

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if a signal came and its exception was swallowed."""
        if self._when is not None:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Ignores a second signal for a while: the first is being dealt with."""
        if self._when is None or time.monotonic() - self._when > 20:
            self._when = time.monotonic()
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
