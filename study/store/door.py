"""Where a study lies: one folder, local or on anything that pyarrow.fs opens (design, 5)."""

from __future__ import annotations

import contextlib
import os
import posixpath
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs as arrow_fs

from study.errors import StudyError, first_line


class Storage:
    """A folder: (file system, root). Names are relative to it, with `/` between parts.

    A reader never sees half a file: a local file is written under a dot-name, flushed to the
    disk and renamed; an object store shows an object only when its upload is complete.
    Instances pickle, so trials get the same object that the driver holds.
    """

    def __init__(self, filesystem: arrow_fs.FileSystem, root: str) -> None:
        self.filesystem = filesystem
        self.root = root.rstrip("/") or "/"

    @classmethod
    def open(cls, location: str | Path) -> Storage:
        """The folder at a local path or URI; it need not exist yet.

        Raises `StudyError` where the URI's scheme is unknown or its server refuses.
        """
        text = str(location)
        if "://" not in text:
            return cls(arrow_fs.LocalFileSystem(), str(Path(text).expanduser().absolute()))
        try:
            filesystem, root = arrow_fs.FileSystem.from_uri(text)
        except (pa.ArrowException, OSError, ValueError) as error:
            first = first_line(error)
            raise StudyError(f"storage {text}: cannot be opened ({first})") from None
        return cls(filesystem, root)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file system."""
        return isinstance(self.filesystem, arrow_fs.LocalFileSystem)

    def folder(self, name: str) -> Storage:
        """The folder of that name inside this one."""
        return Storage(self.filesystem, self.path(name))

    def path(self, name: str) -> str:
        """Absolute path of a file, as the file system knows it."""
        return posixpath.join(self.root, name)

    def __str__(self) -> str:
        return self.root if self.is_local else f"{self.filesystem.type_name}://{self.root}"

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        return self._info(self.path(name)).type != arrow_fs.FileType.NotFound

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of what lies in a folder, dot-names left out; [] if it is not there."""
        selector = arrow_fs.FileSelector(
            self.path(folder) if folder else self.root, allow_not_found=True
        )
        infos = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in infos if not info.base_name.startswith("."))

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is no such file."""
        try:
            with self.filesystem.open_input_stream(self.path(name)) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes | str) -> None:
        """Write or replace a file as a whole; its folder is made if need be. OSError passes."""
        data = content.encode() if isinstance(content, str) else content
        path = self.path(name)
        if not self.is_local:
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(data)
            return
        folder, base = posixpath.split(path)
        os.makedirs(folder, exist_ok=True)
        hidden = posixpath.join(folder, f".{base}.{uuid.uuid4().hex[:8]}")
        try:
            with open(hidden, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(hidden, path)
        except BaseException:
            if os.path.exists(hidden):
                os.remove(hidden)
            raise

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens if there is none."""
        if self.exists(name):
            self.filesystem.delete_file(self.path(name))

    def delete_folder(self, name: str) -> None:
        """Remove a folder with all it holds; nothing happens if there is none."""
        if self.exists(name):
            self.filesystem.delete_dir(self.path(name))

    @contextlib.contextmanager
    def footprint(self) -> Iterator[None]:
        if not self.is_local:
            yield
            return
        made = [p for p in (self.root, *map(str, Path(self.root).parents)) if not os.path.exists(p)]
        inner = set(self.names())
        try:
            yield
        except BaseException:
            for name in ("logs", "runs", "edges", "links", "epochs", "checkpoints"):
                if name not in inner:
                    with contextlib.suppress(OSError):
                        os.rmdir(self.path(name))
            for p in made:
                with contextlib.suppress(OSError):
                    os.rmdir(p)
            raise

    def _info(self, path: str) -> Any:
        return self.filesystem.get_file_info(path)
