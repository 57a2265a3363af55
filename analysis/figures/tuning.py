"""Draw: a tuning: its trials and their race for seeds, what parameters do, the confirmation.

A trial that had all seeds is a filled point, one that raced out a hollow one, an infeasible one a
cross at the foot, since its value says nothing of its setting.
"""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.tri import Triangulation

from analysis.figures.layout import entry, finish, grid, of_text
from analysis.figures.palette import DARK, GREY, PALE, WARNING
from analysis.figures.study import Tables, label, rows, span

BLUE, ORANGE = "#0072b2", "#d55e00"
FULL, RACED, INFEASIBLE = "had all seeds", "raced out", "infeasible"
LOOKS: dict[str, dict[str, Any]] = {
    FULL: {"marker": "o", "color": BLUE},
    RACED: {"marker": "o", "color": BLUE, "markerfacecolor": "white"},
    INFEASIBLE: {"marker": "x", "color": WARNING},
    "default": {"marker": "D", "color": ORANGE, "markersize": 8, "fillstyle": "none"},
    "incumbent": {"marker": "o", "color": DARK, "markersize": 10, "fillstyle": "none"},
}
MOST_PAIRS, LEAST_FILLED = 3, 8  # of parameters; points from which on areas between are coloured


class _Trials:
    """A tuning's trials that ended, by number, its parameters, and how both are drawn."""

    def __init__(self, tables: Tables) -> None:
        self.asked = rows(tables, "tuning_summary").iloc[0]
        every = rows(tables, "tuning", state="complete").set_index("trial", drop=False)
        kinds = [~every["feasible"].astype(bool), every["raced_out"].astype(bool)]
        self.every = every.assign(kind=np.select(kinds, [INFEASIBLE, RACED], FULL))
        self.good, self.bad = (self.every[of] for of in (~kinds[0], kinds[0]))
        self.parameters = rows(tables, "tuning_parameters").set_index("parameter")
        less = f" − {self.asked['penalty']:g} standard errors" * bool(self.asked["penalty"])
        self.label = label(f"mean {label(self.asked['objective'])}{less}", 32)

    def limits(self, *more: pd.Series) -> tuple[float, float]:
        """Of an axis with the objective."""
        y, error = self.good["objective"], self.good["standard_error"].fillna(0)
        return span(self.asked["objective"], y, y - error, y + error, *more)

    def draw(self, ax: Axes, x: pd.Series, y: pd.Series) -> list[Line2D]:
        """Every trial by its kind, infeasible ones at the foot; what a legend has of them."""
        found = []
        for kind, look in LOOKS.items():
            at, foot = self.every.index[self.every["kind"] == kind], kind == INFEASIBLE
            told = f"{kind} (n={len(at)} trials)"
            if kind in ("default", "incumbent"):
                at = self.good.index.intersection([self.asked[kind]])
                told = f"{kind} (trial {self.asked[kind]})"
            if len(at):
                ax.plot(x[at], [0.03] * len(at) if foot else y[at], linestyle="", label=kind,
                        transform=ax.get_xaxis_transform() if foot else ax.transData,
                        clip_on=False, zorder=3, **{"markersize": 5} | look)  # fmt: skip
                found.append(entry(told, **look))
        return found

    def place(self, ax: Axes, name: str, of: str = "x") -> pd.Series:
        """Where trials are on an axis, which gets the parameter's scale and the default as a line.

        Trials that chose alike lie side by side.
        """
        values, axis = self.every[name], getattr(ax, f"{of}axis")
        p: dict[Any, Any] = self.parameters.loc[name].to_dict()
        low, high, default, margin = p["low"], p["high"], p["default"], 0.5
        if isinstance(p["choices"], str):
            names = json.loads(p["choices"])
            aside = 0.12 * (values.groupby(values).cumcount() % 5 - 2)
            values, low = values.map(names.index, na_action="ignore") + aside, 0
            high = len(names) - 1
            default = names.index(default) if default in names else None
            axis.set_ticks(range(len(names)), names)
        elif p["log"]:
            ax.set(**{f"{of}scale": "log"})
            axis.set_major_locator(LogLocator(subs=(1, 3) if high < 3000 * low else (1,)))
            axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axis.set_minor_locator(NullLocator())
        else:
            margin = 0.06 * (high - low) or 0.5
        ends = (low / 1.15, high * 1.15) if p["log"] else (low - margin, high + margin)
        what = f"{name} (logit per step)" if name.endswith("_lr") else label(name)
        ax.set(**{f"{of}lim": ends, f"{of}label": what})
        if pd.notna(default):
            line = ax.axvline if of == "x" else ax.axhline
            line(float(default), color=ORANGE, linestyle="--", linewidth=1.2, zorder=1)
        return values


