"""K supernets as one: losses and gradients on the layout, precision and device that are asked for.

What may differ inside a pack: seeds, the dependence, and the numbers of the optimizers (rates,
decays, momentum, clipping; listed in `itnas.settings.DIFFERING`). What must agree is the rest of a
setting: it shapes the tensors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from itnas._tensors import joined
from itnas.engine.flags import device_flags
from itnas.engine.groups.grouped import Grouped
from itnas.engine.groups.looped import Looped, Mixed
from itnas.engine.plan.blueprint import draw_up
from itnas.engine.supernet import Backend, EdgeWeights, forward
from itnas.engine.threads import Workers
from itnas.engine.weights import Weights, WeightStore, initial_weights
from itnas.kernels import library as kernels
from itnas.kernels.native import Native
from itnas.method.spaces import CellKind, get_space
from itnas.settings import DIFFERING, EngineSettings, Seeds, Setting
from itnas.streams import stream

LARGEST_SCALE = 2.0**16
"""of the loss under float16; halved where gradients overflow, doubled after `SCALE_PERIOD`"""
SMALL_MAP = 2**18
"""elements of a replica's first map up to which threads take replicas, not parts of one"""
SCALE_PERIOD = 2000
"""gradients in a row that did not overflow; a step has two, the architecture's and the weights'"""


def check_pack(settings: Sequence[Setting]) -> None:
    """ValueError where the settings of a pack differ in what must agree."""
    first = settings[0]
    for other in settings[1:]:
        if other.space != first.space:
            raise ValueError(f"space: a pack needs one; got {first.space} and {other.space}")
        for f in fields(first.search):
            values = getattr(first.search, f.name), getattr(other.search, f.name)
            if f.name not in DIFFERING and values[0] != values[1]:
                raise ValueError(
                    f"search.{f.name}: the runs of a pack need one value; got {values[0]} and "
                    f"{values[1]}"
                )


