"""Sentences on a tuning: who is ahead, and how much of that is luck."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.quantities import label_of
from analysis.report import text
from analysis.report.sentences.shared import Frames, holding


def tuning(tables: Frames) -> list[str]:
    """Who is ahead, how much of that lead is luck, and what fresh seeds said of it."""
    if tables["tuning"].empty:
        return []
    trials, asked = tables["tuning"].set_index("trial"), tables["tuning_summary"].iloc[0]
    best, default, n = asked["incumbent"], asked["default"], len(trials)
    if pd.isna(best):
        return [f"None of {n} tuning trials is feasible and had all seeds: runs diverged, hardly "
                "moved or are missing."]  # fmt: skip
    row, what = trials.loc[best], label_of(asked["objective"], unit=False)
    chosen = [f"{p} {text.plain(row[p])}" for p in tables["tuning_parameters"]["parameter"]
              if pd.notna(row.get(p))]  # fmt: skip
    less = f" less {asked['penalty']:g} standard errors" * bool(asked["penalty"])
    front = trials.index[trials.get("front", trials["feasible"]).astype(bool)]
    return holding(
        (True, f"Trial {best:.0f} is the best of {n} by shrunken mean{less}: mean {what} "
         f"{row['mean']:.3f} over n={row['n']} seeds, with {text.listed(chosen)}."),
        (best == default, "That is the default setting: no trial is ahead of it."),
        (best != default and asked["lead_n"], f"On n={asked['lead_n']} common seeds it leads the "
         f"default (trial {text.plain(default)}) by {asked['lead']:.3f}, standard error "
         f"{text.number(asked['lead_error'], 3)}; drawn in among the trials with all seeds, by "
         f"{text.number(asked['shrunken_lead'], 3)}."),
        (asked["largest"] != best, f"The largest mean is trial {asked['largest']:.0f}'s, "
         f"{trials['objective'].get(asked['largest'], np.nan):.3f}."),
        (asked["raced_out"], f"{asked['raced_out']} trials raced out with fewer seeds."),
        (asked["infeasible"], f"{asked['infeasible']} are infeasible: a run diverged, or it hardly "
         "moved."),
        (pd.notna(asked["second"]), f"The front of both: trials {text.listed(map(str, front))}."),
        (True, _confirmed(tables.get("tuning_confirmation", pd.DataFrame()))),
        (True, f"What follows is about the runs of trial {best:.0f} alone."),
    )  # fmt: skip


def _confirmed(frame: pd.DataFrame) -> str:
    """What fresh seeds said of the settings that they were asked about."""
    told = []
    for row in frame.to_dict("records"):
        known, n = np.isfinite(row["low"]), f"n={row['pairs']}"
        found = "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "no better"
        more = text.estimate(row["difference"], row["low"], row["high"], 3)
        n += f" of {row['planned']} planned" * (row["pairs"] < row["planned"])
        found = f"{found} than the default" if known else "cannot tell"
        told += [f"trial {row['trial']} {more}, {n}, {found}"] * (row["role"] != "default")
    if told:
        return f"Fresh seeds, less the default's on the same: {'; '.join(told)}."
    return ("The best of many noisy trials looks better than it is, and no setting ran on fresh "
            "seeds: this lead is not confirmed.")  # fmt: skip
