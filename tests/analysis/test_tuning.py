"""A tuning's tables: what `tune` told, what runs say of it, and what is left without its file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import figures
from analysis.compute.tuning import transfer_of_runs, tuning_tables
from analysis.errors import ResultsError
from analysis.report import sentences
from analysis.statistics.trials import by_merit, front, judged, shrunken
from tests.analysis.clashes import clashes
from tests.analysis.test_samples import rewrite
from tests.analysis.tunings import INIT, RATE, RATES, STRENGTH, Trial, raced, write_tuning

NAN = float("nan")
AT = dict.fromkeys(RATES, 0.03)  # the default setting


def at(rate: float) -> dict[str, float]:
    return AT | {"architecture_lr": rate}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 trials, raced, two infeasible, one suggested twice; two settings confirmed."""
    folder = tmp_path_factory.mktemp("raced") / "study"
    trials = raced(29)
    trials.append(Trial(trials[5].parameters, trials[5].values, raced_out=trials[5].raced_out,
                        like=5))  # fmt: skip
    confirmed = [(3, [0.72, 0.71, 0.73, 0.70]), (7, [0.70, 0.69, 0.72, 0.70]),
                 (0, [0.70, 0.70, 0.71, 0.69])]  # fmt: skip
    write_tuning(folder, trials, confirmed=confirmed, default=2)
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> dict:
    return json.loads((folder / "tune" / "tuning.json").read_text())


@pytest.fixture(scope="module")
def tables(folder: Path) -> dict[str, pd.DataFrame]:
    return tuning_tables(analysis.load(folder))


def panel(told: dict, results: analysis.Results) -> np.ndarray:
    """(trials, seeds) of derived_accuracy."""
    values = results.runs.set_index("run_id")["derived_accuracy"]
    every = [values.reindex(t["run_ids"]).to_numpy() for t in told["trials"]]
    return np.array([np.pad(x, (0, 8 - len(x)), constant_values=NAN) for x in every])


def test_a_trial_is_what_judged_makes_of_its_runs(folder: Path, tables: dict, told: dict) -> None:
    runs = analysis.load(folder).runs.set_index("run_id")
    for row, t in zip(tables["tuning"].itertuples(), told["trials"], strict=True):
        own = runs.loc[t["run_ids"]]
        want = judged(own["derived_accuracy"], own["architecture_displacement"],
                      own["status"] == "diverged")  # fmt: skip
        assert (row.trial, row.n, row.diverged) == (t["trial"], want.n, want.diverged)
        assert row.objective == pytest.approx(want.value)
        assert row.feasible == want.feasible
        assert (row.raced_out, row.state) == (t["raced_out"], "complete")
        assert row.architecture_lr == t["parameters"]["architecture_lr"]
    assert tables["tuning"]["feasible"].sum() == 28
    assert tables["tuning"].loc[[1, 2], "displacement"].tolist() == pytest.approx([0.1, 0.5])
    assert tables["tuning_summary"]["infeasible"].item() == 2


def test_shrunken_means_are_over_feasible_trials_equal_ones_once(
    folder: Path, tables: dict, told: dict
) -> None:
    y, trials = panel(told, analysis.load(folder)), tables["tuning"]
    distinct = trials.index[trials["feasible"]][:-1]  # the last one has the runs of trial 5
    want = shrunken(y[distinct])
    np.testing.assert_allclose(trials["shrunken"][distinct], want.means)
    np.testing.assert_allclose(trials["shrunken_error"][distinct], want.errors)
    assert trials["shrunken"].isna().tolist() == (~trials["feasible"]).tolist()
    assert trials["shrunken"][29] == trials["shrunken"][5]
    assert tables["tuning_seeds"].query("trial == 29")["run_id"].str.startswith("t5-").all()
    searches = tables["tuning_summary"]["searches"].item()
    assert searches == sum(len(t["run_ids"]) for t in told["trials"][:-1])


