"""Optuna's samplers: which one `auto` comes to, and a new one for every trial."""

from __future__ import annotations

import optuna

from study.tuning.space import Space

MOST_FOR_GP = 250
"""trials from which on fitting a Gaussian process takes too long"""


def sampler_name(asked: str, space: Space, trials: int) -> str:
    """What `auto` comes to: gp where only numbers are searched, up to 250 trials; else tpe."""
    if asked != "auto":
        return asked
    return "gp" if space.only_numbers and trials <= MOST_FOR_GP else "tpe"


def make_sampler(name: str, seed: int, startup_trials: int) -> optuna.samplers.BaseSampler:
    """A sampler with Optuna's own defaults."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "gp":
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False
        )
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup_trials)
