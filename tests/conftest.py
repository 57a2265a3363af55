"""For all tests: one torch thread, and which of them share a process with `-n 2`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

ROOMS = ("tests/analysis/", "tests/study/")
torch.set_num_threads(1)  # two busy ones are many times slower on small nets


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay together, since they share what is slow to make. So do all of
    `analysis`, whose files share studies and reports, and all of `study`, whose launches take both
    cores: two at a time would only wait for each other.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Rooms(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            rooms = (room for room in ROOMS if nodeid.startswith(room))
            return next(rooms, nodeid.partition("::")[0])

    return Rooms(config, log)
