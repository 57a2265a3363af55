"""The one door to a study's files, on a disk, a shared folder or an object store (design, 5)."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pyarrow import fs as arrow_fs

from study.errors import StudyError, first_line, with_kind

OBJECT_STORES = {"s3", "s3a", "gcs", "gs", "abfs", "abfss", "az", "adl"}
"""file systems, as pyarrow and fsspec call them, that have no folders of their own"""
ATTEMPTS = 3
"""at a file whose folder or unfinished file another launch may clear away meanwhile"""
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}")


class Storage:
    """A folder: (file system, root). Names are relative to it, with `/` between parts.

    A reader never sees half a file. Where there are folders, a file's folder is made when it is
    needed, and the file is written under a dot-name (on this machine's disks flushed as well) and
    moved into place; an object store shows an object only when its upload is complete, and gets no
    folders. Instances pickle, so trials get the same object that the driver holds.

    What a file system refuses is an `OSError` of one line, whatever that system itself raises.
    """

    def __init__(self, filesystem: arrow_fs.FileSystem, root: str, uri: str | None = None) -> None:
        """`uri` is what `Storage.open` was given for it, if it was one."""
        self.filesystem = filesystem
        self.root = root.rstrip("/") or ("/" if root.startswith("/") else "")
        self.uri = uri

    @classmethod
    def open(cls, location: str | Path) -> Storage:
        """The folder at a local path or URI; it need not exist yet.

        Raises `StudyError` where the URI's scheme is unknown or its server refuses.
        """
        text = str(location)
        try:
            if "://" not in text:
                return cls(arrow_fs.LocalFileSystem(), str(Path(text).expanduser().absolute()))
            uri = text.partition("#")[0]
            filesystem, root = arrow_fs.FileSystem.from_uri(_with_small_uploads(uri))
        except Exception as error:  # whatever a file system's driver raises
            raise StudyError(f"storage {text}: cannot be opened ({first_line(error)})") from None
        storage = cls(filesystem, root, uri)
        if not storage.root and not storage.has_folders:
            raise StudyError(f"storage {text}: names no bucket")
        return storage

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file system."""
        return isinstance(self.filesystem, arrow_fs.LocalFileSystem)

    @property
    def has_folders(self) -> bool:
        """Whether folders are there by themselves, not only as parts of objects' names."""
        base = self.filesystem
        while isinstance(base, arrow_fs.SubTreeFileSystem):
            base = base.base_fs
        return OBJECT_STORES.isdisjoint(re.findall(r"\w+", base.type_name))

    def folder(self, name: str) -> Storage:
        """The folder of that name inside this one."""
        uri = None if self.uri is None else _inside(self.uri, name)
        return Storage(self.filesystem, self.path(name), uri)

    def path(self, name: str) -> str:
        """Path of a file, as the file system knows it; of the folder itself for ""."""
        return posixpath.join(self.root, name) if name else self.root

    def __str__(self) -> str:
        """What opens it again: a path on this machine, else a URI with its query."""
        if self.is_local:
            return self.root
        return self.uri or f"{self.filesystem.type_name}://{self.root}"

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        return self._is_there(self.path(name))

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of what lies in a folder, dot-names left out; [] if it is not there."""
        names = (info.base_name for info in self._infos(self.path(folder)))
        return sorted(name for name in names if not name.startswith("."))

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is no such file."""
        path = self.path(name)
        with _one_line(path):
            try:
                if self.is_local:
                    return Path(path).read_bytes()
                with self.filesystem.open_input_stream(path) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes | str) -> None:
        """Write or replace a file as a whole; its folder is made if need be."""
        data = content.encode() if isinstance(content, str) else content
        path = self.path(name)
        with _one_line(path):
            if not self.has_folders:
                self._fill(path, data)
                return
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._replace(path, data)
                    return
                except FileNotFoundError:
                    if attempt == ATTEMPTS:
                        raise

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens if there is none."""
        path = self.path(name)
        with _one_line(path), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(path)

    def delete_folder(self, name: str) -> None:
        """Remove a folder with all that lies in it; nothing happens if there is none."""
        if not name:
            raise ValueError("a name inside the folder is needed")
        path = self.path(name)
        with _one_line(path), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_dir(path)

    def clear_leftovers(self, folder: str = "") -> None:
        """Remove the unfinished files that killed writers left in a folder.

        A writer that lives and loses one so begins it again.
        """
        if self.has_folders:
            for info in self._infos(self.path(folder)):
                if info.is_file and _UNFINISHED.fullmatch(info.base_name):
                    self.delete(posixpath.join(folder, info.base_name))

    @contextlib.contextmanager
    def footprint(self) -> Iterator[None]:
        """For what may be refused: if the block raises, empty folders made in it are removed.

        Those above the folder are included, so that a storage that was not there is gone again.
        """
        before: set[str] | None = None
        with contextlib.suppress(OSError):
            before = self._folders()
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # what the block raised matters more
                made = self._folders() - before if before is not None else set()
                for path in sorted(made, key=len, reverse=True):
                    self._remove_if_empty(path)
            raise

    def _is_there(self, path: str) -> bool:
        with _one_line(path):
            found: Any = self.filesystem.get_file_info(path)
            return bool(found.type != arrow_fs.FileType.NotFound)

    def _infos(self, path: str, recursive: bool = False) -> list[Any]:
        """What lies in a folder; [] if it is not there."""
        with _one_line(path):
            selector = arrow_fs.FileSelector(path, allow_not_found=True, recursive=recursive)
            return list(self.filesystem.get_file_info(selector))

    def _fill(self, path: str, data: bytes) -> None:
        """Write a file or object where it is to lie. A file may be seen before it is whole."""
        if self.is_local:
            with open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        else:
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(data)

    def _replace(self, path: str, data: bytes) -> None:
        """Write a file beside its place and move it there."""
        folder, base = posixpath.split(path)
        unfinished = posixpath.join(folder, f".{base}.{uuid.uuid4().hex[:8]}")
        if folder:
            self._make_folder(folder)
        try:
            self._fill(unfinished, data)
            if self.is_local:
                os.replace(unfinished, path)
            else:
                self.filesystem.move(unfinished, path)
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong before matters more
                self.filesystem.delete_file(unfinished)
            raise

    def _make_folder(self, path: str) -> None:
        if self.is_local:
            os.makedirs(path, exist_ok=True)
        else:
            self.filesystem.create_dir(path, recursive=True)

    def _folders(self) -> set[str]:
        """Paths of this folder, of those above it and of those inside it, as far as they exist."""
        found = {
            info.path
            for info in self._infos(self.root, recursive=True)
            if info.type == arrow_fs.FileType.Directory
        }
        path = self.root
        while path.strip("/"):
            if self._may_be_there(path):
                found.add(path)
            path = posixpath.dirname(path)
        return found

    def _may_be_there(self, path: str) -> bool:
        """Whether there is such a file or folder, or one that may not be looked at."""
        try:
            return self._is_there(path)
        except OSError:
            return True

    def _remove_if_empty(self, path: str) -> None:
        if self.is_local:
            with contextlib.suppress(OSError):
                os.rmdir(path)
        elif not self._infos(path):
            self.filesystem.delete_dir(path)


def _inside(uri: str, name: str) -> str:
    """The URI of a name in a folder, before the folder's query."""
    place, mark, query = uri.partition("?")
    scheme, _, place = place.partition("://")
    return f"{scheme}://{place.rstrip('/')}/{quote(name)}{mark}{query}"


def _with_small_uploads(uri: str) -> str:
    """A URI of S3 by which an object of a few MB takes one request to write, where it took three.

    Nor is an upload begun that a killed writer would leave unfinished, and paid for.
    """
    option = "allow_delayed_open"
    if not uri.startswith("s3://") or f"{option}=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{option}=true"


@contextlib.contextmanager
def _one_line(path: str) -> Iterator[None]:
    """What a file system raises as an `OSError` of one line; some raise other kinds."""
    try:
        yield
    except OSError as error:
        text = str(error)
        if len(text.splitlines()) <= 1:
            raise
        line = " ".join(text.split())
        raise (OSError(error.errno, line) if error.errno else OSError(line)) from error
    except Exception as error:
        raise OSError(f"{path}: {with_kind(error)}") from error
