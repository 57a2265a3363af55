"""Tuning trials: one suggestion of learning rates, judged by the mean over its fixed seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

RATES = ("architecture_lr", "transition_lr", "attention_lr")


def tuning_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per trial in the order of their numbers; none where no run belongs to one.

    objective: the mean derived_accuracy over the trial's n runs, NaN where a run diverged: a
    mean over the seeds that survived would favour rates that are nearly too large. best_so_far
    is over this trial and those numbered before it.
    """
    runs = runs[runs["tune_trial"].notna()]
    rows = []
    for number, group in runs.groupby(runs["tune_trial"].astype("Int64")):
        diverged = int((group["status"] == "diverged").sum())
        objective = np.nan if diverged else float(group["derived_accuracy"].mean())
        rates = {r: float(group[r].iloc[0]) for r in RATES if group[r].notna().any()}
        rows.append({"trial": int(number), "objective": objective, "n": len(group)}
                    | {"diverged": diverged} | rates)  # fmt: skip
    found = pd.DataFrame(rows)
    if len(found):
        found.insert(2, "best_so_far", found["objective"].cummax().ffill())
    return found


def best_trial(trials: pd.DataFrame) -> int | None:
    """The number of the trial with the largest objective, the first of equals."""
    judged = trials.dropna(subset="objective")
    best = judged["objective"].to_numpy(float)
    return None if judged.empty else int(judged["trial"].iloc[best.argmax()])
