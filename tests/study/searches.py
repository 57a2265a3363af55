"""Searches that cost nothing, and `Trials` that are driven through them, without Ray and files."""

from __future__ import annotations

import numpy as np
import optuna

from itnas.data import DataSettings
from itnas.settings import Setting
from study.file.searched import Parameter
from study.tuning.objective import Objective
from study.tuning.racing import Race
from study.tuning.samplers import make_sampler
from study.tuning.space import Space
from study.tuning.trials import Trials

RATES = (
    Parameter("search", "architecture_lr", "number", 1e-3, 1.0, True),
    Parameter("search", "transition_lr", "number", 1e-3, 1.0, True),
)
TWO = ("derived_accuracy", "valid_accuracy")
TRIALS = 5
"""two are drawn at random, one parameter after the other, the rest by the model"""


class Searches:
    """Rows by values and seed, which a killed driver leaves; any run gives what its values say."""

    def __init__(self, **changed):
        """changed: columns, by a function of values and seed."""
        self.rows: dict[tuple, dict] = {}
        self.changed = changed
        self.run = 0

    def of(self, values):
        """As `Trials` wants it."""
        return self.rows.setdefault(tuple(sorted(values.items())), {})

    def search(self, values, seed):
        """Write a row."""
        at = np.log10([v for v in values.values() if isinstance(v, float)])
        rng = np.random.default_rng([seed, *at.view(np.uint32)])
        accuracy = 0.5 - 0.05 * float(((at + 1.2) ** 2).sum()) + 0.02 * rng.normal() + 0.01 * seed
        row = {
            "run_id": f"r{self.run}", "pack_id": f"p{self.run // 2}", "status": "complete",
            "architecture_displacement": 0.5, "derived_accuracy": accuracy,
            "valid_accuracy": accuracy / 2,
        }  # fmt: skip
        self.run += 1
        self.of(values)[seed] = row | {k: f(values, seed) for k, f in self.changed.items()}


def make(storage, searches, race=None, parameters=RATES, sampler="tpe", names=TWO[:1],
         base=None, default=None, startup=2):  # fmt: skip
    space = Space(parameters, base or Setting(), DataSettings())
    study = optuna.create_study(
        storage=storage, study_name="s", load_if_exists=True, directions=["maximize"] * len(names)
    )
    if default is None:
        default = space.nearest({"architecture_lr": 0.03, "transition_lr": 0.02})
    race = race or Race(2, 8, 0.1)
    return Trials(study, space, Objective(names), race, searches.of,
                  lambda n: make_sampler(sampler, n, startup), default)  # fmt: skip


def drive(trials, searches, wanted):
    """Until all are finished; gives what was asked for, in order."""
    asked = []
    trials.begin(wanted)
    while (ask := trials.next()) is not None:
        asked.append((ask.number, ask.values, ask.seeds))
        for seed in ask.seeds:
            searches.search(ask.values, seed)
        trials.went_on(ask.number)
    assert trials.exhausted
    return asked


def told(trials):
    """All that a database says of its trials, but names of runs and moments."""
    return [
        (t.number, t.state, t.params, t.values, t.constraints,
         {k: v for k, v in t.user_attrs.items() if k not in ("run_ids", "pack_ids")})
        for t in trials.study.get_trials()
    ]  # fmt: skip


WRITES = (
    "create_new_trial", "set_trial_param", "set_trial_state_values", "set_trial_user_attr",
    "set_trial_system_attr",
)  # fmt: skip


class Killed(BaseException):
    """Nothing catches it."""


class Mortal:
    """Kills before the n-th write to a storage."""

    def __init__(self, storage, at):
        self.storage, self.left = storage, at

    def __enter__(self):
        for name in WRITES:
            setattr(self.storage, name, self._counted(getattr(self.storage, name)))
        return self

    def _counted(self, write):
        def counted(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                raise Killed
            return write(*args, **kwargs)

        return counted

    def __exit__(self, *_):
        for name in WRITES:
            delattr(self.storage, name)
