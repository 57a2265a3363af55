"""Draw: seeds needed, similarity of runs, performance profiles and chosen operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from analysis.compute.profiles import Profile
from analysis.compute.seeds_needed import WidthCurve
from analysis.compute.similarity import Similarity
from analysis.compute.stability import ALL, HEADLINE, SettingStability, choices_of
from analysis.figures.palette import drawing, grid, operation_name, setting_style, wrapped
from analysis.figures.panels import (
    MOST,
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

MOST_FREQUENCIES = 6
"""Settings in a figure of operation frequencies."""

MOST_PROFILES = 4
"""Profiles in one figure that have their bands; more bands hide each other."""

WIDTHS = (HEADLINE, "dependence_stability", "operation_agreement", "edge_agreement")


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
    cells = cell_kinds(c.cell for c in curves if c.cell != ALL)
    remark = "; ".join(filter(None, [
        first_of(settings, every), f"{cells[0]} cell" if len(cells) > 1 else "",
    ]))  # fmt: skip
    with drawing():
        figure, axes = grid(
            max(1, len(names)), 3, (2.9, 2.1), top=0.55 if remark else 0.35,
            bottom=foot(len(settings) + 4), gap=(0.7, 0.85),
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
            nothing(axes[0], "no quantity has the four seeds that this takes")
        else:
            for ax in axes[::3]:
                ax.set_ylabel("width of the 95% interval")
        entries: list[Any] = [
            Line2D([], [], label=setting_label(s, runs[s]), markersize=5, **style_of(k, True))
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
        head_line(figure, remark)
        if entries:
            legend_of(figure, entries)
    return figure


def _widths(ax: Axes, c: WidthCurve, index: int) -> None:
    style = style_of(index, True)
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
    light, dark = (seaborn.husl_palette(len(settings), l=x) for x in (0.72, 0.45))
    colours = {s: (light, dark)[k % 2][k] for k, s in enumerate(settings)}  # neighbours differ
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
                figsize=(1, 1),
                cbar_kws={"orientation": "horizontal", "ticks": [min(least, 0.9), 1]},
            )  # fmt: skip
        finally:  # out of pyplot's state; the figure itself stays
            for number in set(plt.get_fignums()) - set(open_before):
                plt.close(number)
        figure = drawn.figure
        handles = [
            Patch(color=colours[s], label=setting_label(s, n))
            for s, n in list(counts.items())[:MOST]
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
        drawn.ax_cbar.tick_params(labelsize=7, length=2, pad=1)
        title = f"n={count} runs of {len(settings)} settings"
        if similarity.left_out:
            title += f"; {len(similarity.left_out)} with other edges left out"
        head_line(figure, title)
        legend_of(figure, handles)
    return figure


def performance_profiles(profiles: Sequence[Profile]) -> Figure:
    """Share of runs above each accuracy, one step line per setting; bands where they are few."""
    shown = list(profiles)[:MOST]
    remark = first_of(shown, profiles)
    with drawing():
        figure, (ax,) = grid(
            1, 1, (6.4, 2.8), top=0.35 if remark else 0.15, bottom=foot(len(shown))
        )
        for index, p in enumerate(shown):
            style = setting_style(index)
            label = setting_label(p.setting, p.n)
            ax.step(p.thresholds, p.share, where="post", linewidth=1.6, label=label, **style)
            if len(shown) <= MOST_PROFILES:
                ax.fill_between(p.thresholds, p.low, p.high, step="post", alpha=0.12,
                                color=style["color"], linewidth=0)  # fmt: skip
        if shown:
            ax.set(ylim=(-0.03, 1.03), ylabel="share of runs above (0..1)")
            ax.set_xlabel(quantity_name(shown[0].quantity) if shown[0].quantity else "score")
            legend_of(figure, ax.get_legend_handles_labels()[0])
        else:
            nothing(ax, "no run has it")
        head_line(figure, remark)
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
    remark = first_of(shown, every)
    with drawing():
        most = max([5, *map(len, edges)])
        size = (0.3 * max(4, len(operations)) + 0.4, 0.19 * most)
        figure, axes = grid(
            max(1, len(shown)), 3, size, left=0.9, top=0.85 if remark else 0.6, bottom=1.2,
            gap=(0.3 if same else 0.9, 1.2),
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
            title = wrapped(f"{item.setting} (n={item.sample.n})", round(11.5 * size[0]), 3)
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
            nothing(axes[0], f"no setting has edges of a {cell} cell")
        head_line(figure, remark)
    return figure
