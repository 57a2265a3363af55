"""Bytes of live tensor storage, counted by looking: a reference for `itnas.engine.memory`."""

from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveStorage(TorchDispatchMode):
    """`with LiveStorage() as live: ...; live.peak`

    The storage of what an operation returns is counted; after every operation those that nobody
    holds any more are dropped. What was there before the first one is not seen.
    """

    def __init__(self):
        super().__init__()
        self.held = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if hasattr(leaf, "untyped_storage"):
                storage = leaf.untyped_storage()
                self.held[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.held = {key: held for key, held in self.held.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.held.values()))
        return result
