"""Asks the head of a Ray cluster who it is, from a process of its own: `probe.py HOST:PORT`.

Ray's client asks again every second and cannot be told to stop, with a line on stderr each time
that it is refused; a process can be ended. Imports nothing of this project. Exit status: 0 the
head answers and this machine is one of its nodes, `OUTSIDE` it answers and this machine is not.
"""

from __future__ import annotations

import sys
import time

OUTSIDE = 3
ASKS = "asks the head"
"""said when Ray is imported, which on a busy machine or a shared disk takes its time"""
NODE_SECONDS = 5.0
"""for a raylet that has just been started here to be known"""


def main(address: str) -> int:
    """See above."""
    from ray._private.services import find_node_ids
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    print(ASKS, flush=True)
    client = GcsClient(address=address)  # comes back only once the head has answered
    end = time.monotonic() + NODE_SECONDS
    while True:
        known = {node.hex() for node in client.get_all_node_info()}
        if known.intersection(find_node_ids()):
            return 0
        if time.monotonic() > end:
            return OUTSIDE
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
