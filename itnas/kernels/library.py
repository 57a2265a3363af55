"""The compiled kernels of `kernels.cpp`: built once a machine, called through ctypes.

Needs a C++ compiler (`c++`, or what CXX names) when first used; without one `load` gives None
and the engine takes torch's operations. The library is cached under the user's cache folder (or
ITNAS_CACHE), keyed by source, compiler flags and processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path

import torch

SOURCE = Path(__file__).parent / "cpp" / "kernels.cpp"
MARCH = os.environ.get("ITNAS_MARCH", "native")
FLAGS = ("-std=c++17", "-O3", f"-march={MARCH}", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
_INDEX, _POINTER, _DOUBLE, _INT = ctypes.c_int64, ctypes.c_void_p, ctypes.c_double, ctypes.c_int
_SHAPE = (*[_INDEX] * 4, *[_INT] * 3)
TASK = ctypes.CFUNCTYPE(None, _INDEX)
"""what `each` calls, once a number"""
SIGNATURES = {
    "separable": (*_SHAPE, _POINTER, _INDEX, *[_POINTER] * 4, _INDEX, _POINTER, _DOUBLE),
    "separable_backward": (
        *_SHAPE, _POINTER, _INDEX, *[_POINTER] * 4, _INDEX, _POINTER, _POINTER, _DOUBLE,
        *[_POINTER, _INDEX] * 2, *[_POINTER] * 3,
    ),
    "pointwise": (
        *[_INDEX] * 6, _INT, _POINTER, _INDEX, *[_POINTER] * 3, _INDEX, _POINTER, _DOUBLE,
    ),
    "pointwise_backward": (
        *[_INDEX] * 6, _INT, _POINTER, _INDEX, *[_POINTER] * 3, _INDEX, *[_POINTER] * 2, _DOUBLE,
        *[_POINTER, _INDEX] * 2, *[_POINTER] * 2,
    ),
    "image_moments": (*[_INDEX] * 3, _POINTER, _INDEX, _POINTER),
    "statistics": (_POINTER, *[_INDEX] * 3, _DOUBLE, _POINTER),
    "norm_backward": (
        *[_INDEX] * 2, *[_POINTER, _INDEX] * 2, _POINTER, _POINTER, *[_DOUBLE] * 2, _POINTER,
        _INDEX,
    ),
    "combine": (*[_INDEX] * 4, *[_POINTER] * 7, _INT),
    "combine_sums": (*[_INDEX] * 4, *[_POINTER] * 7),
    "rectify_backward": (*[_INDEX] * 2, *[_POINTER, _INDEX] * 2, *[_POINTER] * 2, _INDEX),
    "pool": (*[_INDEX] * 4, _INT, _INT, *[_POINTER, _INDEX] * 2, _POINTER, _DOUBLE),
    "pool_backward": (*[_INDEX] * 4, _INT, _INT, *[_POINTER, _INDEX] * 3),
    "use_threads": (_INT,),
    "each": (_INDEX, TASK),
}  # fmt: skip


@cache
def load(dtype: torch.dtype = torch.float32) -> ctypes.CDLL | None:
    """The library for float32 or float64, built if need be (ten seconds).

    None, with one warning, where it cannot be built.
    """
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        warnings.warn("no C++ compiler: the search takes torch's slower operations", stacklevel=2)
        return None
    try:
        library = ctypes.CDLL(
            str(_built(compiler, "double" if dtype == torch.float64 else "float"))
        )
    except (OSError, subprocess.CalledProcessError) as error:
        text = getattr(error, "stderr", None) or str(error)
        line = str(text).strip().splitlines()[-1:]
        warnings.warn(
            f"kernels.cpp could not be built ({' '.join(line)}): the search takes torch's slower "
            "operations",
            stacklevel=2,
        )
        return None
    for name, signature in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = signature, None
    library.instruction_set.restype = ctypes.c_char_p
    return library


def _built(compiler: str, real: str) -> Path:
    """Path of the library; compiled to a name of its own and renamed, so that packs may race."""
    flags = (*FLAGS, f"-DREAL={real}")
    key = "\n".join(
        (*(f.read_text() for f in sorted(SOURCE.parent.iterdir())), compiler, *flags, _processor())
    )
    name = f"kernels-{real}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.so"
    for folder in _folders():
        if (folder / name).exists():
            return folder / name
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=folder, suffix=".so")
        except OSError:
            continue  # a read-only home
        os.close(handle)
        try:
            subprocess.run(
                [compiler, *flags, str(SOURCE), "-o", temporary],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            os.replace(temporary, folder / name)
        finally:
            Path(temporary).unlink(missing_ok=True)
        return folder / name
    raise OSError("no folder to write to")


def _folders() -> list[Path]:
    named = os.environ.get("ITNAS_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    temporary = Path(tempfile.gettempdir()) / f"itnas-{os.getuid()}"
    return [Path(named)] if named else [Path(home) / "itnas", temporary]


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({x for x in lines if x.startswith(("flags", "model name"))}))
    except OSError:
        return platform.processor() + platform.machine()
