"""Draw: quantities of settings and their controls, estimates with intervals, seeds as points.

Each row of a panel is a setting (or a setting and its control), with a strip per cell kind: the
seeds' points above, the estimate with its 95% interval beneath, and beneath that, where some
seeds collapsed, the estimate over those that did not. Seeds that collapsed are hollow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.compute.cell import TRANSITION_MOVED
from analysis.figures.layout import entry, finish, grid, letters, of_text
from analysis.figures.palette import DARK, GREY, WARNING, wrapped
from analysis.figures.study import Study, Tables, clipped, label, rows, span
from analysis.quantities import DEFINITIONS, label_of
from analysis.statistics.inference import said
from analysis.statistics.trials import ARCHITECTURE_MOVED

ACCURACIES = ("valid_accuracy", "derived_accuracy", "benchmark_test")
TRANSFER = ("dependence_transfer", "column_transfer", "learned_effect", "flow_effect",
            "choice_transfer")  # fmt: skip
STABILITIES = [name for name, known in DEFINITIONS.items()
               if known.level == "setting" and name not in TRANSFER]  # fmt: skip
CONTROLLED = ("dependence_transfer", "learned_dependence_stability", "dependence_stability")
MOVED = {"architecture_displacement": ARCHITECTURE_MOVED,
         "transition_displacement": TRANSITION_MOVED}  # fmt: skip
PSEUDO = "points: one a seed, its jackknife pseudo-value (its own value where a run has one)"
DRAWN = ["setting", "cell", "quantity", "estimate", "low", "high", "null_mean", "collapsed"]

CELL_MARKERS = {"reduce": "s"}
SEED, ESTIMATE, WITHOUT = "one seed", "estimate", "without the seeds that collapsed"
BEYOND, HARDLY = "goes on beyond the axis", "hardly moved, if the mean is left of this"
OF_ESTIMATES = ("estimate with its 95% interval over seeds", "by chance")
OF_SEEDS = ("about so many seeds, with the range that these seeds leave", "the seeds there are")
NO_LINES: Mapping[str, float] = {}


def _forest(
    study: Study, frame: pd.DataFrame, panels: Sequence[str], remark: str = "", *,
    columns: int = 3, wide: float = 2.4, lines: Mapping[str, float] = NO_LINES, seeds: bool = False,
) -> Figure:  # fmt: skip
    """A panel for each of `panels`, quantities or other labels, all with the same rows.

    frame: row (its text on the axis, else the setting's name), panel, kind (ESTIMATE, of the seeds
    that did not collapse WITHOUT, or one SEED) and DRAWN. lines: values of panels marked by a line;
    seeds: estimates are numbers of seeds.
    """
    shown, frame, cut = study.shown(frame)
    row = frame.get("row", frame["setting"].map(study.names))
    names = [wrapped(name, 44, 2 if len(shown) <= 12 else 1) for name in row.unique()]
    kinds = sorted(set(frame["cell"]) - {"all"})
    strip = 0.4 if len(names) <= 8 else 0.31 if len(names) <= 12 else 0.23
    twice = any("\n" in name for name in names)
    high = 0.1 + max(strip * (0.4 + 0.6 * max(1, len(kinds))), 0.31 * twice) * len(names)
    longest = max(len(line) for name in names for line in name.split("\n"))
    figure, axes = grid(len(panels), columns, (wide, of_text(high)), left=0.3 + 0.06 * longest,
                        between=(0.15, 0.75), sharey=True)  # fmt: skip
    colours = frame["setting"].map({s: study.looks[s]["color"] for s in shown})
    frame = frame.assign(row=row, y=pd.factorize(row)[0], colour=colours)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.45, -0.55)  # before anything is drawn: shared axes fit anew
    for ax, panel in zip(axes, panels, strict=True):
        own, line = frame[frame["panel"] == panel], lines.get(panel, np.nan)
        if seeds:
            ax.set(xscale="log", xlim=(2.5, 400))
            ax.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
            ax.minorticks_off()
        else:
            seed, e = own["kind"] == SEED, own[own["kind"] == ESTIMATE]
            middle, points = [*own.loc[~seed, "estimate"], line], own.loc[seed, "estimate"]
            ax.set_xlim(span(panel, middle, e["low"], e["high"], points, e["null_mean"]))
            ax.xaxis.set_major_locator(MaxNLocator(4 if wide > 2 else 3, steps=[1, 2, 5, 10]))
        if panel in lines:
            dashes, color = ("-", DARK) if line == 0 else ("--", WARNING)
            ax.axvline(line, linewidth=1, zorder=1, color=color, linestyle=dashes)
        _strips(ax, own, panel)
        for y in sorted(set(frame["y"]) - set(own.dropna(subset="estimate")["y"])):
            ax.text(0.5, y, "n/a", transform=ax.get_yaxis_transform(), ha="center", va="center",
                    color=GREY, fontsize="small")  # fmt: skip
        ax.set_xlabel(label(panel, letters(wide)))
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", labelsize="small")
    estimate, chance = OF_SEEDS if seeds else OF_ESTIMATES
    hollow, found = {"markersize": 4.5, "markerfacecolor": "white"}, set(frame["kind"])
    entries: list[tuple[Any, str, dict[str, Any]]] = [
        (True, estimate, {"marker": "o", "linestyle": "-", "markeredgecolor": DARK}),
        (SEED in found, SEED, {"marker": "o", "markersize": 4.5}),
        (frame["collapsed"].eq(True).any(), "one that collapsed", {"marker": "o", **hollow}),
        (WITHOUT in found, WITHOUT, {"marker": "D", "linestyle": ":", **hollow}),
        (frame["null_mean"].notna().any(), chance,
         {"marker": "|", "markersize": 9, "markeredgewidth": 2}),
        (any(lines.values()), HARDLY, {"linestyle": "--", "color": WARNING}),
        *((len(kinds) > 1, f"{cell} cell", {"marker": CELL_MARKERS.get(cell, "o"), "color": DARK})
          for cell in kinds),
        (any(BEYOND in str(c.get_label()) for ax in axes for c in ax.collections), BEYOND,
         {"marker": ">"}),
    ]  # fmt: skip
    handles = [entry(what, **{"color": GREY} | look) for there, what, look in entries if there]
    return finish(figure, handles, said(cut, remark))


def _strips(ax: Axes, own: pd.DataFrame, panel: str) -> None:
    """The strips of a panel: arrow heads where something goes on beyond the axis.

    Intervals of a panel that is a quantity end at what is possible.
    """
    least, most = ax.get_xlim()
    seed, without = own["kind"] == SEED, own["kind"] == WITHOUT
    cells = sorted(own["cell"].unique())
    # From top to bottom in the order of seeds: a seed has one height in all panels.
    of_strip = own.groupby(["row", "cell", "kind"])["y"]
    order = (of_strip.cumcount() + 1) / (of_strip.transform("size") + 1)
    within = np.select([seed, without], [0.42 * (order - 1), 0.34], 0.14)
    strip = own["cell"].map(cells.index) - (len(cells) - 1) / 2
    own = own.assign(
        y=own["y"] + (strip + within) / (0.25 + len(cells)),
        face=own["colour"].where(~(without | own["collapsed"].eq(True)), "white"),
        low=clipped(panel, own["low"]),
        high=clipped(panel, own["high"]),
    )
    chance = own[~seed & ~without]
    ax.plot(chance["null_mean"], chance["y"], "|", color=GREY, markersize=9, markeredgewidth=2,
            zorder=1.5)  # fmt: skip
    size = 13 if (seed & own["estimate"].notna()).sum() <= 12 * len(chance) else 7
    looks: dict[Any, dict[str, Any]] = {
        SEED: {"s": size, "linewidths": 0.8, "alpha": 0.8, "zorder": 2.5},
        ESTIMATE: {"s": 26, "linewidths": 0.7, "zorder": 4, "edgecolors": DARK},
        WITHOUT: {"s": 26, "linewidths": 1.2, "zorder": 4, "marker": "D"},
    }
    strips: Any = own.dropna(subset="estimate").groupby(["kind", "cell"], sort=False)
    for (kind, cell), some in strips:
        low, high, colours = some["low"], some["high"], some["colour"].to_numpy()
        if kind != SEED:  # NaN, where there is no interval, draws nothing
            ax.hlines(some["y"], low.clip(least, most), high.clip(least, most), colors=colours,
                      linewidth=1.6, label=kind, linestyles=":" if kind == WITHOUT else "-"
                      )  # fmt: skip
        inside = some[some["estimate"].between(least, most)]
        look = {"facecolors": inside["face"], "edgecolors": inside["colour"]} | looks[kind]
        ax.scatter(inside["estimate"], inside["y"], label=kind, clip_on=False,
                   **{"marker": CELL_MARKERS.get(cell, "o")} | look)  # fmt: skip
        for sign, end, beyond in (("<", least, low.fillna(some["estimate"]) < least),
                                  (">", most, high.fillna(some["estimate"]) > most)):  # fmt: skip
            if beyond.any():
                ax.scatter([end] * beyond.sum(), some["y"][beyond], marker=sign, s=22, zorder=3,
                           facecolors=some["face"][beyond], edgecolors=colours[beyond],
                           linewidths=0.8, clip_on=False, label=f"{kind} {BEYOND}")  # fmt: skip


def _panels(
    tables: Tables, quantities: Sequence[str], cells: bool = True, **options: Any
) -> Figure:
    """A panel for each quantity that is known, by cell kind or (`cells` false) of whole runs."""
    of = {ESTIMATE: "stability", WITHOUT: "without_collapsed", SEED: "seed_values"}
    found = {kind: rows(tables, table, "value", *DRAWN, quantity=quantities)
             for kind, table in of.items()}  # fmt: skip
    frame = pd.concat([own.assign(kind=kind) for kind, own in found.items() if len(own)])
    frame = frame[(frame["cell"] != "all") == cells]
    estimate = frame["estimate"].fillna(frame["value"])  # a seed's is its value
    known = set(frame.loc[estimate.notna(), "quantity"])
    remark = PSEUDO * (cells and len(found[SEED]) > 0)
    return _forest(Study(tables), frame.assign(panel=frame["quantity"], estimate=estimate),
                   [q for q in quantities if q in known], remark, **options)  # fmt: skip


def accuracy(tables: Tables) -> Figure:
    """Accuracy at the last epoch: relaxed, derived and, where a table knows it, benchmark."""
    return _panels(tables, ACCURACIES, cells=False, wide=2.6)


def displacement(tables: Tables) -> Figure:
    """How far architecture and matrices moved from their start."""
    return _panels(tables, list(MOVED), cells=False, wide=3.0, lines=MOVED)


def stability(tables: Tables) -> Figure:
    """Agreement and stability over seeds: every quantity of cells, with chance values."""
    return _panels(tables, STABILITIES, columns=4, wide=1.75)


def transfer(tables: Tables) -> Figure:
    """What other seeds learned, and how far it foretells a seed's flow and choices."""
    return _panels(tables, TRANSFER, lines=dict.fromkeys(TRANSFER[:2], 0.0))


