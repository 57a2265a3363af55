"""Trials of a tuning: what is asked of them and what Optuna is told."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from itnas.data import DataSettings
from itnas.settings import DependenceSettings, Setting
from study.file.searched import Parameter
from study.tuning.racing import Race
from study.tuning.samplers import sampler_name
from study.tuning.space import Space
from tests.study.searches import RATES, TRIALS, TWO, Killed, Mortal, Searches, drive, make, told

pytestmark = pytest.mark.usefixtures("quiet")


def test_races_end_early_and_the_best_has_all_seeds():
    trials = make(InMemoryStorage(), searches := Searches())
    asked = drive(trials, searches, TRIALS)
    assert [n for n, _, seeds in asked if seeds == (0, 1)] == list(range(TRIALS))
    assert {seeds for _, _, seeds in asked} == {(0, 1), (2, 3), (4, 5, 6, 7)}
    assert asked[0][1] == trials.default
    raced_out = [t for t in trials.finished.values() if t.raced_out]
    assert raced_out
    for one in trials.finished.values():
        assert one.told == (pytest.approx(np.nanmean(one.by_seed)),)
        assert one.whole != one.raced_out
        assert one.feasible
        assert np.isfinite(one.by_seed).sum() == len(one.run_ids)
    assert trials.finished[trials.incumbent].whole
    assert all(t.state == TrialState.COMPLETE for t in trials.study.get_trials())


def test_a_trial_that_raced_out_is_no_incumbent_however_good_it_looks():
    """A race that lets nobody on who is not surely better: the second trial stops at two seeds."""
    default, other = (0.50, 0.54, 0.49, 0.53), (0.52, 0.55)
    searches = Searches(derived_accuracy=lambda values, seed: (
        default if values["architecture_lr"] == 0.03 else other)[seed])  # fmt: skip
    trials = make(InMemoryStorage(), searches, race=Race(2, 4, 0.99))
    drive(trials, searches, 2)
    assert trials.finished[1].raced_out
    assert trials.ranked()[0][0] == 1
    assert trials.ranked(whole=True)[0][0] == trials.incumbent == 0


def test_equal_suggestions_share_their_runs():
    stepped = (Parameter("search", "architecture_lr", "number", 0.1, 0.3, step=0.1),
               Parameter("search", "batch_size", "choice", choices=(16, 32)))  # fmt: skip
    searches = Searches()
    trials = make(InMemoryStorage(), searches, Race(2, 4, 0.0), stepped, "random")
    asked = drive(trials, searches, 20)
    assert len(trials.finished) == 20
    assert searches.run == 4 * len(searches.rows) <= 4 * 6
    assert len({tuple(values.values()) for _, values, _ in asked}) == len(searches.rows)
    by_values: dict = {}
    for one in trials.finished.values():
        by_values.setdefault(tuple(one.values.values()), []).append(one)
    for same in by_values.values():
        assert len({one.told for one in same}) == len({tuple(one.run_ids) for one in same}) == 1


def test_a_diverged_run_makes_a_trial_infeasible_and_not_worse():
    fails = Searches(status=lambda values, seed: "diverged" if seed == 1 else "complete")
    trials = make(InMemoryStorage(), fails)
    asked = drive(trials, fails, 4)
    assert {seeds for *_, seeds in asked} == {(0, 1)}  # none is extended
    assert trials.incumbent is None
    assert trials.ranked() == []
    for one, frozen in zip(trials.finished.values(), trials.study.get_trials(), strict=True):
        assert not one.feasible
        assert not one.raced_out
        assert frozen.constraints == {"diverged": 1.0, "hardly_moved": pytest.approx(-0.3)}
        assert one.told == (fails.of(one.values)[0]["derived_accuracy"],)
    with pytest.raises(ValueError, match="feasible"):
        trials.study.best_trial  # noqa: B018


def test_all_runs_diverged():
    searches = Searches(status=lambda *_: "diverged")
    trials = make(InMemoryStorage(), searches)
    drive(trials, searches, 3)
    assert [t.values for t in trials.study.get_trials()] == [[0.0]] * 3
    assert all(t.constraints["diverged"] == 2 for t in trials.study.get_trials())


def test_a_setting_that_hardly_moved_is_infeasible():
    still = Searches(architecture_displacement=lambda values, _: 0.1
                     if values["architecture_lr"] < 0.02 else 0.3)  # fmt: skip
    trials = make(InMemoryStorage(), still, sampler="random")
    drive(trials, still, 12)
    low = {n for n, t in trials.finished.items() if t.values["architecture_lr"] < 0.02}
    assert low
    assert low == {n for n, t in trials.finished.items() if not t.feasible}
    for number in low:
        one, frozen = trials.finished[number], trials.study.get_trials()[number]
        assert len(one.run_ids) == 2
        assert frozen.constraints == {"diverged": 0.0, "hardly_moved": pytest.approx(0.1)}
        assert frozen.value == pytest.approx(np.nanmean(one.by_seed))
    assert not low & {n for n, _ in trials.ranked()}


def test_constraints_are_set_once_in_every_trial_before_it_is_told(monkeypatch):
    log = []
    set_constraint, tell = optuna.Trial.set_constraint, optuna.Study.tell
    monkeypatch.setattr(optuna.Trial, "set_constraint", lambda self, name, value: (
        log.append((self.number, name)), set_constraint(self, name, value))[1])  # fmt: skip
    monkeypatch.setattr(optuna.Study, "tell", lambda self, trial, *args, **kwargs: (
        log.append((trial, "tell")), tell(self, trial, *args, **kwargs))[1])  # fmt: skip
    searches = Searches()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drive(make(InMemoryStorage(), searches), searches, 5)
    assert log == [(n, what) for n in range(5) for what in ("diverged", "hardly_moved", "tell")]


def test_two_objectives_do_not_race():
    searches = Searches()
    trials = make(InMemoryStorage(), searches, Race(4, 4, 0.5), names=TWO)
    asked = drive(trials, searches, 6)
    assert [seeds for *_, seeds in asked] == [(0, 1, 2, 3)] * 6
    for one in trials.finished.values():
        assert len(one.told) == 2
        assert one.told[1] == pytest.approx(one.told[0] / 2)
        assert not one.raced_out
        assert one.against is None


def test_a_second_objective_that_is_unknown_makes_a_trial_infeasible():
    searches = Searches(valid_accuracy=lambda *_: None)
    trials = make(InMemoryStorage(), searches, Race(2, 2, 0.5), names=TWO)
    drive(trials, searches, 2)
    assert [t.constraints["unknown"] for t in trials.study.get_trials()] == [1, 1]
    assert not any(t.feasible for t in trials.finished.values())


def test_a_trial_without_any_value_has_failed():
    """Cells that are not in a benchmark."""
    searches = Searches(derived_accuracy=lambda *_: None)
    trials = make(InMemoryStorage(), searches)
    drive(trials, searches, 2)
    assert [t.state for t in trials.study.get_trials()] == [TrialState.FAIL] * 2
    assert trials.failed == [0, 1]


def test_a_run_that_failed_for_good():
    searches = Searches()
    trials = make(InMemoryStorage(), searches)
    trials.begin(2)
    first = trials.next()
    trials.failed_for_good(first.number)
    second = trials.next()
    assert second.number == 1
    assert trials.next() is None
    assert not trials.exhausted
    for seed in range(8):
        searches.search(second.values, seed)
    trials.went_on(1)
    assert trials.exhausted
    states = [t.state for t in trials.study.get_trials()]
    assert states == [TrialState.FAIL, TrialState.COMPLETE]


CONDITIONAL = (
    Parameter("dependence", "init_strength", "number", 1.0, 5.0),
    Parameter("dependence", "init", "choice", choices=("uniform", "identity")),
)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_parameter_is_asked_for_where_it_has_an_effect(sampler):
    base = Setting(dependence=DependenceSettings(model="transition"))
    runs = []
    for at in (None, 9, 17, 28):
        storage, searches = InMemoryStorage(), Searches()
        settings = {
            "race": Race(1, 1, 0.5), "parameters": CONDITIONAL, "base": base, "sampler": sampler,
            "default": {"init": "uniform"},
        }  # fmt: skip
        trials = make(storage, searches, **settings)
        if at is None:
            drive(trials, searches, 12)
        else:
            with pytest.raises(Killed), Mortal(storage, at):
                drive(trials, searches, 12)
            trials = make(storage, searches, **settings)
            drive(trials, searches, 12)
        runs.append(told(trials))
        for one in trials.study.get_trials():
            assert ("init_strength" in one.params) == (one.params["init"] == "identity")
    assert {t[2]["init"] for t in runs[0]} == {"uniform", "identity"}
    assert all(run == runs[0] for run in runs)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_nothing_deprecated(sampler, monkeypatch):
    """Also where `Trials` keeps Optuna quiet."""
    seen = []
    monkeypatch.setattr(warnings, "simplefilter", lambda *_: None)
    searches = Searches()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always")
        trials = make(InMemoryStorage(), searches, sampler=sampler, startup=3)
        drive(trials, searches, 5)
        seen += caught
    wrong = [w for w in seen if issubclass(w.category, (FutureWarning, DeprecationWarning))]
    assert [str(w.message) for w in wrong if "optuna" in str(w.message).lower()] == []


def test_auto_is_a_gaussian_process_of_numbers_only():
    numbers = Space(RATES, Setting(), DataSettings())
    choices = Space(CONDITIONAL, Setting(), DataSettings())
    assert sampler_name("auto", numbers, 250) == "gp"
    assert sampler_name("auto", numbers, 251) == "tpe"
    assert sampler_name("auto", choices, 20) == "tpe"
    assert sampler_name("random", numbers, 20) == "random"
