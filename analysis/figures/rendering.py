"""Drawn figures as PNG and SVG, on white."""

from __future__ import annotations

import io

import matplotlib
from matplotlib.figure import Figure


def png(figure: Figure, dpi: int = 144) -> bytes:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"text.hinting": "no_hinting"}):  # widths as they were laid out
        # 6, the usual level of compression, takes twice as long
        figure.savefig(buffer, dpi=dpi, facecolor="white", pil_kwargs={"compress_level": 4})
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG; texts stay texts, and equal figures give equal bytes."""
    buffer = io.BytesIO()
    # A fixed salt and no date: names inside the file would else differ from run to run.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "itnas"}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue()
