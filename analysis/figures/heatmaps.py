"""Draw: transition matrices over seeds, their mean and their standard deviation, link by link.

Panels are placed by hand, in inches: an entry then has the same readable size in every figure,
whatever the shapes of the matrices, and no layout engine has to measure hundreds of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from analysis.compute.stability import SettingStability
from analysis.compute.transitions import Link, Transitions
from analysis.errors import ResultsError
from analysis.figures.palette import drawing, operation_name, wrapped
from analysis.statistics.matrices import LinkStability
from analysis.statistics.metrics import Array

ANNOTATED = 5
"""Rows and columns up to which the numbers are written into the entries of a matrix."""
SIGNIFICANT = 0.05

ENTRY = (0.5, 0.4)  # inches of an entry with two lines of digits
SMALL = 0.145  # inches of an entry without
GAP = 0.6  # of such entries between mean and sd
TITLE = 1.6  # inches of the width of a link's title
WIDEST, NARROWEST = 11.6, 6.4  # inches
HEAD, FOOT = 1.36, 0.5  # inches: title and colour bars above, the meaning of marks beneath
ABOVE = 0.52  # inches of its height
EDGE_OF_FIGURE = 0.15  # inches

# Set for all panels at once: panel by panel, every call would make ticks of its own.
_PANELS: dict[Any, Any] = {
    "axes.grid": False,
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.6,
} | {
    f"{axis}tick.{name}": value
    for axis in "xy"
    for name, value in (("labelsize", 8.5), ("major.size", 0), ("major.pad", 2))
}


class Marks(NamedTuple):
    """Whether a link's rows, and what was learned of them, are reproducible beyond chance.

    None: not tested.
    """

    dependence: bool | None
    learned: bool | None

    def __str__(self) -> str:
        return " ".join(mark for mark, found in zip("●◆", self, strict=True) if found)


Nodes = tuple[int, int, int, int]
"""predecessor_source, predecessor_target, source, target of a link."""


class _Places(NamedTuple):
    """Inches: the figure's size, and of every link the left and upper end of its matrix."""

    width: float
    height: float
    corners: tuple[tuple[float, float], ...]
    across: int


def marks_of(item: SettingStability, cell: str) -> dict[Nodes, Marks]:
    """The marks of every link of a cell kind, by the link's nodes.

    p-values are Holm's, over the distinct matrices of the cell.
    """
    return {
        link.sample.nodes: Marks(
            _significant(link.dependence, link.index), _significant(link.learned, link.index)
        )
        for link in item.links
        if link.sample.cell == cell
    }


def _significant(found: LinkStability | None, index: int) -> bool | None:
    p_value = np.nan if found is None else found.corrected[index]
    return None if np.isnan(p_value) else bool(p_value < SIGNIFICANT)


def transition_heatmaps(
    transitions: Transitions, cell: str, marks: Mapping[Nodes, Marks] | None = None
) -> Figure:
    """The transition matrices of a cell kind over seeds, link by link: mean and spread.

    Rows are the predecessor's operation, columns the inner edge's, so rows of means sum to 1.
    Small matrices have one panel with mean ± sd in each entry. Where one is larger than
    `ANNOTATED`, every link has two panels, its mean and its sd, each with one scale for all
    links; of a single seed only the first. marks: see `marks_of`; None leaves out what they mean.
    """
    links = [link for link in transitions.links if link.cell == cell]
    if not links:
        raise ResultsError(f"{transitions.setting}: no links in a cell called {cell!r}")
    titles = [_title(link, (marks or {}).get((*link.predecessor, *link.edge))) for link in links]
    large = max(size for link in links for size in link.matrix.mean.shape) > ANNOTATED
    with drawing(), matplotlib.rc_context(_PANELS):
        figure = (_maps if large else _annotated)(links, titles)
        width, height = figure.get_size_inches()
        name = wrapped(transitions.setting, int((width - 0.3) / 0.085), 2)
        what = "rows: operation of the first edge, columns: of the second"
        figure.text(
            EDGE_OF_FIGURE / width,
            1 - 0.12 / height,
            f"{name}\n{cell} cell · n={links[0].matrix.n} · {what}",
            ha="left",
            va="top",
            fontsize=10,
        )
        if marks:
            figure.text(
                EDGE_OF_FIGURE / width,
                0.12 / height,
                _meaning([marks[key] for key in marks]),
                ha="left",
                va="bottom",
                fontsize=9.5,
                linespacing=1.3,
            )
    return figure


