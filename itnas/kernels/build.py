"""Source and flags to a checked library: looked up in the cache, built where it is not there.

A library's name has two keys. The first holds all that a node knows without a compiler: source,
type of numbers, machine, processor (or the portable target that takes its place) and flags; the
second is the compiler's. So a node with a compiler loads what that compiler would build, and a node
without one what was built ahead (`python -m itnas.kernels`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

from itnas.kernels import store
from itnas.kernels.processor import identifying_lines, supported_targets, targets
from itnas.kernels.store import Library

SOURCES = Path(__file__).parent / "cpp"
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
NATIVE = "native"
COMPILERS = ("c++", "g++", "clang++")


class UnavailableError(Exception):
    """Kernels cannot be had here; one line says why."""


class Compiler(NamedTuple):
    """A C++ compiler that answers."""

    command: tuple[str, ...]
    key: str
    """of its version, its arguments and the C library it links with"""


def open_library(real: str, march: str) -> int:
    """A descriptor of the library for `real` (float or double), built if need be (twenty seconds).

    `march` is native or a portable target. Loading /proc/self/fd/N loads the file that was checked,
    whatever has become of its name; keep the descriptor open, for the dynamic linker takes equal
    names for one library. `UnavailableError` where there is none. One warning where the cache
    folder cannot be used: then the library is this process's alone.
    """
    _check(march)
    if march != NATIVE and march not in supported_targets():
        raise UnavailableError(f"this processor does not support {march}")
    try:
        with store.private_folder(cache_folder()) as folder:
            return _take(folder, real, march).descriptor
    except OSError as error:
        problem = f"{error}: not taken as the cache of kernels"
    try:
        with (
            tempfile.TemporaryDirectory(prefix="itnas-") as own,
            store.private_folder(Path(own)) as folder,
        ):
            descriptor = _take(folder, real, march).descriptor
    except (OSError, UnavailableError) as error:
        raise UnavailableError(f"{error}; {problem}") from None
    warnings.warn(f"{problem}; every process builds its own", stacklevel=3)
    return descriptor


def build_ahead(real: str, march: str, path: Path) -> Path:
    """Path of the library in a folder, for nodes that have no compiler; built if need be.

    `UnavailableError` where it cannot be built, OSError where the folder cannot be used.
    """
    _check(march)
    with store.private_folder(path) as folder:
        library = _own(folder, real, march)
        os.close(library.descriptor)
        return path / library.name


def cache_folder() -> Path:
    """ITNAS_CACHE, or `itnas` in the user's cache folder. OSError where there is no home."""
    named = os.environ.get("ITNAS_CACHE")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(cache):
        raise OSError("no home folder")
    return Path(cache) / "itnas"


def marches() -> list[str]:
    """What can be asked for on this machine."""
    return [NATIVE, *targets()]


def stem(real: str, march: str, compiler: Compiler | None = None) -> str:
    """The library's name in the cache, up to its content; without a compiler up to the compiler."""
    sources = sorted(f for f in SOURCES.iterdir() if f.suffix in (".cpp", ".h"))
    parts = [
        *(f"{f.name}\n{f.read_text()}" for f in sources),
        *(platform.system(), platform.machine()),
        *(identifying_lines() if march == NATIVE else [march]),
        *_flags(real, march),
    ]
    return f"kernels-{real}-{march}-{_hash(parts)}-{compiler.key if compiler else ''}"


def find_compiler() -> Compiler:
    """CXX (it may have arguments) or the first of `COMPILERS`. `UnavailableError` without one."""
    named = os.environ.get("CXX")
    command = shlex.split(named) if named else [c for c in COMPILERS if shutil.which(c)][:1]
    if not command:
        raise UnavailableError("no C++ compiler")
    try:
        version = _run([*command, "--version"])
    except (OSError, subprocess.SubprocessError):
        raise UnavailableError(f"no C++ compiler: {' '.join(command)} does not run") from None
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # another C library
        libc = ""
    return Compiler(tuple(command), _hash([version, *command[1:], libc]))


def _check(march: str) -> None:
    if march not in marches():
        raise UnavailableError(f"march {march}: this machine knows {', '.join(marches())}")
    if not identifying_lines() or not hasattr(os, "getuid"):
        raise UnavailableError(f"this processor is not known ({platform.system()})")


def _take(folder: int, real: str, march: str) -> Library:
    """What this node's compiler builds; where it builds nothing, what was built ahead."""
    try:
        return _own(folder, real, march)
    except UnavailableError:
        for target in (march, *(supported_targets() if march == NATIVE else ())):
            for found in store.stems(folder, stem(real, target)):
                library = store.find(folder, found)
                if library is not None:
                    return library
        raise


def _own(folder: int, real: str, march: str) -> Library:
    """Of this node's compiler; one that does not fit its digest is built again, once."""
    compiler = find_compiler()
    name = stem(real, march, compiler)
    library = store.find(folder, name)
    if library is None:
        store.add(folder, name, _compiled(compiler, real, march))
        library = store.find(folder, name)
    if library is None:
        raise UnavailableError(f"{name} does not fit its digest, built again too")
    return library


def _compiled(compiler: Compiler, real: str, march: str) -> bytes:
    """The library's content; the compiler writes where nobody else looks."""
    sources = map(str, sorted(SOURCES.glob("*.cpp")))
    try:
        with tempfile.TemporaryDirectory(prefix="itnas-") as own:
            result = Path(own) / "kernels.so"
            _run([*compiler.command, *_flags(real, march), *sources, "-o", str(result)])
            return result.read_bytes()
    except subprocess.CalledProcessError as error:
        lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line]  # and not the caret beneath it
        told = (errors or lines or [f"exit status {error.returncode}"])[-1]
    except OSError as error:
        told = str(error)
    raise UnavailableError(f"the kernels could not be built: {told}")


def _flags(real: str, march: str) -> tuple[str, ...]:
    return (*FLAGS, f"-march={march}", f"-DREAL={real}")


def _run(command: list[str]) -> str:
    """Its output, in no language but its own: a version in another one would be another key."""
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout


def _hash(parts: list[str]) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