def test_the_incumbent_is_the_first_by_merit_of_those_with_all_seeds(
    folder: Path, tables: dict, told: dict
) -> None:
    y, trials = panel(told, analysis.load(folder)), tables["tuning"]
    full = [k for k in trials.index if np.isfinite(y[k]).all() and trials["feasible"][k]]
    assert len(full) < 12
    for last in (0, full[1], 29):
        able = {k: y[k] for k in full if k <= last}
        ((best, merit), *_) = by_merit(able, dict.fromkeys(able, 0.0))
        assert trials["incumbent"][last] == best
        assert trials["incumbent_merit"][last] == pytest.approx(merit)
    study = analysis.compute_study(analysis.load(folder), with_trajectories=False)
    assert study.best_trial == best
    (row,) = study["settings"].itertuples()
    assert (row.runs, row.architecture_lr) == (8, trials["architecture_lr"][best])
    known = trials["objective"].where(trials["feasible"])
    np.testing.assert_array_equal(trials["best_so_far"], known.cummax().ffill())


def test_the_lead_is_paired_by_seed(folder: Path, tables: dict, told: dict) -> None:
    summary, y = tables["tuning_summary"].iloc[0], panel(told, analysis.load(folder))
    d = y[summary["incumbent"]] - y[0]
    assert summary["default"] == 0
    assert summary["lead"] == pytest.approx(d.mean())
    assert summary["lead_error"] == pytest.approx(d.std(ddof=1) / 8**0.5)
    assert 0 < summary["shrunken_lead"] < summary["lead"]
    sound = tables["tuning"]["feasible"].to_numpy() & np.isfinite(y).all(axis=1)
    means = shrunken(y[sound]).means  # among those with all seeds
    places = list(np.flatnonzero(sound))
    expected = means[places.index(summary["incumbent"])] - means[places.index(0)]
    assert summary["shrunken_lead"] == pytest.approx(expected)
    assert summary["raced_out"] == sum(t["raced_out"] for t in told["trials"])


def test_what_is_confirmed_is_paired_with_the_default(tables: dict) -> None:
    frame = tables["tuning_confirmation"]
    assert frame["role"].tolist() == ["incumbent", "next", "default"]
    d = np.array([0.02, 0.01, 0.02, 0.01])
    row = frame.iloc[0]
    assert (row["trial"], row["n"], row["pairs"], row["planned"]) == (3, 4, 4, 4)
    assert row["difference"] == pytest.approx(d.mean())
    half = 3.182446 * d.std(ddof=1) / 2
    assert (row["low"], row["high"]) == pytest.approx((d.mean() - half, d.mean() + half))
    assert np.isnan(frame["difference"][2])
    each = tables["tuning_confirmation_seeds"].query("role == 'incumbent'")
    assert each["difference"].tolist() == pytest.approx(d.tolist())
    assert each["seed"].tolist() == [f"seed {k}" for k in range(100, 104)]
    # Its runs are not those of any trial.
    assert not tables["tuning_seeds"]["run_id"].str.startswith("c").any()


def test_where_the_default_leads_nobody_else_is_the_incumbent(tmp_path: Path) -> None:
    trials = [Trial(AT, [0.8, 0.9]), Trial(at(0.1), [0.7, 0.7])]
    write_tuning(tmp_path, trials, confirmed=[(1, [0.7, 0.6]), (0, [0.7, 0.8])], default=1)
    frame = tuning_tables(analysis.load(tmp_path))["tuning_confirmation"]
    assert frame["role"].tolist() == ["next", "default"]


def test_a_confirmation_that_goes_on(tmp_path: Path) -> None:
    trials = [Trial(AT, [0.5, 0.6]), Trial(at(0.1), [0.7, 0.7])]
    fresh = [(1, [0.7, 0.71, 0.74]), (None, [0.6, 0.6])]
    write_tuning(tmp_path, trials, confirmed=fresh, default=1, planned=8)
    frame = tuning_tables(analysis.load(tmp_path))["tuning_confirmation"]
    assert frame["trial"].isna().tolist() == [False, True]
    assert frame.loc[0, ["n", "pairs", "planned"]].tolist() == [3, 2, 8]
    assert frame["difference"][0] == pytest.approx(0.105)
    told = sentences.tuning(tuning_tables(analysis.load(tmp_path)))
    assert "trial 1 0.105 [0.0" in told[-2] or "cannot tell" in told[-2]
    assert "n=2 of 8 planned" in told[-2]
    for path in (tmp_path / "runs").glob("c*.parquet"):
        path.unlink()
    frame = tuning_tables(analysis.load(tmp_path))["tuning_confirmation"]
    assert frame["n"].tolist() == [0, 0]
    assert frame["difference"].isna().all()


