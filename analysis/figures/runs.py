"""Draw: runs one by one: their genotypes, similarity, accuracies, and the trials of a tuning."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from analysis.figures.layout import (
    Study,
    Tables,
    clipped,
    entry,
    finish,
    grid,
    label,
    letters,
    rows,
    said,
    span,
)
from analysis.figures.palette import DARK, GREY, WARNING, operation_name

MOST_FREQUENCIES = 6
"""Settings in a figure of operation frequencies."""

MOST_PROFILES = 4
"""Profiles in one figure that have their bands; more bands hide each other."""


def genotype_counts(tables: Tables) -> Figure:
    """One bar a setting, split into its distinct genotypes, the most frequent first."""
    study = Study(tables)
    frame = rows(tables, "genotypes", "setting", "count", part="whole")
    shown, remark = study.shown(frame)
    figure, (ax,) = grid(1, 1, (5.2, 0.2 + 0.3 * len(shown)), left=2.3)
    for row, setting in enumerate(shown):
        counts = frame.loc[frame["setting"] == setting, "count"].to_numpy(int)
        lefts = np.cumsum(counts) - counts
        bars = ax.barh(
            row, counts, left=lefts, height=0.6, color=study.looks[setting].color, edgecolor="white"
        )
        for bar, count in zip(bars, counts, strict=True):
            bar.set_alpha(1.0 if count > 1 else 0.4)
        ax.bar_label(bars, [str(c) if c > 1 else "" for c in counts], label_type="center",
                     color="white", fontsize="small")  # fmt: skip
        ax.text(counts.sum(), row, f"  {len(counts)} distinct of {counts.sum()}", va="center",
                fontsize="small")  # fmt: skip
    ax.set_yticks(range(len(shown)), [study.name(s, 36, 2) for s in shown], fontsize="small")
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 1.35 * max([1, *frame.groupby("setting")["count"].sum()]))
    ax.set_xlabel("runs (full colour: a genotype that several runs derived; pale: derived once)")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.grid(axis="y", visible=False)
    return finish(figure, remark=remark)


def similarity(tables: Tables) -> Figure:
    """Similarity of every two runs, ordered by average linkage, beside their settings' colours."""
    study = Study(tables)
    frame = rows(tables, "similarity")
    ends = [["setting", "seed"], ["other_setting", "other_seed"]]
    runs = pd.MultiIndex.from_frame(
        pd.concat([frame[e].set_axis(["setting", "seed"], axis=1) for e in ends]).drop_duplicates()
    )
    first, second = (runs.get_indexer(pd.MultiIndex.from_frame(frame[e])) for e in ends)
    matrix = np.eye(len(runs))
    matrix[first, second] = matrix[second, first] = np.clip(frame["similarity"], 0, 1)
    tree = linkage(squareform(1 - matrix, checks=False), "average")
    drawn = dendrogram(tree, no_plot=True)
    order, count = drawn["leaves"], len(runs)
    side = float(np.clip(0.15 * count, 3.2, 6.5))
    figure, (left, strip, ax) = grid(
        3, 3, (side / 2.2, side), width_ratios=[0.3, 0.03, 1.0], between=(0.1, 0.3),
    )  # fmt: skip
    # scipy's leaves are 10 apart, the first at 5
    left.add_collection(
        LineCollection(
            [np.c_[d, i] for d, i in zip(drawn["dcoord"], drawn["icoord"], strict=True)],
            colors=DARK,
            linewidths=0.7 if count <= 100 else 0.3,
        )
    )
    left.set(xlim=(1.02 * tree[:, 2].max(), 0), ylim=(10 * count, 0))
    left.set_axis_off()
    colours = [study.looks[runs[k][0]].color for k in order]
    extent = (0, 1, 10 * count, 0)
    strip.imshow(
        np.array([[matplotlib.colors.to_rgb(c)] for c in colours]), aspect="auto", extent=extent
    )
    strip.set_axis_off()
    least = float(np.floor(10 * matrix.min()) / 10)
    image = ax.imshow(matrix[np.ix_(order, order)], cmap="mako_r", vmin=min(least, 0.9), vmax=1,
                      aspect="auto", extent=(0, 10 * count, 10 * count, 0))  # fmt: skip
    ax.grid(visible=False)
    ax.set_xticks([])
    names = [runs[k][1] for k in order] if count <= 40 else []
    ax.set_yticks(
        10 * np.arange(len(names)) + 5, names, fontsize="small" if count <= 24 else "x-small"
    )
    ax.yaxis.tick_right()
    figure.colorbar(image, ax=ax, location="bottom", shrink=0.6, aspect=30,
                    label="similarity of two runs (1 − bits between their edges' probabilities)")  # fmt: skip
    settings = list(dict.fromkeys(s for s in study.looks if s in set(runs.get_level_values(0))))
    n = runs.get_level_values(0).value_counts()
    shown = settings[:24]
    entries = [Patch(color=study.looks[s].color, label=f"{study.name(s)}") for s in shown]
    more = f"the legend has the first {len(shown)}" if len(settings) > len(shown) else ""
    return finish(figure, entries, said(f"n={n.sum()} runs of {len(settings)} settings", more))


