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
from analysis.compute.settings import ARCHITECTURE_MOVED
from analysis.figures.layout import entry, finish, grid, letters, of_text
from analysis.figures.palette import DARK, GREY, WARNING, wrapped
from analysis.figures.study import Study, Tables, clipped, rows, span
from analysis.quantities import label_of
from analysis.statistics.inference import said

TRANSFER = ("dependence_transfer", "column_transfer", "learned_effect", "flow_effect",
            "choice_transfer")  # fmt: skip
CONTROLLED = ("dependence_transfer", "learned_dependence_stability", "dependence_stability")
MOVED = {"architecture_displacement": ARCHITECTURE_MOVED,
         "transition_displacement": TRANSITION_MOVED}  # fmt: skip
PSEUDO = "points: one a seed, its jackknife pseudo-value (its own value where a run has one)"
DRAWN = ["setting", "cell", "quantity", "estimate", "low", "high", "null_mean", "collapsed"]

CELL_MARKERS = {"reduce": "s"}
SEED, ESTIMATE, WITHOUT = "one seed", "estimate", "without the seeds that collapsed"
BEYOND = "goes on beyond the axis"


def _forest(
    study: Study, frame: pd.DataFrame, names: Mapping[str, str], labels: Mapping[str, str], *,
    columns: int = 4, wide: float = 1.75, lines: Mapping[str, float] | None = None,
    log: bool = False, remark: str = "", note: str = "", mark: str = "by chance",
    estimate: str = "estimate with its 95% interval over seeds",
) -> Figure:  # fmt: skip
    """A panel for each of `labels`, all with the rows of `names`.

    frame: row, panel, kind (ESTIMATE, of the seeds that did not collapse WITHOUT, or one SEED),
    setting, cell, estimate, low, high, null_mean, collapsed. names: row to its name on the axis.
    labels: panel to its label; intervals of a panel that is a quantity end at what is possible.
    lines: values marked by a line; log: a logarithmic axis of numbers of seeds. In the legend,
    note, mark and estimate say what the lines, the `null_mean` and the estimates are.
    """
    kinds = sorted(set(frame["cell"]) - {"all"})
    strip = 0.4 if len(names) <= 8 else 0.31 if len(names) <= 12 else 0.23
    twice = any("\n" in name for name in names.values())
    high = 0.1 + max(strip * (0.4 + 0.6 * max(1, len(kinds))), 0.31 * twice) * len(names)
    longest = max(len(line) for name in names.values() for line in name.split("\n"))
    figure, axes = grid(len(labels), columns, (wide, of_text(high)), left=0.3 + 0.06 * longest,
                        between=(0.15, 0.75), sharey=True)  # fmt: skip
    at = {row: float(i) for i, row in enumerate(names)}
    colours = {setting: look["color"] for setting, look in study.looks.items()}
    frame = frame.assign(y=frame["row"].map(at), colour=frame["setting"].map(colours))
    axes[0].set_yticks(range(len(names)), list(names.values()))
    axes[0].set_ylim(len(names) - 0.45, -0.55)  # before anything is drawn: shared axes fit anew
    for ax, (panel, text) in zip(axes, labels.items(), strict=True):
        own, line = frame[frame["panel"] == panel], (lines or {}).get(panel)
        if log:
            ax.set(xscale="log", xlim=(2.5, 400))
            ax.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
            ax.minorticks_off()
        else:
            seed, e = own["kind"] == SEED, own[own["kind"] == ESTIMATE]
            middle = [*own.loc[~seed, "estimate"], *([] if line is None else [line])]
            more = (own.loc[seed, "estimate"], e["null_mean"])
            ax.set_xlim(span(panel, middle, e["low"], e["high"], *more))
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if line is not None:
            dashes, color = ("-", DARK) if line == 0 else ("--", WARNING)
            ax.axvline(line, linewidth=1, zorder=1, color=color, linestyle=dashes)
        cells = sorted(own["cell"].unique())
        height = 1 / (0.25 + len(cells))
        for k, cell in enumerate(cells):
            y = own["y"] + height * (k - (len(cells) - 1) / 2)
            some = own.assign(y=y)[own["cell"] == cell]
            _strip(ax, some, panel, CELL_MARKERS.get(cell, "o"), height)
        known = set(own.dropna(subset="estimate")["row"])
        for row in (row for row in at if row not in known):
            ax.text(0.5, at[row], "n/a", transform=ax.get_yaxis_transform(), ha="center",
                    va="center", color=GREY, fontsize="small")  # fmt: skip
        ax.set_xlabel(wrapped(text, letters(wide), 3))
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", labelsize="small")
    grey: dict[str, Any] = {"color": GREY, "markersize": 4.5}
    hollow, there = {"markerfacecolor": "white", **grey}, set(frame["kind"])
    entries = {
        entry(estimate, marker="o", linestyle="-", color=GREY, markeredgecolor=DARK): True,
        entry(SEED, marker="o", **grey): SEED in there,
        entry("one that collapsed", marker="o", **hollow): frame["collapsed"].eq(True).any(),
        entry(WITHOUT, marker="D", linestyle=":", **hollow): WITHOUT in there,
        entry(mark, marker="|", color=GREY, markersize=9, markeredgewidth=2):
            frame["null_mean"].notna().any(),
        entry(note, color=WARNING, linestyle="--"): note,
        **{entry(f"{c} cell", marker=CELL_MARKERS.get(c, "o")): len(kinds) > 1 for c in kinds},
        entry(BEYOND, marker=">", color=GREY):
            any(BEYOND in str(c.get_label()) for ax in axes for c in ax.collections),
    }  # fmt: skip
    return finish(figure, [item for item, shown in entries.items() if shown], remark)