class Engine:
    """The supernets of a pack and their gradients; the architecture comes from outside."""

    def __init__(
        self,
        settings: Sequence[Setting],
        seeds: Sequence[Seeds],
        image_channels: int,
        classes: int,
        engine: EngineSettings,
    ) -> None:
        """Resolved settings that agree (`check_pack`). RuntimeError for a device that is missing,
        or for compiled kernels that are asked for and cannot be had.
        """
        check_pack(settings)
        search = settings[0].search
        assert isinstance(search.cells, int), "resolve the setting first"
        self.blueprint = draw_up(
            get_space(settings[0].space), search.channels, search.cells, image_channels, classes
        )
        self.settings, self.device = engine, torch.device(engine.device)
        self.channels = search.channels
        self.dtype = _dtype(engine)
        self.data_seeds = [seed.data for seed in seeds]
        self.workers = Workers()
        self.backend = choose_backend(engine, self.workers)
        if isinstance(self.backend, Native):
            self.workers = self.backend.workers
        alone = isinstance(self.backend, Native)
        self.store = WeightStore(self.blueprint, self._initial(seeds), replica_order=alone)
        self.moment: tuple[str | int, ...] = ("start",)
        """what the networks are doing now, such as ("weights", epoch, step): keys the noise"""
        size = 1 if alone else len(seeds)
        self.chunks = [slice(k, k + size) for k in range(0, len(seeds), size)]
        """replicas that go through the network together"""
        self.leaves: list[Weights] = [
            {name: w[chunk].detach().requires_grad_() for name, w in self.store.all.items()}
            for chunk in self.chunks
        ]
        """the weights as leaves for autograd, by chunk: views of the store"""
        self._forward = torch.compile(forward, dynamic=False) if engine.compile else forward
        self.scale = torch.full((len(seeds),), LARGEST_SCALE, device=self.device)
        """of the loss, per replica, under float16"""
        self.since_overflow = torch.zeros(len(seeds), device=self.device)

    @property
    def backend_name(self) -> str:
        """What computes this pack: `compiled avx2`, `torch mixed`, `torch groups cuda` and so on.

        Runs whose backends have one name are computed by the same operations.
        """
        return name_backend(self.backend, self.settings)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Around all that a search computes. On the CPU its bits do not depend on the threads; on a
        GPU the process-wide flags are those of the precision. Both are put back.
        """
        on_cpu = self.device.type == "cpu"
        threads = self.workers.working() if on_cpu else contextlib.nullcontext()
        with threads, device_flags(self.device, self.settings.precision):
            yield

    def _initial(self, seeds: Sequence[Seeds]) -> Tensor:
        """The weights of every replica at its start, (K, weights)."""
        rows = initial_weights(self.blueprint, [seed.weights for seed in seeds])
        return rows.to(self.device, self.dtype)

    def architecture_gradient(
        self, images: Tensor, labels: Tensor, p: EdgeWeights
    ) -> tuple[Tensor, dict[CellKind, Tensor]]:
        """Losses (K,) and the gradient of each by its own edge weights; weights are constants.

        images (K, B, C, H, W), labels (K, B), p by cell kind (K, operations of all edges).
        """

        @torch.enable_grad()
        def compute(n: int, chunk: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
            weights = {name: w.detach() for name, w in self.leaves[n].items()}
            leaves = {kind: q[chunk].detach().requires_grad_() for kind, q in p.items()}
            loss, _ = self._loss(chunk, images, labels, leaves, weights)
            found = torch.autograd.grad(self._scaled(loss, chunk), list(leaves.values()))
            return loss.detach(), found

        losses, found = self._by_chunk(images, compute)
        gradients = [joined(parts) for parts in zip(*found, strict=True)]
        if self.settings.precision == "float16":
            gradients = [g / self.scale[:, None] for g in gradients]
        return joined(losses), dict(zip(p, gradients, strict=True))

    def weight_gradient(
        self, images: Tensor, labels: Tensor, p: EdgeWeights
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses (K,), hits (K,) and the gradient of the flat weights; p is constant."""

        @torch.enable_grad()
        def compute(n: int, chunk: slice) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
            constants = {kind: q[chunk].detach() for kind, q in p.items()}
            weights = self.leaves[n]
            loss, logits = self._loss(chunk, images, labels, constants, weights)
            found = torch.autograd.grad(self._scaled(loss, chunk), list(weights.values()))
            return loss.detach(), _hits(logits, labels[chunk]), found

        losses, hits, found = self._by_chunk(images, compute)
        flat = self.store.flatten(found)
        if self.settings.precision == "float16":
            flat = flat / self.store.spread(self.scale)
        return joined(losses), joined(hits), flat

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor, p: EdgeWeights) -> tuple[Tensor, Tensor]:
        """Sums over the images of the losses, and hits: (K,) each."""

        def compute(n: int, chunk: slice) -> tuple[Tensor, Tensor]:
            own = {kind: q[chunk] for kind, q in p.items()}
            loss, logits = self._loss(chunk, images, labels, own, self.leaves[n])
            return loss * labels.shape[1], _hits(logits, labels[chunk])

        losses, hits = self._by_chunk(images, compute)
        return joined(losses), joined(hits)

    def _by_chunk(self, images: Tensor, compute: Callable[[int, slice], tuple[Any, ...]]) -> Any:
        """What `compute` gives for every chunk, each of its values as a list over the chunks.

        Replicas with small maps are shared out among the threads as they are; larger ones take all
        threads, one after another, so that no more than one keeps its maps.
        """
        found: list[tuple[Any, ...]] = [()] * len(self.chunks)

        def task(n: int) -> None:
            found[n] = compute(n, self.chunks[n])

        _, batch, _, height, width = images.shape
        if batch * height * width * self.channels <= SMALL_MAP:
            self.workers.each(len(found), task)
        else:
            for n in range(len(found)):
                task(n)
        return zip(*found, strict=True)

    def _loss(
        self, chunk: slice, images: Tensor, labels: Tensor, p: EdgeWeights, weights: Weights
    ) -> tuple[Tensor, Tensor]:
        """Mean cross entropy (k,) and logits (k, B, classes) of some replicas."""
        own = images[chunk]
        side_by_side = own.transpose(0, 1).flatten(1, 2)  # (B, k * C, H, W)

        with self._autocast():
            noise = partial(self._noise, chunk)
            logits = self._forward(self.blueprint, self.backend, side_by_side, weights, p, noise)
        loss = F.cross_entropy(logits.flatten(0, 1), labels[chunk].flatten(), reduction="none")
        return loss.unflatten(0, labels[chunk].shape).mean(dim=1), logits

    def _noise(self, chunk: slice, names: list[str], shape: tuple[int, ...]) -> Tensor:
        """What the noise operations of some edges give now, see `Noise`; drawn on the host."""
        seeds = self.data_seeds[chunk]
        # a copy that does not wait reads pinned memory only, else it is one that waits
        drawn = torch.empty(len(seeds), len(names), *shape, pin_memory=self.device.type == "cuda")
        for k, seed in enumerate(seeds):
            for n, name in enumerate(names):
                drawn[k, n].normal_(generator=stream(seed, "noise", *self.moment, name))
        return drawn.to(self.device, non_blocking=True)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        kinds = {"bfloat16": torch.bfloat16, "float16": torch.float16}
        kind = kinds.get(self.settings.precision)
        return torch.autocast(self.device.type, kind) if kind else contextlib.nullcontext()

    # -- float16 ----------------------------------------------------------------------------

    def _scaled(self, loss: Tensor, chunk: slice) -> Tensor:
        """The sum of the losses, replicas do not mix; scaled under float16."""
        return (loss * self.scale[chunk] if self.settings.precision == "float16" else loss).sum()

    def usable(self, gradient: Tensor | Mapping[CellKind, Tensor], alive: Tensor) -> Tensor:
        """Replicas whose step is taken, (K,), by the gradient of the flat weights or of p.

        Under float16 a replica that overflowed does not step and its scale is halved. In place,
        because a step may be captured in a graph.
        """
        if self.settings.precision != "float16":
            return alive
        if isinstance(gradient, Tensor):
            gradients = [self.store.by_replica(gradient)]
        else:
            gradients = list(gradient.values())
        finite = torch.stack([g.isfinite().all(dim=1) for g in gradients]).all(dim=0)
        since = torch.where(finite, self.since_overflow + 1, 0.0)
        grown = since >= SCALE_PERIOD
        factor = torch.where(finite, torch.where(grown, 2.0, 1.0), 0.5)
        self.scale.mul_(factor).clamp_(1.0, LARGEST_SCALE)
        self.since_overflow.copy_(torch.where(grown, 0.0, since))
        return alive & finite


