"""Cells in torch's own operations, the replicas (and the edges of a round) as groups.

One convolution per operation and round serves all edges and replicas, one batch norm all maps,
and one batched matrix product sums them into the nodes: (targets, maps) edge weights times the
maps. So the number of kernel launches does not grow with K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from itnas._tensors import joined, one_hot
from itnas.engine.groups.convolution import convolve
from itnas.engine.groups.general import compute as compute_general
from itnas.engine.groups.general import weights_of as general_weights
from itnas.engine.groups.sums import exact, weighted_sums
from itnas.engine.plan.blueprint import SearchCell
from itnas.engine.plan.rounds import SEPARABLE, CellPlan, Family, Round, RoundMap, by_operation
from itnas.engine.supernet import Noise
from itnas.engine.threads import Workers
from itnas.engine.weights import Weights


@dataclass(frozen=True)
class _Sources:
    """What the maps of a round are computed from."""

    layer: SearchCell
    round: Round
    x: Tensor
    """(B, K, sources, C, H, W)"""
    rectified: Tensor
    """the same after a ReLU"""
    weights: Weights
    """by role, see `CellPlan.parts`"""
    noise: Noise

    def raw(self, sources: list[int]) -> Tensor:
        """(B, K, these sources, C, H, W)"""
        places = [self.round.sources.index(s) for s in sources]
        if places == list(range(self.x.shape[2])):
            return self.x
        return joined([self.x[:, :, n : n + 1] for n in places], dim=2)

    def of(self, maps: list[RoundMap]) -> Tensor:
        """The rectified source of each map, (B, K, maps, C, H, W); maps are by source."""
        # not index_select, whose backward pass adds in an arbitrary order on a GPU
        counts = [sum(m.source == s for m in maps) for s in self.round.sources]
        if len(set(counts)) == 1:
            repeated = self.rectified.unsqueeze(3).expand(-1, -1, -1, counts[0], -1, -1, -1)
            return repeated.flatten(2, 3)
        pairs = zip(self.rectified.split(1, dim=2), counts, strict=True)
        return joined([y.expand(-1, -1, n, -1, -1, -1) for y, n in pairs if n], dim=2)


class Grouped:
    """A backend of K replicas in one tensor, see `itnas.supernet.Backend`."""

    def __init__(self, channels_last: bool = False, workers: Workers | None = None) -> None:
        self.channels_last = channels_last
        """whether convolutions are given channels_last tensors"""
        self.workers = workers
        """on the CPU: the threads that take blocks of images; None: torch's own way"""

    def convolution(self, x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """x (B, K*C, H, W), weight (K, C out, C, k, k), padded by k // 2."""
        return self._convolve(x, weight.flatten(0, 1), weight.shape[0], stride)

    def halve(self, x: Tensor, even: Tensor, odd: Tensor) -> Tensor:
        """See `itnas.engine.supernet.Backend`."""
        halves = self.convolution(x, even, 2), self.convolution(x[:, :, 1:, 1:], odd, 2)
        parts = [h.unflatten(1, (even.shape[0], -1)) for h in halves]
        return torch.cat(parts, dim=2).flatten(1, 2)

    def norm(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Batch norm with the batch's statistics; scale and shift (K, C)."""
        if scale is not None and shift is not None:
            scale, shift = scale.flatten(), shift.flatten()
        if not x.is_cuda:  # torch's sums in channels_last are ten to a hundred times less exact
            x = x.contiguous()
            if scale is None and x.dtype in (torch.bfloat16, torch.float16):
                # without a float32 scale torch rounds mean and deviation to the map's precision;
                # on a GPU it does not
                scale = x.new_ones(x.shape[1], dtype=torch.float32)
        return F.batch_norm(x, None, None, scale, shift, training=True)

    def cell(
        self, layer: SearchCell, inputs: list[Tensor], weights: Weights, p: Tensor, noise: Noise
    ) -> Tensor:
        """Input nodes to the cell's output, all (B, K*C, H, W)."""
        replicas, plan = p.shape[0], layer.plan
        with exact(p):
            tables = (p @ _selection(plan, p)).split([_size(r) for r in plan.rounds], dim=1)
        nodes = [x.unflatten(1, (replicas, -1)) for x in inputs]  # (B, K, C, H, W)
        rest: Tensor | None = None  # sums so far of the nodes to come, (B * K, targets, C * h * w)
        for n, (r, table) in enumerate(zip(plan.rounds, tables, strict=True)):
            w = {role: weights[part.name] for role, part in layer.parts[n].items()}
            maps = self._maps(layer, r, [nodes[s] for s in r.sources], w, noise)
            routing = table.unflatten(1, (len(r.targets), -1))  # (K, targets, M)
            routing = routing.expand(maps.shape[0], -1, -1, -1).flatten(0, 1)
            flat = maps.flatten(0, 1).flatten(2)  # (B * K, M, C * h * w)
            sums = weighted_sums(routing, flat, rest)
            node, rest = sums.split([1, len(r.targets) - 1], dim=1)
            nodes.append(node.view(-1, replicas, *maps.shape[3:]).to(maps.dtype))
        if plan.cell.inputs == 1:  # NAS-Bench-201: the last node is the output
            return nodes[-1].flatten(1, 2)
        return torch.stack(nodes[plan.cell.inputs :], dim=2).flatten(1, 3)

    def _maps(
        self, layer: SearchCell, r: Round, nodes: list[Tensor], w: Weights, noise: Noise
    ) -> Tensor:
        """All maps of a round, (B, K, M, C, h, w), from its sources, (B, K, C, H, W) each."""
        x = torch.stack(nodes, dim=2) if len(nodes) > 1 else nodes[0].unsqueeze(2)
        given = _Sources(layer, r, x, torch.relu(x), w, noise)
        compute: dict[Family, Callable[[_Sources, list[RoundMap]], Tensor]] = {
            "separable": self._separable,
            "dense": self._dense,
            "halved": self._halved,
            "pool": self._pools,
            "skip": self._skips,
            "noise": self._noise,
            "general": self._general,
        }
        blocks = [(maps[0].normed, compute[family](given, maps)) for family, maps in r.families()]
        found = []
        for normed, alike in groupby(blocks, key=lambda block: block[0]):
            y = joined([block for _, block in alike], dim=2)
            found.append(self.norm(y.flatten(1, 3)).view_as(y) if normed else y)
        return joined(found, dim=2)

    # -- one family of maps each: (B, K, maps, C, h, w), before a batch norm ---------------------

    def _separable(self, given: _Sources, maps: list[RoundMap]) -> Tensor:
        r, w = given.round, given.weights

        def depthwise(y: Tensor, operation: str, role: str, stride: int) -> Tensor:
            dilation = SEPARABLE[operation][1]
            weight = w[f"{role}.{operation}"].flatten(0, 2)  # (K * E * C, 1, k, k)
            z = self._convolve(y.flatten(1, 3), weight, len(weight), stride, dilation)
            return z.unflatten(1, (y.shape[1], -1, y.shape[3]))

        def pointwise(ys: list[Tensor], role: str) -> Tensor:
            weight = w[f"{role}.point"].flatten(0, 1)  # (K * E, C, C, 1, 1)
            y = joined(ys, dim=2)
            return self.convolution(y.flatten(1, 3), weight).view_as(y)

        twice, once = maps[: r.twice], maps[r.twice :]
        deep: list[Tensor] = []
        if twice:
            firsts = [
                depthwise(given.of(own), operation, "first", r.stride)
                for operation, own in by_operation(twice)
            ]
            middle = pointwise(firsts, "first")
            middle = torch.relu(self.norm(middle.flatten(1, 3))).view_as(middle)
            parts = middle.split([len(own) for _, own in by_operation(twice)], dim=2)
            deep = [
                depthwise(y, operation, "last", 1)
                for y, (operation, _) in zip(parts, by_operation(twice), strict=True)
            ]
        deep += [
            depthwise(given.of(own), operation, "last", r.stride)
            for operation, own in by_operation(once)
        ]
        return pointwise(deep, "last")

    def _dense(self, given: _Sources, maps: list[RoundMap]) -> Tensor:
        """C to E*C channels: they leave one source (NAS-Bench-201)."""
        x = given.rectified
        assert x.shape[2] == 1
        found = []
        for operation, _ in by_operation(maps):
            y = self.convolution(x.flatten(1, 3), given.weights[operation].flatten(1, 2))
            found.append(y.unflatten(1, (x.shape[1], -1, x.shape[3])))
        return joined(found, dim=2)

    def _halved(self, given: _Sources, maps: list[RoundMap]) -> Tensor:
        even, odd = (given.weights[half].flatten(0, 1) for half in ("even", "odd"))
        y = self.halve(given.of(maps).flatten(1, 3), even, odd)
        return y.unflatten(1, (given.x.shape[1], -1, given.x.shape[3]))

    def _pools(self, given: _Sources, maps: list[RoundMap]) -> Tensor:
        found = []
        for operation, own in by_operation(maps):
            x = given.raw([m.source for m in own])
            flat = x.flatten(1, 3)
            if operation == "max_pool_3x3":
                y = F.max_pool2d(flat, 3, given.round.stride, padding=1)
            else:
                y = F.avg_pool2d(flat, 3, given.round.stride, padding=1, count_include_pad=False)
            found.append(y.unflatten(1, x.shape[1:4]))
        return joined(found, dim=2)

    def _skips(self, given: _Sources, maps: list[RoundMap]) -> Tensor:
        return given.raw([m.source for m in maps])

    def _noise(self, given: _Sources, maps: list[RoundMap]) -> Tensor:
        x, stride = given.x, given.round.stride
        shape = (x.shape[0], x.shape[3], -(-x.shape[4] // stride), -(-x.shape[5] // stride))
        names = [edge_name(given.layer, m.edges[0]) for m in maps]
        return given.noise(names, shape).to(x).permute(2, 0, 1, 3, 4, 5)  # from (K, E, B, C, h, w)

    def _general(self, given: _Sources, maps: list[RoundMap]) -> Tensor:
        """Edge by edge and replica by replica, each by its own module."""
        found = []
        for m in maps:
            x = given.raw([m.source]).squeeze(2)  # (B, K, C, H, W)
            own = general_weights(m, given.weights)
            ys = [
                compute_general(
                    m.operation,
                    given.round.stride,
                    given.layer.plan.pool_norm,
                    y,
                    {name: v[k] for name, v in own.items()},
                )  # fmt: skip
                for k, y in enumerate(x.unbind(1))
            ]
            found.append(torch.stack(ys, dim=1))
        return torch.stack(found, dim=2)

    def _convolve(
        self, x: Tensor, weight: Tensor, groups: int, stride: int, dilation: int = 1
    ) -> Tensor:
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.workers is not None:
            return convolve(x, weight, self.workers, stride, dilation, groups)
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, None, stride, padding, dilation, groups)


def edge_name(layer: SearchCell, e: int) -> str:
    """The place of an edge in the network, which keys its noise."""
    edge = layer.plan.cell.edges[e]
    return f"{layer.name}.{edge.source}_{edge.target}"


def _size(r: Round) -> int:
    return len(r.targets) * len(r.routing[0])


def _selection(plan: CellPlan, like: Tensor) -> Tensor:
    """(operations of all edges, weights of all rounds): 1 where a round takes a weight."""
    positions = tuple(at for r in plan.rounds for row in r.routing for at in row)
    return one_hot(positions, plan.offsets[-1], like.device, like.dtype)
