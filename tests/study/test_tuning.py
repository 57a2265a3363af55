"""`tune`: three small trials, one more, and the study file of the best."""

from __future__ import annotations

import math
import sqlite3

import pytest
import yaml

from itnas.settings import Seeds
from study.file import load_study
from study.file.seeds import parse_seeds
from study.status import study_status
from study.tuning.run import _fresh
from tests.study.cli import TINY, run, run_here
from tests.study.test_launch import rows

TUNED = {
    **TINY,
    "name": "tuned",
    "grid": {"dependence": [{"model": "transition"}]},
    "tune": {"architecture_lr": [0.01, 1.0], "transition_lr": [0.01, 1.0], "startup_trials": 2},
}


def trials(folder):
    database = sqlite3.connect(folder / "tune" / "optuna.db")
    try:
        query = ("select number, state, value from trials left join trial_values using (trial_id) "
                 "order by number")  # fmt: skip
        return database.execute(query).fetchall()
    finally:
        database.close()


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A study tuned for three trials, then for four, with what was said each time."""
    folder = tmp_path_factory.mktemp("tuned")
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(TUNED, sort_keys=False))
    words = ("tune", str(study), "--storage", str(folder / "out"), "--trials")
    results = []
    for number in (3, 3, 4):
        results.append(run(*words, str(number)))
        if number == 3 and len(results) == 2:  # a driver that was killed leaves one running
            database = sqlite3.connect(folder / "out" / "tuned" / "tune" / "optuna.db")
            with database:
                database.execute("insert into trials (number, study_id, state) "
                                 "values (3, 1, 'RUNNING')")  # fmt: skip
            database.close()
    return study, folder / "out" / "tuned", results


def test_trials_are_tables_and_an_optuna_study(tuned):
    _, folder, results = tuned
    assert [result.returncode for result in results] == [0, 0, 0], results
    by_trial: dict = {}
    for row in rows(folder):
        by_trial.setdefault(row["tune_trial"], []).append(row)
    assert sorted(by_trial) == [0, 1, 2, 4]
    told = {number: value for number, state, value in trials(folder) if state == "COMPLETE"}
    for number, runs in by_trial.items():
        assert {row["seed_weights"] for row in runs} == {0, 1}
        assert len({row["pack_id"] for row in runs}) == 1
        assert len({row["architecture_lr"] for row in runs}) == 1
        assert 0.01 <= runs[0]["architecture_lr"] <= 1.0
        assert runs[0]["setting"] == f"transition trial={number}"
        mean = math.fsum(row["derived_accuracy"] for row in runs) / 2
        assert told[number] == pytest.approx(mean, abs=1e-12)
    assert len({runs[0]["transition_lr"] for runs in by_trial.values()}) == 4


def test_a_stale_trial_is_settled_and_the_rest_continued(tuned):
    _, folder, _ = tuned
    states = [state for _, state, _ in trials(folder)]
    assert states == ["COMPLETE", "COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]


def test_the_same_number_of_trials_does_nothing(tuned):
    _, _, results = tuned
    assert "nothing to do: 3 trials" in results[1].stdout
    assert "best of 3 trials" in results[1].stdout
    assert "best of 4 trials" in results[2].stdout


def test_best_is_a_study_file_with_fresh_seeds(tuned):
    _, folder, results = tuned
    best = load_study(folder / "tune" / "best.yaml")
    assert best.name == "tuned-best"
    assert best.tune is None
    assert best.seed_list() == [Seeds.all(2), Seeds.all(3)]
    value, number = max((value, -number) for number, state, value in trials(folder) if value)
    runs = [row for row in rows(folder) if row["tune_trial"] == -number]
    assert best.search.architecture_lr == runs[0]["architecture_lr"]
    assert best.search.transition_lr == runs[0]["transition_lr"]
    assert f"derived accuracy {value:.4f}" in results[2].stdout
    assert str(folder / "tune" / "best.yaml") in results[2].stdout


def test_status_counts_all_trials(tuned):
    _, folder, _ = tuned
    status = study_status(str(folder))
    assert (status["state"], status["runs"], status["done"]) == ("finished", 8, 8)


def test_other_settings_do_not_mix(tuned):
    study, folder, _ = tuned
    for change, what in (("search.epochs=2", "search.epochs"), ("seeds=0..2", "seeds")):
        result = run_here("tune", str(study), "--storage", str(folder.parent), "--trials", "5",
                     "--set", change)  # fmt: skip
        assert result.returncode == 2
        assert f"earlier trials had other {what}" in result.stderr
    result = run_here("launch", str(study), "--storage", str(folder.parent))
    assert result.returncode == 2
    assert "is a study under `tune`" in result.stderr


def test_fresh_seeds_of_crossed_ones():
    seeds = tuple(parse_seeds({"weights": "0..1", "data": 5, "architecture": [1, 2]}))
    fresh = parse_seeds(_fresh(seeds))
    assert len(fresh) == len(seeds)
    assert min(min(vars(s).values()) for s in fresh) == 6
