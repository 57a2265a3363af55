"""Maps that cost nothing: the source itself, and noise."""

from __future__ import annotations

from itnas.engine.groups.grouped import edge_name
from itnas.engine.weights import Weights
from itnas.kernels.families.base import FamilyPass, Incoming, Output
from itnas.kernels.maps import Map


class Skips(FamilyPass):
    """Skip connections of stride 1."""

    def forward(self) -> list[Output]:
        """The sources' own tensors."""
        return [Output(self.state.nodes[m.source], None) for m in self.maps]

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """The weighted gradients of the targets."""
        for m, own in zip(self.maps, incoming, strict=True):
            terms = [own.terms(self.state)]
            self.state.kernels.combine(terms, [self.state.dnodes[m.source]], add=True)


class Noise(FamilyPass):
    """N(0, 1) in place of the source (space s4)."""

    def forward(self) -> list[Output]:
        """Drawn from the named streams of the edges."""
        batch, height, width, c = self.state.shape
        names = [edge_name(self.state.layer, m.edges[0]) for m in self.maps]
        drawn = self.state.noise(names, (batch, c, height, width))[0]
        block = drawn.to(self.state.dtype).permute(0, 1, 3, 4, 2).contiguous()
        return [Output(Map(one), None) for one in block]

    def backward(self, incoming: list[Incoming], dweights: Weights | None) -> None:
        """Nothing depends on the source."""
