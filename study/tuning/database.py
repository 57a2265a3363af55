"""Optuna's database of a tuning: where it lies, how it is opened, and what it is of."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from study.errors import StudyError, first_line
from study.store.door import Storage

DATABASE = "tune/optuna.db"
JOURNAL = "journal:"
VARIABLE = re.compile(r"\$\{(\w+)\}")
TUNING = "tuning"
"""the attribute of Optuna's study that says what it searches"""


def place_of(given: str | None, folder: Storage) -> str:
    """The database's URL, or `journal:PATH`; `${NAME}` there is the environment's, since what a
    study file has is written down in the study's folder, and a password is not for that.

    `StudyError` where it must be given and is not, or the environment lacks a name.
    """
    if given is not None:
        for name in VARIABLE.findall(given):
            if name not in os.environ:
                raise StudyError(f"tune.storage: the environment has no {name}")
        return VARIABLE.sub(lambda found: os.environ[found[1]], given)
    if not folder.is_local:
        raise StudyError(
            f"tune.storage: {folder} is no local folder, where SQLite could keep the trials; give "
            "a database that Optuna takes (postgresql://..., journal:PATH)"
        )
    return f"sqlite:///{folder.path(DATABASE)}"


def file_of(place: str) -> Path | None:
    """The file of a journal or of SQLite; None of a server."""
    if place.startswith(JOURNAL):
        return Path(place.removeprefix(JOURNAL))
    kind, _, path = place.partition(":///")
    return Path(path.partition("?")[0]) if kind.partition("+")[0] == "sqlite" and path else None


def open_database(place: str) -> BaseStorage:
    """Open it, and make it where there is none. `StudyError` with one line where that fails."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        path = file_of(place)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        if place.startswith(JOURNAL):
            return JournalStorage(JournalFileBackend(str(path)))
        wait = {"connect_args": {"timeout": 60}} if place.startswith("sqlite") else None
        return RDBStorage(place, engine_kwargs=wait)
    except Exception as error:  # sqlalchemy, its drivers, alembic and the system each raise theirs
        raise StudyError(f"tune.storage: {_shown(place)}: {first_line(error)}") from None


def find_study(place: str, name: str) -> optuna.Study | None:
    """The study of a tuning, if there is one; makes no database.

    `StudyError` with one line where it cannot be read, or could not be made.
    """
    path = file_of(place)
    if path is not None and not path.exists():
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise StudyError(f"tune.storage: {place}: {above} cannot be written")
        return None
    try:
        return optuna.load_study(study_name=name, storage=open_database(place))
    except KeyError:
        return None


def make_study(place: str, name: str, objectives: int, what: dict[str, Any]) -> optuna.Study:
    """The study of a tuning, made at first use; `what` is written down then."""
    study = optuna.create_study(
        storage=open_database(place), study_name=name, load_if_exists=True,
        directions=["maximize"] * objectives,
    )  # fmt: skip
    if TUNING not in study.user_attrs:
        study.set_user_attr(TUNING, json.loads(json.dumps(what)))
    return study


def refuse_other(study: optuna.Study, folder: Storage, what: dict[str, Any]) -> None:
    """`StudyError` where earlier trials were of something else, so that they cannot be compared."""
    known = study.user_attrs.get(TUNING)
    if known is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(
                f"{folder}: earlier trials are of an older version, or not of this program; give "
                "the study file another name"
            )
        return
    wanted = json.loads(json.dumps(what))
    if known["folder"] != wanted["folder"]:
        raise StudyError(
            f"tune.storage: has a study {study.study_name} of {known['folder']}; give the study "
            "file another name, or another database"
        )
    parts = [part for part in wanted if part != "folder"]
    differing = [
        key
        for part in parts
        for key in dict.fromkeys((*wanted[part], *known.get(part, {})))
        if wanted[part].get(key) != known.get(part, {}).get(key)
    ]
    if differing:
        raise StudyError(
            f"{folder}: earlier trials had other {', '.join(differing)}; give the study file "
            "another name"
        )


def _shown(place: str) -> str:
    """Without a password."""
    scheme, slashes, rest = place.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{host}" if at else place
