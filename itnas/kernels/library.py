"""The compiled kernels of `cpp/`: loaded, and called through ctypes.

Needs a C++ compiler (`c++`, or what CXX names) when first used, or a library that was built ahead;
without either `load` gives None and the engine takes torch's operations. See `build.py` and
`store.py` for the cache.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from functools import cache

import torch

from itnas.kernels.build import NATIVE, UnavailableError, open_library

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
        *[_INDEX] * 6, _INT, _POINTER, _INDEX, *[_POINTER] * 3, *[_INDEX] * 2, _POINTER, _DOUBLE,
    ),
    "pointwise_backward": (
        *[_INDEX] * 6, _INT, _POINTER, _INDEX, *[_POINTER] * 3, *[_INDEX] * 2, *[_POINTER] * 6,
        _INDEX, *[_POINTER] * 2,
    ),
    "winograd": (
        *[_INDEX] * 5, _POINTER, _INDEX, *[_POINTER] * 2, *[_INDEX] * 2, _POINTER, _DOUBLE,
    ),
    "winograd_backward": (
        *[_INDEX] * 5, _POINTER, _INDEX, *[_POINTER] * 2, *[_INDEX] * 2, *[_POINTER] * 6, _INDEX,
        _POINTER,
    ),
    "measure": (*[_INDEX] * 3, _POINTER, _INDEX, _POINTER, _DOUBLE),
    "norm_backward": (
        *[_INDEX] * 2, *[_POINTER, _INDEX] * 2, _POINTER, _POINTER, *[_DOUBLE] * 2, _POINTER,
        _INDEX,
    ),
    "combine": (*[_INDEX] * 4, *[_POINTER] * 7, _INT),
    "combine_sums": (*[_INDEX] * 4, *[_POINTER] * 7),
    "pool": (*[_INDEX] * 4, _INT, _INT, *[_POINTER, _INDEX] * 2, _POINTER, _DOUBLE),
    "pool_backward": (*[_INDEX] * 4, _INT, _INT, *[_POINTER, _INDEX] * 3),
    "use_threads": (_INT,),
    "each": (_INDEX, TASK),
}  # fmt: skip


@cache
def load(dtype: torch.dtype = torch.float32, march: str | None = None) -> ctypes.CDLL | None:
    """The library for float32 or float64, built if need be (twenty seconds).

    `march`: native or a portable target such as x86-64-v3; None: what ITNAS_MARCH says, or native.
    None, with one warning, where it cannot be had.
    """
    march = march or os.environ.get("ITNAS_MARCH") or NATIVE
    try:
        real = "double" if dtype == torch.float64 else "float"
        library = ctypes.CDLL(f"/proc/self/fd/{open_library(real, march)}")
    except (OSError, UnavailableError) as error:
        warnings.warn(
            f"no compiled kernels ({error}): the search takes torch's slower operations",
            stacklevel=2,
        )
        return None
    for name, signature in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = signature, None
    library.instruction_set.restype = ctypes.c_char_p
    return library


def isa(dtype: torch.dtype = torch.float32) -> str | None:
    """Instructions that the library was built for: avx512, avx2, sse2, neon; None without one."""
    library = load(dtype)
    return None if library is None else str(library.instruction_set().decode())
