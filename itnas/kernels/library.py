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
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
EPSILON = 1e-5
"""of the batch norms, PyTorch's default"""

_INDEX, _POINTER, _DOUBLE, _INT = ctypes.c_int64, ctypes.c_void_p, ctypes.c_double, ctypes.c_int
_SHAPE = (*[_INDEX] * 4, *[_INT] * 3)
_SIGNATURES = {
    "separable": (*_SHAPE, _POINTER, _INDEX, *[_POINTER] * 4, _INDEX, _POINTER, _DOUBLE),
    "separable_backward": (
        *_SHAPE, _POINTER, _INDEX, *[_POINTER] * 4, _INDEX, _POINTER, _POINTER, _DOUBLE,
        *[_POINTER, _INDEX] * 2, *[_POINTER] * 3,
    ),
    "statistics": (*[_INDEX] * 3, _POINTER, _INDEX, _POINTER, _DOUBLE, _INT, _DOUBLE),
    "norm_backward": (
        *[_INDEX] * 2, *[_POINTER, _INDEX] * 2, _POINTER, _POINTER, *[_DOUBLE] * 2, _POINTER,
        _INDEX,
    ),
    "combine": (*[_INDEX] * 4, *[_POINTER] * 7, _INT),
    "combine_sums": (*[_INDEX] * 4, *[_POINTER] * 7),
    "rectify_backward": (*[_INDEX] * 2, *[_POINTER, _INDEX] * 2, *[_POINTER] * 2, _INDEX),
    "pool": (*[_INDEX] * 4, _INT, _INT, *[_POINTER, _INDEX] * 2, _POINTER, _DOUBLE),
    "pool_backward": (*[_INDEX] * 4, _INT, _INT, *[_POINTER, _INDEX] * 3),
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
    for name, signature in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = signature, None
    return library


def _built(compiler: str, real: str) -> Path:
    """Path of the library; compiled to a name of its own and renamed, so that packs may race."""
    flags = (*FLAGS, f"-DREAL={real}")
    key = "\n".join((SOURCE.read_text(), compiler, *flags, _processor()))
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


class Map:
    """A view of (B, H, W, C) values: channels contiguous, one stride from pixel to pixel."""

    __slots__ = ("batch", "channels", "first", "height", "pointer", "stride", "tensor", "width")

    def __init__(self, tensor: Tensor, first: int = 0, channels: int | None = None) -> None:
        """`tensor` (B, H, W, C'), of which `channels` from `first` on are taken.

        Pixels of the tensor must be equally spaced, as they are in a contiguous tensor or a slice
        of one along its channels.
        """
        self.tensor, self.first = tensor, first
        self.batch, self.height, self.width, whole = tensor.shape
        self.channels = whole - first if channels is None else channels
        self.stride = tensor.stride(2)
        self.pointer = tensor.data_ptr() + first * tensor.element_size()

    @property
    def pixels(self) -> int:
        """Of one image."""
        return self.height * self.width

    def view(self) -> Tensor:
        """What it shows, (B, H, W, C)."""
        return self.tensor[..., self.first : self.first + self.channels]

    def images(self, start: int, stop: int) -> Map:
        """Some of the images."""
        if start == 0 and stop == self.batch:
            return self
        return Map(self.tensor[start:stop], self.first, self.channels)


class Term(NamedTuple):
    """A map with its weight in a node's sum."""

    map: Map
    stats: int | None
    """pointer to its statistics, if it is to be normalised"""
    weight: float = 1.0


def pixel_map(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H, W, C) with equally spaced pixels, copied only where they are not."""
    y = x.permute(0, 2, 3, 1)
    spaced = (
        y.stride(3) == 1
        and y.stride(1) == y.shape[2] * y.stride(2)
        and y.stride(0) == y.shape[1] * y.stride(1)
    )
    return y if spaced else y.contiguous()


class Kernels:
    """The library for one type of numbers; every method writes into its last arguments."""

    def __init__(self, dtype: torch.dtype) -> None:
        """RuntimeError where there is no library."""
        library = load(dtype)
        if library is None:
            raise RuntimeError("the compiled kernels are not available")
        self._call = {name: getattr(library, name) for name in _SIGNATURES}

    def separable(
        self, x: Map, shape: tuple[int, int, int], input_stats: int | None, depthwise: int,
        pointwise: int, y: Map, stats: int,
    ) -> None:  # fmt: skip
        """ReLU of x (normalised by `input_stats` if given), depthwise, pointwise; stats of y.

        `shape`: kernel, dilation, stride. Statistics are pointers to doubles [2][C]: mean and 1 /
        standard deviation.
        """
        self._call["separable"](
            x.batch, x.height, x.width, x.channels, *shape, x.pointer, x.stride, input_stats,
            depthwise, pointwise, y.pointer, y.stride, stats, EPSILON,
        )  # fmt: skip

    def separable_backward(
        self, x: Map, shape: tuple[int, int, int], input_stats: int | None, depthwise: int,
        pointwise: int, y: Map, stats: int, sums: int, weight: float, g: Map, dx: Map,
        input_sums: int | None, depthwise_gradient: int | None, pointwise_gradient: int | None,
    ) -> None:  # fmt: skip
        """From the gradient g of weight * normalised y, whose `sums` [2][C] are those of g and of
        g times normalised y. dx is added to; with `input_stats` it is written, as the gradient of
        the normalised x, and `input_sums` with it. No gradients of weights where they are None.
        """
        self._call["separable_backward"](
            x.batch, x.height, x.width, x.channels, *shape, x.pointer, x.stride, input_stats,
            depthwise, pointwise, y.pointer, y.stride, stats, sums, weight, g.pointer, g.stride,
            dx.pointer, dx.stride, input_sums, depthwise_gradient, pointwise_gradient,
        )  # fmt: skip

    def statistics(self, y: Map, stats: int, before: int = 0, *, last: bool = True) -> None:
        """Mean and 1 / standard deviation of every channel.

        Of many images piece by piece: `before` pixels have been seen, and this is the `last`.
        """
        self._call["statistics"](
            y.batch, y.pixels, y.channels, y.pointer, y.stride, stats, before, last, EPSILON
        )

    def norm_backward(
        self, g: Map, y: Map, stats: int, sums: int, weight: float, count: int, dy: Map
    ) -> None:
        """Gradient of y from that of weight * normalised y; `count` pixels were normalised."""
        self._call["norm_backward"](
            g.batch * g.pixels, g.channels, g.pointer, g.stride, y.pointer, y.stride, stats, sums,
            weight, count, dy.pointer, dy.stride,
        )  # fmt: skip

    def combine(
        self, terms: Sequence[Sequence[Term]], outs: Sequence[Map], *, add: bool = False
    ) -> None:
        """Per target: out (+)= sum of weight * normalised map over its terms."""
        out, arrays = outs[0], _arrays(terms, outs)
        weights = [term.weight for own in terms for term in own]
        self._call["combine"](
            out.batch, out.pixels, out.channels, len(outs), *arrays[:4],
            (ctypes.c_double * len(weights))(*weights), *arrays[4:], add,
        )  # fmt: skip

    def combine_sums(self, terms: Sequence[Sequence[Term]], gs: Sequence[Map], sums: int) -> None:
        """Per term [2][C]: sums over pixels of its target's g and of g times the normalised map."""
        g, arrays = gs[0], _arrays(terms, gs)
        self._call["combine_sums"](g.batch, g.pixels, g.channels, len(gs), *arrays, sums)

    def rectify_backward(self, x: Map, d: Map, e: Map | None, dx: Map) -> None:
        """dx += d (+ e, spaced as d) where x is positive."""
        self._call["rectify_backward"](
            x.batch * x.pixels, x.channels, x.pointer, x.stride, d.pointer, d.stride,
            None if e is None else e.pointer, dx.pointer, dx.stride,
        )  # fmt: skip

    def pool(self, x: Map, maximum: bool, stride: int, y: Map, stats: int | None) -> None:
        """3x3 maximum or mean (of the pixels inside), padded by one."""
        self._call["pool"](
            x.batch, x.height, x.width, x.channels, maximum, stride, x.pointer, x.stride,
            y.pointer, y.stride, stats, EPSILON,
        )  # fmt: skip

    def pool_backward(self, x: Map, maximum: bool, stride: int, dy: Map, dx: Map) -> None:
        """dx is added to."""
        self._call["pool_backward"](
            x.batch, x.height, x.width, x.channels, maximum, stride, x.pointer, x.stride,
            dy.pointer, dy.stride, dx.pointer, dx.stride,
        )  # fmt: skip


def _arrays(terms: Sequence[Sequence[Term]], targets: Sequence[Map]) -> tuple[object, ...]:
    """starts, maps, their strides and statistics; targets and their strides."""
    flat = [term for own in terms for term in own]
    starts = [0]
    for own in terms:
        starts.append(starts[-1] + len(own))
    n, t = len(flat), len(targets)
    return (
        (ctypes.c_int64 * (t + 1))(*starts),
        (ctypes.c_void_p * n)(*(term.map.pointer for term in flat)),
        (ctypes.c_int64 * n)(*(term.map.stride for term in flat)),
        (ctypes.c_void_p * n)(*(term.stats for term in flat)),
        (ctypes.c_void_p * t)(*(target.pointer for target in targets)),
        (ctypes.c_int64 * t)(*(target.stride for target in targets)),
    )
