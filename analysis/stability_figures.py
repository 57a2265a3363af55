"""Draw: stability, comparisons, seeds needed, similarity and profiles. Nothing is computed here.

Every function takes result objects and gives a matplotlib Figure that belongs to no pyplot state.
Limits follow the estimates, so that one wild interval squashes nothing: what lies beyond them
ends in an arrow at the panel's border.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from analysis.comparisons import REFERENCES, Comparison
from analysis.inference import Interval
from analysis.palette import drawing, grid, legend, operation_name, setting_style, wrapped
from analysis.profiles import Profile
from analysis.samples import CELL_ORDER
from analysis.seeds_needed import WidthCurve
from analysis.similarity import Similarity
from analysis.stability import ALL, HEADLINE, SettingStability, choices_of
from analysis.trajectories import Curve

MOST = 24
"""Settings in one figure; the tables have all of them."""

MOST_FREQUENCIES = 6
"""Settings in a figure of operation frequencies."""

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
SHOWN = (
    "operation_agreement",
    "edge_agreement",
    "probability_divergence",
    "dependence_stability",
    HEADLINE,
    "link_specificity",
    "attention_agreement",
)
WIDTHS = (HEADLINE, "dependence_stability", "operation_agreement", "edge_agreement")

CELL_COLOURS = {"normal": "#0072b2", "reduce": "#d55e00"}
CELL_MARKERS = {"reduce": "s"}
KIND_COLOURS = {"independent": "#777777", "placebo": "#0072b2", "frozen": "#d55e00"}
MARKERS = ("o", "s", "^", "D")
"""The second cue of settings where line styles mean something else: ten colours, then again."""

_BEYOND = -1.1  # agreements under it are arrows


def _name(quantity: str, broken: bool = False) -> str:
    name = AXES.get(quantity, (quantity.replace("_", " "), None))[0]
    return name if broken else name.replace("\n", " ")


def _of_difference(quantity: str) -> str:
    """The quantity's name with the unit of a difference of it."""
    name = _name(quantity).replace("(%)", "(points)")
    return name.replace(" (0: chance, 1: same)", "")


def _kinds(cells: Iterable[str]) -> list[str]:
    return sorted(set(cells), key=lambda cell: CELL_ORDER.get(cell, 2))


def _label(setting: str, n: int) -> str:
    return f"{wrapped(setting, 40, 1)} (n={n})"


def _first(shown: Sequence[object], every: Sequence[object], what: str = "settings") -> str:
    """A remark where not everything is shown, else empty."""
    return f"the first {len(shown)} of {len(every)} {what}" if len(every) > len(shown) else ""


def _title(figure: Figure, text: str) -> None:
    if text:
        figure.suptitle(text, y=1 - 0.08 / figure.get_figheight(), va="top", fontsize=9.5)


def _foot(entries: int) -> float:
    """Inches that x labels and a legend of so many entries in two columns take."""
    return 0.7 + 0.19 * -(-max(1, entries) // 2)


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    figure.legend(handles=list(handles), loc="lower center", ncols=2, fontsize=8)


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

    def plot(along: Sequence[float], fmt: str, **style: Any) -> None:
        across = [at] * len(along)
        pair = (across, along) if upright else (along, across)
        ax.plot(*pair, fmt, color=colour, **style)

    low, high = sorted(ax.get_ylim() if upright else ax.get_xlim())
    least, most = ("v", "^") if upright else ("<", ">")
    ends = np.array(interval[1:3])
    if np.isfinite(ends).all():
        inside = np.clip(ends, low, high)
        plot(inside.tolist(), "-", linewidth=1.5, solid_capstyle="butt")
        for end, drawn, arrow in zip(ends, inside, (least, most), strict=True):
            cap = "_" if upright else "|"
            plot([drawn], arrow if end != drawn else cap, markersize=4.5, clip_on=False)
    estimate = interval.estimate
    if low <= estimate <= high:
        plot([estimate], marker, markersize=5, label=label, clip_on=False)
    else:  # larger than an interval's arrow, and hollow: the estimate itself is not here
        drawn, arrow = (low, least) if estimate < low else (high, most)
        plot([drawn], arrow, markersize=7, fillstyle="none", label=label, clip_on=False)


def stability_by_setting(items: Sequence[SettingStability]) -> Figure:
    """Every agreement and stability of every setting with its interval and its chance value."""
    every = [i for i in items if i.sample.cells]
    shown = every[:MOST]
    cells = _kinds(c for i in shown for c in i.sample.cells)
    with drawing():
        size = (1.75, 0.35 + 0.42 * max(1, len(shown)))
        remark = _first(shown, every)
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
            ax.set_xlabel(_name(name, broken=True), fontsize=8.5)
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        _rows(axes[0], [f"{i.setting} (n={i.sample.n})" for i in shown], 30)
        for ax in axes:
            ax.grid(axis="y", visible=False)
        _title(figure, remark)
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
    cells = _kinds(c.cell for c in chosen)
    intervals = [Interval(*c.difference[:3], c.difference.n) for c in chosen]
    with drawing():
        size = (4.2, 0.3 + (0.36 if len(cells) < 2 else 0.46) * max(1, len(rows)))
        figure, (ax,) = grid(1, 1, size, left=3.3, top=0.6, bottom=1.0 if len(cells) < 2 else 1.2)
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
            _nothing(ax, "no setting has a control with seeds in common")
        figure.subplots_adjust(right=1 - 1.0 / figure.get_figwidth())
        _title(figure, _first(settings, every))
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
        return "none"
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def _nothing(ax: Axes, why: str) -> None:
    """Say in a panel why it is empty."""
    ax.set(xticks=[], yticks=[])
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color="#777777")


