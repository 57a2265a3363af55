"""Tables of links: their stabilities one by one, and their mean matrices beside the start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.cell import Cell
from analysis.data.samples import LinkSample, Sample

NODES = ("predecessor_source", "predecessor_target", "source", "target")


def _keys(link: LinkSample) -> dict[str, Any]:
    return {"cell": link.cell} | dict(zip(NODES, link.nodes, strict=True))


def links_table(cells: Iterable[Cell]) -> pd.DataFrame:
    """One row per link; p-values Holm-corrected over the distinct matrices of its cell kind."""
    rows = []
    for cell in cells:
        if not cell.links:
            continue
        for index, link in enumerate(cell.links):
            row = _keys(link) | {
                "seeds": cell.n,
                "transition_divergence": cell.divergence[1][index],
            }
            row["attention_weight"] = float(link.attention.mean())
            for name, found in (
                ("dependence_stability", cell.dependence[1]),
                ("learned_dependence_stability", cell.learned_dependence[1]),
            ):
                numbers: Any = (np.nan,) * 5
                if found:
                    q = found.intervals[index]
                    tests = found.p_values[index], found.corrected[index]
                    numbers = (q.estimate, q.low, q.high, *tests)
                for suffix, value in zip(
                    ("", "_low", "_high", "_p", "_p_holm"), numbers, strict=True
                ):
                    row[name + suffix] = value
            rows.append(row)
    return pd.DataFrame(rows)


def matrices_table(last: Sample, start: Sample) -> pd.DataFrame:
    """One row per link and matrix entry: mean and sd over n seeds, and the mean at epoch -1."""
    before = {(k.cell, *k.nodes): k.matrices for k in start.links}
    parts = []
    for link in last.links:
        rows, columns = link.predecessor.operations, link.edge.operations
        begun = before.get((link.cell, *link.nodes))
        known = begun is not None and begun.shape[1:] == link.matrices.shape[1:]
        sd = link.matrices.std(axis=0, ddof=1) if last.n > 1 else link.matrices[0] * np.nan
        values = {
            "row": np.repeat(rows, len(columns)), "column": list(columns) * len(rows),
            "mean": link.matrices.mean(axis=0).ravel(), "sd": sd.ravel(),
            "start_mean": begun.mean(axis=0).ravel() if begun is not None and known else np.nan,
            "n": last.n, "attention_weight_mean": float(link.attention.mean()),
        }  # fmt: skip
        parts.append(pd.DataFrame(_keys(link) | values))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