def tuning_history(tables: Tables) -> Figure:
    """Every trial with its seeds, and the race: how many seeds each had."""
    t = _Trials(tables)
    figure, (ax, race) = grid(2, 1, (6.4, 1.6), between=(0.2, 0.3), sharex=True,
                              height_ratios=[3, 1])  # fmt: skip
    seeds = rows(tables, "tuning_seeds", "value", trial=t.good.index).dropna(subset="value")
    y = t.limits(seeds["value"])
    ax.set(ylim=y, ylabel=t.label)
    ax.plot(seeds["trial"], seeds["value"].clip(*y), ".", color=GREY, markersize=3.5, alpha=0.7)
    ax.errorbar(
        t.good.index, t.good["objective"], t.good["standard_error"], fmt="none", ecolor=BLUE
    )
    entries = t.draw(ax, t.every["trial"], t.every["objective"])
    ax.step(t.every["trial"], t.every["incumbent_merit"], color=DARK, where="post", linewidth=1.4)
    looks = t.every["kind"].map(LOOKS)
    race.bar(t.every["trial"], t.every["n"], edgecolor=[look["color"] for look in looks], width=0.7,
             color=[look.get("markerfacecolor", look["color"]) for look in looks])  # fmt: skip
    race.set(xlabel="trial", ylabel="seeds")
    race.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    race.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    entries += [entry("one seed", marker=".", color=GREY),
                entry("the incumbent's shrunken mean", linestyle="-")]  # fmt: skip
    return finish(figure, entries, "bars: ± one standard error over a trial's seeds")


def tuning_rates(tables: Tables) -> Figure:
    """Objective of every trial against each parameter, with the default's value."""
    t = _Trials(tables)
    names = [n for n in t.parameters.index if n in t.every and t.every[n].notna().any()]
    figure, axes = grid(len(names), 3, (2.6, 2.0), between=(0.2, 0.8), sharey=True)
    axes[0].set_ylim(t.limits())
    for ax, name in zip(axes, names, strict=True):
        entries, p = t.draw(ax, t.place(ax, name), t.every["objective"]), t.parameters.loc[name]
        line = f"line: {'auto, here ' * bool(p['auto'])}{p['default']}"
        ax.set_title(line * pd.notna(p["default"]))
    for ax in axes[::3]:
        ax.set_ylabel(t.label)
    return finish(figure, entries)


def tuning_contour(tables: Tables) -> Figure:
    """Objective over pairs of parameters, rates first, with the default's values."""
    t = _Trials(tables)
    names = t.parameters.index[t.parameters["paired"].astype(bool)]
    pairs = [*combinations(sorted(names, key=lambda n: not n.endswith("_lr")), 2)][:MOST_PAIRS]
    figure, axes = grid(len(pairs), 3, (2.1, 2.1), between=(0.7, 0.6), more=0.8)
    z = t.good["objective"]
    levels = np.linspace(z.min(), z.max() + 1e-9, 9)
    colours: dict[str, Any] = {"cmap": "mako", "vmin": levels[0], "vmax": levels[-1]}
    of_raced = {"marker": "o", "color": PALE, "markeredgecolor": DARK, "markersize": 4}
    full, of_full = t.good["kind"] == FULL, of_raced | {"markersize": 6.5}
    for ax, pair in zip(axes, pairs, strict=True):
        x, y = (t.place(ax, name, of) for name, of in zip(pair, "xy", strict=True))
        own = z.index[x[z.index].notna() & y[z.index].notna()]
        if len(own) >= LEAST_FILLED:
            on = [a.get_transform().transform(v[own]) for a, v in ((ax.xaxis, x), (ax.yaxis, y))]
            with suppress(RuntimeError, ValueError):  # points on one line have no areas between
                ax.tricontourf(Triangulation(*on), z[own], levels, alpha=0.6, zorder=1, **colours,
                               transform=ax.transLimits + ax.transAxes)  # fmt: skip
        points = ax.scatter(x[own], y[own], c=z[own], s=np.where(full[own], 40, 16), zorder=3,
                            edgecolors=DARK, linewidths=0.7, **colours)  # fmt: skip
        ax.plot(x[t.bad.index], y[t.bad.index], linestyle="", **LOOKS[INFEASIBLE], markersize=5)
    figure.colorbar(points, ax=axes, location="bottom", shrink=0.5, aspect=40, label=t.label)
    looks = ((FULL, full.sum(), of_full), (RACED, (~full).sum(), of_raced),
             (INFEASIBLE, len(t.bad), LOOKS[INFEASIBLE]))  # fmt: skip
    entries = [entry(f"{kind} (n={n} trials)", **look) for kind, n, look in looks if n]
    return finish(figure, [*entries, entry("auto or default", color=ORANGE, linestyle="--")])


