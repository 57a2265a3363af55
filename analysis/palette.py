"""Colours, names and helpers that all figures share: one operation, one colour, everywhere.

Operation colours are Okabe and Ito's, which colour-blind readers can tell apart, with a line
style as a second cue: solid for operations with parameters, dashed for those without.
"""

from __future__ import annotations

import io
import re
import textwrap
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from analysis.errors import ResultsError
from analysis.genotypes import PARAMETERLESS

OPERATION_COLOURS = {
    "none": "#9a9a9a",
    "skip_connect": "#1a1a1a",
    "max_pool_3x3": "#56b4e9",
    "avg_pool_3x3": "#0072b2",
    "sep_conv_3x3": "#d55e00",
    "sep_conv_5x5": "#e69f00",
    "dil_conv_3x3": "#009e73",
    "dil_conv_5x5": "#b5a900",
    "nor_conv_1x1": "#e69f00",
    "nor_conv_3x3": "#d55e00",
    "noise": "#cc79a7",
}

OPERATION_NAMES = {
    "none": "none",
    "skip_connect": "skip",
    "max_pool_3x3": "max 3×3",
    "avg_pool_3x3": "avg 3×3",
    "sep_conv_3x3": "sep 3×3",
    "sep_conv_5x5": "sep 5×5",
    "dil_conv_3x3": "dil 3×3",
    "dil_conv_5x5": "dil 5×5",
    "nor_conv_1x1": "conv 1×1",
    "nor_conv_3x3": "conv 3×3",
    "noise": "noise",
}

INTERVAL = "95% t interval over seeds"
QUANTITY_NAMES = {
    "valid_accuracy": "relaxed accuracy on holdout",
    "derived_accuracy": "derived accuracy on holdout",
    "train_accuracy": "training accuracy",
    "train_loss": "training loss",
    "valid_loss": "relaxed loss on holdout",
    "benchmark_test": "benchmark test accuracy (%)",
    "architecture_displacement": "architecture displacement",
    "transition_displacement": "transition displacement",
    "architecture_entropy": "architecture entropy (nats)",
    "dependence_strength": "dependence strength",
}
QUANTITY_COLOURS = {
    "train_accuracy": "#9a9a9a",
    "train_loss": "#9a9a9a",
    "valid_accuracy": "#0072b2",
    "valid_loss": "#0072b2",
    "derived_accuracy": "#d55e00",
}
QUANTITY_STYLES = {"train_accuracy": ":", "train_loss": ":", "derived_accuracy": "--"}

STYLES = {"paper": 1.0, "slides": 1.5}
"""Style to zoom: how many times larger than drawn its texts, lines and markers come out."""
SPACE = (3.5, 2.0)
"""Points beside and above a text that a style leaves free: a word's space, and less."""

_SPARE = ("#332288", "#88ccee", "#882255", "#44aa99", "#aa4499", "#661100")


def operation_colour(operation: str) -> str:
    """The operation's colour; one unknown to us gets a spare colour by its name."""
    spare = _SPARE[zlib.crc32(operation.encode()) % len(_SPARE)]
    return OPERATION_COLOURS.get(operation, spare)


def operation_style(operation: str) -> str:
    """Line style: dashed for operations without parameters."""
    return "--" if operation in PARAMETERLESS else "-"


def operation_name(operation: str) -> str:
    """A name short enough for an axis."""
    return OPERATION_NAMES.get(operation, operation.replace("_", " "))


