"""Drawn figures to PNG and SVG, in a style for papers or for slides."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from analysis.errors import ResultsError

STYLES = {"paper": 1.0, "slides": 1.5}
"""Style to zoom: how many times larger than drawn its texts, lines and markers come out."""
SPACE = (3.5, 2.0)
"""Points beside and above a text that a style leaves free: a word's space, and less."""


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
