"""Drawn figures as PNG and SVG."""

from __future__ import annotations

import io

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image


def png(figure: Figure, dpi: int = 144) -> bytes:
    """The figure as a PNG on white, without an alpha channel, which a page has no use for."""
    figure.set_dpi(dpi)
    figure.set_facecolor("white")
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context({"text.hinting": "no_hinting"}):  # widths as they were laid out
        canvas.draw()
    size = canvas.get_width_height()
    image = Image.frombuffer("RGBA", size, canvas.buffer_rgba()).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "png", dpi=(dpi, dpi), compress_level=4)  # 6 takes twice as long
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG on white; texts stay texts, and equal figures give equal bytes."""
    figure.set_facecolor("white")
    buffer = io.BytesIO()
    # A fixed salt and no date: names inside the file would else differ from run to run.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "itnas"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()
