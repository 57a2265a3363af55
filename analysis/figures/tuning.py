"""Draw: tuning trials, their history and their objective against each learning rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.compute.tuning import Tuning
from analysis.figures.palette import drawing, grid, legend


def history(tuning: Tuning) -> Figure:
    """Objective of every trial and the best so far."""
    with drawing():
        figure, (ax,) = grid(1, 1, (6.6, 2.5), top=0.15)
        numbers = [t.number for t in tuning.trials]
        ax.plot(
            numbers,
            [t.objective for t in tuning.trials],
            "o",
            color="#0072b2",
            markersize=5,
            label=f"one trial ({_trial_n(tuning)})",
        )
        ax.step(
            numbers,
            [t.best_so_far for t in tuning.trials],
            where="post",
            color="#d55e00",
            linewidth=1.6,
            label="best so far",
        )
        _mark_failed(ax, tuning, numbers)
        ax.set(xlabel="trial", ylabel="mean derived accuracy (0..1)")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        legend(figure, [ax], 3)
    return figure


def rates(tuning: Tuning) -> Figure:
    """Objective against each learning rate, on a logarithmic axis."""
    names = list(dict.fromkeys(rate for t in tuning.trials for rate in t.rates))
    best = tuning.best
    with drawing():
        figure, axes = grid(max(1, len(names)), 3, (3.1, 2.4), top=0.15, sharey=True)
        for ax, rate in zip(axes, names, strict=False):
            x = [t.rates.get(rate, np.nan) for t in tuning.trials]
            ax.plot(
                x,
                [t.objective for t in tuning.trials],
                "o",
                color="#0072b2",
                markersize=5,
                label=f"one trial ({_trial_n(tuning)})",
            )
            if best is not None:
                ax.plot(
                    [best.rates.get(rate, np.nan)],
                    [best.objective],
                    "o",
                    markersize=10,
                    markerfacecolor="none",
                    markeredgecolor="#d55e00",
                    label=f"best (trial {best.number})",
                )
            _mark_failed(ax, tuning, x)
            ax.set(xscale="log", xlabel=f"{rate} (logit per step)")
        axes[0].set_ylabel("mean derived accuracy (0..1)")
        legend(figure, axes, 3)
    return figure


def _mark_failed(ax: Axes, tuning: Tuning, x: Sequence[float]) -> None:
    failed = [at for at, t in zip(x, tuning.trials, strict=True) if not np.isfinite(t.objective)]
    if failed:
        ax.plot(
            failed,
            [0.03] * len(failed),
            "x",
            color="#777777",
            clip_on=False,
            transform=ax.get_xaxis_transform(),
            label="a run diverged",
        )


def _trial_n(tuning: Tuning) -> str:
    counts = sorted({t.n for t in tuning.trials})
    return f"mean of n={counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