def tuning_front(tables: Tables) -> Figure:
    """Both objectives of every trial, and the Pareto front."""
    t = _Trials(tables)
    second, on = str(t.asked["second"]), t.good["front"].astype(bool)
    figure, (ax,) = grid(1, 1, (4.6, 2.8))
    x, y = t.limits(), span(second, *[t.good[second].dropna()] * 3)
    ax.set(xlim=x, ylim=y, xlabel=t.label, ylabel=label(second, 26))
    entries = []
    for told, some, look in (
        ("on the front", t.good[on].sort_values("objective"), LOOKS[FULL] | {"linestyle": "-"}),
        ("dominated", t.good[~on], LOOKS[FULL] | {"alpha": 0.35}),
        (INFEASIBLE, t.bad, LOOKS[INFEASIBLE]),
    ):
        look = {"linestyle": "", "drawstyle": "steps-pre"} | look
        ax.plot(some["objective"].clip(*x), some[second].clip(*y), clip_on=False, **look)
        entries += [entry(f"{told} (n={len(some)} trials)", **look)] * (len(some) > 0)
    return finish(figure, entries)


def _bars(frame: pd.DataFrame, names: list[str], column: str, what: str) -> tuple[Figure, Axes]:
    """A row each: an estimate with its 95% interval."""
    figure, (ax,) = grid(1, 1, (4.6, of_text(0.3 + 0.34 * len(names))), left=2.0)
    ax.hlines(range(len(names)), frame["low"], frame["high"], colors=DARK, zorder=4)
    ax.plot(frame[column], range(len(names)), "o", color=BLUE, markeredgecolor=DARK, zorder=5)
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlabel=label(what, 60))
    ax.grid(axis="y", visible=False)
    return figure, ax


def tuning_importance(tables: Tables) -> Figure:
    """How much each parameter decided about which trials are the best (PED-ANOVA)."""
    frame = rows(tables, "tuning_importance").sort_values("importance", ascending=False)
    best = f"the best {frame['quantile'].iloc[0]:.0%} of trials"
    names = [f"{p} (n={n})" for p, n in zip(frame["parameter"], frame["trials"], strict=True)]
    figure, ax = _bars(frame, names, "importance", f"share of what parameters decide about {best}")
    ax.barh(range(len(names)), frame["importance"], height=0.5, color=BLUE, alpha=0.3)
    ax.set_xlim(0, 1)
    for y, note in enumerate(frame["note"]):
        ax.text(0.02, y, note, va="center", color=GREY, fontsize="small")
    return finish(figure, remark="lines: 95% intervals of a bootstrap over trials")


def tuning_confirmation(tables: Tables) -> Figure:
    """What settings have more than the default on fresh seeds, paired by seed."""
    frame = rows(tables, "tuning_confirmation").query("role != 'default'")
    names = [f"trial {r.trial} ({r.role}, n={r.pairs})" for r in frame.itertuples()]
    what = f"mean {label(rows(tables, 'tuning_summary')['objective'].iloc[0])} less the default's"
    figure, ax = _bars(frame, names, "difference", what)
    for y, trial in enumerate(frame["trial"]):
        own = rows(tables, "tuning_confirmation_seeds", trial=[trial])["difference"]
        ax.plot(own, y - 0.3 + 0.05 * (np.arange(len(own)) % 5), ".", color=GREY, markersize=5)
    ax.axvline(0, color=DARK, linewidth=1)
    mean = entry("mean with its 95% interval", marker="o", linestyle="-")
    return finish(figure, [entry("one fresh seed", marker=".", color=GREY), mean])
