"""A study's folder: opened, told apart from other folders, and described by `study.yaml`."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from typing import Any, Literal

import yaml

from analysis.contract import TABLES
from study.errors import StudyError
from study.file.schema import StudyFile
from study.file.yaml_file import dump
from study.store.door import Storage
from study.store.registry import REGISTRY

STUDY = "study.yaml"
SOFTWARE = ("torch", "numpy", "ray", "optuna", "pyarrow", "pydantic", "scikit-learn", "pillow")
WRITTEN = ("logs", "tune", "checkpoints", *TABLES)
"""folders of a study that a launch writes into"""
BEFORE_STUDY = {"logs"}
"""what a launch makes before it writes `study.yaml`; one that was killed leaves it behind"""

Command = Literal["launch", "tune"]


def study_folder(storage: str, name: str) -> Storage:
    """The folder of a study of that name in a storage; it need not exist yet."""
    return Storage.open(storage).folder(name)


def require_study(folder: Storage) -> dict[str, Any]:
    """The content of a study's `study.yaml`. `StudyError` where the folder holds no study."""
    description = read_description(folder)
    if description is None:
        raise StudyError(f"{folder}: is not a study (no {STUDY} in it)")
    return description


def read_description(folder: Storage) -> dict[str, Any] | None:
    """What `study.yaml` says; None if there is none. `StudyError` if it cannot be read."""
    try:
        text = folder.read(STUDY)
    except OSError as error:
        raise StudyError(f"{folder}: cannot be used as a folder ({error})") from None
    if text is None:
        return None
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict):
        raise StudyError(f"{folder.path(STUDY)}: cannot be read as YAML")
    return content


def check_folder(folder: Storage, command: Command) -> None:
    """Refuse a folder that this command must not write into: no study, or another command's."""
    description = read_description(folder)
    try:
        names = folder.names()
        written = folder.names("runs")
    except OSError as error:
        raise StudyError(f"{folder}: cannot be used as a folder ({error})") from None
    if description is None:
        if set(names) - BEFORE_STUDY:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise StudyError(
                f"{folder}: is not a study (it holds {shown}, and no {STUDY}); "
                "choose another name or --storage"
            )
        return
    if written and REGISTRY not in names:
        raise StudyError(f"{folder}: is not a study of this program (no {REGISTRY} beside runs/)")
    before = description.get("command", "launch")
    if before != command and written:
        raise StudyError(
            f"{folder}: is a study under `{before}`; `{command}` needs its own folder, "
            "so give the study file another name"
        )


def write_description(folder: Storage, file: StudyFile, command: Command) -> None:
    """Write `study.yaml`: the resolved study file, and with what every launch computed it."""
    own = {"git_commit": _git_commit(), "software": _software()}
    now = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "host": gethostname()}
    content = {
        **file.resolved(),
        "command": command,
        **own,
        "launches": [*_launches(read_description(folder) or {}), now | own],
    }
    try:
        folder.write(STUDY, dump(content))
    except OSError as error:
        raise StudyError(f"{folder}: cannot be written ({error})") from None


def _launches(description: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that `study.yaml` tells of; of an earlier version's the last one."""
    known = description.get("launches")
    if isinstance(known, list):
        return known
    last: dict[str, Any] = {
        key: description[key] for key in ("git_commit", "software") if key in description
    }
    return [last] if last else []


def clear_leftovers(folder: Storage) -> None:
    """Remove unfinished files that killed launches left; for the launch that holds the study."""
    packs = [f"checkpoints/{name}" for name in folder.names("checkpoints")]
    for name in ("", *WRITTEN, *packs):
        folder.clear_leftovers(name)


def _software() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in SOFTWARE:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    return result.stdout.strip() if result.returncode == 0 else None
