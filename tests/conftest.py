"""For all tests: one torch thread, and which of them share a process with `-n 2`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent

torch.set_num_threads(1)  # two busy ones are many times slower on small nets


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together, since they share what is slow to make; so do all of `study`,
    whose launches take both cores: two at a time would only wait for each other.
    """
    for item in items:
        room, *rest = item.path.relative_to(HERE).parts
        group = room if room == "study" else "/".join((room, *rest))
        item.add_marker(pytest.mark.xdist_group(group))
