"""What all figures share: rows of tables, panels that lay themselves out, legends, limits.

Sizes are inches at seaborn's `paper` context. Texts, lines and markers grow with the context
(`talk` for slides); panels grow too, but less, so that on the same screen texts are larger.
Margins are matplotlib's constrained layout's, worked out once and then fixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection, PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from analysis.errors import ResultsError
from analysis.figures.palette import DARK, Look, looks, wrapped
from analysis.quantities import DEFINITIONS, label_of

Tables = Mapping[str, pd.DataFrame]
"""What `report/tables` holds, by name."""

STYLES = {"paper": "paper", "slides": "talk"}
"""Style to seaborn's context."""

MOST = 24
"""Settings in one figure; the tables have all of them."""

_POINTS = 12 * 0.8 * 1.05  # of the text of seaborn's `paper` with our scale of fonts
_LETTER = 0.063  # inches of a letter of small text in `paper`


def rows(tables: Tables, name: str, *columns: str, **where: Any) -> pd.DataFrame:
    """Rows of a table in which every column named in `where` is, or is one of, that value.

    A missing table is an empty one. columns: those that must be there; missing ones are NaN.
    """
    frame = tables.get(name, pd.DataFrame())
    needed = [c for c in (*columns, *where) if c not in frame.columns]
    frame = frame.reindex(columns=[*frame.columns, *needed]) if needed else frame
    for column, value in where.items():
        values = [value] if isinstance(value, str | int | bool) else list(value)
        frame = frame[frame[column].isin(values)]
    return frame


def known_style(style: str) -> str:
    """The style itself; ResultsError, one line, where there is none of this name."""
    if style not in STYLES:
        raise ResultsError(f"style {style!r} is unknown: give {' or '.join(STYLES)}")
    return style


@contextmanager
def drawing(style: str) -> Iterator[None]:
    """seaborn's white grid in the style's context, for the figures made inside, nothing else."""
    context = seaborn.plotting_context(STYLES[known_style(style)], font_scale=1.05)
    ours = {"axes.titlesize": "medium", "legend.frameon": False, "legend.fontsize": "small",
            "axes.labelsize": "small", "figure.constrained_layout.w_pad": 0.06,
            "text.hinting": "no_hinting"}  # fmt: skip
    with matplotlib.rc_context(seaborn.axes_style("whitegrid") | context | ours):
        yield


def scale() -> float:
    """How many times larger than in `paper` texts are in the context at hand."""
    return matplotlib.rcParams["font.size"] / _POINTS


def letters(inches: float) -> int:
    """How many letters of small text go into a width in inches (at `paper`'s sizes)."""
    return max(8, int(inches / _LETTER / scale() * _growth()))


def _growth() -> float:
    return scale() ** 0.7


def of_text(inches: float) -> float:
    """A part of a panel that is to grow as texts do, as a row with a name or an entry with digits."""
    return inches * scale() / _growth()


