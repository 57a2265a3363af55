"""How many seeds it takes, and how reliable the mean matrices are, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.compute.cell import Cell
from analysis.quantities import DEFINITIONS, HEADLINE
from analysis.statistics.inference import NAN, NO_SPREAD, Quantity, standard_error
from analysis.statistics.metrics import Array
from analysis.statistics.projection import LEAST_SEEDS, for_width, split_half

FEW = f"fewer than {LEAST_SEEDS} seeds cannot tell how many it takes"

PROJECTED = (
    HEADLINE, "column_transfer", "operation_agreement", "edge_agreement",
    "probability_divergence", "transition_divergence", "dependence_stability",
    "learned_dependence_stability", "link_specificity", "attention_agreement",
    "dependence_strength", "valid_accuracy", "derived_accuracy", "benchmark_test",
)  # fmt: skip

TOLD = (HEADLINE, "operation_agreement", "derived_accuracy", "benchmark_test")
"""What the page tells of them, each at its second width."""

COLUMNS = (
    "cell", "quantity", "goal", "target", "seeds_low", "seeds", "seeds_high", "seeds_here",
    "width_here", "told", "note",
)  # fmt: skip


def for_widths(found: Mapping[tuple[str, str], Quantity]) -> pd.DataFrame:
    """One row per quantity and width worth asking about: the seeds it takes, as a range."""
    rows: list[tuple[object, ...]] = []
    for (cell, name), q in found.items():
        if name not in PROJECTED or q.statistic is None or not q.known:
            continue
        here = (cell, name, "width")
        if q.n < LEAST_SEEDS or not standard_error(q.statistic) > 0:
            why = FEW if q.n < LEAST_SEEDS else NO_SPREAD
            rows.append((*here, NAN, None, None, None, q.n, q.width, False, why))
            continue
        for place, width in enumerate(DEFINITIONS[name].widths):
            told = name in TOLD and place == 1
            needed = for_width(q.statistic, width)
            rows.append((*here, width, *needed, q.n, q.width, told, ""))
    return _frame(rows)


def for_differences(comparisons: pd.DataFrame) -> pd.DataFrame:
    """One row per difference to a control that the page tells: the seeds it takes to see it."""
    told = comparisons["quantity"].isin(TOLD) & comparisons["needed_low"].notna()
    chosen = comparisons[told & (comparisons["kind"] != "frozen")]
    rows = [
        (c["cell"], c["quantity"], "difference", abs(c["difference"]), c["needed_low"], c["needed"],
         c["needed_high"], c["seeds"], c["high"] - c["low"], True, f"to {c['reference']}")
        for c in chosen.to_dict("records")
    ]  # fmt: skip
    found = _frame(rows)
    found.insert(0, "setting", chosen["setting"].to_numpy())
    return found


def _frame(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(("seeds_low", "seeds", "seeds_high"), "Int64"))


def reliability_table(cells: Iterable[Cell]) -> pd.DataFrame:
    """Split-half reliability of the mean matrices of every cell kind, of parts of them.

    `learned` is each matrix divided by its start; `link` each less the mean over links with its
    shape, so that one matrix on every link earns nothing there. correlation: mean over splits;
    reliability: stepped up to all seeds after Spearman and Brown; low, high: quartiles over splits.
    """
    rows = []
    for cell in cells:
        if not cell.links or cell.n < 4:
            continue
        parts = {"matrix": cell.matrices, "link": _less_the_mean(cell.matrices)}
        if cell.learned is not None:
            parts["learned"] = cell.learned
        for part, arrays in parts.items():
            correlation, reliability = split_half(arrays)
            low, high = np.quantile(reliability, (0.25, 0.75))
            means = float(correlation.mean()), float(reliability.mean())
            rows.append((cell.kind, part, *means, low, high, cell.n))
    columns = ["cell", "part", "correlation", "reliability", "low", "high", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def _less_the_mean(matrices: Sequence[Array]) -> list[Array]:
    by_shape: dict[tuple[int, ...], list[Array]] = {}
    for matrix in matrices:
        by_shape.setdefault(matrix.shape, []).append(matrix)
    return [m - np.mean(by_shape[m.shape], axis=0) for m in matrices]
