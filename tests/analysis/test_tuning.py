"""Tuning trials: objective, best so far, diverged runs."""

from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.compute.tuning import tuning


def test_the_objective_is_the_mean_over_the_trials_runs(tuned: Path) -> None:
    runs = analysis.load(tuned).runs
    got = tuning(runs)
    assert got is not None
    assert [t.number for t in got.trials] == [0, 1, 2, 3, 4]
    for trial in got.trials:
        values = runs.loc[runs["tune_trial"] == trial.number, "derived_accuracy"]
        assert trial.n == 2
        if trial.number != 3:
            assert trial.objective == pytest.approx(values.mean())
    assert got.trials[2].rates == {
        "architecture_lr": pytest.approx(0.004),
        "transition_lr": pytest.approx(0.01),
        "attention_lr": pytest.approx(0.025),
    }


def test_a_trial_with_a_diverged_run_has_no_objective(tuned: Path) -> None:
    got = tuning(analysis.load(tuned).runs)
    assert got is not None
    assert np.isnan(got.trials[3].objective)
    assert got.trials[3].diverged == 1
    # Its surviving seed alone would have been the best of all.
    assert got.best is not None
    assert got.best.number == 1
    first, second = got.trials[0].objective, got.trials[1].objective
    assert [t.best_so_far for t in got.trials] == pytest.approx([first] + [second] * 4)


def test_a_study_without_trials_has_no_tuning(nb201: Path) -> None:
    assert tuning(analysis.load(nb201).runs) is None


def test_all_trials_failed(tuned: Path) -> None:
    runs = analysis.load(tuned).runs.assign(status="diverged")
    got = tuning(runs)
    assert got is not None
    assert got.best is None
