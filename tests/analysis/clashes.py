"""Whether texts of a figure touch each other or leave it: what readers would stumble over."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def clashes(figure: Figure, space: tuple[float, float] = (0, 0)) -> list[tuple[str, ...]]:
    """Texts that touch, in pairs, and texts that leave the figure, alone.

    space: points that texts need beside and above each other so as not to touch. Slanted texts
    are left out: their boxes overlap where they themselves do not.
    """
    figure.set_dpi(72)  # a pixel is a point
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context({"text.hinting": "no_hinting"}):
        canvas.draw()
        renderer = canvas.get_renderer()
        texts = [t for t in _texts(figure) if t.get_visible() and t.get_text().strip()]
        level = [t for t in texts if t.get_rotation() % 90 == 0]
        boxes = np.array([
            (t.get_bbox_patch() or t).get_window_extent(renderer).extents for t in level
        ])  # fmt: skip
    low, high = boxes[:, :2], boxes[:, 2:]
    outside = (low < -0.5).any(axis=1) | (high > figure.bbox.size + 0.5).any(axis=1)
    touching = (low[:, None] + 0.3 - space < high[None, :]).all(axis=2)
    pairs = np.argwhere(np.triu(touching & touching.T, 1))
    found = [*pairs, *np.flatnonzero(outside)[:, None]]
    return [tuple(level[i].get_text() for i in clash) for clash in found]


def _texts(figure: Figure) -> Iterator[Text]:
    """Every text that a drawing of the figure may show."""
    yield from figure.texts
    for text in (figure._suptitle, figure._supylabel):
        if text is not None and text not in figure.texts:
            yield text
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
                    yield from (t for t in (tick.label1, tick.label2) if t.get_visible())