def profiles(tables: Tables) -> Figure:
    """Share of runs above each accuracy, one step line a setting; bands where they are few."""
    study = Study(tables)
    frame = rows(tables, "profiles")
    shown, remark = study.shown(frame)
    figure, (ax,) = grid(1, 1, (6.0, 2.5), left=0.5)
    for setting in shown:
        own, look = frame[frame["setting"] == setting], study.looks[setting].line()
        ax.step(own["threshold"], own["share"], where="post", linewidth=1.6, markevery=10, **look)
        if len(shown) <= MOST_PROFILES:
            ax.fill_between(own["threshold"], own["low"], own["high"], step="post", alpha=0.12,
                            color=look["color"], linewidth=0)  # fmt: skip
    ax.set(ylim=(-0.03, 1.03), ylabel="share of runs above (0..1)")
    ax.set_xlabel(label(str(frame["quantity"].iloc[0])))
    bands = "bands: 95% intervals" if len(shown) <= MOST_PROFILES else ""
    return finish(figure, study.entries(shown), said(remark, bands))


def accuracy_stability(tables: Tables) -> Figure:
    """Accuracy against two stabilities: a cross of two intervals a setting, a point a seed."""
    study = Study(tables)
    table = rows(tables, "stability", "estimate", "low", "high", "cell").dropna(subset="estimate")
    present = set(table["quantity"])
    accuracy = "benchmark_test" if "benchmark_test" in present else "derived_accuracy"
    agreements = ("operation_agreement", "dependence_transfer", "dependence_stability")
    names = [q for q in agreements if q in present][:2]
    cell = min(table.loc[table["cell"] != "all", "cell"])
    found = table[table["quantity"].eq(accuracy) | table["cell"].eq(cell)].set_index(
        ["quantity", "setting"]
    )
    shown, remark = study.shown(table[table["quantity"] == accuracy])
    seeds = rows(tables, "seed_values", "run_id", "setting", "value", "cell", "collapsed",
                 quantity=[accuracy, *names], cell=["all", cell], setting=shown)  # fmt: skip
    if seeds.empty:
        values, collapsed = pd.DataFrame(), set()
    else:
        values = seeds.pivot_table(index=["setting", "run_id"], columns="quantity", values="value")
        collapsed = set(seeds.loc[seeds["collapsed"].eq(True), "run_id"])
    figure, axes = grid(len(names), 2, (3.3, 2.4), sharey=True)
    for ax, name in zip(axes, names, strict=True):
        both = [s for s in shown if (name, s) in found.index]
        x, y = (found.loc[[(q, s) for s in both]] for q in (name, accuracy))
        points = values.reindex(columns=[name, accuracy]).dropna()
        limits = [
            span(e["estimate"], clipped(q, e["low"]), clipped(q, e["high"]), points.get(q, []))
            for e, q in ((x, name), (y, accuracy))
        ]
        ax.set(xlim=limits[0], ylim=limits[1])
        for s in both:
            look, own = study.looks[s], points[points.index.get_level_values(0) == s]
            hollow = [run in collapsed for _, run in own.index]
            ax.scatter(np.clip(own[name], *limits[0]), np.clip(own[accuracy], *limits[1]), s=14,
                       facecolors=["white" if h else look.color for h in hollow], alpha=0.7,
                       edgecolors=look.color, linewidths=0.8, clip_on=False, label="one seed")  # fmt: skip
            centre = [float(e.loc[(q, s), "estimate"]) for e, q in ((x, name), (y, accuracy))]
            arms = [
                np.abs(clipped(q, e.loc[(q, s), ["low", "high"]]) - c)[:, None]
                for (e, q), c in zip(((x, name), (y, accuracy)), centre, strict=True)
            ]
            ax.errorbar([centre[0]], [centre[1]], xerr=arms[0], yerr=arms[1], label=s,
                        fmt=look.marker or "o", color=look.color, markeredgecolor=DARK,
                        markersize=6, linewidth=1.4)  # fmt: skip
        ax.set_xlabel(label(name, 3.3))
    axes[0].set_ylabel(label(accuracy, 2.4))
    entries = [
        entry(study.name(s), color=study.looks[s].color, marker=study.looks[s].marker or "o")
        for s in shown
    ]
    entries += [entry("large: mean of a setting, 95% intervals; small: one seed")]
    entries += [entry("hollow: a seed that collapsed")] if collapsed else []
    cells = f"stability of the {cell} cell; " if len(set(table["cell"])) > 2 else ""
    return finish(figure, entries, said(remark, f"{cells}seeds are pseudo-values of the jackknife"))


