"""`tune` end to end: trials, a kill, the confirmation, and the study file of what was found."""

from __future__ import annotations

import json
import math
import shutil
import warnings

import numpy as np
import optuna
import pytest
import yaml
from scipy import stats

from itnas.settings import Seeds
from study.file import load_study
from study.status import study_status
from tests.study.cli import TINY, run, run_here
from tests.study.faults.support import Tuning
from tests.study.test_launch import rows

TUNED = {
    **TINY,
    "name": "tuned",
    "search": {**TINY["search"], "epochs": 2, "architecture_lr": 1.0},
    "grid": {"dependence": [{"model": "transition"}]},
    "seeds": "0..3",
    "tune": {
        "architecture_lr": [0.5, 5.0],
        "transition_lr": {"low": 0.5, "high": 4.0, "log": True},
        "init": {"choices": ["identity", "uniform"]},
        "startup_trials": 2,
        "seeds": {"start": 2, "all": 4},
    },
}
COMPLETE = optuna.trial.TrialState.COMPLETE


def trials(folder):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    place = f"sqlite:///{folder / 'tune' / 'optuna.db'}"
    return optuna.load_study(study_name="tuned", storage=place).trials


def one_is_finished_and_one_runs(folder):
    record = folder / "tune" / "tuning.json"
    told = json.loads(record.read_text())["trials"] if record.is_file() else []
    return {"complete", "running"} <= {trial["state"] for trial in told}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A study that is tuned for four trials, killed once on its way, and what was said then."""
    folder = tmp_path_factory.mktemp("tuned")
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(TUNED, sort_keys=False))
    asked = ("--trials", "4", "--confirm", "3")
    tuning = Tuning(study, folder / "out", *asked)
    try:
        tuning.until(lambda: one_is_finished_and_one_runs(folder / "out" / "tuned"))
    finally:
        tuning.kill()
    words = ("tune", str(study), "--storage", str(folder / "out"), *asked)
    return study, folder / "out" / "tuned", run(*words), words


def test_trials_are_finished_each_once_whatever_was_killed(tuned):
    _, folder, result, _ = tuned
    assert result.returncode == 0, result.stderr
    known = trials(folder)
    assert [t.state for t in known] == [COMPLETE] * 4
    assert len(rows(folder)) == len({row["run_id"] for row in rows(folder)})
    assert not (folder / "checkpoints").exists()


def test_a_trial_is_told_the_mean_of_its_rows(tuned):
    _, folder, _, _ = tuned
    by_id = {row["run_id"]: row for row in rows(folder)}
    for trial in trials(folder):
        own = [by_id[run_id] for run_id in trial.user_attrs["run_ids"]]
        assert [row["seed_weights"] for row in own] == list(range(len(own)))
        assert len(own) in (2, 4)
        values = [row["derived_accuracy"] for row in own]
        assert trial.user_attrs["values"] == values
        assert trial.value == pytest.approx(math.fsum(values) / len(values), abs=1e-12)
        assert trial.user_attrs["standard_error"] == pytest.approx(stats.sem(values), abs=1e-12)
        assert set(trial.user_attrs["pack_ids"]) == {row["pack_id"] for row in own}
        assert trial.user_attrs["raced_out"] == (
            len(own) < 4 and max(trial.constraints.values()) <= 0
        )
        moved = np.mean([row["architecture_displacement"] for row in own])
        assert trial.constraints == {
            "diverged": 0.0, "hardly_moved": pytest.approx(0.2 - moved, abs=1e-12)
        }  # fmt: skip
        for row in own:
            assert row["architecture_lr"] == pytest.approx(trial.params["architecture_lr"])
            assert row["init"] == trial.params["init"]


def test_the_default_is_trial_0(tuned):
    _, folder, _, _ = tuned
    first = trials(folder)[0]
    assert first.params == {"architecture_lr": 1.0, "init": "identity", "transition_lr": 1.5}
    # the default's transition_lr, `auto`, is 6 / (2 epochs x 2 steps)
    assert len(first.user_attrs["values"]) == 4


def test_the_confirmation_is_on_seeds_that_no_trial_saw(tuned):
    _, folder, result, _ = tuned
    told = json.loads((folder / "tune" / "tuning.json").read_text())["confirmation"]
    assert told["seeds"] == [[n, n, n] for n in (4, 5, 6)]
    by_id = {row["run_id"]: row for row in rows(folder)}
    of_trials = {run_id for trial in trials(folder) for run_id in trial.user_attrs["run_ids"]}
    for one in told["settings"]:
        assert of_trials.isdisjoint(one["run_ids"])
        assert [by_id[run_id]["seed_data"] for run_id in one["run_ids"]] == [4, 5, 6]
        assert all(by_id[run_id]["tune_trial"] is None for run_id in one["run_ids"])
    assert told["settings"][told["default"]]["trial"] == 0
    assert told["answer"] in result.stdout
    assert len(by_id) == len(of_trials) + 3 * len(told["settings"])


def test_best_is_a_study_file_with_seeds_fresh_again(tuned):
    _, folder, result, _ = tuned
    path = folder / "tune" / "best.yaml"
    best = load_study(path)
    assert (best.name, best.tune) == ("tuned-best", None)
    assert best.seed_list() == [Seeds.all(n) for n in range(7, 11)]
    params = [t.params for t in trials(folder)]
    (dependence,) = best.grid["dependence"]
    found = {"architecture_lr": best.search.architecture_lr, "init": dependence["init"],
             "transition_lr": best.search.transition_lr}  # fmt: skip
    assert found in params
    told = json.loads((folder / "tune" / "tuning.json").read_text())["confirmation"]["answer"]
    assert told[1:] in path.read_text().replace("\n# ", " ")
    assert str(path) in result.stdout


def test_the_same_again_does_nothing(tuned):
    _, folder, _, words = tuned
    before = {p: (p.read_bytes(), p.stat().st_mtime) for p in folder.rglob("*") if p.is_file()}
    result = run_here(*words)
    assert result.returncode == 0, result.stderr
    assert "nothing to do: 4 trials" in result.stdout
    after = {p: (p.read_bytes(), p.stat().st_mtime) for p in folder.rglob("*") if p.is_file()}
    assert {p.name for p in before if before[p] != after.get(p)} <= {"optuna.db"}


def test_status_counts_trials_and_the_confirmation(tuned):
    _, folder, _, _ = tuned
    status = study_status(str(folder))
    n = len(rows(folder))
    assert (status["state"], status["runs"], status["done"], status["failed"]) == (
        "finished", n, n, 0,
    )  # fmt: skip


def test_other_settings_do_not_mix(tuned):
    study, folder, _, words = tuned
    for change, what in (
        ("search.epochs=3", "search.epochs"),
        ("seeds=1..4", "seeds"),
        ("tune.seeds.start=1", "tune.seeds.start"),
        ("tune.architecture_lr=[0.5, 6.0]", "tune.architecture_lr"),
        ("tune.objective=valid_accuracy", "tune.objective"),
    ):
        result = run_here(*words, "--set", change)
        assert result.returncode == 2
        assert f"earlier trials had other {what}" in result.stderr
    result = run_here("launch", str(study), "--storage", str(folder.parent))
    assert result.returncode == 2
    assert "is a study under `tune`" in result.stderr


def test_a_database_of_another_folder_is_refused(tuned, tmp_path):
    study, folder, _, _ = tuned
    place = f"sqlite:///{tmp_path / 'own.db'}"
    shutil.copy(folder / "tune" / "optuna.db", tmp_path / "own.db")
    result = run_here("tune", str(study), "--storage", str(tmp_path / "out"), "--trials", "5",
                      "--set", f"tune.storage={place}")  # fmt: skip
    assert result.returncode == 2
    assert "earlier trials" in result.stderr or "has a study tuned of" in result.stderr
    assert not (tmp_path / "out").exists()


def test_nothing_deprecated_of_optuna_is_used(tuned):
    """The database is read and the samplers are made without a warning of theirs."""
    from study.tuning.samplers import make_sampler

    _, folder, _, _ = tuned
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("tpe", "gp", "random"):
            make_sampler(name, 1, 5)
        trials(folder)
