"""Starting Ray here or joining a cluster, and the checks that keep a study from hanging there."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from study.cluster.address import REACH_SECONDS, find, show_token
from study.cluster.nodes import check_nodes, lacking, usable
from study.errors import StudyError, first_line
from study.file.schema import Resources
from study.store.door import Storage

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our shards are the record
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours also ends the study on SIGTERM
    "TUNE_MAX_PENDING_TRIALS_PG": "16",  # workers start side by side, new nodes are asked for
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed pack reports no objective
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # named by ours, with its last line
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@contextlib.contextmanager
def cluster(
    address: str | None,
    resources: Resources,
    storage: Storage | None,
    data_bytes: int,
    wait_minutes: float = 0.0,
    notify: Callable[[str], None] = print,
) -> Iterator[None]:
    """Ray, started on this machine (`address` None) or joined, for a `with` block.

    A cluster started here ends with the block; one that was joined is left as it was. Raises
    `StudyError` where there is no such cluster, where no node has the resources of one pack (after
    `wait_minutes` in which nodes may join), or where a node is not fit (see `check_nodes`; not
    looked at without a storage, where nothing is to be written).
    """
    os.environ.update({k: v for k, v in QUIET.items() if k not in os.environ})
    if address is not None:
        show_token()
    import ray

    try:
        if address is None:
            _start(resources, data_bytes)
        else:
            _join(address)
        if not usable(resources):
            _wait_for_nodes(resources, wait_minutes, notify)
        if address is not None and storage is not None:
            check_nodes(storage)
        yield
    finally:
        ray.shutdown()


def _wait_for_nodes(resources: Resources, minutes: float, notify: Callable[[str], None]) -> None:
    """Ask an autoscaler, if there is one, for a node that can take a pack, and wait for it.

    Without the wait Ray would hang for ever on a request that no node can satisfy.
    """
    from ray.autoscaler.sdk import request_resources

    if not minutes:
        raise lacking(resources)
    notify(f"{lacking(resources)}; waiting up to {minutes:g} minutes for one")
    end = time.monotonic() + minutes * 60
    request_resources(bundles=[resources.bundle])
    try:
        while not usable(resources):
            if time.monotonic() > end:
                raise lacking(resources)
            time.sleep(1.0)
    finally:
        request_resources(bundles=[])


def _start(resources: Resources, data_bytes: int) -> None:
    import ray

    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if resources.cpu > (here or 1):  # known before the seconds that Ray takes to start
        raise lacking(resources, [f"{here} CPU"])
    ray.init(
        address="local",
        num_cpus=here,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=max(100 << 20, 2 * data_bytes + (60 << 20)),
        _node_ip_address="127.0.0.1",
    )


def _join(address: str) -> None:
    import ray

    import analysis
    import itnas
    import study

    # Folders: in a Ray job (`ray job submit`) Ray deep-copies these, which modules do not survive.
    packages = [str(Path(str(one.__file__)).parent) for one in (itnas, study, analysis)]
    found = find(address) or address
    try:
        ray.init(
            address=found,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"py_modules": packages},  # nodes need no checkout
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        first = first_line(error)
        raise StudyError(f"--address {address}: no Ray cluster could be joined ({first})") from None


class HeadWatch(threading.Thread):
    """Ends the launch when the cluster's head has been silent for so many seconds.

    Ray itself would end the process after a minute without a word, or wait for ever.
    """

    def __init__(self, seconds: float, on_loss: Callable[[str], None]) -> None:
        """`on_loss` is given the head's address, in this thread."""
        super().__init__(name="head", daemon=True)
        import ray

        self.address = ray.get_runtime_context().gcs_address
        self.seconds, self.on_loss = seconds, on_loss
        self._end = threading.Event()

    def run(self) -> None:
        """In the thread."""
        host, _, port = self.address.rpartition(":")
        seen = time.monotonic()
        while not self._end.wait(1.0):
            try:
                socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
                seen = time.monotonic()
            except OSError:
                if time.monotonic() - seen > self.seconds:
                    self.on_loss(self.address)
                    return

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
