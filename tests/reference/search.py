"""One search, plainly: a network of modules, torch's own optimizers, autograd through everything.

The oracle of `itnas.method.bilevel` and the other side of the benchmark. One replica, one seed.
"""

import contextlib
from functools import partial

import torch
import torch.nn.functional as F

from itnas.method.dependence import build_dependence
from itnas.method.spaces import get_space
from tests.reference.dependence import plain_architecture
from tests.reference.supernet import build_supernet


class PlainSearch:
    """A resolved setting with one seed."""

    def __init__(
        self, setting, seeds, image_channels, classes, device="cpu", dtype=torch.float32, half=None
    ):
        """`half`: the type of an autocast around the forward pass."""
        search = setting.search
        kind = torch.device(device).type
        self.cast = partial(torch.autocast, kind, half) if half else contextlib.nullcontext
        self.network, self.context = build_supernet(
            setting, image_channels, classes, seeds.weights, seeds.data
        )
        self.network.to(device, dtype)
        self.dependence = build_dependence(
            get_space(setting.space), setting.dependence, seeds.architecture
        ).to(device, dtype)
        self.weights = list(self.network.parameters())
        self.clip = search.gradient_clip
        self.sgd = torch.optim.SGD(
            self.weights, search.weights_lr, search.momentum,
            weight_decay=search.weight_decay, nesterov=search.nesterov,
        )  # fmt: skip
        groups = [
            {
                "params": parameters,
                "lr": getattr(search, rate),
                "weight_decay": search.architecture_weight_decay
                if rate == "architecture_lr"
                else search.transition_weight_decay,
            }
            for cell in self.dependence.values()
            for rate, parameters in cell.groups().items()
        ]
        self.adam = torch.optim.Adam(groups, betas=(0.5, 0.999))
        self.architecture = [p for group in groups for p in group["params"]]

    def relaxed(self):
        """Edge weights by cell kind, one tensor an edge."""
        return {kind: plain_architecture(cell)[0] for kind, cell in self.dependence.items()}

    def loss(self, images, labels):
        """Mean cross entropy of the relaxed supernet, and its logits."""
        with self.cast():
            logits = self.network(images, self.relaxed())
        return F.cross_entropy(logits, labels), logits

    def architecture_step(self, images, labels):
        """One Adam step; gradients of the weights are computed too, as in the published codes."""
        self.adam.zero_grad()
        self.sgd.zero_grad()
        loss, _ = self.loss(images, labels)
        loss.backward()
        for parameter in self.architecture:
            if parameter.grad is None:  # unused: the engine gives it its decay all the same
                parameter.grad = torch.zeros_like(parameter)
        self.adam.step()
        return loss.detach()

    def weight_step(self, images, labels):
        """One clipped SGD step."""
        self.adam.zero_grad()
        self.sgd.zero_grad()
        loss, _ = self.loss(images, labels)
        loss.backward()
        if self.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.sgd.step()
        return loss.detach()
