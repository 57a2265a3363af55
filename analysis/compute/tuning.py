"""Tuning trials: one suggestion of learning rates, judged by the mean over its fixed seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

RATES = ("architecture_lr", "transition_lr", "attention_lr")


class Trial(NamedTuple):
    """One trial. `objective` is the mean derived_accuracy over its runs, 0..1.

    It is NaN where a run diverged: a mean over the seeds that survived would favour rates
    that are nearly too large. `best_so_far` is over this trial and those numbered before it.
    """

    number: int
    objective: float
    best_so_far: float
    n: int
    diverged: int
    rates: Mapping[str, float]
    run_ids: tuple[str, ...]


class Tuning(NamedTuple):
    """The trials of a tuning study in the order of their numbers."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The trial with the largest objective, the first of equals; None where all failed."""
        judged = [t for t in self.trials if np.isfinite(t.objective)]
        return max(judged, key=lambda t: t.objective) if judged else None


def tuning(runs: pd.DataFrame) -> Tuning | None:
    """Trials of a `runs` frame; None where no run belongs to one."""
    runs = runs[runs["tune_trial"].notna()]
    if runs.empty:
        return None
    trials: list[Trial] = []
    best = float("nan")
    for number in sorted(runs["tune_trial"].astype(int).unique()):
        group = runs[runs["tune_trial"] == number]
        diverged = int((group["status"] == "diverged").sum())
        accuracy = group["derived_accuracy"].to_numpy(float)
        objective = float("nan") if diverged else float(accuracy.mean())
        best = float(np.fmax(best, objective))
        rates = {r: float(group[r].iloc[0]) for r in RATES if group[r].notna().any()}
        run_ids = tuple(group["run_id"])
        trials.append(Trial(int(number), objective, best, len(group), diverged, rates, run_ids))
    return Tuning(tuple(trials))
