"""The kernels as methods on maps; every one writes into its last arguments."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch

from itnas.kernels.library import SIGNATURES, TASK, load
from itnas.kernels.maps import Map, Term

EPSILON = 1e-5
"""of the batch norms, PyTorch's default"""

Matrices = tuple[int | None, int | None]
"""pointers"""


class Kernels:
    """The library for one type of numbers; every method writes into its last arguments."""

    def __init__(self, dtype: torch.dtype) -> None:
        """RuntimeError where there is no library."""
        library = load(dtype)
        if library is None:
            raise RuntimeError("the compiled kernels are not available")
        self._call = {name: getattr(library, name) for name in SIGNATURES}

    def use_threads(self, count: int) -> None:
        """How many threads the kernels take from now on."""
        self._call["use_threads"](count)

    def each(self, count: int, task: Callable[[int], None]) -> None:
        """task(0) .. task(count - 1), each on one of the kernels' threads."""
        self._call["each"](count, TASK(task))

    def separable(
        self, x: Map, shape: tuple[int, int, int], input_stats: int | None, depthwise: int,
        pointwise: int, y: Map, stats: int,
    ) -> None:  # fmt: skip
        """ReLU of x (normalised by `input_stats` if given), depthwise, pointwise; stats of y.

        `shape`: kernel, dilation, stride. Statistics are pointers to doubles (2, C): mean and 1 /
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
        """From the gradient g of weight * normalised y, whose `sums` (2, C) are those of g and of
        g times normalised y. dx is added to; with `input_stats` it is written, as the gradient of
        the normalised x, and `input_sums` with it. No gradients of weights where they are None.
        """
        self._call["separable_backward"](
            x.batch, x.height, x.width, x.channels, *shape, x.pointer, x.stride, input_stats,
            depthwise, pointwise, y.pointer, y.stride, stats, sums, weight, g.pointer, g.stride,
            dx.pointer, dx.stride, input_sums, depthwise_gradient, pointwise_gradient,
        )  # fmt: skip

    def pointwise(
        self, x: Map, first: int, rectify: bool, matrices: Matrices, y: Map, stats: Sequence[int]
    ) -> None:
        """1x1 convolution (of the ReLU) of x, by a matrix (C out, C); or, by two matrices of
        `first` and C out - `first` rows, a factorized reduction: pixels (2i, 2j) and (2i + 1,
        2j + 1). `matrices` are pointers, the second may be None. Statistics of equal parts of y, as
        many as there are pointers; none: not taken.
        """
        self._call["pointwise"](
            x.batch, x.height, x.width, x.channels, y.channels, first, rectify, x.pointer,
            x.stride, *matrices, y.pointer, y.stride, max(len(stats), 1), _pointers(stats), EPSILON,
        )  # fmt: skip

    def pointwise_backward(
        self, x: Map, first: int, rectify: bool, matrices: Matrices, y: Map,
        stats: Sequence[int], sums: Sequence[int], weights: Sequence[float], gs: Sequence[Map],
        dx: Map, gradients: Matrices,
    ) -> None:  # fmt: skip
        """gs: one gradient, that of y; or, with `stats`, the gradient of weight * normalised y for
        each of its parts. dx is added to.
        """
        self._call["pointwise_backward"](
            x.batch, x.height, x.width, x.channels, y.channels, first, rectify, x.pointer,
            x.stride, *matrices, y.pointer, y.stride, *_returned(gs, stats, sums, weights),
            dx.pointer, dx.stride, *gradients,
        )  # fmt: skip

    def winograd(self, x: Map, weights: int, y: Map, stats: Sequence[int]) -> None:
        """3x3 convolution (C out, C, 3, 3) of the ReLU of x, stride 1. Statistics of equal parts of
        y, as many as there are pointers.
        """
        self._call["winograd"](
            x.batch, x.height, x.width, x.channels, y.channels, x.pointer, x.stride, weights,
            y.pointer, y.stride, len(stats), _pointers(stats), EPSILON,
        )  # fmt: skip

    def winograd_backward(
        self, x: Map, weights: int, y: Map, stats: Sequence[int], sums: Sequence[int],
        scales: Sequence[float], gs: Sequence[Map], dx: Map, dweights: int | None,
    ) -> None:  # fmt: skip
        """gs: the gradient of scale * normalised y for each of its parts. dx is added to."""
        self._call["winograd_backward"](
            x.batch, x.height, x.width, x.channels, y.channels, x.pointer, x.stride, weights,
            y.pointer, y.stride, *_returned(gs, stats, sums, scales), dx.pointer, dx.stride,
            dweights,
        )  # fmt: skip

    def measure(self, y: Map, stats: int) -> None:
        """Mean and 1 / standard deviation of every channel."""
        self._call["measure"](y.batch, y.pixels, y.channels, y.pointer, y.stride, stats, EPSILON)

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
        """Per term (2, C): sums over pixels of its target's g and of g times the normalised map."""
        g, arrays = gs[0], _arrays(terms, gs)
        self._call["combine_sums"](g.batch, g.pixels, g.channels, len(gs), *arrays, sums)

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


def _pointers(given: Sequence[int]) -> object:
    """An array of them; null where there are none."""
    return (ctypes.c_void_p * len(given))(*given) if given else None


def _returned(
    gs: Sequence[Map], stats: Sequence[int], sums: Sequence[int], weights: Sequence[float]
) -> tuple[object, ...]:
    """What comes back to the parts of an output: how many, gradients, their strides, ..."""
    return (
        len(gs), _pointers([g.pointer for g in gs]),
        (ctypes.c_int64 * len(gs))(*(g.stride for g in gs)), _pointers(stats), _pointers(sums),
        (ctypes.c_double * len(weights))(*weights),
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
