"""How much memory a pack takes, before anything is computed.

The forward pass is run on torch's `meta` device, which has shapes and no values, and what autograd
keeps for the backward pass is added up. That is the grouped layout, the one of a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itnas.engine.blueprint import count_parameters, draw_up
from itnas.engine.grouped import Grouped
from itnas.engine.supernet import forward
from itnas.method.spaces import get_space
from itnas.settings import Setting

WEIGHT_COPIES = 6
"""of the weights: values, velocity, gradient, and what an SGD step makes on the way"""
TRANSIENT = 1.25
"""the largest tensors of the backward pass live beside what was kept"""


def saved_bytes(setting: Setting, image_channels: int, resolution: int, classes: int) -> int:
    """What autograd keeps of one replica's forward pass, in float32. Resolved setting."""
    search, space = setting.search, get_space(setting.space)
    assert isinstance(search.cells, int), "resolve the setting first"
    blueprint = draw_up(space, search.channels, search.cells, image_channels, classes)
    meta = torch.device("meta")
    weights = {
        part.name: torch.empty(1, *part.shape, device=meta, requires_grad=True)
        for part in blueprint.parts
    }
    p = {
        kind: torch.empty(1, sum(len(e.operations) for e in cell.edges), device=meta)
        for kind, cell in space.cells.items()
    }
    images = torch.empty(search.batch_size, image_channels, resolution, resolution, device=meta)

    def noise(names: list[str], shape: tuple[int, ...]) -> Tensor:
        return torch.empty(1, len(names), *shape, device=meta)

    kept: dict[int, Tensor] = {}  # by storage; held, so that no address is used twice

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage()._cdata] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        logits = forward(blueprint, Grouped(), images, weights, p, noise)
        loss = logits.logsumexp(dim=2).sum()
    own = {w.untyped_storage()._cdata for w in weights.values()}
    del loss
    return sum(x.untyped_storage().nbytes() for key, x in kept.items() if key not in own)


def peak_bytes(
    setting: Setting, image_channels: int, resolution: int, classes: int, replicas: int = 1
) -> int:
    """Estimate of the device memory that a pack's step needs at its peak, without the data set.

    Linear in the replicas. For float32; half precision takes less.
    """
    search = setting.search
    assert isinstance(search.cells, int), "resolve the setting first"
    space = get_space(setting.space)
    numel = count_parameters(space, search.channels, search.cells, image_channels, classes)
    saved = saved_bytes(setting, image_channels, resolution, classes)
    return int(replicas * (TRANSIENT * saved + WEIGHT_COPIES * 4 * numel))