def test_a_penalty_counts_for_objective_and_merit(tmp_path: Path) -> None:
    trials = [Trial(AT, [0.6, 0.61, 0.6]), Trial(at(0.1), [0.5, 0.62, 0.74])]
    write_tuning(tmp_path, trials, penalty=1.0)
    tables = tuning_tables(analysis.load(tmp_path))
    frame = tables["tuning"]
    np.testing.assert_allclose(frame["objective"], frame["mean"] - frame["standard_error"])
    assert frame["mean"].idxmax() == 1
    assert tables["tuning_summary"]["incumbent"].item() == 0


def test_trials_that_run_or_failed_count_for_nothing(tmp_path: Path) -> None:
    trials = [Trial(AT, [0.5, 0.6]), Trial(at(0.1), [0.9], state="running"),
              Trial(at(0.2), [], state="failed")]  # fmt: skip
    write_tuning(tmp_path, trials)
    tables = tuning_tables(analysis.load(tmp_path))
    assert tables["tuning"]["feasible"].tolist() == [True, False, False]
    assert tables["tuning"]["objective"].isna().tolist() == [False, True, True]
    assert tables["tuning"]["n"].tolist() == [2, 1, 0]
    assert tables["tuning_summary"]["infeasible"].item() == 0
    assert tables["tuning"]["incumbent"].tolist() == [0, 0, 0]


def test_one_trial_alone_is_told_and_drawn(tmp_path: Path) -> None:
    write_tuning(tmp_path, [Trial(AT, [0.5, 0.6])])
    tables = tuning_tables(analysis.load(tmp_path))
    assert "That is the default setting: no trial is ahead of it." in sentences.tuning(tables)
    assert (tables["tuning_importance"]["note"] == "too few trials (1 of 20)").all()
    drawn = [name for name, _, _ in figures.names(tables)]
    assert drawn == ["tuning_history", "tuning_rates", "tuning_contour"]
    for name in drawn:
        assert clashes(figures.draw(tables, name)) == []


def test_where_no_trial_is_feasible_the_page_is_about_the_last(tmp_path: Path) -> None:
    trials = [Trial(AT, [0.5, 0.6], displacement=0.1), Trial(at(0.1), [0.9, 0.8], diverged=[0, 1]),
              Trial(at(0.2), [0.3, 0.4], displacement=0.1)]  # fmt: skip
    write_tuning(tmp_path, trials)
    study = analysis.compute_study(analysis.load(tmp_path), with_trajectories=False)
    assert study.best_trial is None
    assert study["settings"]["architecture_lr"].item() == 0.2
    assert study["tuning_summary"]["incumbent"].isna().all()
    (told,) = sentences.tuning(study.tables)
    assert told.startswith("None of 3 tuning trials is feasible and had all seeds")
    assert [name for name, _, _ in figures.names(tuning_tables(analysis.load(tmp_path)))] == [
        "tuning_history"
    ]
    assert figures.draw(study.tables, "tuning_history").axes


def test_a_default_that_is_infeasible_has_no_shrunken_mean(tmp_path: Path) -> None:
    trials = [Trial(AT, [0.5, 0.6], displacement=0.1), Trial(at(0.1), [0.7, 0.9])]
    write_tuning(tmp_path, trials)
    tables = tuning_tables(analysis.load(tmp_path))
    assert tables["tuning_summary"]["default"].item() == 0
    told = " ".join(sentences.tuning(tables))
    assert "leads the default (trial 0) by 0.250, standard error 0.050; drawn" in told
    assert "by —." in told
    assert "nan" not in told


