"""Draw: stability, comparisons, seeds needed, similarity and profiles. Nothing is computed here.

Every function takes result objects and gives a matplotlib Figure that belongs to no pyplot state.
Limits follow the estimates, so that one wild interval squashes nothing: what lies beyond them
ends in an arrow at the panel's border.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN, CARETLEFT, CARETRIGHT, CARETUP
from matplotlib.ticker import MaxNLocator

from analysis.compute.comparisons import REFERENCES, Comparison
from analysis.compute.stability import ALL, HEADLINE, SettingStability
from analysis.compute.trajectories import Curve
from analysis.figures.palette import drawing, grid, legend, wrapped
from analysis.figures.panels import (
    AXES,
    MOST,
    MOST_BANDS,
    SHARE,
    STABILITY,
    cell_kinds,
    first_of,
    foot,
    head_line,
    legend_of,
    nothing,
    quantity_name,
    setting_label,
    style_of,
)
from analysis.statistics.inference import Interval

SHOWN = (
    "operation_agreement",
    "edge_agreement",
    "probability_divergence",
    "dependence_stability",
    HEADLINE,
    "link_specificity",
    "attention_agreement",
)

CELL_COLOURS = {"normal": "#0072b2", "reduce": "#d55e00"}
CELL_MARKERS = {"reduce": "s"}
KIND_COLOURS = {"independent": "#777777", "placebo": "#0072b2", "frozen": "#d55e00"}

ACCURACY = {
    "derived_accuracy": (-0.03, 1.03),
    "valid_accuracy": (-0.03, 1.03),
    "benchmark_test": (-3.0, 103.0),
}
"""What limits of accuracies do not go beyond; intervals of two seeds do."""

_BEYOND = -1.1  # agreements under it are arrows


def _of_difference(quantity: str) -> str:
    """The quantity's name with the unit of a difference of it."""
    name = quantity_name(quantity).replace("(%)", "(points)")
    return name.replace(" (0: chance, 1: same)", "")


def _rows(ax: Axes, names: Sequence[str], width: int) -> None:
    """Name the rows of a panel, the first on top."""
    ax.set_yticks(range(len(names)), [wrapped(n, width, 2) for n in names], fontsize=8.5)
    ax.set_ylim(len(names) - 0.4, -0.6)


def _offset(cells: Sequence[str], cell: str) -> float:
    """How far below the middle of its row a cell kind is drawn."""
    return 0.3 * (cells.index(cell) - (len(cells) - 1) / 2)


def _span(
    intervals: Sequence[Interval], bounds: tuple[float, float] | None = None, *also: float
) -> tuple[float, float]:
    """Limits that hold every estimate, and intervals as far as they are of the usual width.

    bounds: what limits do not go beyond; also: values that are to be seen too.
    """
    known = [i for i in intervals if np.isfinite(i.estimate)]
    middle = np.array([i.estimate for i in known] + list(also))
    if not middle.size:
        return bounds or (0.0, 1.0)
    ends = np.array([x for i in known for x in i[1:3] if np.isfinite(x)])
    halves = [abs(x - i.estimate) for i in known for x in i[1:3] if np.isfinite(x)]
    reach = max(2 * float(np.median(halves)) if halves else 0.0, 0.6 * float(np.ptp(middle)))
    low, high = float(middle.min()), float(middle.max())
    low = max(low - reach, float(np.min(ends, initial=low)))
    high = min(high + reach, float(np.max(ends, initial=high)))
    margin = 0.07 * (high - low) or 0.05 * abs(high) or 0.05
    low, high = low - margin, high + margin
    return (low, high) if bounds is None else (max(low, bounds[0]), min(high, bounds[1]))


