"""What figures read: rows of the report's tables, the study's settings, labels and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from analysis.figures.layout import entry
from analysis.figures.palette import looks, wrapped
from analysis.quantities import DEFINITIONS, label_of

Tables = Mapping[str, pd.DataFrame]  # what `report/tables` holds, by name

MOST = 24  # settings in one figure; the tables have all of them


def rows(tables: Tables, name: str, *columns: str, **where: Any) -> pd.DataFrame:
    """Rows of a table in which every column named in `where` is, or is one of, that value.

    A missing table is an empty one. columns: those that must be there; missing ones are NaN.
    """
    frame = tables.get(name, pd.DataFrame())
    needed = [c for c in dict.fromkeys([*columns, *where]) if c not in frame.columns]
    frame = frame.reindex(columns=[*frame.columns, *needed]) if needed else frame
    for column, value in where.items():
        values = [value] if isinstance(value, str | int | bool) else list(value)
        frame = frame[frame[column].isin(values)]
    return frame


class Study:
    """The study's settings: their order, looks, names with n, and which of them are shown."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        frame = rows(tables, "settings", "setting", "model", "n").set_index("setting")
        self.looks = looks(frame.index.tolist())
        self.model = frame["model"].to_dict()
        self.names = {s: f"{s} (n={n})" for s, n in frame["n"].items()}

    def shown(
        self, frame: pd.DataFrame, most: int = MOST, also: str = ""
    ) -> tuple[list[str], pd.DataFrame, str]:
        """The first settings of a frame and their rows in the study's order, a remark if not all.

        `also` and a placebo are always among them: what is told of a transition is told of its
        control.
        """
        present = set(frame["setting"])
        every = [s for s in self.looks if s in present]
        placebos = [s for s in every if self.model[s] == "placebo"]
        wanted = dict.fromkeys([s for s in every if s == also] + placebos[:1] + every)
        chosen = sorted(list(wanted)[:most], key=every.index)
        which = "the first" if chosen == every[:most] else "only"
        remark = f"{which} {most} of {len(every)} settings" if chosen != every else ""
        frame = frame[frame["setting"].isin(chosen)]
        frame = frame.sort_values("setting", key=lambda s: s.map(chosen.index), kind="stable")
        return chosen, frame, remark

    def primary(self, frame: pd.DataFrame) -> str:
        """Of the settings of a frame the verdict's primary, else the first transition, else any."""
        present = set(frame["setting"])
        first = set(rows(self.tables, "verdict", "setting", primary=True)["setting"])
        rank = {s: (s not in first, self.model[s] != "transition") for s in self.looks}
        return min(rank, key=lambda s: (s not in present, rank[s]))

    def entries(self, settings: Sequence[str], **style: Any) -> list[Line2D]:
        """Entries of a legend, one a setting, as lines unless the style says otherwise."""
        look = {s: {"linestyle": "-"} | self.looks[s] | style for s in settings}
        return [entry(wrapped(self.names[s], 56, 1), **look[s]) for s in settings]


def label(quantity: str, width: int = 99) -> str:
    """A quantity's label with its unit (any other text as it is), in lines of so many letters."""
    return wrapped(label_of(quantity) if quantity in DEFINITIONS else quantity, width, 3)


def clipped(quantity: str, values: ArrayLike) -> np.ndarray:
    """Values no further than what is possible: an accuracy's interval stays in 0..1."""
    limits = DEFINITIONS[quantity].limits if quantity in DEFINITIONS else (-np.inf, np.inf)
    return np.clip(np.asarray(values, dtype=float), *limits)


def span(
    quantity: str, estimates: ArrayLike, low: ArrayLike, high: ArrayLike, *more: ArrayLike
) -> tuple[float, float]:
    """Limits of an axis that hold every estimate, and intervals and points of the usual size.

    One wild interval or pseudo-value squashes nothing: what lies beyond is drawn at the border.
    """
    low, high = clipped(quantity, low), clipped(quantity, high)
    middle = np.asarray(estimates, dtype=float)
    ends = np.concatenate([np.ravel(np.asarray(x, dtype=float)) for x in (low, high, *more)])
    middle, ends, half = (x[np.isfinite(x)] for x in (middle, ends, (high - low) / 2))
    if not middle.size:
        return 0.0, 1.0
    usual = float(np.median(half)) if half.size else 0.0
    spread = float(np.subtract(*np.percentile(ends, [85, 15]))) if ends.size else 0.0
    reach = max(2 * usual, 0.6 * float(np.ptp(middle)), spread)
    least = max(middle.min() - reach, np.min(ends, initial=middle.min()))
    most = min(middle.max() + reach, np.max(ends, initial=middle.max()))
    margin = 0.07 * (most - least) or 0.05 * abs(most) or 0.05
    return float(least - margin), float(most + margin)
