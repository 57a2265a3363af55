"""The verdict on the headline: do the rows that other seeds learned help to derive a seed's cell?

One row per setting that learns transition matrices, its cell kinds pooled. The first in the study
file's order is the primary endpoint and stands at 5% by itself; the others' p-values are
Holm-corrected. What each verdict takes is in docs/analysis.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.cell import Cell
from analysis.compute.transfer import flow_cell
from analysis.statistics.inference import SIGNIFICANT, holm
from analysis.statistics.predicted_flows import share_found
from analysis.statistics.transfer import LEAST_SEEDS, pooled

NEGLIGIBLE = 0.05
"""A share of the learned effect that would not matter; a larger one would."""

POWER = 0.8

NUMBERS = (
    "d_start", "d_columns", "d_full", "dependence_transfer", "low", "high", "column_transfer",
    "column_low", "column_high", "p_value", "found_if_planted", "entropy", "entropy_most",
    "missing",
)  # fmt: skip
"""Columns of the evidence that settings of which nothing can be said lack."""

ROWS, COLUMNS, NOTHING, UNKNOWN = (
    "rows come out again", "only columns do", "nothing does", "cannot tell",
)  # fmt: skip


def evidence(cells: Sequence[Cell]) -> pd.DataFrame:
    """What the verdict on one setting is made of, one row; none where it learns no matrices.

    found_if_planted: see `share_found`. entropy: of the predecessors' choices, mean, and the
    most it could be (bits): rows cannot be told apart where every operation is as likely.
    """
    learning = [c for c in cells if c.links and c.model == "transition"]
    if not learning or not learning[0].learns:
        return pd.DataFrame()
    row: dict[str, Any] = {"cell": "pooled", "seeds": learning[0].n}
    why = next((c.why_nothing_learned for c in learning if c.why_nothing_learned), "")
    if not why:
        found = pooled([c.transfer for c in learning])
        rows, columns = found.share("dependence_transfer"), found.share("column_transfer")
        row |= {
            "d_start": found.d_start.mean(), "d_columns": found.d_columns.mean(),
            "d_full": found.d_full.mean(), "dependence_transfer": rows.estimate,
            "low": rows.low, "high": rows.high, "column_transfer": columns.estimate,
            "column_low": columns.low, "column_high": columns.high, "p_value": rows.p_value,
            "found_if_planted": share_found([flow_cell(c) for c in learning]),
        }  # fmt: skip
        why = found.note
    p = [link.predecessor.probabilities for c in learning for link in c.links]
    row["entropy"] = np.mean([-(x * np.log2(np.maximum(x, 1e-30))).sum(1).mean() for x in p])
    row["entropy_most"] = np.mean([np.log2(x.shape[1]) for x in p])
    return pd.DataFrame([row | {"missing": why}])


def verdict_table(found: pd.DataFrame, settings: pd.DataFrame) -> pd.DataFrame:
    """The verdicts on all settings, in the study's order.

    found: the settings' `evidence`, with a column `setting`. settings: the table, for its order,
    its reservations and settings that learn and lost every run, which stand here too: which one is
    primary is no matter of how the runs went. p_holm: the p-value itself of the primary setting,
    corrected over the others.
    """
    learns = settings["model"].eq("transition") & settings["trainable"].ne(False)
    lost = settings.loc[learns & settings["n"].eq(0), ["setting"]]
    known = [frame for frame in (found, lost.assign(cell="pooled", seeds=0)) if len(frame)]
    if not known:
        return found
    place = settings["setting"].tolist()
    found = pd.concat(known).sort_values("setting", key=lambda s: s.map(place.index))
    found = found.reset_index(drop=True)
    unknown = [name for name in NUMBERS if name not in found]
    found = found.reindex(columns=[*found.columns, *unknown])
    found["primary"] = found.index == 0
    found["p_holm"] = [*found["p_value"][:1], *holm(found["p_value"][1:])]
    held = found["setting"].map(settings.set_index("setting")["reservations"])
    found["missing"] = held.where(held != "", found["missing"])
    both = [_verdict(row) for row in found.to_dict("records")]
    found["verdict"], found["missing"] = zip(*both, strict=True)
    return found


def _verdict(row: dict[Any, Any]) -> tuple[str, str]:
    """The verdict, and what is missing where it is that nothing can be told."""
    if row["missing"]:
        return UNKNOWN, row["missing"]
    if row["seeds"] < LEAST_SEEDS:
        return UNKNOWN, f"seeds: {row['seeds']} of at least {LEAST_SEEDS}"
    if row["p_holm"] < SIGNIFICANT and row["low"] > 0:
        return ROWS, ""
    # Where every seed is best told by the start alone, columns add 0 in all: no width, no doubt.
    ends = (row["column_low"], row["column_high"])
    low, high = (row["column_transfer"] if np.isnan(end) else end for end in ends)
    if row["found_if_planted"] >= POWER:
        if row["p_holm"] >= SIGNIFICANT and low > 0 and row["high"] < NEGLIGIBLE:
            return COLUMNS, ""
        widest = np.abs((row["low"], row["high"], low, high)).max()
        if row["p_holm"] >= SIGNIFICANT and widest <= NEGLIGIBLE:
            return NOTHING, ""
        return UNKNOWN, "seeds: the intervals are too wide to rule rows in or out"
    seen = (
        "rows as strong as the seeds' noise would have been found in "
        f"{row['found_if_planted']:.0%} of studies like this one (asked: {POWER:.0%})"
    )
    if row["entropy"] <= 0.85 * row["entropy_most"]:
        return UNKNOWN, f"seeds: {seen}"
    least = f"their entropy is {row['entropy']:.1f} of at most {row['entropy_most']:.1f} bits"
    return UNKNOWN, f"sharper predecessors' choices: {least}; {seen}"
