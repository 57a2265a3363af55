"""Transfer of one setting's cells: from samples to flows, from shares to quantities and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.data.benchmark import Accuracies
from analysis.data.samples import SEEDS, seed_label
from analysis.statistics.agreement import TIED
from analysis.statistics.flow import FlowCell, FlowEdge, FlowLink
from analysis.statistics.inference import Quantity, missing, of_runs
from analysis.statistics.predicted_flows import FORMS
from analysis.statistics.transfer import SHARES, Transfer

if TYPE_CHECKING:
    from analysis.compute.cell import Cell

KNOWN_BY = ("full", "columns", "start", "row_means")
"""With what the inner edges' choices are derived again."""

COLUMNS = ("cell", "run_id", "seed_weights", "d_start", "d_columns", "d_full", "flow_effect",
           "choice_transfer")  # fmt: skip
"""Columns that the table has even without rows."""

ALWAYS = ("cell", "run_id", "seed_weights", "seed", "flow_effect", "exchange_effect")
"""Columns of the table that say something where nothing was learned, too."""


def flow_cell(cell: Cell, own: bool = False) -> FlowCell:
    """The inner edges and links of a cell, as flows are derived of them.

    own: of a placebo, with its own p_q instead of the uniform ones that it derives edges from.
    Without epoch -1 the matrices are their own start.
    """
    inner = [e for e in cell.edges if e.inner]
    place = {(e.source, e.target): i for i, e in enumerate(inner)}
    shared = cell.shared or list(range(len(cell.links)))
    starts = cell.starts or cell.matrices
    weight = cell.runs["own_weight"].iloc[0]
    edges = tuple(FlowEdge(e.probabilities, e.operations) for e in inner)
    links = tuple(
        FlowLink(place[k.nodes[2:]], start, k.matrices, k.predecessor.probabilities, k.attention, i)
        for k, start, i in zip(cell.links, starts, shared, strict=True)
    )
    own_weight = 0.0 if pd.isna(weight) else float(weight)
    random_start = cell.runs["init"].iloc[0] == "random"
    found = FlowCell(edges, links, own_weight, cell.never_kept, random_start)
    return found if own or cell.model != "placebo" else found.uniform()


def quantity_of(cell: Cell, name: str) -> Quantity:
    """One of the registry's quantities of transfer."""
    if name == "flow_effect":
        return of_runs(cell.transfer.flow_effect, (0.0, 1.0))
    if cell.why_nothing_learned:
        return missing(cell.why_nothing_learned, cell.n)
    if name == "dependence_transfer_own":
        if cell.model != "placebo":
            return missing("a placebo's alone", cell.n)
        return cell.transfer_of(own=True).share("dependence_transfer")
    if name in SHARES:
        return cell.transfer.share(name)
    if name == "learned_effect":
        return of_runs(cell.transfer.d_start, (0.0, 1.0))
    q = of_runs(cell.transfer.choice_transfer(), (0.0, 1.0))
    return q if q.known else missing(cell.transfer.note or "every inner edge is tied", cell.n)


def transfer_table(cells: Sequence[Cell], benchmark: Accuracies) -> pd.DataFrame:
    """One row per cell kind and seed: divergences in bits, effects, choices.

    With a benchmark table, `benchmark_by_*` is the change (points) of the genotype's tabular test
    accuracy where its inner edges' choices are derived with another's tables.
    """
    parts = []
    for cell in cells:
        if not cell.links:
            continue
        t = cell.transfer
        values: dict[str, Any] = {
            "cell": cell.kind, "run_id": list(cell.last.run_ids),
            "seed_weights": cell.runs["seed_weights"].to_numpy(),
            "seed": [seed_label(s) for s in cell.runs[list(SEEDS)].itertuples(index=False)],
            "d_start": t.d_start, "d_columns": t.d_columns, "d_full": t.d_full,
            "flow_effect": t.flow_effect, "choice_transfer": t.choice_transfer(),
            "flow_effect_start": t.flow_effect_start, "exchange_effect": t.exchange_effect,
            "choice_columns": t.choice_transfer("columns"),
            "choice_start": t.choice_transfer("start"),
            "form": [FORMS[i] if i >= 0 else "" for i in t.forms[:, 0]],
            "factor": t.factors[:, 0],
        }  # fmt: skip
        if cell.why_nothing_learned:
            of_learning = [name for name in values if name not in ALWAYS]
            values |= dict.fromkeys(of_learning, np.nan) | {"form": ""}
        if benchmark:
            values |= _accuracies(cell, t, benchmark)
        parts.append(pd.DataFrame(values))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def _accuracies(cell: Cell, found: Transfer, benchmark: Accuracies) -> dict[str, list[float]]:
    """Changes of tabular accuracy: (n,) by what the inner edges' choices are derived with."""
    changes: dict[str, list[float]] = {}
    for by in KNOWN_BY:
        chosen = cell.choices.copy()
        chosen[:, cell.part("inner")] = found.chosen.get(by, TIED)
        changes[f"benchmark_by_{by}"] = [
            benchmark.get(_architecture(cell, row), np.nan) - benchmark.get(genotype, np.nan)
            if (row != TIED).all()
            else np.nan
            for row, genotype in zip(chosen, cell.genotypes, strict=True)
        ]
    return changes


def _architecture(cell: Cell, chosen: Sequence[int] | np.ndarray) -> str:
    """NAS-Bench-201's string of these choices."""
    nodes: dict[int, list[str]] = {}
    for edge, k in zip(cell.edges, chosen, strict=True):
        nodes.setdefault(edge.target, []).append(f"{edge.operations[k]}~{edge.source}")
    return "+".join(f"|{'|'.join(nodes[t])}|" for t in sorted(nodes))