def grid(
    panels: int, columns: int, size: tuple[float, float], *, left: float = 0.6,
    between: tuple[float, float] = (0.2, 0.6), **options: Any,
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """A figure of `panels` axes in rows of `columns`, that belongs to no pyplot state.

    size: of a panel; left: room for the names of rows, between: for the labels of each panel.
    """
    columns = max(1, min(columns, panels))
    down = -(-panels // columns)
    text, grown = scale(), _growth()
    width = left * text + columns * (size[0] * grown + between[0] * text)
    height = down * (size[1] * grown + between[1] * text)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(down, columns, squeeze=False, **options).ravel().tolist()
    for spare in axes[panels:]:
        spare.remove()
    # Shared axes name only the lowest row, which may have fewer panels than the others.
    for ax in axes[max(0, panels - columns) : panels]:
        ax.tick_params(labelbottom=True)
    return figure, axes[:panels]


def finish(figure: Figure, handles: Sequence[Artist] = (), remark: str = "") -> Figure:
    """Add remark and legend, for which the figure grows, and fix the layout."""
    _thicken([*handles, *(a for ax in figure.axes for a in (*ax.lines, *ax.collections))])
    width, height = figure.get_size_inches()
    longest = max([0, *(len(str(h.get_label())) + 9 for h in handles)])
    width = max(width, 5.0 * _growth(), longest * _LETTER * scale())
    room = width / (_LETTER * scale())
    if remark:
        lines = wrapped(remark, int(room), 4)
        figure.suptitle(lines, fontsize="small")
        height += 0.2 * scale() * (1 + lines.count("\n"))
    if handles:
        columns = _columns([len(str(h.get_label())) + 9 for h in handles], room)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        height += 0.19 * scale() * -(-len(handles) // columns) + 0.1
    figure.set_size_inches(width, height)
    settle(figure)
    return figure


def _thicken(artists: Sequence[Artist]) -> None:
    """Lines and markers, whose sizes are given in points of `paper`, in the context at hand."""
    for artist in {id(a): a for a in artists}.values() if scale() != 1 else ():
        if isinstance(artist, Line2D):
            artist.set_linewidth(artist.get_linewidth() * scale())
            artist.set_markersize(artist.get_markersize() * scale())
        elif isinstance(artist, Collection):
            artist.set_linewidth(np.asarray(artist.get_linewidth()) * scale())
            if isinstance(artist, PathCollection):
                artist.set_sizes(artist.get_sizes() * scale() ** 2)


def _columns(widths: Sequence[int], room: float) -> int:
    """How many columns of a legend, which fills column by column, fit into a room in letters."""
    for columns in range(min(8, len(widths)), 1, -1):
        if sum(max(column) for column in np.array_split(widths, columns)) <= room:
            return columns
    return 1


def settle(figure: Figure) -> None:
    """Work the layout out once and keep it: without hinting it holds at every resolution."""
    engine = figure.get_layout_engine()
    if engine is not None:
        # What is drawn inside axes needs no room around them, and takes long to measure.
        for ax in figure.axes:
            for artist in (*ax.lines, *ax.collections, *ax.patches, *ax.images, *ax.texts):
                artist.set_in_layout(False)
        FigureCanvasAgg(figure)
        engine.execute(figure)
        figure.set_layout_engine("none")


def entry(label: str, **style: Any) -> Line2D:
    """One entry of a legend: a marker without a line unless the style says otherwise."""
    usual = {"color": DARK, "linestyle": "", "linewidth": 1.6, "markersize": 5.5}
    return Line2D([], [], label=label, **(usual | style))


class Study:
    """The study's settings: their order, looks, numbers of seeds, and which of them are shown."""

    def __init__(self, tables: Tables) -> None:
        settings = rows(tables, "settings", "setting", "model", "n")
        self.looks: dict[str, Look] = looks(settings["setting"])
        self.model: dict[str, str] = dict(zip(settings["setting"], settings["model"], strict=True))
        self.n: dict[str, int] = dict(zip(settings["setting"], settings["n"], strict=True))

    def shown(
        self, frame: pd.DataFrame, most: int = MOST, also: str | None = None
    ) -> tuple[list[str], str]:
        """The first settings of a frame in the study's order, and a remark if that is not all.

        `also` and a placebo are always among them: what is told of a transition is told of its
        control.
        """
        present = set(frame["setting"])
        every = [s for s in self.looks if s in present]
        placebos = [s for s in every if self.model[s] == "placebo"]
        wanted = dict.fromkeys([s for s in every if s == also] + placebos[:1] + every)
        chosen = sorted(list(wanted)[:most], key=every.index)
        if chosen == every:
            return every, ""
        first = chosen == every[:most]
        return chosen, f"{'the first' if first else 'only'} {most} of {len(every)} settings"

    def primary(self, tables: Tables, frame: pd.DataFrame) -> str:
        """Of the settings of a frame the primary endpoint's, else the first transition, else any."""
        present = [s for s in self.looks if s in set(frame["setting"])]
        first = set(rows(tables, "verdict", "setting", primary=True)["setting"])
        return min(present, key=lambda s: (s not in first, self.model[s] != "transition"))

    def name(self, setting: str, width: int = 56, lines: int = 1) -> str:
        """A setting's name with its number of seeds."""
        n = f" (n={int(self.n.get(setting, 0))})"
        return wrapped(setting, max(8, width - len(n) * (lines == 1)), lines) + n

    def entries(self, settings: Sequence[str], **style: Any) -> list[Line2D]:
        """Entries of a legend, one a setting."""
        return [
            entry(self.name(s), **({"linestyle": "-"} | self.looks[s].line() | style))
            for s in settings
        ]


def cells_of(frame: pd.DataFrame) -> list[str]:
    """Distinct cell kinds; the alphabet has the normal cell before the reduction cell."""
    return sorted(frame["cell"].unique())


def label(quantity: str, inches: float = 9.0) -> str:
    """A quantity's label with its unit, in lines that a panel of this width holds."""
    return wrapped(label_of(quantity), letters(inches), 3)


def clipped(quantity: str, values: ArrayLike) -> np.ndarray:
    """Values no further than what is possible: an accuracy's interval stays in 0..1."""
    definition = DEFINITIONS.get(quantity)
    low, high = (definition.limits if definition else None) or (-np.inf, np.inf)
    return np.clip(np.asarray(values, dtype=float), low, high)


def span(
    estimates: ArrayLike, low: ArrayLike, high: ArrayLike, *more: ArrayLike
) -> tuple[float, float]:
    """Limits of an axis that hold every estimate, and intervals and points of the usual size.

    One wild interval or pseudo-value squashes nothing: what lies beyond is drawn at the border.
    """
    middle = np.asarray(estimates, dtype=float).ravel()
    ends = np.concatenate([np.ravel(np.asarray(x, dtype=float)) for x in (low, high, *more)])
    half = (np.asarray(high, dtype=float) - np.asarray(low, dtype=float)) / 2
    middle, ends, half = (x[np.isfinite(x)] for x in (middle, ends, half))
    if not middle.size:
        return 0.0, 1.0
    usual = float(np.median(half)) if half.size else 0.0
    spread = float(np.subtract(*np.percentile(ends, [85, 15]))) if ends.size else 0.0
    reach = max(2 * usual, 0.6 * float(np.ptp(middle)), spread)
    least = max(middle.min() - reach, np.min(ends, initial=middle.min()))
    most = min(middle.max() + reach, np.max(ends, initial=middle.max()))
    margin = 0.07 * (most - least) or 0.05 * abs(most) or 0.05
    return float(least - margin), float(most + margin)


def said(*remarks: str) -> str:
    """Remarks joined; empty ones are left out."""
    return "; ".join(filter(None, remarks))