def controls(tables: Tables) -> Figure:
    """Differences to the controls, paired by seed."""
    study = Study(tables)
    frame = rows(tables, "comparisons", "reference", "kind", "difference", "seeds", *DRAWN,
                 quantity=CONTROLLED).dropna(subset="difference")  # fmt: skip
    frame = frame.sort_values("kind", kind="stable")
    row = frame["setting"] + " − " + frame["reference"] + frame["seeds"].map(" (n={:g})".format)
    labels = {q: f"difference in {label_of(q)}" for q in CONTROLLED if q in set(frame["quantity"])}
    frame = frame.assign(row=row, panel=frame["quantity"].map(labels), kind=ESTIMATE,
                         estimate=frame["difference"], null_mean=np.nan)  # fmt: skip
    return _forest(study, frame, list(labels.values()),
                   "right of 0: more in the setting than in its control",
                   lines=dict.fromkeys(labels.values(), 0.0))  # fmt: skip


def seeds_needed(tables: Tables) -> Figure:
    """About how many seeds an interval of a width, or a difference, would take."""
    numbers = ["seeds", "seeds_low", "seeds_high"]
    frame = rows(tables, "seeds_needed", "goal", "target", "note", "seeds_here", *numbers, *DRAWN)
    frame = frame.dropna(subset="target").sort_values("goal", ascending=False, kind="stable")
    # The middle one of the widths: others are in the table. A difference has one target.
    targets = frame[frame["goal"] == "width"].groupby("quantity")["target"].unique()
    middle = frame["quantity"].map({q: sorted(t)[len(t) // 2] for q, t in targets.items()})
    frame = frame[(frame["goal"] == "difference") | (frame["target"] == middle)]
    name = frame["quantity"].map(lambda q: label_of(q, False))
    width = "seeds for width " + frame["target"].map("{:g} of the interval of ".format) + name
    panel = width.where(frame["goal"] == "width",
                        "seeds to see the difference " + frame["note"] + " in " + name)  # fmt: skip
    known = frame[numbers].astype("Float64").fillna(np.inf).astype(float)  # more than most
    frame = frame.assign(panel=panel, kind=ESTIMATE, null_mean=frame["seeds_here"].astype(float),
                         estimate=known["seeds"], low=known["seeds_low"],
                         high=known["seeds_high"])  # fmt: skip
    return _forest(Study(tables), frame, list(panel.unique()), seeds=True)
