"""The first sentences of the page, setting by setting."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.compute.verdict import COLUMNS, NOTHING, ROWS, UNKNOWN
from analysis.quantities import label_of
from analysis.report import text
from analysis.report.sentences.shared import Frames, holding
from analysis.statistics.transfer import SHARES

HEADLINES = {
    ROWS: "rows come out again: which operation the predecessor chose matters, in the same way in "
    "other seeds",
    COLUMNS: "only columns come out again: other seeds foretell where this one goes, but not from "
    "which predecessor operation",
    NOTHING: "nothing comes out again in other seeds",
    UNKNOWN: "these seeds cannot tell whether a dependence comes out again",
}


def verdict(tables: Frames) -> list[dict[str, Any]]:
    """What is to be said first, setting by setting: primary, headline and sentence of each."""
    found = []
    for row in tables["verdict"].to_dict("records"):
        corrected = "" if row["primary"] else ", Holm-corrected over the settings below"
        rows = text.estimate(row["dependence_transfer"], row["low"], row["high"])
        columns = text.estimate(row["column_transfer"], row["column_low"], row["column_high"])
        told = holding(
            (np.isfinite(row["dependence_transfer"]), f"Dependence transfer {rows} "
             f"({text.p_value(row['p_holm'])}{corrected}), column transfer {columns}, "
             f"n={row['seeds']} seeds; learning moved the flow by {row['d_start']:.3f} bits."),
            (row["missing"], f"What is missing: {row['missing']}."),
        )  # fmt: skip
        headline = f"“{row['setting']}”: {HEADLINES[row['verdict']]}."
        told += _placebo(tables, row["setting"])
        found.append({"primary": row["primary"], "headline": headline, "sentence": " ".join(told)})
    return found


def _placebo(tables: Frames, setting: str) -> list[str]:
    """The same of a setting's placebo, cell by cell."""
    of, frame = tables["comparisons"], tables["stability"]
    name = of.loc[(of["setting"] == setting) & (of["kind"] == "placebo"), "reference"].max()
    own = frame[(frame["setting"] == name) & frame["quantity"].isin(SHARES)]
    several = own["cell"].nunique() > 1
    shares = [
        f"{label_of(r['quantity'])} {text.of_row(r, digits=2, short=True)}"
        + f" ({r['cell']} cell)" * several
        for r in own.dropna(subset="estimate").to_dict("records")
    ]
    return holding((shares, f"Of its placebo, where nothing can flow: {text.listed(shares)}."))
