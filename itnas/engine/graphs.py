"""A search step as one CUDA graph: thousands of launches become one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""steps that run as they are (on a side stream, as capturing asks for) before the capture"""

Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class CapturedStep:
    """Runs a step, captured once and replayed. Everything the step changes must stay in place."""

    def __init__(self, step: Step) -> None:
        self.step, self.calls = step, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.outputs: tuple[Tensor, Tensor] | None = None

    def __call__(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """The step's outputs, as tensors of their own."""
        if self.calls < WARM_UP:
            self.calls += 1
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                losses, hits = self.step(*batch)
            torch.cuda.current_stream().wait_stream(side)
            return losses, hits
        if self.graph is None:
            self.inputs = [b.clone() for b in batch]
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):  # records, computes nothing
                self.outputs = self.step(*self.inputs)
        for mine, given in zip(self.inputs, batch, strict=True):
            mine.copy_(given)
        self.graph.replay()
        assert self.outputs is not None
        return self.outputs[0].clone(), self.outputs[1].clone()
