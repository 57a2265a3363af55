"""What the figures of stability have in common: names, labels, legends, limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compute.stability import HEADLINE
from analysis.data.samples import CELL_ORDER
from analysis.figures.palette import setting_style, wrapped

MOST = 24
"""Settings in one figure; the tables have all of them."""

MOST_BANDS = 6
"""Lines of one panel that have their bands; more bands hide each other."""

STABILITY, SHARE = (-0.5, 1.05), (-0.05, 1.05)
"""Limits of panels; those of agreements reach further down where estimates do."""

AXES: Mapping[str, tuple[str, tuple[float, float] | None]] = {
    "operation_agreement": ("operation agreement\n(Fleiss' kappa)", STABILITY),
    "edge_agreement": ("edge agreement\n(Jaccard index)", SHARE),
    "probability_divergence": ("probability divergence\n(bits)", SHARE),
    "dependence_stability": ("dependence stability\n(0: chance, 1: same)", STABILITY),
    HEADLINE: ("learned dependence stability\n(0: chance, 1: same)", STABILITY),
    "link_specificity": ("link specificity\n(0: chance, 1: same)", STABILITY),
    "attention_agreement": ("attention agreement\n(0: chance, 1: same)", STABILITY),
    "transition_divergence": ("transition divergence\n(bits)", SHARE),
    "dobrushin_coefficient": ("Dobrushin coefficient\n(0..1)", SHARE),
    "derived_accuracy": ("derived accuracy (0..1)", None),
    "valid_accuracy": ("relaxed accuracy (0..1)", None),
    "benchmark_test": ("benchmark test accuracy (%)", None),
}
MARKERS = ("o", "s", "^", "D")
"""The second cue of settings where line styles mean something else: ten colours, then again."""


def quantity_name(quantity: str, broken: bool = False) -> str:
    """A quantity's name with its unit, `broken` into two lines or in one."""
    name = AXES.get(quantity, (quantity.replace("_", " "), None))[0]
    return name if broken else name.replace("\n", " ")


def cell_kinds(cells: Iterable[str]) -> list[str]:
    """Distinct cell kinds, the normal cell first."""
    return sorted(set(cells), key=lambda cell: CELL_ORDER.get(cell, 2))


def setting_label(setting: str, n: int) -> str:
    """A setting's name with its number of seeds, for a legend."""
    return f"{wrapped(setting, 40, 1)} (n={n})"


def first_of(shown: Sequence[object], every: Sequence[object], what: str = "settings") -> str:
    """A remark where not everything is shown, else empty."""
    return f"the first {len(shown)} of {len(every)} {what}" if len(every) > len(shown) else ""


def head_line(figure: Figure, text: str) -> None:
    """A remark above all panels; none where it is empty."""
    if text:
        figure.suptitle(text, y=1 - 0.08 / figure.get_figheight(), va="top", fontsize=9.5)


def foot(entries: int) -> float:
    """Inches that x labels and a legend of so many entries in two columns take."""
    return 0.7 + 0.19 * -(-max(1, entries) // 2)


def legend_of(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend of these handles at the figure's foot."""
    figure.legend(handles=list(handles), loc="lower center", ncols=2, fontsize=8)


def style_of(index: int, marked: bool = False) -> dict[str, Any]:
    """Colour of the index-th setting, and a marker after ten colours or where it must be seen."""
    marker = MARKERS[index // 10 % 4] if marked or index >= 10 else None
    return {"color": setting_style(index)["color"], "marker": marker}


def nothing(ax: Axes, why: str) -> None:
    """Say in a panel why it is empty."""
    ax.set(xticks=[], yticks=[])
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color="#777777")
