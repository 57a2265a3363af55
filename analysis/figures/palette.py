"""Colours, names and helpers that all figures share: one operation, one colour, everywhere.

Operation colours are Okabe and Ito's, which colour-blind readers can tell apart, with a line
style as a second cue: solid for operations with parameters, dashed for those without.
"""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.data.genotypes import PARAMETERLESS

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
