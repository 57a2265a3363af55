"""Draw: runs one by one: their genotypes, similarity and accuracies."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from analysis.figures.layout import entry, finish, grid, letters, of_text
from analysis.figures.palette import DARK, wrapped
from analysis.figures.study import Study, Tables, clipped, label, rows, span
from analysis.statistics.inference import said

MOST_PROFILES = 4  # that have their bands; more bands hide each other


def genotype_counts(tables: Tables) -> Figure:
    """Distinct genotypes of each setting, one bar a setting, the most frequent first."""
    study, frame = Study(tables), rows(tables, "genotypes", "setting", "count", part="whole")
    shown, frame, remark = study.shown(frame)
    figure, (ax,) = grid(1, 1, (5.2, of_text(0.2 + 0.3 * len(shown))), left=2.3)
    counts, of = frame["count"].astype(int), frame.groupby("setting", sort=False)["count"]
    shades = [to_rgba(study.looks[setting]["color"], 1 if count > 1 else 0.4)
              for setting, count in zip(frame["setting"], counts, strict=True)]  # fmt: skip
    bars = ax.barh(pd.factorize(frame["setting"])[0], counts, left=of.cumsum() - counts,
                   height=0.6, color=shades, edgecolor="white")  # fmt: skip
    ax.bar_label(bars, [str(count) if count > 1 else "" for count in counts], color="white",
                 label_type="center", fontsize="small")  # fmt: skip
    for row, (distinct, total) in enumerate(zip(of.size(), of.sum(), strict=True)):
        ax.text(total, row, f"  {distinct} distinct of {total}", va="center", fontsize="small")
    names = [wrapped(study.names[s], 36, 2) for s in shown]
    ax.set_yticks(range(len(shown)), names, fontsize="small")
    ax.set(ylim=(len(shown) - 0.4, -0.6), xlim=(0, 1.35 * max(1, of.sum().max())))
    ax.set_xlabel("runs (pale: a genotype derived only once)")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.grid(axis="y", visible=False)
    return finish(figure, remark=remark)


def similarity(tables: Tables) -> Figure:
    """Similarity of every two runs, ordered by average linkage, with their settings' colours."""
    study, frame = Study(tables), rows(tables, "similarity")
    keys = ["setting", "seed"]
    first, second = frame[keys], frame[["other_setting", "other_seed"]].set_axis(keys, axis=1)
    runs = pd.MultiIndex.from_frame(pd.concat([first, second]).drop_duplicates())
    i, j = (runs.get_indexer(pd.MultiIndex.from_frame(end)) for end in (first, second))
    matrix = np.eye(len(runs))
    matrix[i, j] = matrix[j, i] = np.clip(frame["similarity"], 0, 1)
    tree = linkage(squareform(1 - matrix, checks=False), "average")
    tree[-1, 2] += 1e-9  # equal runs have no height, and an axis needs some
    count = len(runs)
    side = float(np.clip(0.15 * count, 3.2, 6.5))
    figure, (left, strip, ax) = grid(3, 3, (side / 2.2, side), width_ratios=[0.3, 0.03, 1.0],
                                     between=(0.1, 0.3), more=0.6)  # fmt: skip
    drawn = dendrogram(tree, ax=left, orientation="left", link_color_func=lambda _: DARK)
    left.collections[0].set_linewidth(0.7 if count <= 100 else 0.3)
    left.set(xlim=(1.02 * tree[:, 2].max(), 0), ylim=(10 * count, 0))  # leaves are 10 apart
    left.set_axis_off()
    order = drawn["leaves"]
    colours = np.array([[to_rgb(study.looks[runs[k][0]]["color"])] for k in order])
    strip.imshow(colours, aspect="auto", extent=(0, 1, 10 * count, 0))
    strip.set_axis_off()
    least = min(0.9, float(np.floor(10 * matrix.min()) / 10))
    image = ax.imshow(matrix[np.ix_(order, order)], cmap="mako_r", vmin=least, vmax=1,
                      aspect="auto", extent=(0, 10 * count, 10 * count, 0))  # fmt: skip
    ax.grid(visible=False)
    names = [runs[k][1] for k in order] if count <= 40 else []
    size = "small" if count <= 24 else "x-small"
    ax.set_yticks(10 * np.arange(len(names)) + 5, names, fontsize=size)
    ax.set_xticks([])
    ax.yaxis.tick_right()
    what = "similarity of two runs (1 − bits between their edges' probabilities)"
    figure.colorbar(image, ax=ax, location="bottom", shrink=0.5, aspect=30, label=what)
    shown, _, cut = study.shown(runs.to_frame(index=False))
    entries = study.entries(shown, marker="s", linestyle="", markersize=8)
    remark = f"n={count} runs of {runs.get_level_values(0).nunique()} settings"
    return finish(figure, entries, said(remark, cut and f"the legend has {cut}"))