def _strip(ax: Axes, own: pd.DataFrame, quantity: str, marker: str, height: float) -> None:
    """One cell kind's strips of all rows: arrow heads where something goes on beyond the axis."""
    least, most = ax.get_xlim()
    seed, without = own["kind"] == SEED, own["kind"] == WITHOUT
    # From top to bottom in the order of seeds: a seed has one height in all panels.
    of_row = own.groupby(["row", "kind"])["y"]
    order = (of_row.cumcount() + 1) / (of_row.transform("size") + 1)
    own = own.assign(
        y=own["y"] + height * np.select([seed, without], [0.42 * (order - 1), 0.34], 0.14),
        face=own["colour"].where(~(without | own["collapsed"].eq(True)), "white"),
        low=own["low"].where(seed, clipped(quantity, own["low"])),
        high=own["high"].where(seed, clipped(quantity, own["high"])),
    )
    chance = own[~seed & ~without]
    ax.plot(chance["null_mean"], chance["y"], "|", color=GREY, markersize=9, markeredgewidth=2,
            zorder=1.5)  # fmt: skip
    own = own.dropna(subset="estimate")
    size = 13 if seed.sum() <= 12 * own["row"].nunique() else 7
    looks: dict[str, dict[str, Any]] = {
        SEED: {"s": size, "marker": marker, "linewidths": 0.8, "alpha": 0.8, "zorder": 2.5},
        ESTIMATE: {"s": 26, "marker": marker, "linewidths": 0.7, "zorder": 4, "edgecolors": DARK},
        WITHOUT: {"s": 26, "marker": "D", "linewidths": 1.2, "zorder": 4},
    }
    for kind, some in own.groupby("kind", sort=False):
        colours: Any = some["colour"].to_numpy()
        if kind != SEED:  # NaN, where there is no interval, draws nothing
            ax.hlines(some["y"], some["low"].clip(least, most), some["high"].clip(least, most),
                      colors=colours, linewidth=1.6, label=str(kind),
                      linestyles=":" if kind == WITHOUT else "-")  # fmt: skip
        inside = some[some["estimate"].between(least, most)]
        look = {"facecolors": inside["face"], "edgecolors": inside["colour"]} | looks[str(kind)]
        ax.scatter(inside["estimate"], inside["y"], label=str(kind), clip_on=False, **look)
        for far, end, sign in ((some["low"] < least, least, "<"), (some["high"] > most, most, ">")):
            if far.any():
                ax.scatter([end] * far.sum(), some["y"][far], marker=sign, s=22, linewidths=0.8,
                           facecolors=some["face"][far], edgecolors=colours[far],
                           clip_on=False, zorder=3, label=f"{kind} {BEYOND}")  # fmt: skip


def _panels(
    tables: Tables, quantities: Sequence[str], cells: bool = True, **options: Any
) -> Figure:
    """A panel for each quantity, by cell kind or (`cells` false) of whole runs."""
    study, found = Study(tables), []
    of = {ESTIMATE: "stability", WITHOUT: "without_collapsed", SEED: "seed_values"}
    for kind, table in of.items():
        frame = rows(tables, table, "value", *DRAWN, quantity=quantities)
        if kind == SEED:
            frame = frame.assign(**dict.fromkeys(("estimate", "low", "high"), frame["value"]))
        found.append(frame[(frame["cell"] != "all") == cells][DRAWN].assign(kind=kind))
    every = pd.concat([frame for frame in found if len(frame)])
    shown, frame, remark = study.shown(every.assign(row=every["setting"], panel=every["quantity"]))
    options["remark"] = said(remark, PSEUDO * (cells and len(found[2]) > 0))
    labels = {q: label_of(q) for q in quantities}
    return _forest(study, frame, _names(study, shown), labels, **options)


