"""How much memory a pack takes, before anything is computed.

A whole step (architecture, then weights) is taken with the engine's own code on tensors that have
shapes and no values, and the bytes of all storages that live at a time are counted. That is the
grouped layout, the one of a GPU. Only the architecture, some thousand numbers, has values.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from itnas.engine.groups.grouped import Grouped
from itnas.engine.optimizers import ReplicaSGD
from itnas.engine.pack import Engine
from itnas.engine.replicas import Architectures
from itnas.method.spaces import get_space
from itnas.settings import EngineSettings, Precision, Seeds, Setting

UNSEEN = 1.05
"""of what is counted: rounding to the allocator's blocks, constants, an epoch's random numbers"""


class LiveBytes(TorchDispatchMode):
    """Bytes of all storages that were made inside and are still held: now, and at the most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size).atexit = False

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


class _Shapes(Engine):
    """An engine whose weights and noise have no values."""

    fake: FakeTensorMode

    def _initial(self, seeds: Sequence[Seeds]) -> Tensor:
        return torch.empty(len(seeds), self.blueprint.numel, dtype=self.dtype)

    def _noise(self, chunk: slice, names: list[str], shape: tuple[int, ...]) -> Tensor:
        with self.fake:
            return torch.empty(chunk.stop - chunk.start, len(names), *shape)


@cache
def peak_bytes(
    setting: Setting,
    image_channels: int,
    resolution: int,
    classes: int,
    replicas: int = 1,
    precision: Precision = "float32",
) -> int:
    """Estimate of the device memory that a pack's step needs at its peak. Resolved setting.

    What exists before the step (weights, velocity, batches, the architecture and its moments) and
    all that it makes are in it; the data set, the library's workspaces and a graph's copy of the
    batches are not.
    """
    search, space = setting.search, get_space(setting.space)
    # on the CPU tf32 is float32, and takes the same memory
    kind: Precision = "float32" if precision == "tf32" else precision
    settings = EngineSettings(precision=kind, layout="groups", kernels="torch")
    seeds = [Seeds.all(n) for n in range(replicas)]
    # not entered around a step: the engine's constants are made once and kept, with their values
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with LiveBytes() as live:
        with fake:
            engine = _Shapes([setting] * replicas, seeds, image_channels, classes, settings)
            engine.fake = fake
            engine.backend = Grouped()  # whole batches: blocks of images are for a CPU's threads
            optimizer = ReplicaSGD(
                engine.store,
                momentum=[search.momentum] * replicas,
                weight_decay=[search.weight_decay] * replicas,
                nesterov=[search.nesterov] * replicas,
                gradient_clip=[search.gradient_clip] * replicas,
            )
            shape = (replicas, search.batch_size, image_channels, resolution, resolution)
            batches = [
                (torch.empty(shape, dtype=engine.dtype), torch.empty(shape[:2], dtype=torch.int64))
                for _ in range(2)
            ]
            alive = torch.empty(replicas, dtype=torch.bool)
        architectures = Architectures(
            space, [setting] * replicas, seeds, engine.device, engine.dtype
        )  # fmt: skip
        weights = architectures()
        p = {kind: fake.from_tensor(q.detach()) for kind, q in weights.items()}
        _, gradients = engine.architecture_gradient(*batches[0], p)
        engine.usable(gradients, alive)
        nothing = {kind: torch.zeros_like(q) for kind, q in weights.items()}
        architectures.step(weights, nothing, torch.ones(replicas, dtype=torch.bool))
        del gradients, nothing, weights
        _, _, gradient = engine.weight_gradient(*batches[1], p)
        optimizer.step(gradient, engine.usable(gradient, alive))
    return int(live.peak * UNSEEN)
