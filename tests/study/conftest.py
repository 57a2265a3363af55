"""Fixtures of the study tests."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from pyarrow.fs import S3FileSystem

from tests.study.cli import TINY


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny study file, some of its keys changed, and gives its path."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))
        return path

    return write


@pytest.fixture
def quiet() -> Iterator[None]:
    """Optuna says nothing but errors."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """A server that speaks S3, in a thread of this process; gives its host:port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3(object_store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a fresh bucket; this process and those that it starts may use it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    S3FileSystem(
        endpoint_override=object_store, scheme="http", allow_bucket_creation=True
    ).create_dir(bucket)
    return f"s3://{bucket}?endpoint_override={object_store}&scheme=http"
