"""Tuning trials as a table: objective, best so far, diverged runs."""

from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.compute.settings import best_trial, tuning_table


def test_the_objective_is_the_mean_over_the_trials_runs(tuned: Path) -> None:
    runs = analysis.load(tuned).runs
    got = tuning_table(runs)
    assert got["trial"].tolist() == [0, 1, 2, 3, 4]
    assert (got["n"] == 2).all()
    for trial in got[got["trial"] != 3].itertuples():
        values = runs.loc[runs["tune_trial"] == trial.trial, "derived_accuracy"]
        assert trial.objective == pytest.approx(values.mean())
    rates = got.loc[2, ["architecture_lr", "transition_lr", "attention_lr"]].tolist()
    assert rates == pytest.approx([0.004, 0.01, 0.025])


def test_a_rate_that_no_run_has_is_no_column(tuned: Path) -> None:
    got = tuning_table(analysis.load(tuned).runs.assign(transition_lr=np.nan))
    assert "transition_lr" not in got
    assert "attention_lr" in got


def test_a_trial_with_a_diverged_run_has_no_objective(tuned: Path) -> None:
    got = tuning_table(analysis.load(tuned).runs).set_index("trial")
    assert np.isnan(got.loc[3, "objective"])
    assert got["diverged"].tolist() == [0, 0, 0, 1, 0]
    # Its surviving seed alone would have been the best of all.
    assert best_trial(got.reset_index()) == 1
    first, second = got["objective"].iloc[:2]
    assert got["best_so_far"].tolist() == pytest.approx([first] + [second] * 4)


def test_everything_else_is_about_the_best_trial(tuned: Path) -> None:
    results = analysis.load(tuned)
    study = analysis.compute_study(results, with_trajectories=False)
    assert study.best_trial == 1
    assert len(study["tuning"]) == 5
    (row,) = study["settings"].itertuples()
    assert row.runs == 2
    assert row.derived_accuracy_mean == pytest.approx(study["tuning"].loc[1, "objective"])
    assert row.architecture_lr == pytest.approx(0.002)


def test_a_study_without_trials_has_no_tuning(nb201: Path) -> None:
    assert tuning_table(analysis.load(nb201).runs).empty


def test_all_trials_failed(tuned: Path) -> None:
    got = tuning_table(analysis.load(tuned).runs.assign(status="diverged"))
    assert got["objective"].isna().all()
    assert best_trial(got) is None


def test_a_study_whose_trials_all_failed_is_about_the_last(tuned: Path, tmp_path: Path) -> None:
    import shutil

    from tests.analysis.test_samples import rewrite

    copy = Path(shutil.copytree(tuned, tmp_path / "copy"))

    def fail(rows: list[dict]) -> list[dict]:
        return [r | {"status": "diverged"} if r["seed_data"] else r for r in rows]

    rewrite(copy, "runs", fail)
    study = analysis.compute_study(analysis.load(copy), with_trajectories=False)
    assert study.best_trial is None
    (row,) = study["settings"].itertuples()
    assert (row.runs, row.n, row.diverged_runs) == (2, 1, "seed 1")
    assert row.architecture_lr == pytest.approx(0.016)  # of trial 4
