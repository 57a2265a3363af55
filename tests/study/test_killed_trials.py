"""Trials of a tuning: killed anywhere, they go on as if nothing had been."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.study.searches import TRIALS, Killed, Mortal, Searches, drive, make, told

pytestmark = pytest.mark.usefixtures("quiet")


def storages(tmp_path):
    yield "memory", InMemoryStorage()
    yield "sqlite", RDBStorage(f"sqlite:///{tmp_path}/optuna.db")
    yield "journal", JournalStorage(JournalFileBackend(f"{tmp_path}/journal"))


@pytest.fixture(scope="module")
def undisturbed():
    trials = make(InMemoryStorage(), searches := Searches())
    asked = drive(trials, searches, TRIALS)
    return trials, asked


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
