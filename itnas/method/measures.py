"""How far an architecture has moved, how sharp it is, how much flows along its links.

Plain float64 arrays in, numbers out; formulas of design, section 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from itnas.method.models import MODELS
from itnas.method.records import CellRecord
from itnas.method.spaces import Cell, CellKind, Space

Cells = dict[CellKind, CellRecord]


def entropy(p: NDArray[np.float64]) -> float:
    """Shannon entropy of a distribution, in nats; 0 log 0 is 0."""
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


def mutual_information(p: NDArray[np.float64], T: NDArray[np.float64]) -> float:
    """I of the joint diag(p) T, in nats: p (rows,), T (rows, columns) row-stochastic."""
    rows = sum(p_i * entropy(T_i) for p_i, T_i in zip(p, T, strict=True))
    return max(entropy(p @ T) - float(rows), 0.0)  # H(column) - H(column | row)


def total_variation(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Half the L1 distance, 0..1."""
    return float(np.abs(p - q).sum() / 2)


def architecture_entropy(cells: Cells) -> float:
    """Mean over all edges of the entropy of p_e, in nats."""
    return float(np.mean([entropy(np.array(p)) for c in cells.values() for p in c.probabilities]))


def architecture_displacement(now: Cells, start: Cells) -> float:
    """Mean over all edges of the total variation distance of p_e from its initial value."""
    distances = [
        total_variation(np.array(p), np.array(q))
        for kind in now
        for p, q in zip(now[kind].probabilities, start[kind].probabilities, strict=True)
    ]
    return float(np.mean(distances))


def transition_displacement(now: Cells, start: Cells) -> float | None:
    """Mean over all links and rows of the total variation distance of T from its initial value.

    None where there is no matrix. Under sharing a matrix counts once for each of its links.
    """
    distances = [
        total_variation(np.array(row), np.array(first))
        for kind in now
        for T, T0 in zip(now[kind].matrices, start[kind].matrices, strict=True)
        for row, first in zip(T, T0, strict=True)
    ]
    return float(np.mean(distances)) if distances else None


def dependence_strength(space: Space, cells: Cells, model: str, own_weight: float) -> float:
    """How much of the inner edges is passed on by their predecessors, 0..1.

    The mean over inner edges of the sum over predecessors of
    w (1 - lambda) I(diag(p_q) T) / min(H(p_q), H(p_q T)); 0 where an entropy is 0, and 0 for a
    model in which nothing flows, such as `independent` and `placebo` (design, section 1).
    """
    if not MODELS[model].flows:
        return 0.0
    strengths = [
        (1 - own_weight) * _inflow(space.cells[kind], record, e)
        for kind, record in cells.items()
        for e in space.cells[kind].inner_edges
    ]
    return float(np.mean(strengths))


def _inflow(cell: Cell, record: CellRecord, e: int) -> float:
    total = 0.0
    for n in cell.links_into(e):
        p = np.array(record.probabilities[cell.links[n].predecessor])
        T = np.array(record.matrices[n])
        ceiling = min(entropy(p), entropy(p @ T))
        if ceiling > 0:
            total += record.attention[n] * mutual_information(p, T) / ceiling
    return total
