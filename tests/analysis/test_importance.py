"""Importance of parameters: a known one comes first, few trials say nothing, Optuna stays quiet."""

import warnings

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.compute import importance
from analysis.compute.importance import importance_table

LOG = {"low": 0.001, "high": 1.0, "log": True, "step": None, "choices": None}
STEPS = {"low": 0.0, "high": 1.0, "log": False, "step": 0.25, "choices": None}
CHOICE = {"low": None, "high": None, "log": False, "step": None, "choices": '["a", "b", "c"]'}
PARAMETERS = {"rate": LOG, "stepped": STEPS, "kind": CHOICE}


def study(n: int, by: str, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """n trials whose objective depends on one parameter and a little noise."""
    rng = np.random.default_rng(seed)
    trials = pd.DataFrame({
        "rate": np.exp(rng.uniform(np.log(0.001), 0, n)),
        "stepped": rng.integers(0, 5, n) / 4, "kind": rng.choice(["a", "b", "c"], n),
    })  # fmt: skip
    effect = {"rate": -((np.log(trials["rate"]) + 3) ** 2), "stepped": -3 * trials["stepped"],
              "kind": 3.0 * (trials["kind"] == "b")}[by]  # fmt: skip
    rows = [{"parameter": name, **of} for name, of in PARAMETERS.items()]
    return trials.assign(objective=effect + rng.normal(0, 0.3, n)), pd.DataFrame(rows)


@pytest.mark.parametrize("by", PARAMETERS)
@pytest.mark.parametrize("n", [25, 80])
def test_the_one_that_decides_comes_first(by: str, n: int) -> None:
    found = importance_table(*study(n, by)).set_index("parameter")
    assert found["importance"].idxmax() == by
    assert found["importance"].sum() == pytest.approx(1)
    assert (found["low"] <= found["importance"]).all()
    assert (found["importance"] <= found["high"]).all()
    assert (found["high"] > found["low"]).all()
    assert (found["trials"] == n).all()
    assert (found["quantile"] == (0.5 if n == 25 else 0.25)).all()
    assert (found["note"] == "").all()


def test_it_is_what_optuna_says() -> None:
    trials, parameters = study(40, "rate")
    spaces = {
        "rate": optuna.distributions.FloatDistribution(0.001, 1.0, log=True),
        "stepped": optuna.distributions.FloatDistribution(0.0, 1.0, step=0.25),
        "kind": optuna.distributions.CategoricalDistribution(("a", "b", "c")),
    }
    known = optuna.create_study(direction="maximize")
    for row in trials.to_dict("records"):
        value = row.pop("objective")
        known.add_trial(optuna.trial.create_trial(params=row, distributions=spaces, value=value))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=20 / 40)
    want = optuna.importance.get_param_importances(known, evaluator=evaluator)
    got = importance_table(trials, parameters).set_index("parameter")["importance"].to_dict()
    assert got == pytest.approx(want)


def test_few_trials_say_nothing() -> None:
    trials, parameters = study(19, "rate")
    found = importance_table(trials, parameters)
    assert found[["importance", "low", "high"]].isna().all(axis=None)
    assert (found["note"] == "too few trials (19 of 20)").all()
    nothing = importance_table(trials[:0], parameters)
    assert (nothing["trials"] == 0).all()


def test_a_conditional_parameter_is_told_over_the_trials_that_have_it() -> None:
    trials, parameters = study(60, "stepped")
    trials["rate"] = trials["rate"].where(trials["kind"] != "a")
    found = importance_table(trials, parameters).set_index("parameter")
    assert found["trials"].to_dict() == {
        "rate": trials["rate"].notna().sum(), "stepped": 60, "kind": 60
    }  # fmt: skip
    assert found["importance"].idxmax() == "stepped"
    few = trials.assign(rate=trials["rate"].where(trials.index < 20))
    found = importance_table(few, parameters).set_index("parameter")
    assert found["note"]["rate"].startswith("too few trials (")
    assert np.isnan(found["importance"]["rate"])
    assert found["importance"][["stepped", "kind"]].sum() == pytest.approx(1)


def test_it_is_the_same_each_time_and_leaves_optuna_as_it_was(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", 10)
    trials, parameters = study(25, "rate")
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = importance_table(trials, parameters)
    pd.testing.assert_frame_equal(first, importance_table(trials, parameters))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_values_on_and_beyond_the_border_are_taken() -> None:
    trials, parameters = study(25, "rate")
    trials.loc[0, "rate"], trials.loc[1, "rate"] = 0.001, 1.0
    assert importance_table(trials, parameters)["importance"].notna().all()
    same = trials.assign(objective=0.5)  # no trial is better than another
    assert importance_table(same, parameters)["importance"].tolist() == pytest.approx([1 / 3] * 3)
