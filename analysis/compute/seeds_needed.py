"""How many seeds it takes, as rough ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.compute.verdict import NEGLIGIBLE
from analysis.quantities import DEFINITIONS, HEADLINE, used
from analysis.statistics.inference import NAN, NO_SPREAD, Quantity, standard_error
from analysis.statistics.metrics import t_quantile
from analysis.statistics.projection import LEAST_SEEDS, for_difference, for_width
from analysis.statistics.seeds import Values
from analysis.statistics.transfer import SHARES

FEW = f"fewer than {LEAST_SEEDS} seeds cannot tell how many it takes"

PROJECTED = used("seeds")

TOLD = used("told")
"""What the page tells of them, each at its second width."""

COLUMNS = (
    "cell", "quantity", "goal", "target", "seeds_low", "seeds", "seeds_high", "seeds_here",
    "width_here", "told", "note",
)  # fmt: skip


def for_widths(found: Mapping[tuple[str, str], Quantity]) -> pd.DataFrame:
    """One row per quantity and width worth asking about: the seeds it takes, as a range.

    And one of the headline: to tell the least share that would matter from 0 at 80% power.
    """
    rows: list[tuple[object, ...]] = []
    for (cell, name), q in found.items():
        if name not in PROJECTED or q.statistic is None or not q.known:
            continue
        here = (cell, name, "width")
        statistic = _as_wide(q) if name in SHARES and q.n >= LEAST_SEEDS else q.statistic
        if q.n < LEAST_SEEDS or not standard_error(statistic) > 0:
            why = FEW if q.n < LEAST_SEEDS else NO_SPREAD
            rows.append((*here, NAN, None, None, None, q.n, q.width, False, why))
            continue
        for place, width in enumerate(DEFINITIONS[name].widths):
            told = name in TOLD and place == 1
            needed = for_width(statistic, width)
            rows.append((*here, width, *needed, q.n, q.width, told, ""))
        if name == HEADLINE:
            needed = for_difference(statistic, NEGLIGIBLE)
            what = (cell, name, "difference", NEGLIGIBLE)
            rows.append((*what, *needed, q.n, q.width, True, "to 0"))
    return _frame(rows)


def _as_wide(q: Quantity) -> Values:
    """Values whose mean has the interval of a share, wider than that of its seeds' own."""
    z = np.arange(q.n) - (q.n - 1) / 2
    error = (q.estimate - q.low) / float(t_quantile(q.n - 1))
    return Values(q.estimate + error * q.n**0.5 * z / z.std(ddof=1))


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