def test_two_objectives_have_a_front(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    trials = [
        Trial(at(0.01 * (k + 1)), rng.normal(0.6, 0.05, 3), displacement=0.1 if k == 4 else 0.4,
              more={"valid_accuracy": rng.normal(0.5, 0.05, 3)}) for k in range(9)
    ]  # fmt: skip
    write_tuning(tmp_path, trials, objective=["derived_accuracy", "valid_accuracy"],
                 confirmed=[(1, [0.6, 0.7]), (2, [0.6, 0.6])], default=1)  # fmt: skip
    tables = tuning_tables(analysis.load(tmp_path))
    frame = tables["tuning"]
    want = [np.mean(t.more["valid_accuracy"]) for t in trials]
    np.testing.assert_allclose(frame["valid_accuracy"], want)
    known = frame["feasible"].to_numpy()
    both = frame[["objective", "valid_accuracy"]].to_numpy()
    assert frame["front"].tolist() == front(np.where(known[:, None], both, NAN)).tolist()
    assert not frame["front"][4]
    assert tables["tuning_confirmation"]["role"].tolist() == ["front", "default"]
    assert "The front of both: trials " in " ".join(sentences.tuning(tables))


def test_transfer_of_runs_is_the_verdicts_number(tmp_path: Path) -> None:
    trials = [Trial(AT, np.linspace(0.5, 0.6, 8)), Trial(at(0.1), np.linspace(0.4, 0.6, 8))]
    write_tuning(tmp_path, trials, objective=["derived_accuracy", "dependence_transfer"],
                 rows=1.0)  # fmt: skip
    results = analysis.load(tmp_path)
    study = analysis.compute_study(results, with_trajectories=False)
    assert study.best_trial == 0
    want = study["verdict"]["dependence_transfer"].item()
    ids = [f"t0-{k}" for k in range(8)]
    assert want > 0.005
    assert transfer_of_runs(analysis.load(tmp_path), ids) == pytest.approx(want)
    assert study["tuning"]["dependence_transfer"][0] == pytest.approx(want)
    assert study["tuning"]["dependence_transfer"][1] != pytest.approx(want)
    assert np.isnan(transfer_of_runs(results, ids[:2]))  # nobody else to predict by
    assert np.isnan(transfer_of_runs(results, []))
    assert np.isnan(transfer_of_runs(results, ["of another study"]))


def test_transfer_of_what_learns_no_dependence_is_empty(nb201: Path) -> None:
    results = analysis.load(nb201)
    for setting in ("independent", "placebo"):
        ids = results.runs.loc[results.runs["setting"] == setting, "run_id"]
        assert np.isnan(transfer_of_runs(results, ids))


def test_conditional_parameters_and_choices(tmp_path: Path) -> None:
    parameters = {"architecture_lr": RATE, "init": INIT, "init_strength": STRENGTH}
    first = {"architecture_lr": 0.03, "init": "identity", "init_strength": 2.0}
    trials = [Trial(first, [0.5, 0.6]), Trial({"architecture_lr": 0.1, "init": "uniform"}, [0.7])]
    write_tuning(tmp_path, trials, parameters)
    tables = tuning_tables(analysis.load(tmp_path))
    assert tables["tuning"]["init"].tolist() == ["identity", "uniform"]
    assert tables["tuning"]["init_strength"].isna().tolist() == [False, True]
    assert tables["tuning_summary"]["default"].item() == 0
    about = tables["tuning_parameters"].set_index("parameter")
    assert about["default"].tolist() == ["0.03", "identity", "2.0"]
    assert json.loads(about["choices"]["init"]) == INIT["choices"]
    assert about["auto"].tolist() == [True, False, False]
    assert about["paired"].tolist() == [True, False, True]
    one = dict(list(parameters.items())[:2])  # a single number: no pair to draw areas over
    write_tuning(tmp_path, [Trial({"architecture_lr": 0.03}, [0.5, 0.6])], one)
    drawn = [name for name, _, _ in figures.names(tuning_tables(analysis.load(tmp_path)))]
    assert drawn == ["tuning_history", "tuning_rates"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"schema_version": 1, "object', "Unterminated string"),
        ("[1, 2]", "cannot be used"),
        ('{"schema_version": 7}', "schema_version 7, known is 1"),
        ('{"schema_version": 1, "objective": [], "trials": [], "parameters": {}}', "not enough"),
    ],
)
def test_a_broken_file_is_one_line(folder: Path, tmp_path: Path, content: str, why: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "tune" / "tuning.json").write_text(content)
    with pytest.raises(ResultsError, match=r"tune/tuning.json cannot be used") as found:
        tuning_tables(analysis.load(copy))
    assert why in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("key", ["race", "parameters", "sampler"])
