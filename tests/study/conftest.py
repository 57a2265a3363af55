"""Fixtures of the study tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.study.cli import TINY


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny study file, some of its keys changed, and gives its path."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))
        return path

    return write
