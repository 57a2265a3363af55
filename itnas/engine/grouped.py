"""Cells in torch's own operations, the replicas (and the edges of a round) as groups.

One convolution per operation and round serves all edges and replicas, one batch norm all maps,
and one batched matrix product sums them into the nodes: (targets, maps) edge weights times the
maps. So the number of kernel launches does not grow with K.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from itnas._tensors import joined, one_hot
from itnas.engine.blueprint import SearchCell
from itnas.engine.rounds import SEPARABLE, CellPlan, Round
from itnas.engine.sums import exact, weighted_sums
from itnas.engine.supernet import Noise, halve
from itnas.engine.weights import Weights

SMALL_SIDE = 8
"""Pixels: maps up to this side are laid out in groups on the CPU (docs/engine.md: measured)."""


class Grouped:
    """A backend of K replicas in one tensor, see `itnas.supernet.Backend`."""

    def __init__(self, channels_last: bool = False) -> None:
        self.channels_last = channels_last
        """whether convolutions are given channels_last tensors"""

    def convolution(self, x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """x (B, K*C, H, W), weight (K, C out, C, k, k), padded by k // 2."""
        return self._convolve(x, weight.flatten(0, 1), weight.shape[0], stride)

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
        plan, replicas = layer.plan, x.shape[1]
        rectified = torch.relu(x)

        def edges_of(edges: list[int]) -> Tensor:  # (B, K, E, C, H, W); edges are by source
            # not index_select, whose backward pass adds in an arbitrary order on a GPU
            counts = [sum(plan.cell.edges[e].source == s for e in edges) for s in r.sources]
            if len(set(counts)) == 1:
                repeated = rectified.unsqueeze(3).expand(-1, -1, -1, counts[0], -1, -1, -1)
                return repeated.flatten(2, 3)
            pairs = zip(rectified.split(1, dim=2), counts, strict=True)
            return joined([y.expand(-1, -1, n, -1, -1, -1) for y, n in pairs if n], dim=2)

        def depthwise(y: Tensor, operation: str, role: str, stride: int) -> Tensor:
            dilation = SEPARABLE[operation][1]
            weight = w[f"{role}.{operation}"].flatten(0, 2)  # (K * E * C, 1, k, k)
            y = self._convolve(y.flatten(1, 3), weight, len(weight), stride, dilation)
            return y.unflatten(1, (replicas, -1, x.shape[3]))

        def pointwise(ys: list[Tensor], role: str) -> Tensor:
            weight = w[f"{role}.point"].flatten(0, 1)  # (K * E, C, C, 1, 1)
            y = joined(ys, dim=2).flatten(1, 3)
            return self.convolution(y, weight).unflatten(1, (replicas, -1, x.shape[3]))

        normed: list[Tensor] = []
        deep: list[Tensor] = []
        if r.twice:
            firsts = [depthwise(edges_of(e), o, "first", r.stride) for o, e in r.twice.items()]
            middle = pointwise(firsts, "first")
            middle = torch.relu(self.norm(middle.flatten(1, 3))).view_as(middle)
            parts = middle.split([len(edges) for edges in r.twice.values()], dim=2)
            deep = [depthwise(y, o, "last", 1) for y, o in zip(parts, r.twice, strict=True)]
        deep += [depthwise(edges_of(e), o, "last", r.stride) for o, e in r.once.items()]
        if deep:
            normed.append(pointwise(deep, "last"))
        for operation in r.dense:  # these leave one source (NAS-Bench-201): C to E*C channels
            assert x.shape[2] == 1
            weight = w[operation].flatten(1, 2)
            y = self.convolution(rectified.flatten(1, 3), weight)
            normed.append(y.unflatten(1, (replicas, -1, x.shape[3])))
        if r.halved:
            even, odd = w["even"].flatten(0, 1), w["odd"].flatten(0, 1)
            y = halve(self, edges_of(r.halved).flatten(1, 3), even, odd)
            normed.append(y.unflatten(1, (replicas, -1, x.shape[3])))
        pools = []
        for operation in dict.fromkeys(o for _, o in r.pools):
            sources = [r.sources.index(s) for s, o in r.pools if o == operation]
            if len(sources) == len(nodes):
                pools.append(self._pool(x, operation, r.stride))
            else:
                pools += [self._pool(nodes[s].unsqueeze(2), operation, r.stride) for s in sources]
        raw: list[Tensor] = []
        (normed if plan.pool_norm else raw).extend(pools)
        raw += [nodes[r.sources.index(s)].unsqueeze(2) for s in r.skips]
        if r.noise:
            batch, (height, width) = x.shape[0], x.shape[-2:]
            shape = (batch, x.shape[3], -(-height // r.stride), -(-width // r.stride))
            drawn = noise([edge_name(layer, e) for e in r.noise], shape)  # (K, E, B, C, h, w)
            raw.append(drawn.to(x).permute(2, 0, 1, 3, 4, 5))
        if normed:
            y = joined(normed, dim=2)
            raw.insert(0, self.norm(y.flatten(1, 3)).view_as(y))
        return joined(raw, dim=2)

    def _pool(self, x: Tensor, operation: str, stride: int) -> Tensor:
        """x and its pooled map (B, K, S, C, H, W)."""
        flat = x.flatten(1, 3)
        if operation == "max_pool_3x3":
            pooled = F.max_pool2d(flat, 3, stride, padding=1)
        else:
            pooled = F.avg_pool2d(flat, 3, stride, padding=1, count_include_pad=False)
        return pooled.unflatten(1, x.shape[1:4])

    def _convolve(
        self, x: Tensor, weight: Tensor, groups: int, stride: int, dilation: int = 1
    ) -> Tensor:
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, None, stride, padding, dilation, groups)


class Looped:
    """A backend that gives `Grouped` one replica at a time; outside of it, maps are as there."""

    def __init__(self, channels_last: bool = False) -> None:
        self.inner = Grouped(channels_last)

    def convolution(self, x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """See `Grouped`."""
        pairs = zip(x.chunk(len(weight), 1), weight.split(1), strict=True)
        return torch.cat([self.inner.convolution(y, w, stride) for y, w in pairs], dim=1)

    def norm(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """See `Grouped`; a batch norm is by channel, whatever the replicas."""
        return self.inner.norm(x, scale, shift)

    def cell(
        self, layer: SearchCell, inputs: list[Tensor], weights: Weights, p: Tensor, noise: Noise
    ) -> Tensor:
        """See `Grouped`."""
        replicas = len(p)
        names = [part.name for parts in layer.parts for part in parts.values()]
        apart = {name: weights[name].split(1) for name in names}
        xs = [x.chunk(replicas, 1) for x in inputs]
        drawn: dict[str, Tensor] = {}  # of all replicas, by a round's first edge

        def noise_of(k: int, edges: list[str], shape: tuple[int, ...]) -> Tensor:
            if edges[0] not in drawn:
                drawn[edges[0]] = noise(edges, shape)
            return drawn[edges[0]][k : k + 1]

        outputs = [
            self.inner.cell(
                layer,
                [x[k] for x in xs],
                {name: single[k] for name, single in apart.items()},
                p[k : k + 1],
                partial(noise_of, k),
            )
            for k in range(replicas)
        ]
        return torch.cat(outputs, dim=1)


class Mixed:
    """`Grouped` on small maps, `Looped` on large ones: what is faster on a CPU with torch's
    operations, where a grouped convolution of a large map is several times slower.
    """

    def __init__(self, channels_last: bool = False, side: int = SMALL_SIDE) -> None:
        self.side = side
        """the largest map, in pixels, that is laid out in groups"""
        self.grouped, self.looped = Grouped(channels_last), Looped(channels_last)

    def _pick(self, x: Tensor) -> Grouped | Looped:
        return self.grouped if x.shape[-1] <= self.side else self.looped

    def convolution(self, x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """See `Grouped`."""
        return self._pick(x).convolution(x, weight, stride)

    def norm(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """See `Grouped`."""
        return self.grouped.norm(x, scale, shift)

    def cell(
        self, layer: SearchCell, inputs: list[Tensor], weights: Weights, p: Tensor, noise: Noise
    ) -> Tensor:
        """See `Grouped`."""
        return self._pick(inputs[0]).cell(layer, inputs, weights, p, noise)


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
