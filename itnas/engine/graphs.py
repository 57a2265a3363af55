"""A search step as one CUDA graph: thousands of launches become one.

A pack that goes on from a state takes its first `WARM_UP` steps as they are, where the undisturbed
one replayed its graph. By construction both give the same bits (no GPU was at hand to see it):

- Warm-up steps are steps of the search, on its batches; the capture records the next one and
  computes nothing, which is left to the replay. So every step is taken once.
- A replay is the kernels that the warm-up launches, on the same values. Which kernel an operation
  takes depends on shapes, types, flags (cuDNN is deterministic and does not try out, see `flags`)
  and, for matrix products, the workspace of the stream: warm-up and capture share one.
- Whatever a step reads or changes besides its batch is a tensor that stays where it is, so a graph
  sees what is written into it: rates, `alive`, the loss's scale, Adam's count, a loaded state.
- Nothing is drawn in a step: noise on the host is refused (`check_graphs`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from itnas.method.spaces import Space
from itnas.settings import EngineSettings

WARM_UP = 3
"""steps that run as they are (on a side stream, as capturing asks for) before the capture"""

Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def check_graphs(engine: EngineSettings, space: Space) -> None:
    """ValueError for a graph of a step that draws on the host: a replay would not draw again."""
    if engine.graphs and any("noise" in cell.operations for cell in space.cells.values()):
        raise ValueError(
            f"graphs: True is not allowed; false in {space.name}, whose noise is drawn on the host"
        )


class CapturedStep:
    """Runs a step, captured once and replayed. Everything the step changes must stay in place."""

    def __init__(self, step: Step, device: torch.device) -> None:
        """`device` is the one that the step computes on, which may not be the current one."""
        self.step, self.device, self.calls = step, device, 0
        self.side: torch.cuda.Stream | None = None
        """the stream of the warm-up and of the capture: one, so that its memory is used again"""
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.outputs: tuple[Tensor, Tensor] | None = None

    def __call__(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """The step's outputs, as tensors of their own."""
        with torch.cuda.device(self.device):
            if self.side is None:
                self.side = torch.cuda.Stream()
            if self.calls < WARM_UP:
                self.calls += 1
                return self._beside(self.side, *batch)
            if self.graph is None:
                self.inputs = [b.clone() for b in batch]
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=self.side):  # records, computes nothing
                    self.outputs = self.step(*self.inputs)
                self.graph = graph
            for mine, given in zip(self.inputs, batch, strict=True):
                mine.copy_(given)
            self.graph.replay()
            assert self.outputs is not None
            return self.outputs[0].clone(), self.outputs[1].clone()

    def _beside(self, side: torch.cuda.Stream, *batch: Tensor) -> tuple[Tensor, Tensor]:
        here = torch.cuda.current_stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            losses, hits = self.step(*batch)
        here.wait_stream(side)
        for tensor in (losses, hits):  # made on one stream and read on the other:
            tensor.record_stream(here)  # its memory must not be given away before that
        return losses, hits
