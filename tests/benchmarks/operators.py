"""Counting operator calls as the dispatcher sees them, without views and allocations."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ALLOCATIONS = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")


class OperatorCount(TorchDispatchMode):
    """`with OperatorCount() as count: ...; count.calls`"""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.by_name = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        aliases = (r.alias_info for r in function._schema.returns)
        view = any(alias is not None and not alias.is_write for alias in aliases)
        if not view and name not in ALLOCATIONS and name != "_unsafe_view":
            self.calls += 1
            self.by_name[name] = self.by_name.get(name, 0) + 1
        return function(*args, **(kwargs or {}))


def plain_calls(search, images, labels):
    """Forward and backward of the plain form, twice (a step has an architecture and a weight
    half), optimizers not counted."""
    with OperatorCount() as count:
        for _ in range(2):
            loss, _ = search.loss(images, labels)
            torch.autograd.grad(loss, [*search.weights, *search.architecture], allow_unused=True)
    return count.calls


def engine_calls(pack, images, labels):
    """The same of a whole pack, in the layout it has."""
    with OperatorCount() as count:
        p = pack.architectures()
        _, gradients = pack.engine.architecture_gradient(images, labels, p)
        torch.autograd.grad(
            list(p.values()), pack.architectures.trained, list(gradients.values()),
            allow_unused=True,
        )  # fmt: skip
        with torch.no_grad():
            p = pack.architectures()
        pack.engine.weight_gradient(images, labels, p)
    return count.calls
