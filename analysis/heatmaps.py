"""Draw: mean transition matrices with their standard deviation over seeds, link by link.

Panels are placed by hand, in inches: an entry then has the same readable size in every figure,
whatever the shapes of the matrices, and no layout engine has to measure a thousand numbers.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis.palette import drawing, operation_name, wrapped
from analysis.transitions import Link, Transitions

ENTRY = (0.44, 0.36)  # inches of one matrix entry: two lines of digits
LEFT, RIGHT, ABOVE, BELOW = 0.8, 0.15, 0.55, 0.8  # inches around one matrix
HEAD = 0.95  # inches above the first row: title and colour bar
WIDEST = 13.6  # inches


def transition_heatmaps(transitions: Transitions, cell: str) -> Figure:
    """One annotated heatmap per link of a cell kind.

    Rows are the predecessor's operation, columns the inner edge's, so rows sum to 1. Every
    entry shows the mean over seeds and, beneath it, the standard deviation over seeds.
    """
    links = [link for link in transitions.links if link.cell == cell]
    wide = max(len(link.column_operations) for link in links) * ENTRY[0] + LEFT + RIGHT
    high = max(len(link.row_operations) for link in links) * ENTRY[1] + ABOVE + BELOW
    across = min(len(links), max(1, int(WIDEST / wide)))
    down = -(-len(links) // across)
    # A title needs some width even above a single small matrix.
    width, height = max(across * wide, 6.0), down * high + HEAD
    title = (
        f"{wrapped(transitions.setting, 80, 2)}\n{cell} cell · n={links[0].matrix.n} · "
        "each entry: mean over seeds, ± sd over seeds"
    )
    with drawing():
        figure = Figure(figsize=(width, height))
        for index, link in enumerate(links):
            row, column = divmod(index, across)
            size = (
                len(link.column_operations) * ENTRY[0],
                len(link.row_operations) * ENTRY[1],
            )
            left = column * wide + LEFT
            bottom = height - HEAD - row * high - ABOVE - size[1]
            ax = figure.add_axes(_fractions(left, bottom, *size, width, height))
            image = _heatmap(ax, link)
        figure.text(0.15 / width, 1 - 0.12 / height, title, ha="left", va="top", fontsize=10)
        bar = figure.add_axes(_fractions(width - 2.4, height - 0.4, 2.2, 0.13, width, height))
        figure.colorbar(image, cax=bar, orientation="horizontal")
        bar.set_title("mean probability (0..1)", fontsize=8, pad=3)
        bar.tick_params(labelsize=8, length=2)
    return figure


def _fractions(
    left: float, bottom: float, width: float, height: float, of_width: float, of_height: float
) -> tuple[float, float, float, float]:
    return left / of_width, bottom / of_height, width / of_width, height / of_height


def _heatmap(ax: Axes, link: Link) -> AxesImage:
    mean, sd = link.matrix.mean, link.matrix.sd
    image = ax.imshow(mean, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.grid(visible=False)
    for row, column in np.ndindex(mean.shape):
        value, deviation = float(mean[row, column]), float(sd[row, column])
        spread = "" if np.isnan(deviation) else f"\n±{_digits(deviation)}"
        ax.text(
            column,
            row,
            _digits(value) + spread,
            ha="center",
            va="center",
            fontsize=7.5,
            linespacing=1.1,
            color="white" if value > 0.55 else "#111111",
            parse_math=False,
        )
    rows, columns = map(operation_name, link.row_operations), link.column_operations
    ax.set_yticks(range(len(link.row_operations)), list(rows))
    ax.set_xticks(
        range(len(columns)),
        [operation_name(c) for c in columns],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
    )
    ax.tick_params(labelsize=8, length=0, pad=2)
    (a, b), (c, d) = link.predecessor, link.edge
    weight = f"w {link.attention.mean:.2f}"
    if link.attention.n > 1:
        weight += f" ± {link.attention.sd:.2f}"
    ax.set_title(f"edge {a}→{b} (rows) to {c}→{d} (columns)\n{weight}", fontsize=8.5, pad=3)
    return image


def _digits(value: float) -> str:
    """Two decimals without the leading zero, so that an entry stays small."""
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0") else text
