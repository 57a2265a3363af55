"""Trials of a tuning: killed anywhere they go on as if nothing had been; what Optuna is told."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from itnas.data import DataSettings
from itnas.settings import DependenceSettings, Setting
from study.file.searched import Parameter
from study.tuning.objective import Objective
from study.tuning.racing import Race
from study.tuning.space import Space
from study.tuning.trials import Trials, make_sampler, sampler_name

pytestmark = pytest.mark.usefixtures("quiet")

RATES = (
    Parameter("search", "architecture_lr", "number", 1e-3, 1.0, True),
    Parameter("search", "transition_lr", "number", 1e-3, 1.0, True),
)
TWO = ("derived_accuracy", "valid_accuracy")
WRITES = (
    "create_new_trial", "set_trial_param", "set_trial_state_values", "set_trial_user_attr",
    "set_trial_system_attr",
)  # fmt: skip
TRIALS = 5
"""two are drawn at random, one parameter after the other, the rest by the model"""


class Killed(BaseException):
    """Nothing catches it."""


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


def storages(tmp_path):
    yield "memory", InMemoryStorage()
    yield "sqlite", RDBStorage(f"sqlite:///{tmp_path}/optuna.db")
    yield "journal", JournalStorage(JournalFileBackend(f"{tmp_path}/journal"))


@pytest.fixture(scope="module")
def undisturbed():
    trials = make(InMemoryStorage(), searches := Searches())
    asked = drive(trials, searches, TRIALS)
    return trials, asked


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


def killed_and_again(storage, at):
    """Killed at a write, then a new driver; None where there are not so many writes."""
    searches = Searches()
    trials = make(storage, searches)
    try:
        with Mortal(storage, at):
            drive(trials, searches, TRIALS)
    except Killed:
        trials = make(storage, searches)
        drive(trials, searches, TRIALS)
        return trials
    return None


def test_races_end_early_and_the_best_has_all_seeds(undisturbed):
    trials, asked = undisturbed
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


def test_killed_at_any_write_it_goes_on_the_same(undisturbed):
    """Also between the parameters of one trial, and between its constraints and its end."""
    expected, at = told(undisturbed[0]), 1
    while (trials := killed_and_again(InMemoryStorage(), at)) is not None:
        assert told(trials) == expected, at
        at += 1
    assert at > 50


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_killed_over_other_storages(tmp_path, undisturbed, kind):
    expected = told(undisturbed[0])
    for at in (15, 38):
        folder = tmp_path / str(at)
        folder.mkdir()
        trials = killed_and_again(dict(storages(folder))[kind], at)
        assert told(trials) == expected, at


def test_killed_between_searches(undisturbed):
    """After any search, also within a pack: those that are there are not asked for again."""
    expected, asked = told(undisturbed[0]), undisturbed[1]
    total = sum(len(seeds) for *_, seeds in asked)
    for at in range(1, total, 3):
        storage, searches = InMemoryStorage(), Searches()
        write = searches.search

        def search(values, seed, searches=searches, write=write, at=at):
            if searches.run == at:
                raise Killed
            write(values, seed)

        searches.search = search
        with pytest.raises(Killed):
            drive(make(storage, searches), searches, TRIALS)
        searches.search = write
        trials = make(storage, searches)
        drive(trials, searches, TRIALS)
        assert told(trials) == expected
        assert searches.run == total


def test_what_is_taken_up_is_what_was_found(tmp_path):
    """Of trials that were told by another driver everything is known, and no more is asked."""
    for _, storage in storages(tmp_path):
        searches = Searches(status=lambda values, seed: "diverged" if seed == 1 and
                            values["architecture_lr"] > 0.1 else "complete")  # fmt: skip
        first = make(storage, searches)
        drive(first, searches, 6)
        again = make(storage, searches)
        assert drive(again, searches, 6) == []
        assert again.finished.keys() == first.finished.keys() == set(range(6))
        for number, one in first.finished.items():
            np.testing.assert_equal(vars(again.finished[number]), vars(one))
        assert again.ranked() == first.ranked()
        assert again.incumbent == first.incumbent


def test_more_and_fewer_trials(undisturbed):
    storage, searches = InMemoryStorage(), Searches()
    drive(make(storage, searches), searches, 3)
    drive(trials := make(storage, searches), searches, TRIALS)
    assert told(trials) == told(undisturbed[0])
    drive(trials := make(storage, searches), searches, 2)
    assert len(trials.finished) == TRIALS
    # one that is running when no more are wanted has failed
    trials.study.ask()
    drive(make(storage, searches), searches, TRIALS)
    states = [t.state for t in trials.study.get_trials()]
    assert states == [TrialState.COMPLETE] * TRIALS + [TrialState.FAIL]


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