def test_a_file_that_lacks_something_says_what(told: dict, folder: Path, tmp_path: Path,
                                               key: str) -> None:  # fmt: skip
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "tune" / "tuning.json").write_text(json.dumps({k: told[k] for k in told if k != key}))
    with pytest.raises(ResultsError, match=key):
        tuning_tables(analysis.load(copy))


@pytest.mark.parametrize("objective", [["best"], ["dependence_transfer"]])
def test_an_objective_that_no_run_has(objective: list, told: dict, folder: Path, tmp_path: Path
                                      ) -> None:  # fmt: skip
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "tune" / "tuning.json").write_text(json.dumps(told | {"objective": objective}))
    with pytest.raises(ResultsError, match=f"{objective[0]} is missing or unknown"):
        tuning_tables(analysis.load(copy))


def test_any_file_system_will_do(folder: Path, tables: dict) -> None:
    found = tuning_tables(analysis.load(folder.absolute().as_uri()))
    pd.testing.assert_frame_equal(found["tuning"], tables["tuning"])


# Without tuning.json: `tuned` has five trials of two seeds, of which a run of trial 3 diverged.


def test_without_its_file_a_tuning_is_its_runs_tune_trial(tuned: Path) -> None:
    runs = analysis.load(tuned).runs
    tables = tuning_tables(analysis.load(tuned))
    got = tables["tuning"]
    assert got["trial"].tolist() == [0, 1, 2, 3, 4]
    assert got["n"].tolist() == [2, 2, 2, 1, 2]
    for trial in got[got["trial"] != 3].itertuples():
        values = runs.loc[runs["tune_trial"] == trial.trial, "derived_accuracy"]
        assert trial.objective == pytest.approx(values.mean())
    rates = got.loc[2, ["architecture_lr", "transition_lr", "attention_lr"]].tolist()
    assert rates == pytest.approx([0.004, 0.01, 0.025])
    summary = tables["tuning_summary"].iloc[0]
    assert summary[["default", "sampler", "answer"]].isna().all()
    assert summary["raced_out"] == 0
    assert np.isnan(summary["lead"])
    assert sentences.tuning(tables)[0].startswith("Trial 1 is the best of 5 by shrunken mean: ")


def test_a_rate_that_no_run_has_is_no_column(tuned: Path) -> None:
    results = analysis.load(tuned)
    results.runs["transition_lr"] = np.nan
    got = tuning_tables(results)["tuning"]
    assert "transition_lr" not in got
    assert "attention_lr" in got


def test_a_trial_with_a_diverged_run_is_infeasible(tuned: Path) -> None:
    got = tuning_tables(analysis.load(tuned))["tuning"].set_index("trial")
    assert got["feasible"].tolist() == [True, True, True, False, True]
    assert got["diverged"].tolist() == [0, 0, 0, 1, 0]
    # Its surviving seed alone would have been the best of all.
    assert got["objective"].idxmax() == 3
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
    tables = tuning_tables(analysis.load(nb201))
    assert list(tables) == ["tuning"]
    assert tables["tuning"].empty


def test_a_study_whose_trials_all_failed_is_about_the_last(tuned: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tuned, tmp_path / "copy"))

    def fail(rows: list[dict]) -> list[dict]:
        return [r | {"status": "diverged"} if r["seed_data"] else r for r in rows]

    rewrite(copy, "runs", fail)
    study = analysis.compute_study(analysis.load(copy), with_trajectories=False)
    assert study.best_trial is None
    (row,) = study["settings"].itertuples()
    assert (row.runs, row.n, row.diverged_runs) == (2, 1, "seed 1")
    assert row.architecture_lr == pytest.approx(0.016)  # of trial 4