def setting_style(index: int) -> dict[str, Any]:
    """Colour and line style of the index-th setting; styles change after ten colours."""
    colours = seaborn.color_palette("colorblind", 10)
    styles = ("-", "--", ":", "-.")
    return {"color": colours[index % 10], "linestyle": styles[index // 10 % len(styles)]}


def wrapped(text: str, width: int = 30, lines: int = 3) -> str:
    """A setting's name broken into at most `lines` lines; `$` is no mathematics here.

    What does not fit is cut in the middle of the last line, since names that begin alike often
    differ at their ends.
    """
    parts = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    if len(parts) > lines:
        rest = " ".join(parts[lines - 1 :])
        half = (width - 1) // 2
        parts = [*parts[: lines - 1], f"{rest[:half]}…{rest[-half:]}"]
    return "\n".join(parts).replace("$", r"\$")


@contextmanager
def drawing() -> Iterator[None]:
    """seaborn's white grid in paper size, for the figures made inside and nothing else."""
    style = seaborn.axes_style("whitegrid") | seaborn.plotting_context("paper", font_scale=1.05)
    # A fixed height of titles spares a search through the tick labels of every panel.
    ours = {"axes.titlesize": 9.5, "axes.titley": 1.0, "legend.frameon": False}
    with matplotlib.rc_context(style | ours):
        yield


def grid(
    panels: int,
    columns: int,
    size: tuple[float, float],
    *,
    left: float = 0.7,
    top: float = 0.35,
    bottom: float = 0.85,
    gap: tuple[float, float] = (0.35, 0.4),
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """A figure of `panels` axes of one size in rows of `columns`.

    Sizes, margins and gaps are inches; the margins are for titles, labels and legend. Placing
    panels so is several times faster than a layout engine, which draws everything twice. A
    figure made here belongs to no pyplot state and needs no closing.
    """
    columns = max(1, min(columns, panels))
    rows = -(-panels // columns)
    # One or two panels are widened, so that titles and legend fit.
    least = (7.0 - left - 0.2 - (columns - 1) * gap[0]) / columns
    size = (max(size[0], least), size[1])
    width = left + columns * size[0] + (columns - 1) * gap[0] + 0.2
    height = top + rows * size[1] + (rows - 1) * gap[1] + bottom
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    figure.subplots_adjust(
        left=left / width,
        right=1 - 0.2 / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=gap[0] / size[0],
        hspace=gap[1] / size[1],
    )
    for spare in axes[panels:]:
        spare.set_axis_off()
    return figure, axes[:panels]


def legend(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """One legend at the figure's foot, with every label of its axes once."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        list(found.values()), list(found), loc="lower center", ncols=min(columns, len(found) or 1)
    )


def known_style(style: str) -> str:
    """The style itself; ResultsError, one line, where there is none of this name."""
    if style not in STYLES:
        raise ResultsError(f"style {style!r} is unknown: give {' or '.join(STYLES)}")
    return style


def arranged(figure: Figure, style: str) -> float:
    """Fit a drawn figure to a style; gives the zoom that `png` and `svg` write it with.

    A zoomed figure would only be larger all over. So its panels are made smaller first, by as
    much as the zoom if its texts have room, and by less otherwise: on the same screen, texts,
    lines and markers are then larger by that factor. Raises ResultsError for an unknown style.
    """
    zoom = STYLES[known_style(style)]
    if zoom > 1:
        shrink, accepted = _shrinking(figure), _clashes(figure, (0, 0))
        for part in (1, 0.75, 0.5, 0.25):
            shrink(1 + part * (zoom - 1))
            if _clashes(figure, SPACE) <= accepted:
                return zoom
        shrink(1)
    return zoom


def _shrinking(figure: Figure) -> Callable[[float], None]:
    """A function that divides the figure's panels, as they are now, by a factor.

    Panels of a grid keep their margins and gaps; axes placed by hand shrink with the figure.
    """
    size = tuple(figure.get_size_inches())
    gridspec = figure.axes[0].get_gridspec()
    rows, columns = gridspec.get_geometry() if gridspec else (0, 0)
    p = figure.subplotpars
    # per direction: panels, gap as a part of a panel, and both margins in inches
    width = (columns, p.wspace, p.left * size[0], (1 - p.right) * size[0])
    height = (rows, p.hspace, p.bottom * size[1], (1 - p.top) * size[1])

    def shrink(factor: float) -> None:
        if not rows:
            figure.set_size_inches(size[0] / factor, size[1] / factor)
            return
        totals, parts = [], []
        for total, (count, gap, low, high) in zip(size, (width, height), strict=True):
            panel = (total - low - high) / (count + (count - 1) * gap)
            new = low + count * panel / factor + (count - 1) * gap * panel + high
            totals.append(new)
            parts.append((low / new, 1 - high / new, gap * factor))
        figure.set_size_inches(*totals)
        (left, right, wspace), (bottom, top, hspace) = parts
        figure.subplots_adjust(left, bottom, right, top, wspace, hspace)

    return shrink


def _clashes(figure: Figure, space: tuple[float, float]) -> set[frozenset[int]]:
    """The identities of texts that touch, in pairs, and of texts that leave the figure, alone.

    space: points that texts need beside and above each other so as not to touch. Slanted texts
    are left out: their boxes overlap where they themselves do not.
    """
    figure.set_dpi(72)  # a pixel is a point
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    texts = [t for t in _texts(figure) if t.get_visible() and t.get_text().strip()]
    level = [t.get_bbox_patch() or t for t in texts if t.get_rotation() % 90 == 0]
    drawn = [*level, *figure.legends]
    boxes = np.array([d.get_window_extent().extents for d in drawn])
    low, high = boxes[:, :2], boxes[:, 2:]
    outside = (low < 0).any(axis=1) | (high > figure.bbox.size).any(axis=1)
    n = len(level)
    touching = (low[:n, None] - space < high[None, :n]).all(axis=2)
    pairs = np.argwhere(np.triu(touching & touching.T, 1))
    alone = np.flatnonzero(outside)[:, None]
    return {frozenset(id(drawn[i]) for i in clash) for clash in [*pairs, *alone]}


def _texts(figure: Figure) -> Iterator[Text]:
    """Every text that a drawing of the figure may show."""
    yield from figure.texts
    for box in figure.legends:
        yield from box.get_texts()
    for ax in figure.axes:
        yield from ax.texts
        yield ax.title
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            yield axis.label
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                # A locator's ticks beyond the ends of an axis exist, yet are not drawn.
                if low <= tick.get_loc() <= high:
                    yield tick.label1


def png(figure: Figure, dpi: int = 144, zoom: float = 1.0) -> bytes:
    """The figure as a PNG on white, without an alpha channel, which a page has no use for."""
    figure.set_dpi(dpi * zoom)
    figure.set_facecolor("white")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    size = canvas.get_width_height()
    image = Image.frombuffer("RGBA", size, canvas.buffer_rgba()).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "png", dpi=(dpi, dpi), compress_level=4)  # 6 takes twice as long
    return buffer.getvalue()


def svg(figure: Figure, zoom: float = 1.0) -> bytes:
    """The figure as an SVG on white; texts stay texts, and equal figures give equal bytes."""
    figure.set_facecolor("white")
    buffer = io.BytesIO()
    # A fixed salt and no date: names inside the file would else differ from run to run.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "itnas"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue().decode()
    if zoom != 1:
        # Only the outer size: the view box keeps the drawing's own points.
        for name, inches in zip(("width", "height"), figure.get_size_inches(), strict=True):
            text = re.sub(f'{name}="[^"]*"', f'{name}="{inches * 72 * zoom:.6g}pt"', text, count=1)
    return text.encode()
