"""Panels that lay themselves out, legends, styles and files: what all figures share.

Sizes are inches at seaborn's `paper` context. Texts, lines and markers grow with the context
(`talk` for slides); panels grow too, but less, so that on the same screen texts are larger.
Margins are matplotlib's constrained layout's, worked out once and then fixed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import seaborn
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.errors import ResultsError
from analysis.figures.palette import DARK, wrapped

STYLES = {"paper": "paper", "slides": "talk"}  # style to seaborn's context
_GROWTH = 0.7  # the power of their scale that panels grow with
_POINTS = 12 * 0.8 * 1.05  # of the text of seaborn's `paper` with our scale of fonts
_LETTER = 0.068  # inches of a letter of small text in `paper`
_LAID_OUT = {"text.hinting": "no_hinting"}  # widths of texts are alike at any resolution


def known_style(style: str) -> str:
    """The style itself; ResultsError, one line, where there is none of this name."""
    if style not in STYLES:
        raise ResultsError(f"style {style!r} is unknown: give {' or '.join(STYLES)}")
    return style


@contextmanager
def drawing(style: str) -> Iterator[None]:
    """seaborn's white grid in the style's context, for the figures made inside, nothing else."""
    context = seaborn.plotting_context(STYLES[known_style(style)], font_scale=1.05)
    ours = {"axes.titlesize": "small", "axes.labelsize": "small", "legend.fontsize": "small",
            "legend.frameon": False, "figure.constrained_layout.w_pad": 0.06,
            "figure.autolayout": False, "figure.constrained_layout.use": False,
            "axes.titley": 1.0}  # fmt: skip  # fixed, as looking for its place takes long
    with matplotlib.rc_context(seaborn.axes_style("whitegrid") | context | ours | _LAID_OUT):
        yield


def scale() -> float:
    """How many times larger than in `paper` texts are in the context at hand."""
    return matplotlib.rcParams["font.size"] / _POINTS


def letters(inches: float) -> int:
    """How many letters of small text go into a panel of this width."""
    return max(8, int(inches / of_text(_LETTER)))


def of_text(inches: float) -> float:
    """A part of a panel that is to grow as texts do: a row with a name, an entry with digits."""
    return inches * scale() / scale() ** _GROWTH


def grid(
    panels: int, columns: int, size: tuple[float, float], *, left: float = 0.6,
    between: tuple[float, float] = (0.2, 0.6), more: float = 0.0, **options: Any,
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """A figure of `panels` axes in rows of `columns`, that belongs to no pyplot state.

    size: of a panel; left: room for the names of rows, between: for the labels of each panel,
    more: for colour bars.
    """
    columns, k = max(1, min(columns, panels)), scale()
    down = -(-panels // columns)
    width = left * k + columns * (size[0] * k**_GROWTH + between[0] * k)
    height = down * (size[1] * k**_GROWTH + between[1] * k) + more * k
    figure = Figure(figsize=(width, height), layout="constrained")
    every = figure.subplots(down, columns, squeeze=False, **options).ravel().tolist()
    for spare in every[panels:]:
        spare.remove()
    for place, ax in enumerate(axes := every[:panels]):
        # Shared axes name only the lowest row, which may have fewer panels than the others.
        ax.tick_params(labelbottom=place >= panels - columns or not options.get("sharex"))
        ax.locator_params(nbins=5)  # as many whatever size the layout gives it, unlike by default
    return figure, axes


def finish(figure: Figure, handles: Sequence[Artist] = (), remark: str = "") -> Figure:
    """Add remark and legend, for which the figure grows, and fix the layout."""
    k = scale()  # lines and markers have sizes in points of `paper`
    drawn: list[Any] = [a for ax in figure.axes for a in (*ax.lines, *ax.collections)]
    for artist in dict.fromkeys([*handles, *drawn]):
        artist.set_linewidth(np.multiply(artist.get_linewidth(), k))
        if isinstance(artist, Line2D):
            artist.set_markersize(artist.get_markersize() * k)
        if isinstance(artist, PathCollection):
            artist.set_sizes(artist.get_sizes() * k**2)
    width, height = figure.get_size_inches()
    lengths = [len(str(h.get_label())) + 9 for h in handles]
    width = max(width, 5.0 * k**_GROWTH, max([0, *lengths]) * _LETTER * k)
    room = int(width / (_LETTER * k))
    if remark:
        lines = wrapped(remark, room, 4)
        figure.suptitle(lines, fontsize="small")
        height += 0.2 * k * (1 + lines.count("\n"))
    if handles:
        columns = min(8, len(handles))
        while columns > 1 and sum(map(max, np.array_split(lengths, columns))) > room:
            columns -= 1  # a legend fills column by column, the first ones having one more
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        height += 0.19 * k * -(-len(handles) // columns) + 0.1
    figure.set_size_inches(width, height)
    # What is drawn inside axes needs no room around them, and takes long to measure.
    for ax in figure.axes:
        for artist in ax.get_children():
            artist.set_in_layout(artist in (ax.xaxis, ax.yaxis, ax.title))
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine(None)  # with one, if only a placeholder, saving would draw it twice
    return figure


def entry(label: str, **style: Any) -> Line2D:
    """One entry of a legend: a marker without a line unless the style says otherwise."""
    usual: dict[str, Any] = {"color": DARK, "linestyle": "", "linewidth": 1.6, "markersize": 5.5}
    return Line2D([], [], label=label, **(usual | style))


def png(figure: Figure, dpi: int = 144) -> bytes:
    """The figure as a PNG, on white."""
    # 6, the usual level of compression, takes half as long again and makes nothing smaller
    return _saved(figure, _LAID_OUT, dpi=dpi, pil_kwargs={"compress_level": 3})


def svg(figure: Figure) -> bytes:
    """The figure as an SVG, on white; texts stay texts, and equal figures give equal bytes."""
    # A fixed salt and no date: names inside the file would else differ from run to run.
    fixed = {"svg.fonttype": "none", "svg.hashsalt": "itnas"}
    return _saved(figure, fixed, format="svg", metadata={"Date": None})


def _saved(figure: Figure, settings: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, facecolor="white", **options)
    return buffer.getvalue()