def _interval(
    ax: Axes,
    at: float,
    interval: Interval,
    colour: object,
    label: str | None = None,
    marker: str = "o",
    upright: bool = False,
) -> None:
    """An estimate with its interval; what is beyond the panel becomes an arrow at its border."""

    def plot(along: Sequence[float], sign: object, **style: Any) -> None:
        across = [at] * len(along)
        pair = (across, along) if upright else (along, across)
        ax.plot(*pair, color=colour, marker=sign, **style)

    low, high = sorted(ax.get_ylim() if upright else ax.get_xlim())
    # carets have their tips at the border
    least, most = (CARETDOWN, CARETUP) if upright else (CARETLEFT, CARETRIGHT)
    ends = np.array(interval[1:3])
    if np.isfinite(ends).all():
        inside = np.clip(ends, low, high)
        plot(inside.tolist(), None, linewidth=1.5, solid_capstyle="butt")
        for end, drawn, arrow in zip(ends, inside, (least, most), strict=True):
            cap = "_" if upright else "|"
            sign, size = (arrow, 6.5) if end != drawn else (cap, 4.5)
            plot([drawn], sign, markersize=size, linestyle="", clip_on=False)
    estimate = interval.estimate
    if low <= estimate <= high:
        plot([estimate], marker, markersize=5, linestyle="", label=label, clip_on=False)
    else:  # larger than an interval's arrow, and hollow: the estimate itself is not here
        drawn, arrow = (low, least) if estimate < low else (high, most)
        plot([drawn], arrow, markersize=9, linestyle="", fillstyle="none", label=label)


def stability_by_setting(items: Sequence[SettingStability]) -> Figure:
    """Every agreement and stability of every setting with its interval and its chance value."""
    every = [i for i in items if i.sample.cells]
    shown = every[:MOST]
    cells = cell_kinds(c for i in shown for c in i.sample.cells)
    with drawing():
        size = (1.75, 0.35 + 0.42 * max(1, len(shown)))
        remark = first_of(shown, every)
        figure, axes = grid(
            len(SHOWN), 4, size, left=2.6, top=0.35 if remark else 0.15, bottom=1.0,
            gap=(0.25, 0.7), sharey=True,
        )  # fmt: skip
        for ax, name in zip(axes, SHOWN, strict=True):
            found = {(r, c): i.get(c, name) for r, i in enumerate(shown) for c in cells}
            least, most = AXES[name][1] or SHARE
            estimates = [q.estimate for q in found.values() if q.known]
            if least == STABILITY[0]:
                least = max(_BEYOND, min([least, *(e - 0.07 for e in estimates)]))
            ax.set_xlim(least, most)
            for (row, cell), q in found.items():
                y = row + _offset(cells, cell)
                if not q.known:
                    continue
                if least <= q.null_mean <= most:
                    ax.plot([q.null_mean], [y], "|", color="#999999", markersize=11,
                            markeredgewidth=2.4, label="by chance", zorder=1.5)  # fmt: skip
                label = f"{cell} cell, 95% interval over seeds"
                colour = CELL_COLOURS.get(cell, "#222222")
                _interval(ax, y, q.interval, colour, label, CELL_MARKERS.get(cell, "o"))
            for row in range(len(shown)):
                absent = [c for c in cells if not found[row, c].known]
                both = len(absent) == len(cells)
                for y in [row] if both else [row + _offset(cells, c) for c in absent]:
                    ax.text((least + most) / 2, y, "n/a", ha="center", va="center",
                            color="#aaaaaa", fontsize=8 if both else 7)  # fmt: skip
            ax.set_xlabel(quantity_name(name, broken=True), fontsize=8.5)
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        _rows(axes[0], [f"{i.setting} (n={i.sample.n})" for i in shown], 30)
        for ax in axes:
            ax.grid(axis="y", visible=False)
        head_line(figure, remark)
        legend(figure, axes, 3)
    return figure


