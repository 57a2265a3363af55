"""Which parameters made a tuning's trials good: PED-ANOVA, as Optuna has it.

How far the best trials' values of a parameter lie from those of all trials (Watanabe, Bansal and
Hutter 2023), on the parameter's own scale; of one that some trials lack, over those that have it.
Which trials are the best ones, and what that costs where a sampler has gone where it is good:
docs/tuning.md.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.metrics import NAN, Array

LEAST_TRIALS = 20
"""Feasible trials that have a parameter, under which nothing is told of it."""

MOST_BEST, BEST, FEW_BEST = 0.5, 20, 0.1
"""The best trials are so many, but at most and at least these shares of all."""

RESAMPLES = 100


def importance_table(trials: pd.DataFrame, parameters: pd.DataFrame) -> pd.DataFrame:
    """One row per parameter: its share of the importance of all that are told, with 95% percentiles
    of a bootstrap over trials.

    trials: feasible ones, with `objective` and a column per parameter. A resample has some trials
    twice, which makes any parameter look important: intervals lean towards equal shares, and are
    drawn out to the estimate where they miss it.
    """
    counts = trials.reindex(columns=parameters["parameter"]).notna().sum()
    enough = counts.index[counts >= LEAST_TRIALS]
    quantile = best_share(len(trials))
    found = pd.DataFrame(
        {"importance": NAN, "low": NAN, "high": NAN, "trials": counts, "quantile": quantile,
         "note": [f"too few trials ({n} of {LEAST_TRIALS})" * (n < LEAST_TRIALS) for n in counts]},
        index=counts.index,
    )  # fmt: skip
    if len(enough):
        shares = _shares(trials, parameters.set_index("parameter").loc[enough], quantile)
        low, high = np.percentile(shares[1:], [2.5, 97.5], axis=0)
        ends = np.minimum(low, shares[0]), np.maximum(high, shares[0])
        found.loc[enough, ["importance", "low", "high"]] = np.stack([shares[0], *ends], axis=1)
    return found.rename_axis("parameter").reset_index()


def best_share(trials: int) -> float:
    """Of so many trials those that are the best ones."""
    return min(max(BEST / max(trials, 1), FEW_BEST), MOST_BEST)


def _shares(trials: pd.DataFrame, parameters: pd.DataFrame, quantile: float) -> Array:
    """(1 + RESAMPLES, parameters) of these trials, then of as many drawn from them at random."""
    import optuna  # slow to import, needed for this alone

    spaces = {str(name): _space(optuna.distributions, p) for name, p in parameters.iterrows()}
    every = [
        optuna.trial.create_trial(
            value=row["objective"],
            params={k: row[k] for k in spaces if pd.notna(row[k])},
            distributions={k: space for k, space in spaces.items() if pd.notna(row[k])},
        )
        for row in trials.to_dict("records")
    ]
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
    shares, draw, verbosity = [], np.random.default_rng(0), optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for k in range(1 + RESAMPLES):
                study = optuna.create_study(direction="maximize")
                some = draw.integers(len(every), size=len(every)) if k else range(len(every))
                study.add_trials([every[i] for i in some])
                told = optuna.importance.get_param_importances(
                    study, evaluator=evaluator, params=list(spaces)
                )
                shares.append([told[name] for name in spaces])
    finally:
        optuna.logging.set_verbosity(verbosity)
    return np.array(shares)


def _space(distributions: Any, p: pd.Series) -> Any:
    """Optuna's distribution of a parameter, a row of `tuning_parameters`."""
    if isinstance(p["choices"], str):
        return distributions.CategoricalDistribution(json.loads(p["choices"]))
    step = None if pd.isna(p["step"]) else p["step"]
    return distributions.FloatDistribution(p["low"], p["high"], log=bool(p["log"]), step=step)
