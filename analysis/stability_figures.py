"""Draw: stability, comparisons, seeds needed, similarity and profiles. Nothing is computed here.

Every function takes result objects and gives a matplotlib Figure that belongs to no pyplot state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.comparisons import REFERENCES, Comparison
from analysis.inference import Interval
from analysis.palette import drawing, grid, legend, operation_name, setting_style, wrapped
from analysis.profiles import Profile
from analysis.quantities import Quantity
from analysis.seeds_needed import WidthCurve
from analysis.similarity import Similarity
from analysis.stability import ALL, HEADLINE, SettingStability, choices_of
from analysis.trajectories import Curve

MOST = 24
"""Settings in one figure; the tables have all of them."""

AXES = {
    "operation_agreement": ("operation agreement\n(Fleiss' kappa)", (-0.3, 1.05)),
    "edge_agreement": ("edge agreement\n(Jaccard index)", (-0.05, 1.05)),
    "probability_divergence": ("probability divergence\n(bits)", (-0.05, 1.05)),
    "dependence_stability": ("dependence stability\n(0: chance, 1: same)", (-0.3, 1.05)),
    HEADLINE: ("learned dependence\nstability", (-0.3, 1.05)),
    "link_specificity": ("link specificity\n(0: chance, 1: same)", (-0.5, 1.05)),
    "attention_agreement": ("attention agreement\n(0: chance, 1: same)", (-0.5, 1.05)),
    "transition_divergence": ("transition divergence\n(bits)", (-0.05, 1.05)),
    "dobrushin_coefficient": ("Dobrushin coefficient\n(0..1)", (-0.05, 1.05)),
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
CELL_COLOURS = {"normal": "#0072b2", "reduce": "#d55e00"}
KIND_COLOURS = {"independent": "#777777", "placebo": "#0072b2", "frozen": "#d55e00"}


def _name(quantity: str) -> str:
    return AXES.get(quantity, (quantity.replace("_", " "), None))[0]


def _rows(ax: Axes, names: Sequence[str], width: int = 32) -> None:
    """Name the rows of a panel, the first on top."""
    ax.set_yticks(range(len(names)), [wrapped(n, width, 2) for n in names], fontsize=8.5)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)


def _interval(ax: Axes, y: float, q: Quantity, colour: str, label: str | None) -> None:
    """An estimate with its interval; an end beyond the panel becomes an arrow."""
    low, high = ax.get_xlim()
    ends = np.array([q.interval.low, q.interval.high])
    if np.isfinite(ends).all():
        inside = np.clip(ends, low, high)
        ax.plot(inside, [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
        for end, at, sign in zip(ends, inside, ("<", ">"), strict=True):
            ax.plot([at], [y], sign if end != at else "|", color=colour, markersize=4.5)
    at = float(np.clip(q.estimate, low, high))
    ax.plot([at], [y], "o", color=colour, markersize=5, label=label)


def stability_by_setting(items: Sequence[SettingStability]) -> Figure:
    """Every agreement and stability of every setting with its interval and its chance value."""
    shown = [i for i in items if i.sample.cells][:MOST]
    cells = sorted({c for i in shown for c in i.sample.cells})
    with drawing():
        size = (1.75, 0.35 + 0.42 * max(1, len(shown)))
        figure, axes = grid(
            len(SHOWN), 4, size, left=2.6, top=0.4, bottom=1.0, gap=(0.25, 0.8), sharey=True
        )
        for ax, name in zip(axes, SHOWN, strict=True):
            ax.set_xlim(*(AXES[name][1] or (0, 1)))
            for row, item in enumerate(shown):
                for k, cell in enumerate(cells):
                    y = row + 0.3 * (k - (len(cells) - 1) / 2)
                    q = item.get(cell, name)
                    if q.known:
                        if np.isfinite(q.null_mean):
                            null = "by chance"
                            ax.plot([q.null_mean] * 2, [y - 0.17, y + 0.17], color="#999999",
                                    linewidth=2.4, label=null)  # fmt: skip
                        label = f"{cell} cell, 95% interval over seeds"
                        _interval(ax, y, q, CELL_COLOURS.get(cell, "#222222"), label)
                if not any(item.get(cell, name).known for cell in cells):
                    x = float(np.mean(ax.get_xlim()))
                    ax.text(x, row, "n/a", ha="center", va="center", color="#999999", fontsize=8)
            ax.set_xlabel(_name(name), fontsize=8.5)
            ax.xaxis.set_major_locator(MaxNLocator(4))
        _rows(axes[0], [f"{i.setting} (n={i.sample.n})" for i in shown], 30)
        for ax in axes:
            ax.tick_params(axis="y", labelsize=8.5)
            ax.grid(axis="y", visible=False)
        _title(figure, items, shown)
        legend(figure, axes, 3)
    return figure


def _title(figure: Figure, items: Sequence[object], shown: Sequence[object]) -> None:
    if len(items) > len(shown):
        text = f"the first {len(shown)} of {len(items)} settings"
        figure.suptitle(text, y=1 - 0.1 / figure.get_figheight(), va="top", fontsize=9.5)


def differences_to_controls(comparisons: Sequence[Comparison], quantity: str) -> Figure:
    """Differences of one quantity to each kind of control, with intervals and Holm's p-values."""
    chosen = [c for c in comparisons if c.quantity == quantity and c.difference.n]
    chosen.sort(key=lambda c: REFERENCES.index(c.kind))
    shown = chosen[:MOST]
    ends = [x for c in shown for x in c.difference[:3] if np.isfinite(x)]
    reach = float(np.clip(1.15 * np.max(np.abs(ends), initial=0.05), 0.05, 1.2))
    several = len({c.cell for c in shown}) > 1
    with drawing():
        size = (4.2, 0.4 + 0.36 * max(1, len(shown)))
        figure, (ax,) = grid(1, 1, size, left=3.3, top=0.45, bottom=1.0)
        ax.set_xlim(-reach, reach)
        ax.axvline(0, color="#333333", linewidth=1)
        for row, c in enumerate(shown):
            colour = KIND_COLOURS[c.kind]
            q = Quantity(Interval(*c.difference[:3], c.difference.n))
            _interval(ax, row, q, colour, f"minus its {c.kind} control")
            p = "" if np.isnan(c.corrected) else f"p {_p(c.corrected)}"
            ax.text(1.01, row, f"{p}  n={c.difference.n}", va="center", fontsize=8,
                    transform=ax.get_yaxis_transform())  # fmt: skip
        cell = {c: f", {c.cell}" if several else "" for c in shown}
        _rows(ax, [f"{c.setting} − {c.reference}{cell[c]}" for c in shown], 42)
        ax.set_xlabel(f"difference in {quantity.replace('_', ' ')} (right of 0: the setting more)")
        figure.subplots_adjust(right=0.86)
        ax.set_title("p: Holm-corrected over all comparisons of a kind", fontsize=8.5, loc="left")
        legend(figure, [ax], 3)
    return figure


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def stability_over_epochs(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """One panel per quantity: a line per setting, dashed for the reduction cell, with bands."""
    names = [name for name in AXES if curves.get(name)]
    settings = list(dict.fromkeys(c.setting for cs in curves.values() for c in cs))[:MOST]
    foot = 0.75 + 0.2 * -(-len(settings) // 2)
    with drawing():
        figure, axes = grid(len(names), 3, (3.0, 2.0), top=0.35, bottom=foot, gap=(0.5, 0.6))
        for ax, name in zip(axes, names, strict=True):
            lines = [c for c in curves[name] if c.setting in settings]
            for c in lines:
                style = setting_style(settings.index(c.setting))
                style["linestyle"] = "--" if c.cell == "reduce" else "-"
                label = f"{wrapped(c.setting, 56, 1)} (n={max(c.n)})"
                marker = "o" if c.epochs.size == 1 else None
                ax.plot(c.epochs, c.mean, linewidth=1.6, marker=marker, **style,
                        label=label if c.cell != "reduce" else None)  # fmt: skip
                if len(lines) <= 6:
                    ax.fill_between(c.epochs, c.low, c.high, color=style["color"], alpha=0.15,
                                    linewidth=0)  # fmt: skip
            limits = AXES[name][1]
            if limits:  # one wild interval would squash every line
                low = min(0.0, *(float(np.nanmin(c.mean)) for c in lines)) - 0.06
                high = max(0.1, *(float(np.nanmax(c.mean)) for c in lines)) * 1.25
                ax.set_ylim(max(low, -1.0), min(high, 1.05))
            if limits and limits[0] < -0.1:
                ax.axhline(0, color="#999999", linewidth=1)
            ax.set_title(_name(name).replace("\n", " "), fontsize=8.5)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        dashed = any(c.cell == "reduce" for cs in curves.values() for c in cs)
        for ax in axes[-3:]:
            ax.set_xlabel("epoch (−1: start)" + (" · dashed: reduction cell" if dashed else ""))
        legend(figure, axes, 2)
    return figure


def accuracy_against_stability(
    items: Sequence[SettingStability],
    stability: Sequence[str] = ("operation_agreement", "dependence_stability"),
    accuracy: str = "derived_accuracy",
) -> Figure:
    """One cross per setting: accuracy against a stability of its normal cell, with intervals."""
    shown = list(items)[:MOST]
    foot = 0.75 + 0.2 * -(-len(shown) // 2)
    with drawing():
        figure, axes = grid(
            len(stability), 2, (3.6, 2.5), top=0.15, bottom=foot, gap=(0.35, 0.4), sharey=True
        )
        for ax, name in zip(axes, stability, strict=True):
            for index, item in enumerate(shown):
                cell = item.sample.cells[0] if item.sample.cells else "normal"
                x, y = item.get(cell, name), item.get(ALL, accuracy)
                if not (x.known and y.known):
                    continue
                colour = setting_style(index)["color"]
                marker = ("o", "s", "^", "D")[index // 10 % 4]
                if np.isfinite(x.interval.width):
                    ends = np.clip(x.interval[1:3], *(AXES[name][1] or (-1, 1)))
                    ax.plot(ends, [y.estimate] * 2, color=colour, linewidth=1)
                if np.isfinite(y.interval.width):
                    ax.plot([x.estimate] * 2, y.interval[1:3], color=colour, linewidth=1)
                label = f"{wrapped(item.setting, 56, 1)} (n={item.sample.n})"
                ax.plot([x.estimate], [y.estimate], marker, color=colour, markersize=6, label=label)
            ax.set_xlabel(_name(name).replace("\n", " "))
        axes[0].set_ylabel(_name(accuracy))
        legend(figure, axes, 2)
    return figure


WIDTHS = (HEADLINE, "dependence_stability", "operation_agreement", "edge_agreement")


def seeds_needed(curves: Sequence[WidthCurve]) -> Figure:
    """Interval width against the number of seeds: measured solid, projected dashed."""
    accuracies = [
        n for n in ("benchmark_test", "derived_accuracy") if any(c.quantity == n for c in curves)
    ]
    names = [n for n in (*WIDTHS, *accuracies[:1]) if any(c.quantity == n for c in curves)]
    settings = list(dict.fromkeys(c.setting for c in curves))[:MOST]
    foot = 0.75 + 0.2 * -(-len(settings) // 2)
    with drawing():
        figure, axes = grid(
            max(1, len(names)), 3, (2.9, 2.1), top=0.35, bottom=foot, gap=(0.7, 0.85)
        )
        for ax, name in zip(axes, names, strict=False):
            for c in curves:
                if c.quantity != name or c.setting not in settings or c.cell == "reduce":
                    continue
                style = setting_style(settings.index(c.setting))
                known, rest = c.measured, ~c.measured | (c.seeds == c.now)
                label = f"{wrapped(c.setting, 56, 1)} (n={c.now})"
                if not (c.width > 0).all():
                    continue  # always the same: nothing to narrow
                ax.plot(
                    c.seeds[known], c.width[known], color=style["color"], linewidth=1.8, label=label
                )
                ax.plot(c.seeds[rest], c.width[rest], "--", color=style["color"], linewidth=1.2)
                ax.fill_between(c.seeds[known], c.low[known], c.high[known], color=style["color"],
                                alpha=0.15, linewidth=0)  # fmt: skip
                ax.plot([c.now], c.width[c.seeds == c.now], "o", color=style["color"], markersize=5)
            ax.set(xscale="log", yscale="log", xlabel="seeds")
            ticks = [3, 5, 10, 20, 50, 100, 200]
            ax.set_xticks(ticks, list(map(str, ticks)))
            ax.minorticks_off()
            low, high = ax.get_ylim()
            marks = [m for m in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if low <= m <= high]
            ax.set_yticks(marks, [f"{m:g}" for m in marks])
            unit = " (points)" if name == "benchmark_test" else ""
            ax.set_title(f"{name.replace('_', ' ')}{unit}", fontsize=8.5)
        for ax in axes[::3]:
            ax.set_ylabel("width of the 95% interval")
        legend(figure, axes, 2)
    return figure


def similarity_clustermap(similarity: Similarity) -> Figure:
    """Similarity of every two runs, clustered, with a colour bar of settings beside it."""
    settings = list(dict.fromkeys(similarity.settings))
    colours = dict(zip(settings, seaborn.color_palette("husl", len(settings)), strict=True))
    rows = [colours[s] for s in similarity.settings]
    count = len(rows)
    side = float(np.clip(0.16 * count + 2.6, 4.6, 9.0))
    named = len(settings) <= MOST
    with drawing():
        drawn = seaborn.clustermap(
            np.clip(similarity.matrix, 0, 1),
            method="average",
            row_colors=rows,
            col_colors=rows,
            cmap="mako_r",
            vmax=1,
            xticklabels=False,
            yticklabels=[f"seed {s}" for s in similarity.seeds] if count <= 40 else False,
            figsize=(side + 1.2, side),
            cbar_kws={"orientation": "horizontal", "ticks": [0, 0.5, 1]},
            vmin=0,
            dendrogram_ratio=0.14,
            cbar_pos=(0.03, 0.95, 0.11, 0.015),
        )
        figure = drawn.figure
        drawn.ax_heatmap.tick_params(labelsize=7, length=0)
        drawn.ax_cbar.set_position((0.03, 0.93, 0.1, 0.015))
        drawn.ax_cbar.set_title("similarity\n(1 − bits)", fontsize=8)
        drawn.ax_cbar.tick_params(labelsize=7, length=2)
        if named:
            handles = [Patch(color=colours[s], label=wrapped(s, 60, 1)) for s in settings]
            lines = -(-len(settings) // 2)
            foot = (0.25 + 0.2 * lines) / (side + 0.2 * lines)
            figure.set_size_inches(side + 1.2, side + 0.2 * lines)
            figure.subplots_adjust(bottom=foot + 0.02)
            figure.legend(handles=handles, loc="lower center", ncols=2, fontsize=8)
        title = f"{count} runs of {len(settings)} settings"
        figure.suptitle(title, x=0.6, y=0.995, va="top", fontsize=9.5)
    plt.close(figure)  # out of pyplot's state; the figure itself stays
    return figure


def performance_profiles(profiles: Sequence[Profile]) -> Figure:
    """Share of runs above each accuracy, one step line per setting; bands of at most four."""
    shown = list(profiles)[:MOST]
    foot = 0.75 + 0.2 * -(-max(1, len(shown)) // 2)
    with drawing():
        figure, (ax,) = grid(1, 1, (6.0, 2.6), top=0.15, bottom=foot)
        for index, p in enumerate(shown):
            style = setting_style(index)
            label = f"{wrapped(p.setting, 56, 1)} (n={p.n})"
            ax.step(p.thresholds, p.share, where="post", linewidth=1.6, label=label, **style)
            if len(shown) <= 4:
                ax.fill_between(p.thresholds, p.low, p.high, step="post", alpha=0.12,
                                color=style["color"], linewidth=0)  # fmt: skip
        ax.set(ylim=(-0.03, 1.03), ylabel="share of runs above")
        ax.set_xlabel(_name(shown[0].quantity) if shown else "accuracy")
        legend(figure, [ax], 2)
    return figure


def operation_frequencies(
    items: Sequence[SettingStability], cell: str, exclude: tuple[str, ...] = ()
) -> Figure:
    """How often each operation is chosen on each edge over the seeds; at most six settings."""
    shown = [i for i in items if i.sample.edges_of(cell)][:6]
    edges = shown[0].sample.edges_of(cell) if shown else ()
    operations = list(dict.fromkeys(o for e in edges for o in e.operations if o not in exclude))
    with drawing():
        size = (0.3 * max(4, len(operations)) + 0.4, 0.19 * max(5, len(edges)))
        figure, axes = grid(
            max(1, len(shown)), 3, size, left=0.9, top=0.5, bottom=1.15, gap=(0.35, 1.35)
        )
        image = None
        for ax, item in zip(axes, shown, strict=False):
            own = item.sample.edges_of(cell)
            choices = choices_of(item.sample, cell, exclude)
            share = np.full((len(own), len(operations)), np.nan)
            for row, edge in enumerate(own):
                for k, operation in enumerate(edge.operations):
                    if operation in operations:
                        column = operations.index(operation)
                        share[row, column] = (choices[:, row] == k).mean()
            image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            ax.grid(visible=False)
            names = [f"{e.source}→{e.target}{' inner' if e.inner else ''}" for e in own]
            ax.set_yticks(range(len(own)), names, fontsize=7.5)
            ax.set_xticks(range(len(operations)), list(map(operation_name, operations)),
                          rotation=45, ha="right", rotation_mode="anchor", fontsize=8)  # fmt: skip
            ax.tick_params(length=0, pad=2)
            ax.set_title(f"{wrapped(item.setting, 34, 2)} (n={item.sample.n})", fontsize=8.5)
        for index, ax in enumerate(axes):
            if index % 3:
                ax.set_yticklabels([])
        if image is not None:
            width, height = figure.get_size_inches()
            bar = figure.add_axes((0.5 - 1.0 / width, 0.38 / height, 2.0 / width, 0.12 / height))
            figure.colorbar(image, cax=bar, orientation="horizontal")
            bar.set_xlabel(f"share of seeds that choose it ({cell} cell)", fontsize=8)
            bar.tick_params(labelsize=8, length=2)
    return figure
