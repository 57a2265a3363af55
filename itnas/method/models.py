"""The dependence models by name, and what the rest of the code must know of each.

A new model is a function like `itnas.method.dependence.transition`, one entry in `MODELS`, and in
that entry the settings that change nothing under it (`docs/new-dependence.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Attention = Callable[[Tensor], Tensor]
"""what the predecessors say, (n, rows), to the weights w of n predecessors for m edges, (m, n)"""

Derive = Callable[[list[Tensor], Tensor, Attention], tuple[Tensor, Tensor]]
"""How the m inner edges that leave a node follow from the n edges that enter it.

From p_q of the n predecessors, (|O_q|,) each; T (m, n, rows, columns), row-stochastic; and the
attention, to the edges' distributions (m, columns) and to w (m, n), each row of which sums to 1.
All shapes may have a leading replica dimension. Where candidate lists differ in length, rows and
columns are those of the longest: T is 0 in the columns that an edge does not have, and what is
multiplied by the rows that a predecessor does not have must be 0 (`itnas.ragged`).
"""


@dataclass(frozen=True)
class Model:
    """One dependence model."""

    derive: Derive | None
    """None: inner edges have logits of their own, like outer ones"""
    without_effect: frozenset[str] = frozenset()
    """settings that change nothing under it (`dependence.init`, `search.attention_lr`): null in
    the results, no part of a run's identity; without `dependence.attention` it has no attention
    parameters"""
    flows: bool = True
    """whether a predecessor's p can reach an inner edge; if not, `dependence_strength` is 0"""

    @property
    def attends(self) -> bool:
        """Whether it has attention parameters (unless the setting is `uniform`)."""
        return self.derive is not None and "dependence.attention" not in self.without_effect


MODELS: dict[str, Model] = {}
"""By the name that `model:` takes in a study file; filled in `itnas.method.dependence`."""
