"""Cells of one replica on the CPU, with the compiled kernels and gradients written out.

A cell is one autograd function. Forward, a round computes its maps before their batch norms and
the statistics of each; nodes are weighted sums of maps, with the norm folded into the weights.
Backward needs the maps, the statistics and the gradients of the nodes alone: what lies between
(depthwise outputs, rectified and normalised inputs) is computed again, image by image, in the
cache. So about six maps an edge are kept where the edge-by-edge form keeps some thirty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from itnas.engine.blueprint import SearchCell
from itnas.engine.grouped import edge_name
from itnas.engine.rounds import DENSE, SEPARABLE, Round
from itnas.engine.supernet import Noise
from itnas.engine.weights import Weights
from itnas.kernels.library import Kernels, Map, Term, pixel_map

PIECE_BYTES = 2**21
"""of the outputs of a dense convolution that are computed at a time"""
SMALLEST_PIECE = 16
"""images; below, torch takes a slower 1x1 convolution"""


class Native:
    """A backend of one replica, see `itnas.supernet.Backend`; tensors are channels_last."""

    def __init__(self, dtype: torch.dtype) -> None:
        """RuntimeError where the kernels cannot be had."""
        self.kernels = Kernels(dtype)

    def convolution(self, x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """x (B, C, H, W), weight (1, C out, C, k, k), padded by k // 2."""
        x = x.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight[0], None, stride, weight.shape[-1] // 2)

    def norm(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Batch norm with the batch's statistics; scale and shift (1, C)."""
        y: Tensor = _Norm.apply(x, self.kernels)
        if scale is not None and shift is not None:
            y = torch.addcmul(shift[0, :, None, None], y, scale[0, :, None, None])
        return y

    def cell(
        self, layer: SearchCell, inputs: list[Tensor], weights: Weights, p: Tensor, noise: Noise
    ) -> Tensor:
        """Input nodes to the cell's output, all (B, C, H, W)."""
        names = [part.name for parts in layer.parts for part in parts.values()]
        tensors = [weights[name] for name in names]
        output: Tensor = _Cell.apply(layer, self.kernels, noise, len(inputs), p, *inputs, *tensors)
        return output


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Kernels) -> Tensor:
        y = pixel_map(x)
        stats = torch.empty(2, y.shape[3], dtype=torch.float64)
        out = torch.empty(y.shape, dtype=y.dtype)
        kernels.statistics(Map(y), stats.data_ptr())
        kernels.combine([[Term(Map(y), stats.data_ptr())]], [Map(out)])
        ctx.kernels = kernels
        ctx.save_for_backward(x, stats)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, stats = ctx.saved_tensors
        y, g = pixel_map(x), pixel_map(gradients[0])
        sums, dy = torch.empty_like(stats), torch.empty(y.shape, dtype=y.dtype)
        pointers = stats.data_ptr(), sums.data_ptr()
        ctx.kernels.combine_sums([[Term(Map(y), pointers[0])]], [Map(g)], pointers[1])
        count = y.shape[0] * y.shape[1] * y.shape[2]
        ctx.kernels.norm_backward(Map(g), Map(y), *pointers, 1.0, count, Map(dy))
        return dy.permute(0, 3, 1, 2), None


class _Cell(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layer: SearchCell, kernels: Kernels, noise: Noise, inputs: int, p: Tensor,
        *tensors: Tensor,
    ) -> Tensor:  # fmt: skip
        keep = any(ctx.needs_input_grad)
        done = _CellPass(layer, kernels, noise, p, tensors[:inputs], tensors[inputs:], keep)
        output = done.forward()
        ctx.done = done if keep else None
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        done: _CellPass = ctx.done
        ctx.done = None  # the maps are large, and a second backward is not asked for
        weights_wanted = any(ctx.needs_input_grad[5 + len(done.inputs) :])
        dp, dinputs, dweights = done.backward(gradients[0], weights_wanted)
        return (None, None, None, None, dp, *dinputs, *dweights)