def differences_to_controls(comparisons: Sequence[Comparison], quantity: str) -> Figure:
    """Differences of one quantity to each kind of control, with intervals and Holm's p-values.

    One row per setting and control, with a mark per cell kind.
    """
    chosen = [c for c in comparisons if c.quantity == quantity and c.difference.n]
    every = list(dict.fromkeys(c.setting for c in chosen))
    settings = every[:MOST]
    chosen = [c for c in chosen if c.setting in settings]
    chosen.sort(key=lambda c: (REFERENCES.index(c.kind), settings.index(c.setting)))
    rows = list(dict.fromkeys((c.kind, c.setting, c.reference) for c in chosen))
    cells = cell_kinds(c.cell for c in chosen)
    intervals = [Interval(*c.difference[:3], c.difference.n) for c in chosen]
    remark = first_of(settings, every)
    with drawing():
        size = (4.2, 0.3 + (0.36 if len(cells) < 2 else 0.46) * max(1, len(rows)))
        figure, (ax,) = grid(
            1, 1, size, left=3.3, top=0.6 if remark else 0.35, bottom=1.0 if len(cells) < 2 else 1.2
        )
        ax.set_xlim(*_span(intervals, None, 0.0))
        ax.axvline(0, color="#333333", linewidth=1, zorder=1)
        for c, interval in zip(chosen, intervals, strict=True):
            y = rows.index((c.kind, c.setting, c.reference)) + _offset(cells, c.cell)
            label = f"minus its {c.kind} control"
            _interval(ax, y, interval, KIND_COLOURS[c.kind], label, CELL_MARKERS.get(c.cell, "o"))
            _beside(ax, y, _p(c.corrected), str(interval.n), va="center", fontsize=7.5)
        for row in range(1, len(rows)):
            if rows[row][0] != rows[row - 1][0]:
                ax.axhline(row - 0.5, color="#cccccc", linewidth=0.8)
        _rows(ax, [f"{setting} − {reference}" for _, setting, reference in rows], 42)
        _beside(ax, -0.6, "p (Holm)", "n", va="bottom", fontsize=8)
        ax.set_xlabel(
            f"difference in {_of_difference(quantity)}, 95% interval\n"
            "right of 0: more in the setting than in its control",
            fontsize=8.5,
        )
        ax.grid(axis="y", visible=False)
        if not chosen:
            nothing(ax, "no setting has a control with seeds in common")
        figure.subplots_adjust(right=1 - 1.0 / figure.get_figwidth())
        head_line(figure, remark)
        entries = [
            Line2D([], [], color=KIND_COLOURS[kind], marker="o", label=f"minus its {kind} control")
            for kind in dict.fromkeys(c.kind for c in chosen)
        ]
        if len(cells) > 1:
            entries += [
                Line2D([], [], color="#555555", linestyle="", label=f"{cell} cell",
                       marker=CELL_MARKERS.get(cell, "o"))
                for cell in cells
            ]  # fmt: skip
        figure.legend(handles=entries, loc="lower center", ncols=3, fontsize=8)
    return figure


def _beside(ax: Axes, y: float, p: str, n: str, **style: Any) -> None:
    """The p-value and the number of seeds right of a row, at a fixed distance."""
    for text, points in ((p, 9), (n, 52)):
        ax.annotate(text, (1, y), (points, 0), xycoords=ax.get_yaxis_transform(),
                    textcoords="offset points", **style)  # fmt: skip