def frequencies(tables: Tables, cell: str) -> Figure:
    """How often each operation is chosen on each edge over the seeds; at most six settings."""
    study = Study(tables)
    frame = rows(tables, "operation_choices", "share", cell=cell).dropna(subset="share")
    shown, remark = study.shown(frame, MOST_FREQUENCIES)
    used = list(frame["operation"].unique())
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="#dddddd")
    edges = frame.groupby("setting").apply(lambda f: len(f.drop_duplicates(["source", "target"])))
    size = (0.3 * max(5, len(used)), 0.2 * max(5, edges.max()))
    figure, axes = grid(len(shown), 3, size, between=(0.6, 1.0))
    for ax, setting in zip(axes, shown, strict=True):
        own = frame[frame["setting"] == setting]
        shares = own.pivot_table(index=["target", "source", "inner"], columns="operation",
                                 values="share").reindex(columns=used)  # fmt: skip
        image = ax.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto")
        _separated(ax, *shares.shape)
        names = [
            f"{source}→{target}{' inner' if inner else ''}"
            for target, source, inner in shares.index
        ]
        ax.set_yticks(range(len(names)), names, fontsize="small")
        ax.set_xticks(range(len(used)), list(map(operation_name, used)), rotation=45, ha="right",
                      rotation_mode="anchor", fontsize="small")  # fmt: skip
        ax.set_title(study.name(setting, letters(size[0] + 0.5), 3), fontsize="small")
    figure.supylabel("edge", fontsize="small")
    bad = (
        "; grey: no candidate"
        if frame.groupby(["setting", "source", "target"]).size().nunique() > 1
        else ""
    )
    figure.colorbar(image, ax=axes, location="bottom", shrink=0.5, aspect=30,
                    label=f"share of seeds that choose it ({cell} cell{bad})")  # fmt: skip
    return finish(figure, remark=remark)


def _separated(ax: Axes, down: int, across: int) -> None:
    """White lines between the entries of an image, so that a row can be followed."""
    ax.grid(visible=False)
    ax.set_xticks(np.arange(across - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(down - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=0.8)
    ax.tick_params(which="both", length=0, pad=2)


OBJECTIVE = "mean derived accuracy (0..1)"


def tuning_history(tables: Tables) -> Figure:
    """Objective of every trial and the best so far."""
    frame = rows(tables, "tuning")
    figure, (ax,) = grid(1, 1, (6.0, 2.2))
    trials = _trials(ax, frame, frame["trial"])
    (best,) = ax.step(frame["trial"], frame["best_so_far"], where="post", color=DARK,
                      linewidth=1.6, label="best so far")  # fmt: skip
    ax.set(xlabel="trial", ylabel=OBJECTIVE)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return finish(figure, [*trials, best])


def tuning_rates(tables: Tables) -> Figure:
    """Objective against each learning rate, on a logarithmic axis."""
    frame = rows(tables, "tuning")
    names = [c for c in frame if c not in ("trial", "objective", "best_so_far", "n", "diverged")]
    figure, axes = grid(len(names), 3, (2.6, 2.1), sharey=True)
    for ax, rate in zip(axes, names, strict=True):
        entries = _trials(ax, frame, frame[rate])
        if frame["objective"].notna().any():
            best = frame.loc[frame["objective"].idxmax()]
            entries += ax.plot([best[rate]], [best["objective"]], "o", markersize=10, color=DARK,
                               fillstyle="none", label=f"best (trial {int(best['trial'])})")  # fmt: skip
        ax.set(xscale="log", xlabel=f"{rate} (logit per step)")
    axes[0].set_ylabel(OBJECTIVE)
    return finish(figure, entries)


def _trials(ax: Axes, frame: pd.DataFrame, x: pd.Series) -> list:
    """Trials as points, those with a diverged run as crosses at the foot."""
    n = sorted(set(frame["n"]))
    text = f"one trial (mean of n={n[0]}{f' to {n[-1]}' if len(n) > 1 else ''})"
    found = ax.plot(x, frame["objective"], "o", color="#0072b2", markersize=5, label=text)
    failed = x[frame["objective"].isna()]
    if len(failed):
        found += ax.plot(failed, np.full(len(failed), 0.03), "x", color=WARNING, markersize=5, clip_on=False,
                         transform=ax.get_xaxis_transform(), label="a run diverged")  # fmt: skip
    return found