@dataclass
class _Separable:
    """One depthwise-separable convolution of a round; pointers into tensors that others hold."""

    operation: str
    edge: int
    depthwise: int
    pointwise: int
    gradients: tuple[int, int] | tuple[None, None] = (None, None)


@dataclass
class _RoundMaps:
    """What a round leaves for its backward pass."""

    tensors: list[Tensor] = field(default_factory=list)
    """whatever the pointers point into"""
    first: list[Map] = field(default_factory=list)
    """outputs of the first of two separable convolutions"""
    first_stats: list[int] = field(default_factory=list)
    maps: list[Map] = field(default_factory=list)
    """in the order of the routing; without content where nothing needs it"""
    stats: list[int | None] = field(default_factory=list)
    rectified: Tensor | None = None
    """(sources, B, H, W, C), for factorized reductions"""
    free_stats: list[int] = field(default_factory=list)
    """pointers that are still to be given out"""


class _CellPass:
    """One forward and backward pass through a cell."""

    def __init__(
        self, layer: SearchCell, kernels: Kernels, noise: Noise, p: Tensor,
        inputs: tuple[Tensor, ...], tensors: tuple[Tensor, ...], keep: bool,
    ) -> None:  # fmt: skip
        self.layer, self.plan, self.kernels, self.noise = layer, layer.plan, kernels, noise
        self.p: list[float] = [*p[0].tolist(), 0.0]
        self.p_like, self.keep, self.tensors = p, keep, tensors
        self.inputs = [pixel_map(x) for x in inputs]
        iterator = iter(tensors)
        self.weights = [{role: next(iterator) for role in parts} for parts in layer.parts]
        self.rounds: list[_RoundMaps] = []
        batch, height, width, channels = self.inputs[0].shape
        stride = self.plan.rounds[0].stride
        self.shape = (batch, -(-height // stride), -(-width // stride), channels)
        self.dtype = self.inputs[0].dtype
        self.size = self.inputs[0].element_size()

    # -- forward --------------------------------------------------------------------------

    def forward(self) -> Tensor:
        cell, (batch, height, width, c) = self.plan.cell, self.shape
        count = cell.nodes - cell.inputs
        whole = torch.empty(batch, height, width, count * c, dtype=self.dtype)
        self.nodes = [Map(x) for x in self.inputs]
        self.nodes += [Map(whole, n * c, c) for n in range(count)]
        for n, r in enumerate(self.plan.rounds):
            made = self._maps(r, self.weights[n])
            terms = [
                [
                    Term(made.maps[m], made.stats[m], self.p[at])
                    for m, at in enumerate(row)
                    if self.p[at] != 0
                ]
                for row in r.routing
            ]
            self.kernels.combine(terms, [self.nodes[t] for t in r.targets], add=n > 0)
            if self.keep:
                self.rounds.append(made)
        if cell.inputs == 1:  # NAS-Bench-201: the last node is the output
            return whole[..., -c:].permute(0, 3, 1, 2)
        return whole.permute(0, 3, 1, 2)

    def _maps(self, r: Round, w: Weights) -> _RoundMaps:
        made, c = _RoundMaps(), self.shape[3]
        wanted = [
            self.keep or any(self.p[row[m]] != 0 for row in r.routing)
            for m in range(len(r.routing[0]))
        ]
        first, last = self._separables(r, w)
        self._reserve_stats(made, len(first) + len(wanted))
        middle = iter(self._empty(made, len(first)))
        for n, (one, one_wanted) in enumerate(zip(first, wanted[: len(first)], strict=True)):
            made.first.append(next(middle))
            made.first_stats.append(self._stats(made))
            if one_wanted:
                self._separate(one, r.stride, self._source(one), None, made.first[n],
                               made.first_stats[n])  # fmt: skip
        for n, (one, y) in enumerate(zip(last, self._empty(made, len(last)), strict=True)):
            stats = self._stats(made)
            if wanted[n]:
                if n < len(first):
                    self._separate(one, 1, made.first[n], made.first_stats[n], y, stats)
                else:
                    self._separate(one, r.stride, self._source(one), None, y, stats)
            self._add(made, y, stats)
        if r.dense:
            self._dense(r, w, made)
        if r.halved:
            self._halve(r, w, made)
        for s, operation in r.pools:
            (pooled,) = self._empty(made, 1)
            pool_stats = self._stats(made) if self.plan.pool_norm else None
            maximum = operation == "max_pool_3x3"
            if wanted[len(made.maps)]:
                self.kernels.pool(self.nodes[s], maximum, r.stride, pooled, pool_stats)
            self._add(made, pooled, pool_stats)
        for s in r.skips:
            self._add(made, self.nodes[s], None)
        if r.noise:
            batch, height, width, _ = self.shape
            names = [edge_name(self.layer, e) for e in r.noise]
            drawn = self.noise(names, (batch, c, height, width))[0]
            block = drawn.to(self.dtype).permute(0, 1, 3, 4, 2).contiguous()
            made.tensors.append(block)
            for one in block:
                self._add(made, Map(one), None)
        return made

    def _dense(self, r: Round, w: Weights, made: _RoundMaps) -> None:
        """Convolutions of C to E*C channels, a few images at a time: what a convolution has
        written is still in the cache when its statistics are taken."""
        x, c = self.nodes[r.sources[0]], self.shape[3]
        outputs = []
        for operation, edges in r.dense.items():
            y = torch.empty(*self.shape[:3], len(edges) * c, dtype=self.dtype)
            made.tensors.append(y)
            outputs.append((y, w[operation].flatten(0, 2), DENSE[operation] // 2))
            for n in range(len(edges)):
                self._add(made, Map(y, n * c, c), self._stats(made))
        first = len(made.maps) - sum(len(edges) for edges in r.dense.values())
        for start, stop in self._pieces(max(y.shape[3] for y, _, _ in outputs)):
            images = torch.relu(x.images(start, stop).view()).permute(0, 3, 1, 2)
            m = first
            for y, weight, padding in outputs:
                y[start:stop] = F.conv2d(images, weight, None, 1, padding).permute(0, 2, 3, 1)
                for _ in range(y.shape[3] // c):
                    stats = made.stats[m]
                    assert stats is not None
                    self.kernels.statistics(
                        made.maps[m].images(start, stop), stats, start * x.pixels,
                        last=stop == len(y),
                    )  # fmt: skip
                    m += 1

    def _pieces(self, channels: int) -> list[tuple[int, int]]:
        """Ranges of images so small that a map of so many channels fits the cache."""
        batch, height, width, _ = self.shape
        count = max(SMALLEST_PIECE, PIECE_BYTES // (height * width * channels * self.size))
        return [(n, min(n + count, batch)) for n in range(0, batch, count)]

    def _halve(self, r: Round, w: Weights, made: _RoundMaps) -> None:
        """Factorized reductions of all sources: even and odd pixels as matrices."""
        made.rectified = torch.stack([torch.relu(self.nodes[s].view()) for s in r.sources])
        even, odd = w["even"][0].flatten(2), w["odd"][0].flatten(2)  # (E, C / 2, C) each
        y = torch.empty(len(r.halved), *self.shape, dtype=self.dtype)
        half = even.shape[1]
        for n, e in enumerate(r.halved):
            x = made.rectified[r.sources.index(self.plan.cell.edges[e].source)]
            y[n, ..., :half] = x[:, ::2, ::2] @ even[n].T
            y[n, ..., half:] = x[:, 1::2, 1::2] @ odd[n].T
        made.tensors.append(y)
        for n in range(len(r.halved)):
            self._add_normed(made, Map(y[n]))

    def _separables(self, r: Round, w: Weights) -> tuple[list[_Separable], list[_Separable]]:
        """Those applied twice (their first halves), and the last halves of all, in map order."""
        return (
            list(self._walk(r.twice, w, "first")),
            list(self._walk(r.separable, w, "last")),
        )

    def _walk(
        self, operations: dict[str, list[int]], w: Weights, role: str,
        gradients: Weights | None = None,
    ) -> Iterator[_Separable]:  # fmt: skip
        c, position = self.shape[3], 0
        for operation, edges in operations.items():
            taps = SEPARABLE[operation][0] ** 2 * c * self.size
            for n, e in enumerate(edges):
                offsets = n * taps, position * c * c * self.size
                names = f"{role}.{operation}", f"{role}.point"
                at = [w[name].data_ptr() + o for name, o in zip(names, offsets, strict=True)]
                yield _Separable(
                    operation, e, at[0], at[1],
                    (None, None) if gradients is None else (
                        gradients[names[0]].data_ptr() + offsets[0],
                        gradients[names[1]].data_ptr() + offsets[1],
                    ),
                )  # fmt: skip
                position += 1

    def _separate(
        self, one: _Separable, stride: int, x: Map, input_stats: int | None, y: Map, stats: int
    ) -> None:
        kernel, dilation, _ = SEPARABLE[one.operation]
        self.kernels.separable(
            x, (kernel, dilation, stride), input_stats, one.depthwise, one.pointwise, y, stats
        )

    def _source(self, one: _Separable) -> Map:
        return self.nodes[self.plan.cell.edges[one.edge].source]

    def _empty(self, made: _RoundMaps, count: int) -> list[Map]:
        if not count:
            return []
        block = torch.empty(count, *self.shape, dtype=self.dtype)
        made.tensors.append(block)
        return [Map(y) for y in block]

    def _stats(self, made: _RoundMaps) -> int:
        return made.free_stats.pop()

    def _reserve_stats(self, made: _RoundMaps, count: int) -> None:
        block = torch.empty(count, 2, self.shape[3], dtype=torch.float64)
        made.tensors.append(block)
        size = 2 * self.shape[3] * 8
        made.free_stats = [block.data_ptr() + n * size for n in range(count)]

    def _add(self, made: _RoundMaps, y: Map, stats: int | None) -> None:
        made.maps.append(y)
        made.stats.append(stats)

    def _add_normed(self, made: _RoundMaps, y: Map) -> None:
        stats = self._stats(made)
        self.kernels.statistics(y, stats)
        self._add(made, y, stats)

    # -- backward -------------------------------------------------------------------------

    def backward(
        self, gradient: Tensor, weights_wanted: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
        """Gradients of p, of the inputs and of the weights (None where they are not wanted)."""
        cell, (batch, height, width, c) = self.plan.cell, self.shape
        given = pixel_map(gradient)
        if cell.inputs == 1:
            whole = torch.zeros(batch, height, width, (cell.nodes - 1) * c, dtype=self.dtype)
            whole[..., -c:] = given
        else:
            whole = given.clone(memory_format=torch.contiguous_format)
        dinputs = [torch.zeros(x.shape, dtype=self.dtype) for x in self.inputs]
        self.dnodes = [Map(d) for d in dinputs]
        self.dnodes += [Map(whole, n * c, c) for n in range(cell.nodes - cell.inputs)]
        self.dp = [0.0] * len(self.p)
        # empty, not zero: every element of every part is written
        dweights = [
            {role: torch.empty_like(part) for role, part in w.items()} if weights_wanted else None
            for w in self.weights
        ]
        for n in reversed(range(len(self.plan.rounds))):
            self._round_backward(n, dweights[n])
            self.rounds[n] = _RoundMaps()  # free its maps
        dp = torch.tensor([self.dp[:-1]], dtype=self.p_like.dtype)
        flat = [d for w in dweights if w is not None for d in w.values()]
        weights = flat if weights_wanted else [None] * len(self.tensors)
        return dp, [d.permute(0, 3, 1, 2) for d in dinputs], weights  # type: ignore[return-value]

    def _round_backward(self, n: int, dweights: Weights | None) -> None:
        r, w, made, c = self.plan.rounds[n], self.weights[n], self.rounds[n], self.shape[3]
        sums = self._sums(r, made)  # per map: {target: (2, C)}
        only = [next(iter(by_target)) for by_target in sums]  # the target of maps that have one
        buffer = Map(torch.empty(self.shape, dtype=self.dtype))
        first = list(self._walk(r.twice, w, "first", dweights))
        last = list(self._walk(r.separable, w, "last", dweights))
        between = torch.empty(2, c, dtype=torch.float64)
        for m, one in enumerate(last):
            source, t = self.plan.cell.edges[one.edge].source, only[m]
            final = (made.maps[m], made.stats[m], sums[m][t].data_ptr(),
                     self._weight(r, t, m), self.dnodes[t])  # fmt: skip
            if m < len(first):
                self._separate_back(one, 1, made.first[m], made.first_stats[m], *final, buffer,
                                    between.data_ptr())  # fmt: skip
                self._separate_back(
                    first[m], r.stride, self.nodes[source], None, made.first[m],
                    made.first_stats[m], between.data_ptr(), 1.0, buffer, self.dnodes[source], None,
                )  # fmt: skip
            else:
                self._separate_back(one, r.stride, self.nodes[source], None, *final,
                                    self.dnodes[source], None)  # fmt: skip
        m = len(last)
        if r.dense:
            m = self._dense_backward(r, w, made, sums, m, dweights)
        if r.halved:
            m = self._halved_backward(r, w, made, sums, m, dweights)
        for s, operation in r.pools:
            self._pool_backward(r, made, sums[m], m, s, operation == "max_pool_3x3")
            m += 1
        for s in r.skips:
            self.kernels.combine([self._gradients_of(r, m, list(sums[m]))], [self.dnodes[s]],
                                 add=True)  # fmt: skip
            m += 1

    def _gradients_of(self, r: Round, m: int, targets: list[int]) -> list[Term]:
        """The gradients of a map's targets, weighted."""
        return [Term(self.dnodes[t], None, self._weight(r, t, m)) for t in targets]

    def _sums(self, r: Round, made: _RoundMaps) -> list[dict[int, Tensor]]:
        """Sums of the nodes' gradients with every map that goes there; gradients of p from them."""
        nothing = len(self.p) - 1
        used = [[m for m, at in enumerate(row) if at < nothing] for row in r.routing]
        terms = [[Term(made.maps[m], made.stats[m]) for m in ms] for ms in used]
        sums = torch.empty(sum(map(len, used)), 2, self.shape[3], dtype=torch.float64)
        self.kernels.combine_sums(terms, [self.dnodes[t] for t in r.targets], sums.data_ptr())
        found: list[dict[int, Tensor]] = [{} for _ in made.maps]
        products = sums[:, 1].sum(1).tolist()
        flat = [(t, m, row[m]) for t, row, ms in zip(r.targets, r.routing, used, strict=True)
                for m in ms]  # fmt: skip
        for n, (t, m, at) in enumerate(flat):
            found[m][t] = sums[n]
            self.dp[at] = products[n]
        return found

    def _weight(self, r: Round, target: int, m: int) -> float:
        return self.p[r.routing[target - r.targets[0]][m]]

    def _separate_back(
        self, one: _Separable, stride: int, x: Map, input_stats: int | None, y: Map,
        stats: int | None, sums: int, weight: float, g: Map, dx: Map, input_sums: int | None,
    ) -> None:  # fmt: skip
        assert stats is not None
        kernel, dilation, _ = SEPARABLE[one.operation]
        self.kernels.separable_backward(
            x, (kernel, dilation, stride), input_stats, one.depthwise, one.pointwise, y, stats,
            sums, weight, g, dx, input_sums, *one.gradients,
        )  # fmt: skip

    def _norm_gradient(
        self, r: Round, made: _RoundMaps, sums: dict[int, Tensor], m: int, dy: Map,
        images: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        """Gradient of a map (or of some images of it) that goes to one target, before its norm."""
        y, stats, (t, total) = made.maps[m], made.stats[m], next(iter(sums.items()))
        assert stats is not None
        weight, g, count = self._weight(r, t, m), self.dnodes[t], y.batch * y.pixels
        if images is not None:
            y, g = y.images(*images), g.images(*images)
        self.kernels.norm_backward(g, y, stats, total.data_ptr(), weight, count, dy)

    def _dense_backward(
        self, r: Round, w: Weights, made: _RoundMaps, sums: list[dict[int, Tensor]], m: int,
        dweights: Weights | None,
    ) -> int:  # fmt: skip
        c, x, dx = self.shape[3], self.nodes[r.sources[0]], self.dnodes[r.sources[0]]
        if dweights is not None:
            for operation in r.dense:
                dweights[operation].zero_()
        for start, stop in self._pieces(max(map(len, r.dense.values())) * c):
            own = x.images(start, stop)
            images = torch.relu(own.view()).permute(0, 3, 1, 2)
            at, gradients = m, []
            for operation, edges in r.dense.items():
                dy = torch.empty(stop - start, *self.shape[1:3], len(edges) * c, dtype=self.dtype)
                for n in range(len(edges)):
                    self._norm_gradient(r, made, sums[at], at, Map(dy, n * c, c), (start, stop))
                    at += 1
                padding = [DENSE[operation] // 2] * 2
                d, dw, _ = torch.ops.aten.convolution_backward(
                    dy.permute(0, 3, 1, 2), images, w[operation].flatten(0, 2), None, [1, 1],
                    padding, [1, 1], False, [0, 0], 1, [True, dweights is not None, False],
                )  # fmt: skip
                if dweights is not None:
                    dweights[operation] += dw.view(w[operation].shape)
                gradients.append(Map(pixel_map(d)))
            second = gradients[1] if len(gradients) > 1 else None
            self.kernels.rectify_backward(own, gradients[0], second, dx.images(start, stop))
        return at

    def _halved_backward(
        self, r: Round, w: Weights, made: _RoundMaps, sums: list[dict[int, Tensor]], m: int,
        dweights: Weights | None,
    ) -> int:  # fmt: skip
        assert made.rectified is not None
        even, odd = w["even"][0].flatten(2), w["odd"][0].flatten(2)
        half = even.shape[1]
        total = torch.zeros_like(made.rectified)
        dy = torch.empty(self.shape, dtype=self.dtype)
        for n, e in enumerate(r.halved):
            self._norm_gradient(r, made, sums[m], m, Map(dy))
            s = r.sources.index(self.plan.cell.edges[e].source)
            x, dx = made.rectified[s], total[s]
            for name, weight, start, d in (("even", even, 0, dy[..., :half]),
                                           ("odd", odd, 1, dy[..., half:])):  # fmt: skip
                dx[:, start::2, start::2] += d @ weight[n]
                if dweights is not None:
                    pixels = x[:, start::2, start::2].flatten(0, 2)
                    dweights[name][0, n] = (d.flatten(0, 2).T @ pixels)[..., None, None]
            m += 1
        for n, s in enumerate(r.sources):
            self.kernels.rectify_backward(self.nodes[s], Map(total[n]), None, self.dnodes[s])
        return m

    def _pool_backward(
        self, r: Round, made: _RoundMaps, sums: dict[int, Tensor], m: int, s: int, maximum: bool
    ) -> None:
        """All edges share the map, so the weighted sum of their gradients goes through it once."""
        targets = list(sums)
        weights = [self._weight(r, t, m) for t in targets]
        g = Map(torch.empty(self.shape, dtype=self.dtype))
        self.kernels.combine([self._gradients_of(r, m, targets)], [g])
        y, stats = made.maps[m], made.stats[m]
        if stats is not None:
            total = torch.stack([p * sums[t] for p, t in zip(weights, targets, strict=True)]).sum(0)
            dy = Map(torch.empty(self.shape, dtype=self.dtype))
            count = y.batch * y.pixels
            self.kernels.norm_backward(g, y, stats, total.data_ptr(), 1.0, count, dy)
            g = dy
        self.kernels.pool_backward(self.nodes[s], maximum, r.stride, g, self.dnodes[s])