def stability_over_epochs(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """One panel per quantity: a line per setting and cell kind, bands where lines are few."""
    every = list(dict.fromkeys(c.setting for cs in curves.values() for c in cs))
    settings = every[:MOST]
    drawn = {name: [c for c in cs if c.setting in settings] for name, cs in curves.items()}
    names = [name for name in (*AXES, *(n for n in curves if n not in AXES)) if drawn.get(name)]
    of_all = [c for name in names for c in drawn[name]]
    cells = _kinds(c.cell for c in of_all)
    epochs = [e for c in of_all for e in c.epochs]
    runs = {s: max([int(n) for c in of_all if c.setting == s for n in c.n], default=0)
            for s in settings}  # fmt: skip
    remark = _first(settings, every)
    with drawing():
        several = len(cells) > 1
        figure, axes = grid(
            max(1, len(names)), 3, (3.0, 2.0), top=0.55 if remark else 0.35,
            bottom=_foot(len(settings) + 2 * several), gap=(0.6, 0.6),
        )  # fmt: skip
        for index, (ax, name) in enumerate(zip(axes, names, strict=False)):
            lines = drawn[name]
            banded = len(lines) <= MOST_BANDS
            for c in lines:
                style = _style(settings.index(c.setting), c.epochs.size == 1)
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
            ax.set_title(_name(name), fontsize=8.5)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if index + 3 >= len(names):
                ax.set_xlabel("epoch (−1: start)" if min(epochs) < 0 else "epoch")
        if not names:
            _nothing(axes[0], "no epochs were read")
        entries = [
            Line2D([], [], label=_label(s, runs[s]), markersize=3.5, **_style(i))
            for i, s in enumerate(settings)
        ]
        if several:
            dashed: list[dict[str, Any]] = [{"linestyle": "-"}, {"linestyle": "--"}]
            entries += [
                Line2D([], [], color="#555555", label=f"{cell} cell", **style)
                for cell, style in zip(cells, dashed, strict=False)
            ]
        _title(figure, remark)
        _legend(figure, entries)
    return figure


def _style(index: int, marked: bool = False) -> dict[str, Any]:
    """Colour of the index-th setting, and a marker after ten colours or where it must be seen."""
    marker = MARKERS[index // 10 % 4] if marked or index >= 10 else None
    return {"color": setting_style(index)["color"], "marker": marker}


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
    remark = _first(shown, items)
    cells = _kinds(i.sample.cells[0] for i in shown if i.sample.cells)
    with drawing():
        figure, axes = grid(
            len(names), 2, (3.6, 2.5), top=0.35 if remark else 0.15, bottom=_foot(len(shown)),
            gap=(0.35, 0.6), sharey=True,
        )  # fmt: skip
        measured = [i.get(ALL, accuracy).interval for i in shown]
        axes[0].set_ylim(*_span(measured))
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
                style = _style(k, True)
                label = _label(shown[k].setting, shown[k].sample.n)
                _interval(ax, y.estimate, x, style["color"], label, style["marker"])
                _interval(ax, x.estimate, y, style["color"], None, style["marker"], upright=True)
            if not both:
                ax.text(0.5, 0.5, "n/a", transform=ax.transAxes, ha="center", color="#aaaaaa")
            of_cell = f", {cells[0]} cell" if cells == ["normal"] and _two(shown) else ""
            ax.set_xlabel(_name(name) + of_cell, fontsize=8.5)
        axes[0].set_ylabel(_name(accuracy))
        entries = [
            Line2D([], [], linestyle="", markersize=5, label=_label(i.setting, i.sample.n),
                   **_style(k, True))
            for k, i in enumerate(shown)
        ]  # fmt: skip
        _title(figure, remark)
        _legend(figure, entries)
    return figure


def _two(items: Sequence[SettingStability]) -> bool:
    return any(len(i.sample.cells) > 1 for i in items)


def seeds_needed(curves: Sequence[WidthCurve]) -> Figure:
    """Interval width against the number of seeds: measured solid, projected dashed.

    Each setting's first cell kind; a curve that is 0 everywhere has nothing to narrow.
    """
    every = list(dict.fromkeys(c.setting for c in curves))
    settings = every[:MOST]
    first: dict[tuple[str, str], WidthCurve] = {}
    for c in curves:
        if c.setting in settings and (c.width > 0).any():
            first.setdefault((c.quantity, c.setting), c)
    accuracies = [
        n for n in ("benchmark_test", "derived_accuracy") if any(n == q for q, _ in first)
    ]
    names = [n for n in (*WIDTHS, *accuracies[:1]) if any(n == q for q, _ in first)]
    runs = {s: max(c.now for c in curves if c.setting == s) for s in settings}
    cells = _kinds(c.cell for c in curves if c.cell != ALL)
    remark = "; ".join(filter(None, [
        _first(settings, every), f"{cells[0]} cell" if len(cells) > 1 else "",
    ]))  # fmt: skip
    with drawing():
        figure, axes = grid(
            max(1, len(names)), 3, (2.9, 2.1), top=0.55 if remark else 0.35,
            bottom=_foot(len(settings) + 4), gap=(0.7, 0.85),
        )  # fmt: skip
        for ax, name in zip(axes, names, strict=False):
            ax.set(xscale="log", yscale="log", xlabel="seeds")
            for index, setting in enumerate(settings):
                if (name, setting) in first:
                    _widths(ax, first[name, setting], index)
            ticks = [3, 5, 10, 20, 50, 100, 200]
            ax.set_xticks(ticks, list(map(str, ticks)))
            ax.minorticks_off()
            low, high = ax.get_ylim()
            marks = [m * 10.0**e for e in range(-5, 4) for m in (1, 2, 5)]
            marks = [m for m in marks if low <= m <= high]
            ax.set_yticks(marks, [f"{m:g}" for m in marks])
            unit = {"benchmark_test": " (points)", "derived_accuracy": " (0..1)"}.get(name, "")
            ax.set_title(f"{name.replace('_', ' ')}{unit}", fontsize=8.5)
        if not names:
            _nothing(axes[0], "no quantity has the four seeds that this takes")
        else:
            for ax in axes[::3]:
                ax.set_ylabel("width of the 95% interval")
        entries: list[Any] = [
            Line2D([], [], label=_label(s, runs[s]), markersize=5, **_style(k, True))
            for k, s in enumerate(settings)
        ]
        if names:
            grey: dict[str, Any] = {"color": "#555555"}
            entries += [
                Line2D([], [], linewidth=1.8, label="measured: median over subsamples", **grey),
                Patch(alpha=0.2, linewidth=0, label="their quartiles", **grey),
                Line2D([], [], linestyle="--", linewidth=1.2, label="projected", **grey),
                Line2D([], [], linestyle="", marker="o", label="the seeds there are", **grey),
            ]
        _title(figure, remark)
        if entries:
            _legend(figure, entries)
    return figure


def _widths(ax: Axes, c: WidthCurve, index: int) -> None:
    style = _style(index, True)
    marker = style.pop("marker")
    width, low, high = (np.where(x > 0, x, np.nan) for x in (c.width, c.low, c.high))
    known, rest = c.measured, ~c.measured | (c.seeds == c.now)
    ax.plot(c.seeds[known], width[known], linewidth=1.8, **style)
    ax.plot(c.seeds[rest], width[rest], "--", linewidth=1.2, **style)
    ax.fill_between(c.seeds[known], low[known], high[known], alpha=0.15, linewidth=0, **style)
    ax.plot([c.now], width[c.seeds == c.now], marker, markersize=5, **style)


def similarity_clustermap(similarity: Similarity) -> Figure:
    """Similarity of every two runs, clustered (average linkage), with colours of settings."""
    counts = {s: similarity.settings.count(s) for s in dict.fromkeys(similarity.settings)}
    settings = list(counts)
    colours = dict(zip(settings, seaborn.color_palette("husl", len(settings)), strict=True))
    rows = [colours[s] for s in similarity.settings]
    count = len(rows)
    matrix = np.clip(similarity.matrix, 0, 1)
    tree = linkage(squareform(1 - matrix, checks=False), "average")
    least = float(np.floor(10 * matrix.min()) / 10)
    open_before = plt.get_fignums()
    with drawing():
        try:
            drawn = seaborn.clustermap(
                matrix, row_linkage=tree, col_linkage=tree, row_colors=rows, col_colors=rows,
                cmap="mako_r", vmin=min(least, 0.9), vmax=1, xticklabels=False,
                yticklabels=[f"seed {s}" for s in similarity.seeds] if count <= 40 else False,
                figsize=(1, 1), cbar_kws={"orientation": "horizontal"},
            )  # fmt: skip
        finally:  # out of pyplot's state; the figure itself stays
            for number in set(plt.get_fignums()) - set(open_before):
                plt.close(number)
        figure = drawn.figure
        handles = [
            Patch(color=colours[s], label=_label(s, n)) for s, n in list(counts.items())[:MOST]
        ]
        if len(settings) > MOST:
            handles.append(Patch(alpha=0, label=f"and {len(settings) - MOST} settings more"))
        foot = 0.35 + 0.19 * -(-len(handles) // 2)
        side = float(np.clip(0.17 * count, 3.6, 7.2))
        left, tree_width, bar, right, top = 0.15, 0.95, 0.18, 0.85, 0.4
        width = max(7.0, left + tree_width + bar + side + right)
        left = max(left, (width - tree_width - bar - side - right) / 2)
        height = foot + side + bar + tree_width + top
        figure.set_size_inches(width, height)
        x, y = left + tree_width + bar, foot
        places = {
            drawn.ax_heatmap: (x, y, side, side),
            drawn.ax_row_colors: (x - bar, y, bar - 0.03, side),
            drawn.ax_col_colors: (x, y + side + 0.03, side, bar - 0.03),
            drawn.ax_row_dendrogram: (left, y, tree_width, side),
            drawn.ax_col_dendrogram: (x, y + side + bar, side, tree_width),
            drawn.ax_cbar: (x - bar - 0.95, y + side + bar + 0.3, 0.85, 0.12),
        }
        for ax, (x0, y0, wide, high) in places.items():
            bounds = Bbox.from_bounds(x0 / width, y0 / height, wide / width, high / height)
            # A locator holds where `subplots_adjust` would put the axes back on seaborn's grid.
            ax.set_axes_locator(lambda ax, renderer, bounds=bounds: bounds)
        drawn.ax_heatmap.tick_params(labelsize=7, length=0)
        drawn.ax_cbar.set_title("similarity\n(1 − bits)", fontsize=8)
        drawn.ax_cbar.xaxis.set_major_locator(MaxNLocator(2))
        drawn.ax_cbar.tick_params(labelsize=7, length=2, pad=1)
        title = f"n={count} runs of {len(settings)} settings"
        if similarity.left_out:
            title += f"; {len(similarity.left_out)} with other edges left out"
        _title(figure, title)
        _legend(figure, handles)
    return figure


def performance_profiles(profiles: Sequence[Profile]) -> Figure:
    """Share of runs above each accuracy, one step line per setting; bands where they are few."""
    shown = list(profiles)[:MOST]
    remark = _first(shown, profiles)
    with drawing():
        figure, (ax,) = grid(
            1, 1, (6.4, 2.8), top=0.35 if remark else 0.15, bottom=_foot(len(shown))
        )
        for index, p in enumerate(shown):
            style = setting_style(index)
            label = _label(p.setting, p.n)
            ax.step(p.thresholds, p.share, where="post", linewidth=1.6, label=label, **style)
            if len(shown) <= MOST_BANDS:
                ax.fill_between(p.thresholds, p.low, p.high, step="post", alpha=0.09,
                                color=style["color"], linewidth=0)  # fmt: skip
        if shown:
            ax.set(ylim=(-0.03, 1.03), ylabel="share of runs above (0..1)")
            ax.set_xlabel(_name(shown[0].quantity) if shown[0].quantity else "score")
            _legend(figure, ax.get_legend_handles_labels()[0])
        else:
            _nothing(ax, "no run has it")
        _title(figure, remark)
    return figure


def operation_frequencies(
    items: Sequence[SettingStability], cell: str, exclude: tuple[str, ...] = ()
) -> Figure:
    """How often each operation is chosen on each edge over the seeds; at most six settings.

    exclude: operations that no genotype keeps. Grey: no candidate of this edge.
    """
    every = [i for i in items if i.sample.edges_of(cell)]
    shown = every[:MOST_FREQUENCIES]
    edges = [i.sample.edges_of(cell) for i in shown]
    operations = list(
        dict.fromkeys(o for es in edges for e in es for o in e.operations if o not in exclude)
    )
    names = [[f"{e.source}→{e.target}{' inner' if e.inner else ''}" for e in es] for es in edges]
    same = all(n == names[0] for n in names)
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="#dddddd")
    remark = _first(shown, every)
    with drawing():
        most = max([5, *map(len, edges)])
        size = (0.3 * max(4, len(operations)) + 0.4, 0.19 * most)
        figure, axes = grid(
            max(1, len(shown)), 3, size, left=0.9, top=0.7 if remark else 0.5, bottom=1.2,
            gap=(0.3 if same else 0.9, 1.1),
        )  # fmt: skip
        for index, (ax, item) in enumerate(zip(axes, shown, strict=False)):
            own = edges[index]
            choices = choices_of(item.sample, cell, exclude)
            share = np.full((len(own), len(operations)), np.nan)
            for row, edge in enumerate(own):
                for k, operation in enumerate(edge.operations):
                    if operation in operations:
                        column = operations.index(operation)
                        share[row, column] = (choices[:, row] == k).mean()
            image = ax.imshow(share, cmap=colours, vmin=0, vmax=1, aspect="auto")
            ax.grid(visible=False)
            # lines between the cells, so that a row can be followed
            ax.set_xticks(np.arange(len(operations) - 1) + 0.5, minor=True)
            ax.set_yticks(np.arange(len(own) - 1) + 0.5, minor=True)
            ax.grid(which="minor", color="white", linewidth=0.8)
            ax.tick_params(which="minor", length=0)
            named = names[index] if index % 3 == 0 or not same else []
            ax.set_yticks(range(len(named)), named, fontsize=7.5)
            ax.set_xticks(range(len(operations)), list(map(operation_name, operations)),
                          rotation=45, ha="right", rotation_mode="anchor", fontsize=8)  # fmt: skip
            ax.tick_params(length=0, pad=2)
            title = wrapped(f"{item.setting} (n={item.sample.n})", round(11.5 * size[0]), 2)
            ax.set_title(title, fontsize=8.5)
            if index % 3 == 0:
                ax.set_ylabel("edge")
        if shown:
            width, height = figure.get_size_inches()
            bar = figure.add_axes((0.5 - 1.0 / width, 0.38 / height, 2.0 / width, 0.12 / height))
            figure.colorbar(image, cax=bar, orientation="horizontal")
            grey = any(len(e.operations) < len(operations) for es in edges for e in es)
            note = "; grey: no candidate" if grey else ""
            bar.set_xlabel(f"share of seeds that choose it ({cell} cell{note})", fontsize=8)
            bar.tick_params(labelsize=8, length=2)
        else:
            _nothing(axes[0], f"no setting has edges of a {cell} cell")
        _title(figure, remark)
    return figure
