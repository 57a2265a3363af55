"""The engine: the supernets of K runs as one, with torch's operations or with kernels.

- `pack.py`: losses and gradients of a pack; which backend.
- `plan/`: the supernet as data. `weights.py`: all weights of K replicas in one tensor.
- `supernet.py`: how layers follow each other; the interface of a backend.
- `groups/`: the backend of torch's operations (the other one is `itnas.kernels`).
- `replicas.py`, `optimizers.py`: the architectures of a pack; SGD and Adam by replica.
- `threads.py`: bits that do not depend on the number of threads.
- `flags.py`, `graphs.py`, `memory.py`: what a GPU is asked for, and what a pack takes there.
"""