def _names(study: Study, shown: Sequence[str]) -> dict[str, str]:
    """Names of rows: in two lines where there is room for them."""
    few = len(shown) <= 12
    return {s: study.name(s, 32 if few else 44, 1 + few) for s in shown}


def _known(tables: Tables) -> dict[str, set[str]]:
    """Every quantity with an estimate, in the table's order, to the cell kinds that it is of."""
    found = rows(tables, "stability", "quantity", "cell", "estimate").dropna(subset="estimate")
    return {str(q): set(own) for q, own in found.groupby("quantity", sort=False)["cell"]}


def accuracy(tables: Tables) -> Figure:
    """Accuracy at the last epoch: relaxed, derived and, where a table knows it, benchmark."""
    names = ["valid_accuracy", "derived_accuracy"]
    names += ["benchmark_test"] * ("benchmark_test" in _known(tables))
    return _panels(tables, names, cells=False, wide=2.6)


def displacement(tables: Tables) -> Figure:
    """How far architecture and matrices moved from their start."""
    note = "hardly moved, if the mean is left of this"
    return _panels(tables, list(MOVED), cells=False, wide=3.0, lines=MOVED, note=note)


def stability(tables: Tables) -> Figure:
    """Agreement and stability over seeds: every quantity of cells, with chance values."""
    known = {q: cells for q, cells in _known(tables).items() if q not in TRANSFER}
    return _panels(tables, [q for q, cells in known.items() if cells - {"all"}])


def transfer(tables: Tables) -> Figure:
    """What other seeds learned, and how far it foretells a seed's flow and choices."""
    known, lines = _known(tables), dict.fromkeys(TRANSFER[:2], 0.0)
    return _panels(tables, [q for q in TRANSFER if q in known], columns=3, wide=2.4, lines=lines)


def controls(tables: Tables) -> Figure:
    """Differences to the controls, paired by seed."""
    study = Study(tables)
    frame = rows(tables, "comparisons", "reference", "kind", "difference", "seeds", *DRAWN,
                 quantity=CONTROLLED).dropna(subset="difference")  # fmt: skip
    shown, frame, remark = study.shown(frame)
    frame = frame.assign(place=frame["setting"].map(shown.index))
    frame = frame.sort_values(["kind", "place"], kind="stable")
    row = frame["setting"] + " − " + frame["reference"] + frame["seeds"].map(" (n={:g})".format)
    known = [q for q in CONTROLLED if q in set(frame["quantity"])]
    labels = {f"difference in {q}": f"difference in {label_of(q)}" for q in known}
    frame = frame.assign(row=row, panel="difference in " + frame["quantity"], kind=ESTIMATE,
                         estimate=frame["difference"], null_mean=np.nan)  # fmt: skip
    remark = said(remark, "right of 0: more in the setting than in its control")
    return _forest(study, frame, {r: wrapped(r, 44, 2) for r in row.unique()}, labels, columns=3,
                     wide=2.4, lines=dict.fromkeys(labels, 0.0), remark=remark)  # fmt: skip


def seeds_needed(tables: Tables) -> Figure:
    """About how many seeds an interval of a width, or a difference, would take."""
    study, numbers = Study(tables), ["seeds", "seeds_low", "seeds_high"]
    frame = rows(tables, "seeds_needed", "goal", "target", "note", "seeds_here", *numbers, *DRAWN)
    frame = frame.dropna(subset="target").sort_values("goal", ascending=False, kind="stable")
    # The middle one of the widths: others are in the table. A difference has one target.
    targets = frame[frame["goal"] == "width"].groupby("quantity")["target"].unique()
    middle = frame["quantity"].map({q: sorted(t)[len(t) // 2] for q, t in targets.items()})
    frame = frame[(frame["goal"] == "difference") | (frame["target"] == middle)]
    shown, frame, remark = study.shown(frame)
    labels = [
        f"seeds to see the difference {row['note']} in {label_of(row['quantity'], False)}"
        if row["goal"] == "difference"
        else f"seeds for width {row['target']:g} of the interval of "
        f"{label_of(row['quantity'], False)}"
        for row in frame.to_dict("records")
    ]
    known = frame[numbers].astype("Float64").fillna(np.inf).astype(float)  # more than most
    frame = frame.assign(row=frame["setting"], panel=labels, kind=ESTIMATE,
                         null_mean=frame["seeds_here"].astype(float), estimate=known["seeds"],
                         low=known["seeds_low"], high=known["seeds_high"])  # fmt: skip
    return _forest(
        study, frame, _names(study, shown), {label: label for label in labels}, columns=3, wide=2.4,
        log=True, remark=remark, mark="the seeds there are",
        estimate="about so many seeds, with the range that these seeds leave",
    )  # fmt: skip