def _p(p: float) -> str:
    if np.isnan(p):
        return "n/a"
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def stability_over_epochs(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """One panel per quantity: a line per setting and cell kind, bands where lines are few."""
    every = list(dict.fromkeys(c.setting for cs in curves.values() for c in cs))
    settings = every[:MOST]
    drawn = {name: [c for c in cs if c.setting in settings] for name, cs in curves.items()}
    names = [name for name in (*AXES, *(n for n in curves if n not in AXES)) if drawn.get(name)]
    of_all = [c for name in names for c in drawn[name]]
    cells = cell_kinds(c.cell for c in of_all)
    epochs = [e for c in of_all for e in c.epochs]
    runs = {s: max([int(n) for c in of_all if c.setting == s for n in c.n], default=0)
            for s in settings}  # fmt: skip
    remark = first_of(settings, every)
    with drawing():
        several = len(cells) > 1
        figure, axes = grid(
            max(1, len(names)), 3, (3.0, 2.0), top=0.55 if remark else 0.35,
            bottom=foot(len(settings) + 2 * several), gap=(0.6, 0.6),
        )  # fmt: skip
        for index, (ax, name) in enumerate(zip(axes, names, strict=False)):
            lines = drawn[name]
            banded = len(lines) <= MOST_BANDS
            for c in lines:
                style = style_of(settings.index(c.setting), c.epochs.size == 1)
                dashes = "--" if several and c.cell == cells[1] else "-"
                ax.plot(c.epochs, c.mean, dashes, linewidth=1.6, markersize=3.5, **style)
                if banded:
                    ax.fill_between(c.epochs, c.low, c.high, color=style["color"], alpha=0.13,
                                    linewidth=0)  # fmt: skip
            points = [
                Interval(x, low, high, 0) if banded else Interval(x, np.nan, np.nan, 0)
                for c in lines
                for x, low, high in zip(c.mean, c.low, c.high, strict=True)
            ]
            limits = AXES.get(name, ("", None))[1]
            bounds = (_BEYOND if limits == STABILITY else -0.05, 1.05) if limits else None
            ax.set_ylim(*_span(points, bounds, *([0.0] if limits else [])))
            if limits == STABILITY:
                ax.axhline(0, color="#999999", linewidth=1, zorder=1)
            margin = 0.03 * float(np.ptp(epochs)) or 0.5
            ax.set_xlim(min(epochs) - margin, max(epochs) + margin)
            ax.set_title(quantity_name(name), fontsize=8.5)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if index + 3 >= len(names):
                ax.set_xlabel("epoch (−1: start)" if min(epochs) < 0 else "epoch")
        if not names:
            nothing(axes[0], "no epochs were read")
        entries = [
            Line2D([], [], label=setting_label(s, runs[s]), markersize=3.5, **style_of(i))
            for i, s in enumerate(settings)
        ]
        if several:
            dashed: list[dict[str, Any]] = [{"linestyle": "-"}, {"linestyle": "--"}]
            entries += [
                Line2D([], [], color="#555555", label=f"{cell} cell", **style)
                for cell, style in zip(cells, dashed, strict=False)
            ]
        head_line(figure, remark)
        legend_of(figure, entries)
    return figure


def accuracy_against_stability(
    items: Sequence[SettingStability],
    stability: str | Sequence[str] = ("operation_agreement", "dependence_stability"),
    accuracy: str = "derived_accuracy",
) -> Figure:
    """One cross per setting: accuracy against a stability of its first cell kind, one panel each.

    Both intervals are drawn, over seeds.
    """
    names = (stability,) if isinstance(stability, str) else tuple(stability)
    shown = list(items)[:MOST]
    remark = first_of(shown, items)
    cells = cell_kinds(i.sample.cells[0] for i in shown if i.sample.cells)
    with drawing():
        figure, axes = grid(
            len(names), 2, (3.6, 2.5), top=0.35 if remark else 0.15, bottom=foot(len(shown)),
            gap=(0.35, 0.6), sharey=True,
        )  # fmt: skip
        measured = [i.get(ALL, accuracy).interval for i in shown]
        axes[0].set_ylim(*_span(measured, ACCURACY.get(accuracy)))
        for ax, name in zip(axes, names, strict=True):
            found = [i.get(i.sample.cells[0] if i.sample.cells else ALL, name) for i in shown]
            limits = AXES.get(name, ("", None))[1]
            bounds = (_BEYOND if limits == STABILITY else -0.05, 1.05) if limits else None
            both = [
                (k, q.interval, y)
                for k, (q, y) in enumerate(zip(found, measured, strict=True))
                if q.known and np.isfinite(y.estimate)
            ]
            ax.set_xlim(*_span([x for _, x, _ in both], bounds))
            for k, x, y in both:
                style = style_of(k, True)
                label = setting_label(shown[k].setting, shown[k].sample.n)
                _interval(ax, y.estimate, x, style["color"], label, style["marker"])
                _interval(ax, x.estimate, y, style["color"], None, style["marker"], upright=True)
            if not both:
                ax.text(0.5, 0.5, "n/a", transform=ax.transAxes, ha="center", color="#aaaaaa")
            of_cell = f", {cells[0]} cell" if cells == ["normal"] and _two(shown) else ""
            ax.set_xlabel(quantity_name(name) + of_cell, fontsize=8.5)
        axes[0].set_ylabel(quantity_name(accuracy))
        entries = [
            Line2D([], [], linestyle="", markersize=5, label=setting_label(i.setting, i.sample.n),
                   **style_of(k, True))
            for k, i in enumerate(shown)
        ]  # fmt: skip
        head_line(figure, remark)
        legend_of(figure, entries)
    return figure


def _two(items: Sequence[SettingStability]) -> bool:
    return any(len(i.sample.cells) > 1 for i in items)
