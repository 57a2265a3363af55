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

from itnas.blueprint import DENSE, SEPARABLE, Round, SearchCell
from itnas.grouped import edge_name
from itnas.kernels import Kernels, Map, pixel_map
from itnas.supernet import Noise
from itnas.weights import Weights


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
        kernels.combine([Map(y)], [stats.data_ptr()], [1.0], Map(out), add=False)
        ctx.kernels = kernels
        ctx.save_for_backward(x, stats)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, stats = ctx.saved_tensors
        y, g = pixel_map(x), pixel_map(gradients[0])
        sums, dy = torch.empty_like(stats), torch.empty(y.shape, dtype=y.dtype)
        pointers = stats.data_ptr(), sums.data_ptr()
        ctx.kernels.combine_sums([Map(y)], [pointers[0]], Map(g), pointers[1])
        ctx.kernels.norm_backward(Map(g), Map(y), *pointers, 1.0, Map(dy))
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
    maps: list[Map | None] = field(default_factory=list)
    """in the order of the routing; None where nothing needs it"""
    stats: list[int | None] = field(default_factory=list)
    rectified: Tensor | None = None
    """(B, H, W, C) of the source, for dense convolutions; of all sources one after another for
    factorized reductions"""


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
            for t, row in zip(r.targets, r.routing, strict=True):
                terms = [m for m, at in enumerate(row) if self.p[at] != 0 and made.maps[m]]
                self.kernels.combine(
                    [made.maps[m] for m in terms],  # type: ignore[misc]
                    [made.stats[m] for m in terms],
                    [self.p[row[m]] for m in terms],
                    self.nodes[t],
                    add=n > 0,
                )
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
            x = self.nodes[r.sources[0]]
            made.rectified = torch.relu(_view(x))
            for operation in r.dense:
                images = made.rectified.permute(0, 3, 1, 2)
                y = pixel_map(F.conv2d(images, w[operation].flatten(0, 2), None, 1,
                                       DENSE[operation] // 2))  # fmt: skip
                made.tensors.append(y)
                for n in range(y.shape[3] // c):
                    self._add_normed(made, Map(y, n * c, c))
        if r.halved:
            self._halve(r, w, made)
        for s, operation in r.pools:
            (y,) = self._empty(made, 1)
            stats = self._stats(made) if self.plan.pool_norm else None
            maximum = operation == "max_pool_3x3"
            if wanted[len(made.maps)]:
                self.kernels.pool(self.nodes[s], maximum, r.stride, y, stats)
            self._add(made, y, stats)
        for s in r.skips:
            self._add(made, self.nodes[s], None)
        for e in r.noise:
            batch, height, width, _ = self.shape
            drawn = self.noise(edge_name(self.layer, e), (batch, c, height, width))[0]
            y = pixel_map(drawn.to(self.dtype)).contiguous()
            made.tensors.append(y)
            self._add(made, Map(y), None)
        return made

    def _halve(self, r: Round, w: Weights, made: _RoundMaps) -> None:
        """Factorized reductions of all sources: even and odd pixels as matrices."""
        made.rectified = torch.stack([torch.relu(_view(self.nodes[s])) for s in r.sources])
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
        stats = torch.empty(2, self.shape[3], dtype=torch.float64)
        made.tensors.append(stats)
        return int(stats.data_ptr())

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
        self.dp = torch.zeros(len(self.p), dtype=torch.float64)
        # empty, not zero: every element of every part is written
        dweights = [
            {role: torch.empty_like(part) for role, part in w.items()} if weights_wanted else None
            for w in self.weights
        ]
        for n in reversed(range(len(self.plan.rounds))):
            self._round_backward(n, dweights[n])
            self.rounds[n] = _RoundMaps()  # free its maps
        dp = self.dp[None, :-1].to(self.p_like.dtype)
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
            targets = list(sums[m])
            self.kernels.combine(
                [self.dnodes[t] for t in targets], [None] * len(targets),
                [self._weight(r, t, m) for t in targets], self.dnodes[s], add=True,
            )  # fmt: skip
            m += 1

    def _sums(self, r: Round, made: _RoundMaps) -> list[dict[int, Tensor]]:
        """Sums of the nodes' gradients with every map that goes there; gradients of p from them."""
        found: list[dict[int, Tensor]] = [{} for _ in made.maps]
        for t, row in zip(r.targets, r.routing, strict=True):
            terms = [m for m, at in enumerate(row) if at < len(self.p) - 1]
            sums = torch.empty(len(terms), 2, self.shape[3], dtype=torch.float64)
            self.kernels.combine_sums(
                [made.maps[m] for m in terms],  # type: ignore[misc]
                [made.stats[m] for m in terms], self.dnodes[t], sums.data_ptr(),
            )  # fmt: skip
            if terms:
                self.dp[[row[m] for m in terms]] = sums[:, 1].sum(1)
            for n, m in enumerate(terms):
                found[m][t] = sums[n]
        return found

    def _weight(self, r: Round, target: int, m: int) -> float:
        return self.p[r.routing[target - r.targets[0]][m]]

    def _separate_back(
        self, one: _Separable, stride: int, x: Map, input_stats: int | None, y: Map | None,
        stats: int | None, sums: int, weight: float, g: Map, dx: Map, input_sums: int | None,
    ) -> None:  # fmt: skip
        assert y is not None and stats is not None
        kernel, dilation, _ = SEPARABLE[one.operation]
        self.kernels.separable_backward(
            x, (kernel, dilation, stride), input_stats, one.depthwise, one.pointwise, y, stats,
            sums, weight, g, dx, input_sums, *one.gradients,
        )  # fmt: skip

    def _norm_gradient(
        self, r: Round, made: _RoundMaps, sums: dict[int, Tensor], m: int, dy: Map
    ) -> None:
        """Gradient of a map that goes to one target, before its norm."""
        y, stats, (t, total) = made.maps[m], made.stats[m], next(iter(sums.items()))
        assert y is not None and stats is not None
        weight = self._weight(r, t, m)
        self.kernels.norm_backward(self.dnodes[t], y, stats, total.data_ptr(), weight, dy)

    def _dense_backward(
        self, r: Round, w: Weights, made: _RoundMaps, sums: list[dict[int, Tensor]], m: int,
        dweights: Weights | None,
    ) -> int:  # fmt: skip
        c, source = self.shape[3], r.sources[0]
        assert made.rectified is not None
        images, total = made.rectified.permute(0, 3, 1, 2), None
        for operation, edges in r.dense.items():
            dy = torch.empty(*self.shape[:3], len(edges) * c, dtype=self.dtype)
            for n in range(len(edges)):
                self._norm_gradient(r, made, sums[m], m, Map(dy, n * c, c))
                m += 1
            weight = w[operation].flatten(0, 2)
            padding = DENSE[operation] // 2
            dx, dw, _ = torch.ops.aten.convolution_backward(
                dy.permute(0, 3, 1, 2), images, weight, None, [1, 1], [padding, padding], [1, 1],
                False, [0, 0], 1, [True, dweights is not None, False],
            )  # fmt: skip
            if dweights is not None:
                dweights[operation].copy_(dw.view(w[operation].shape))
            total = dx if total is None else total + dx
        assert total is not None
        target = _view(self.dnodes[source])
        target.add_(torch.where(made.rectified > 0, total.permute(0, 2, 3, 1), 0))
        return m

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
            target = _view(self.dnodes[s])
            target.add_(torch.where(made.rectified[n] > 0, total[n], 0))
        return m

    def _pool_backward(
        self, r: Round, made: _RoundMaps, sums: dict[int, Tensor], m: int, s: int, maximum: bool
    ) -> None:
        """All edges share the map, so the weighted sum of their gradients goes through it once."""
        targets = list(sums)
        weights = [self._weight(r, t, m) for t in targets]
        g = Map(torch.empty(self.shape, dtype=self.dtype))
        nodes = [self.dnodes[t] for t in targets]
        self.kernels.combine(nodes, [None] * len(nodes), weights, g, add=False)
        y, stats = made.maps[m], made.stats[m]
        if stats is not None:
            assert y is not None
            total = torch.stack([p * sums[t] for p, t in zip(weights, targets, strict=True)]).sum(0)
            dy = Map(torch.empty(self.shape, dtype=self.dtype))
            self.kernels.norm_backward(g, y, stats, total.data_ptr(), 1.0, dy)
            g = dy
        self.kernels.pool_backward(self.nodes[s], maximum, r.stride, g, self.dnodes[s])


def _view(x: Map) -> Tensor:
    """The tensor that a map shows, (B, H, W, C)."""
    first = (x.pointer - x.tensor.data_ptr()) // x.tensor.element_size()
    return x.tensor[..., first : first + x.channels]