def profiles(tables: Tables) -> Figure:
    """Share of runs above each accuracy, one step line a setting."""
    study, frame = Study(tables), rows(tables, "profiles")
    shown, frame, remark = study.shown(frame)
    few = len(shown) <= MOST_PROFILES
    figure, (ax,) = grid(1, 1, (6.0, 2.5), left=0.5)
    for setting in shown:
        own, look = frame[frame["setting"] == setting], study.looks[setting]
        ax.step(own["threshold"], own["share"], where="post", linewidth=1.6, markevery=10, **look)
        if few:
            ax.fill_between(own["threshold"], own["low"], own["high"], step="post", alpha=0.12,
                            color=look["color"], linewidth=0)  # fmt: skip
    ax.set(ylim=(-0.03, 1.03), ylabel="share of runs above (0..1)")
    ax.set_xlabel(label(str(frame["quantity"].iloc[0])))
    return finish(figure, study.entries(shown), said(remark, "bands: 95% intervals" * few))


AGREEMENTS = ("operation_agreement", "dependence_transfer", "dependence_stability")
"""against which accuracy is drawn: the first two that there are"""


def accuracy_stability(tables: Tables) -> Figure:
    """Accuracy against stability: a cross of two intervals a setting, a point a seed."""
    study = Study(tables)
    table = rows(tables, "stability", "estimate", "low", "high", "cell").dropna(subset="estimate")
    present, cell = set(table["quantity"]), min(table.loc[table["cell"] != "all", "cell"])
    accuracy = "benchmark_test" if "benchmark_test" in present else "derived_accuracy"
    names = [q for q in AGREEMENTS if q in present][:2]
    table = table[table["cell"].isin(["all", cell])].set_index(["quantity", "setting"])
    shown, _, remark = study.shown(table.loc[accuracy].reset_index())
    seeds = rows(tables, "seed_values", "run_id", "setting", "value", "cell", "collapsed",
                 quantity=[accuracy, *names], cell=["all", cell], setting=shown)  # fmt: skip
    hollow = set(seeds.loc[seeds["collapsed"].eq(True), "run_id"])
    values = seeds.pivot_table(index=["setting", "run_id"], columns="quantity", values="value")
    values = values.reindex(columns=[accuracy, *names])  # too few seeds have no values of their own
    ends = ["estimate", "low", "high"]
    y = span(accuracy, *table.loc[accuracy].loc[shown, ends].to_numpy(float).T, values[accuracy])
    figure, axes = grid(len(names), 2, (3.3, 2.4), sharey=True)
    for ax, name in zip(axes, names, strict=True):
        points = values.reindex(columns=[name, accuracy]).dropna()
        both = [s for s in shown if s in table.loc[name].index]
        of = {q: table.loc[q].loc[both, ends] for q in (name, accuracy)}
        x = span(name, *of[name].to_numpy(float).T, points[name])
        ax.set(xlim=x, ylim=y, xlabel=label(name, letters(3.3)))
        for s in both:
            look = {"color": study.looks[s]["color"], "label": s}
            own = points[points.index.get_level_values(0) == s]
            faces = ["white" if run in hollow else look["color"] for _, run in own.index]
            ax.scatter(own[name].clip(*x), own[accuracy].clip(*y), s=14, facecolors=faces,
                       edgecolors=look["color"], linewidths=0.8, alpha=0.8, clip_on=False,
                       label="one seed")  # fmt: skip
            (right, *across), (high, *up) = (clipped(q, e.loc[s]) for q, e in of.items())
            ax.plot(across, [high, high], [right, right], up, linewidth=1.4, **look)
            ax.plot([right], [high], study.looks[s]["marker"] or "o", markersize=6,
                    markeredgecolor=DARK, **look)  # fmt: skip
    axes[0].set_ylabel(label(accuracy))
    entries = study.entries(shown, linestyle="", marker="o", markersize=5.5)
    entries.append(entry("large: a setting with its 95% intervals; small: one seed"))
    entries += [entry("hollow: a seed that collapsed")] * bool(hollow)
    kinds = f"stability of the {cell} cell"
    return finish(figure, entries, said(remark, kinds, "seeds' are jackknife pseudo-values"))