def _meaning(marks: Sequence[Marks]) -> str:
    lines = (
        f"● rows reproducible beyond chance (Holm p < {SIGNIFICANT:g})",
        "◆ what was learned is",
    )
    parts = []
    for line, found in zip(lines, zip(*marks, strict=True), strict=True):
        tested = [f for f in found if f is not None]
        count = f"{sum(tested)} of {len(tested)} links" if tested else "not tested"
        parts.append(f"{line}: {count}")
    return "\n".join(parts)


def _title(link: Link, marks: Marks | None) -> str:
    (a, b), (c, d) = link.predecessor, link.edge
    weight = f"w {link.attention.mean:.2f}"
    if link.attention.n > 1:
        weight += f" ± {link.attention.sd:.2f}"
    return f"edge {a}→{b} to {c}→{d}\n{weight}  {marks or ''}".rstrip()


def _places(
    shapes: Sequence[tuple[float, float]], around: tuple[float, float], margin: tuple[float, float]
) -> _Places:
    """Links in rows of nearly equal length.

    shapes: inches (width, height) of each link's panels. around: inches left of and beneath
    each of them, margin: left of and beneath all of them.
    """
    widest = max(TITLE, *(width for width, _ in shapes))
    wide = around[0] + widest
    high = around[1] + ABOVE + max(height for _, height in shapes)
    room = WIDEST - margin[0] - EDGE_OF_FIGURE
    down = -(-len(shapes) // max(1, int(room / wide)))
    across = -(-len(shapes) // down)
    width = max(margin[0] + across * wide + EDGE_OF_FIGURE, NARROWEST)
    height = HEAD + down * high + margin[1] + FOOT
    corners = []
    for index, (own, _) in enumerate(shapes):
        row, column = divmod(index, across)
        left = margin[0] + column * wide + around[0] + (widest - own) / 2
        corners.append((left, height - HEAD - row * high - ABOVE))
    return _Places(width, height, tuple(corners), across)


def _panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    of_width, of_height = figure.get_size_inches()
    where = (left / of_width, (top - height) / of_height, width / of_width, height / of_height)
    return figure.add_axes(where)


def _bar(figure: Figure, image: AxesImage, number: int, label: str) -> None:
    """One of the colour bars beneath the title."""
    top = figure.get_figheight() - 0.94
    bar = _panel(figure, EDGE_OF_FIGURE + 0.15 + number * 3.1, top, 2.4, 0.13)
    figure.colorbar(image, cax=bar, orientation="horizontal")
    bar.set_title(label, fontsize=9, pad=3)
    bar.tick_params(labelsize=9, length=2, pad=2)


def _image(ax: Axes, values: Array, colours: str, highest: float, start: float = 0) -> AxesImage:
    """start: where in the panel the first column is."""
    rows, columns = values.shape
    extent = (start - 0.5, start + columns - 0.5, rows - 0.5, -0.5)
    return ax.imshow(values, cmap=colours, vmin=0, vmax=highest, aspect="auto", extent=extent)


def _annotated(links: Sequence[Link], titles: Sequence[str]) -> Figure:
    sizes = [(len(k.column_operations) * ENTRY[0], len(k.row_operations) * ENTRY[1]) for k in links]
    places = _places(sizes, (0.8, 0.72), (0, 0))
    figure = Figure(figsize=(places.width, places.height))
    for link, size, title, corner in zip(links, sizes, titles, places.corners, strict=True):
        ax = _panel(figure, *corner, *size)
        image = _image(ax, link.matrix.mean, "Blues", 1)
        ax.set_title(title, fontsize=9.5, pad=4)
        _write(ax, link)
        _name_rows(ax, link)
        columns = [operation_name(o) for o in link.column_operations]
        ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    several = links[0].matrix.n > 1
    _bar(figure, image, 0, "mean over seeds" + " (± sd over seeds)" * several)
    return figure


def _write(ax: Axes, link: Link) -> None:
    mean, sd = link.matrix.mean, link.matrix.sd
    for row, column in np.ndindex(mean.shape):
        value, deviation = float(mean[row, column]), float(sd[row, column])
        ax.text(
            column,
            row,
            _digits(value) + ("" if np.isnan(deviation) else f"\n±{_digits(deviation)}"),
            ha="center",
            va="center",
            fontsize=8.5,
            linespacing=1.1,
            color="white" if value > 0.55 else "#111111",
            parse_math=False,
        )


def _digits(value: float) -> str:
    """Two decimals without the leading zero, so that an entry stays small."""
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0") else text


def _name_rows(ax: Axes, link: Link) -> None:
    rows = [operation_name(o) for o in link.row_operations]
    ax.set_yticks(range(len(rows)), rows)


def _maps(links: Sequence[Link], titles: Sequence[str]) -> Figure:
    """Mean and sd of each link side by side; operations are named once where all are the same."""
    several = links[0].matrix.n > 1
    highest = max([0.01, *(float(k.matrix.sd.max()) for k in links if several)])
    sizes = [
        (
            SMALL * (2 * len(k.column_operations) + GAP if several else len(k.column_operations)),
            SMALL * len(k.row_operations),
        )
        for k in links
    ]
    beside, beneath = _room_for_names(links)
    alike = len({(k.row_operations, k.column_operations) for k in links}) == 1
    places = _places(
        sizes,
        (0.28, 0.12) if alike else (beside, beneath),
        (beside - 0.28, beneath) if alike else (0, 0),
    )
    figure = Figure(figsize=(places.width, places.height))
    for index, link in enumerate(links):
        ax = _panel(figure, *places.corners[index], *sizes[index])
        names = [operation_name(o) for o in link.column_operations]
        rows, columns = link.matrix.mean.shape
        images = [_image(ax, link.matrix.mean, "Blues", 1)]
        starts = [0.0]
        if several:
            starts.append(columns + GAP)
            images.append(_image(ax, link.matrix.sd, "Oranges", highest, starts[1]))
        ax.set(xlim=(-0.5, starts[-1] + columns - 0.5), ylim=(rows - 0.5, -0.5))
        ax.spines[:].set_visible(False)
        for start in starts:
            frame = Rectangle((start - 0.5, -0.5), columns, rows, fill=False, clip_on=False)
            frame.set(edgecolor="#999999", linewidth=0.6)
            ax.add_patch(frame)
        ax.set_title(titles[index], fontsize=9.5, pad=4)
        ax.set(xticks=[], yticks=[])
        if not alike or index + places.across >= len(links):
            at = [start + i for start in starts for i in range(columns)]
            ax.set_xticks(at, names * len(starts), rotation=90)
        if not alike or index % places.across == 0:
            _name_rows(ax, link)
    for number, image in enumerate(images):
        _bar(figure, image, number, ("mean over seeds", "sd over seeds")[number])
    return figure


def _room_for_names(links: Sequence[Link]) -> tuple[float, float]:
    """Inches that the longest names need, of rows and of columns."""
    rows = max(len(operation_name(o)) for link in links for o in link.row_operations)
    columns = max(len(operation_name(o)) for link in links for o in link.column_operations)
    return 0.075 * rows + 0.2, 0.075 * columns + 0.2
