"""Numbers and lists as text: every number on the page is formatted here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.projection import MOST_SEEDS

DASH = "—"


def number(x: float, digits: int = 2) -> str:
    """A number as text; no minus before zeros, a dash where there is none."""
    if not np.isfinite(x):
        return DASH
    return f"{round(float(x), digits) + 0.0:.{digits}f}"


def estimate(x: float, low: float, high: float, digits: int = 2, short: bool = False) -> str:
    """`0.61 [0.50, 0.72]`, a 95% interval, or a dash; short: no remark where there is none."""
    if not np.isfinite([x, low, high]).all():
        none = " (too few seeds for an interval)" * bool(np.isfinite(x) and not short)
        return number(x, digits) + none
    # The space within does not break.
    return f"{number(x, digits)} [{number(low, digits)},\u00a0{number(high, digits)}]"


def of_row(row: Any, quantity: str = "", digits: int = 3, short: bool = False) -> str:
    """The mean and interval of a quantity in a row of `settings`, or a row with an estimate."""
    names = [f"{quantity}_{k}" for k in ("mean", "low", "high")]
    x, low, high = (row[name] for name in (names if quantity else ("estimate", "low", "high")))
    return estimate(x, low, high, digits, short)


def share(x: float, low: float, high: float) -> str:
    """`25% [9%, 53%]`, or without its interval where there is none."""
    interval = f" [{low:.0%},\u00a0{high:.0%}]" if np.isfinite(low) else ""
    return f"{x:.0%}{interval}" if np.isfinite(x) else DASH


def collapsed(row: Mapping[Any, Any]) -> str:
    """`3 of 12, 25% [9%, 53%]`, the collapsed runs in a row of `settings`."""
    n, count = row["n"], row["collapsed"]
    low, high = row["collapse_rate_low"], row["collapse_rate_high"]
    return f"{count} of {n}, {share(count / n, low, high)}" if n else DASH


def p_value(p: float) -> str:
    """`p = 0.03`, `p < 0.001`."""
    return "p unknown" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def listed(items: Iterable[str]) -> str:
    """`a, b and c`."""
    items = list(items)
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def quoted(names: Iterable[str]) -> str:
    """Setting names in quotation marks, as a list."""
    return listed(f"“{name}”" for name in names)


def each(values: pd.Series) -> str:
    """The values that there are, in order."""
    return ", ".join(map(str, sorted(values.unique())))


def runs(count: int) -> str:
    """`1 run`, `4 runs`."""
    return f"{count} run" if count == 1 else f"{count} runs"


def seed_range(low: Any, high: Any) -> str:
    """`9 to 40`, numbers of seeds; what is not known is more than was asked about."""
    known = [f"over {MOST_SEEDS}" if pd.isna(x) else f"{x:.0f}" for x in (low, high)]
    return known[0] if pd.isna(low) else " to ".join(known)


def plain(value: Any) -> str:
    """A value of the study file, or of a table's cell, in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    if pd.api.types.is_bool(value):
        return "true" if value else "false"
    if value is None or pd.isna(value):
        return DASH
    return f"{value:.4g}" if isinstance(value, float) else str(value)
