"""A folder of libraries in which nobody else can write, and files of it that fit their digests.

A library is a file `STEM-DIGITS.so`, named after its own content. Beside it lies `STEM.sha256`, one
line as of `sha256sum`, which says which library is STEM's; it is written last, in one rename. So
builders that race, or whose compilers give unlike bytes, leave a library and its digest that belong
together, whoever comes last, and a reader sees neither before it is whole.

The digest tells a damaged library (a truncated one kills the process that loads it). It cannot tell
whose it is: that is what owner and mode are checked for, of folder and file, each by the descriptor
that is used afterwards and not by a name that may have changed its meaning meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RECORD = ".sha256"


class Library(NamedTuple):
    """A library that fits its digest, opened."""

    descriptor: int
    """of the very file whose content was checked; whoever asked closes it"""
    name: str
    """in its folder"""


@contextlib.contextmanager
def private_folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder of this user's or root's, made if need be (mode 0700).

    OSError, one line, for a symbolic link and for a folder in which others can write.
    """
    _make(path)
    if path.is_symlink():
        raise OSError(f"{path} is a symbolic link")
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        problem = _problem(os.fstat(folder))
        if problem:
            raise OSError(f"{path} {problem}")
        yield folder
    finally:
        os.close(folder)


def find(folder: int, stem: str) -> Library | None:
    """STEM's library; None where there is none that is safe and fits its digest."""
    record = _open(folder, stem + RECORD)
    if record is None:
        return None
    with open(record, "rb") as file:
        digest, _, name = file.read(4096).decode("ascii", "replace").strip().partition("  ")
    if not re.fullmatch("[0-9a-f]{64}", digest) or name != _name(stem, digest):
        return None
    library = _open(folder, name)
    if library is None:
        return None
    with open(library, "rb", closefd=False) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == digest:
            return Library(library, name)
    os.close(library)
    return None


def stems(folder: int, prefix: str) -> list[str]:
    """Stems that begin with `prefix`, sorted."""
    names = sorted(name for name in os.listdir(folder) if name.startswith(prefix))
    return [name.removesuffix(RECORD) for name in names if name.endswith(RECORD)]


def add(folder: int, stem: str, content: bytes) -> None:
    """Make `content` STEM's library. OSError where it cannot be written."""
    digest = hashlib.sha256(content).hexdigest()
    name = _name(stem, digest)
    _write(folder, name, content)
    _write(folder, stem + RECORD, f"{digest}  {name}\n".encode())


def _name(stem: str, digest: str) -> str:
    return f"{stem}-{digest[:16]}.so"


def _make(path: Path) -> None:
    """Missing folders, parents too, for this user alone."""
    if path.exists():
        return
    _make(path.parent)
    with contextlib.suppress(FileExistsError):  # somebody was faster, or a link that leads nowhere
        path.mkdir(0o700)


def _problem(status: os.stat_result) -> str:
    """Why a folder or a file is not to be trusted, "" where it is."""
    if status.st_uid not in (os.getuid(), 0):
        return f"belongs to another user ({status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others (chmod go-w)"
    return ""


def _open(folder: int, name: str) -> int | None:
    """A regular file that is safe, for reading; a pipe in its place must not block."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode) and not _problem(status):
        return file
    os.close(file)
    return None


def _write(folder: int, name: str, content: bytes) -> None:
    """Whole, or not at all; whoever may read the folder may read the file."""
    own = f".{name}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    mode = 0o600 | (os.fstat(folder).st_mode & 0o044)
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(own, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(own, dir_fd=folder)
        raise
