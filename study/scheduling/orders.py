"""What the driver tells its packs while they train: stop, or leave a node that is going away.

Through Ray's own key-value store at the head: a worker looks there between two steps, once a
second at most, and needs no connection of its own. A head that has no answer now (`RayError`) is
asked again.
"""

from __future__ import annotations

import contextlib
import json
import time

from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

NAMESPACE = "itnas-study"
LOOK_SECONDS = 1.0


class Orders:
    """The driver's side: one for a launch, known by the token of its lock."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.stopped = False
        self._leaving: set[str] = set()

    def stop(self) -> None:
        """Every pack writes a checkpoint and ends. RayError passes: to be said again."""
        self._write(True, self._leaving)
        self.stopped = True

    def leave(self, nodes: set[str]) -> None:
        """Packs on these nodes write a checkpoint and go back to the queue. RayError as above."""
        if nodes != self._leaving:
            self._write(self.stopped, nodes)
            self._leaving = set(nodes)

    def _write(self, stop: bool, nodes: set[str]) -> None:
        content = {"stop": stop, "nodes": sorted(nodes)}
        _internal_kv_put(self.token, json.dumps(content), overwrite=True, namespace=NAMESPACE)


class Listener:
    """A worker's side: whether its pack is to end now."""

    def __init__(self, token: str, node_id: str) -> None:
        self.token, self.node_id = token, node_id
        self._looked = 0.0
        self._end = False

    def ends(self) -> bool:
        """Whether the pack is to write a checkpoint and end; looks at most once a second."""
        now = time.monotonic()
        if not self._end and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            with contextlib.suppress(RayError):
                content = json.loads(_internal_kv_get(self.token, namespace=NAMESPACE) or b"{}")
                self._end = bool(content.get("stop")) or self.node_id in content.get("nodes", ())
        return self._end
