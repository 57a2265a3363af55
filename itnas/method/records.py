"""What a search leaves behind: plain values, ready for a table. Names as in design, section 5."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from itnas.method.spaces import CellKind

Status = Literal["complete", "stopped_early", "diverged"]


@dataclass(frozen=True)
class CellRecord:
    """One cell kind's architecture at one moment; edges and links in the order of the space."""

    probabilities: list[list[float]]
    """per edge: p_e over its own operations"""
    attention: list[float]
    """per link: w_{q->e}; empty under `independent`"""
    matrices: list[list[list[float]]]
    """per link: T_{q->e}, |O_q| rows of |O_e|; a shared matrix is repeated for its links"""


@dataclass(frozen=True)
class EpochRecord:
    """One run at the end of one epoch; epoch -1 is the initialisation and has no metrics."""

    epoch: int
    """0-based"""
    cells: dict[CellKind, CellRecord]
    """by cell kind"""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """train_loss, train_accuracy, valid_loss, valid_accuracy, derived_accuracy,
    architecture_entropy, architecture_displacement, transition_displacement (None where there
    is no matrix), dependence_strength, hessian_eigenvalue, seconds"""


@dataclass(frozen=True)
class RunResult:
    """One finished run. `metrics` are those of its last completed epoch, never of the best."""

    status: Status
    epochs_completed: int
    genotype: str
    genotype_normal: str | None
    genotype_reduce: str | None
    tied_edges: int
    skip_connections: int
    parameterless_operations: int
    inner_edges_kept: int
    metrics: dict[str, float | None]
    """as in `EpochRecord`; nan where a run diverged in its first epoch"""
    seconds: float
    """in the steps and evaluations of this run"""
    seconds_per_step: float
    """one step is one architecture update and one weight update"""
    history: list[EpochRecord]
    """epoch -1 first"""

    def as_dict(self) -> dict[str, Any]:
        """The scalar fields, metrics included, without the history."""
        scalars = {k: v for k, v in vars(self).items() if k not in ("history", "metrics")}
        return {**self.metrics, **scalars}
