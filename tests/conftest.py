"""One torch thread per process: two busy ones are many times slower on small nets."""

import torch

torch.set_num_threads(1)
