"""Colours and names: one colour an operation and one a setting, in every figure.

Operation colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Sequence
from typing import Any

import seaborn
from matplotlib.colors import to_hex

OPERATIONS = {
    "none": ("none", "#9a9a9a"),
    "skip_connect": ("skip", "#1a1a1a"),
    "max_pool_3x3": ("max 3×3", "#56b4e9"),
    "avg_pool_3x3": ("avg 3×3", "#0072b2"),
    "sep_conv_3x3": ("sep 3×3", "#d55e00"),
    "sep_conv_5x5": ("sep 5×5", "#e69f00"),
    "dil_conv_3x3": ("dil 3×3", "#009e73"),
    "dil_conv_5x5": ("dil 5×5", "#b5a900"),
    "nor_conv_1x1": ("conv 1×1", "#e69f00"),
    "nor_conv_3x3": ("conv 3×3", "#d55e00"),
    "noise": ("noise", "#cc79a7"),
}
"""Operation to a name short enough for an axis, and its colour."""

_SPARE = ("#332288", "#88ccee", "#882255", "#44aa99", "#aa4499", "#661100")
DARK, GREY, PALE, WARNING = "#222222", "#777777", "#c4c4c4", "#cc3311"


def operation_colour(operation: str) -> str:
    """The operation's colour; one unknown to us gets a spare colour by its name."""
    spare = _SPARE[zlib.crc32(operation.encode()) % len(_SPARE)]
    return OPERATIONS.get(operation, ("", spare))[1]


def operation_name(operation: str) -> str:
    """A name short enough for an axis."""
    return OPERATIONS.get(operation, (operation.replace("_", " "), ""))[0]


def looks(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options of a line of every setting of a study, by their order in it.

    Up to ten have seaborn's colours for the colour-blind; more are spread over all hues, light
    and dark in turn so that neighbours differ, with markers that change from one to the next.
    """
    few, n = len(settings) <= 10, len(settings)
    colours = seaborn.color_palette("colorblind", 10) if few else seaborn.husl_palette(n, l=0.68)
    if not few:
        colours[1::2] = seaborn.husl_palette(n, l=0.42)[1::2]
    return {
        name: {"color": to_hex(c), "marker": None if few else "os^Dv"[i % 5], "markersize": 4}
        for i, (name, c) in enumerate(zip(settings, colours, strict=False))
    }


def wrapped(text: str, width: int = 30, lines: int = 3) -> str:
    """A setting's name broken into at most `lines` lines; `$` is no mathematics here.

    What does not fit is cut in the middle of the last line, since names that begin alike often
    differ at their ends.
    """
    parts = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    if len(parts) > lines:
        rest, half = " ".join(parts[lines - 1 :]), (width - 1) // 2
        parts = [*parts[: lines - 1], f"{rest[:half]}…{rest[-half:]}"]
    return "\n".join(parts).replace("$", r"\$")