def prepare(engine: EngineSettings) -> str:
    """Build what the settings need, once a machine, before many workers ask for it at once.

    Gives the name of the backend that computes here (see `Engine.backend_name`). RuntimeError where
    compiled kernels are asked for and cannot be had.
    """
    return name_backend(choose_backend(engine), engine)


def name_backend(backend: Backend, engine: EngineSettings) -> str:
    """See `Engine.backend_name`."""
    if isinstance(backend, Native):
        return f"compiled {kernels.isa(_dtype(engine))}"
    layout = {Grouped: "groups", Looped: "loop", Mixed: "mixed"}[type(backend)]
    device = torch.device(engine.device).type
    return f"torch {layout}" if device == "cpu" else f"torch {layout} {device}"


def choose_backend(engine: EngineSettings, workers: Workers | None = None) -> Backend:
    """The backend that the settings ask for; see docs/engine.md for the rule and its measurements.

    RuntimeError where compiled kernels are asked for and cannot be had.
    """
    dtype = _dtype(engine)
    if engine.kernels == "compiled" or (
        engine.kernels == "auto" and engine.compilable and kernels.load(dtype) is not None
    ):
        return Native(dtype)
    on_cpu, last = torch.device(engine.device).type == "cpu", engine.channels_last
    if not on_cpu or engine.compile:
        workers = None
    if engine.layout == "groups" or (engine.layout == "auto" and not on_cpu):
        return Grouped(last, workers)
    return Looped(last, workers) if engine.layout == "loop" else Mixed(last, workers)


def _dtype(engine: EngineSettings) -> torch.dtype:
    return torch.float64 if engine.precision == "float64" else torch.float32


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=2) == labels).sum(dim=1)
