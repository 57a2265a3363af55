"""Trials of a tuning as numbers: judged, shrunken, ranked, on the front; against oracles."""

from itertools import product

import numpy as np
import pytest

from analysis.statistics.trials import (
    ARCHITECTURE_MOVED,
    by_merit,
    front,
    judged,
    residual_variance,
    shrunken,
)

NAN = float("nan")
MOVED = [0.4, 0.4, 0.4]


def panel(seed: int, trials: int = 12, seeds: int = 6, between: float = 1.0) -> np.ndarray:
    """(trials, seeds): what a seed, a trial and both together add; some trials raced out."""
    rng = np.random.default_rng(seed)
    y = rng.normal(0, between, (trials, 1)) + rng.normal(0, 2, seeds)
    y = y + rng.normal(0, 1, (trials, seeds))
    for k in range(3, trials):
        y[k, 2 * (1 + k % 3) :] = NAN
    return y


def test_the_mean_of_what_has_a_value() -> None:
    found = judged([1.0, 2.0, 6.0], MOVED, [False] * 3)
    assert (found.value, found.n, found.diverged, found.feasible) == (3.0, 3, 0, True)
    assert found.standard_error == pytest.approx(np.std([1, 2, 6], ddof=1) / 3**0.5)
    assert found.constraints == {"diverged": 0.0, "hardly_moved": pytest.approx(-0.2)}
    penalised = judged([1.0, 2.0, 6.0], MOVED, [False] * 3, penalty=2.0)
    assert penalised.value == pytest.approx(3 - 2 * found.standard_error)
    assert judged([1.0, NAN, 3.0], MOVED, [False] * 3).value == 2.0


def test_a_run_that_diverged_makes_a_trial_infeasible_not_worse() -> None:
    found = judged([1.0, 2.0, -9.0], MOVED, [False, False, True])
    assert (found.value, found.n, found.diverged, found.feasible) == (1.5, 2, 1, False)
    nothing = judged([NAN, NAN], MOVED[:2], [True, True])
    assert np.isnan(nothing.value)
    assert not nothing.feasible


@pytest.mark.parametrize(("moved", "feasible"), [(0.19, False), (0.2, True), (NAN, False)])
def test_what_hardly_moved_is_infeasible(moved: float, feasible: bool) -> None:
    found = judged([0.5, 0.6], [moved, moved], [False, False])
    assert found.feasible == feasible
    assert found.value == pytest.approx(0.55)
    if np.isfinite(moved):
        assert found.hardly_moved == pytest.approx(ARCHITECTURE_MOVED - moved)


def test_of_one_run_there_is_no_error_and_of_none_no_value() -> None:
    one = judged([0.5], [0.4], [False])
    assert one.feasible
    assert np.isnan(one.standard_error)
    none = judged([], [], [])
    assert (none.n, none.feasible, np.isnan(none.value)) == (0, False, True)


@pytest.mark.parametrize("seed", range(3))
def test_shrunken_means_are_those_of_a_mixed_model(seed: int) -> None:
    """statsmodels' MixedLM by REML: seeds fixed, trials random."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    y = panel(seed)
    trial, run = np.nonzero(np.isfinite(y))
    x = np.eye(y.shape[1])[run]
    fitted = MixedLM(y[trial, run], x, groups=trial).fit(reml=True, method=["powell"], ftol=1e-14)
    ours = shrunken(y)
    added = [float(np.asarray(fitted.random_effects[k])[0]) for k in range(len(y))]
    np.testing.assert_allclose(ours.means, fitted.fe_params.mean() + np.array(added), atol=1e-5)
    assert ours.within**2 == pytest.approx(fitted.scale, rel=1e-5)
    assert ours.between**2 == pytest.approx(float(np.asarray(fitted.cov_re)[0, 0]), rel=1e-5)
    ratio = ours.between**2 / ours.within**2
    n = np.isfinite(y).sum(axis=1)
    np.testing.assert_allclose(ours.errors, ours.within * np.sqrt(ratio / (1 + ratio * n)))


def test_fewer_seeds_are_drawn_further_to_the_mean() -> None:
    y = panel(1)
    found, n = shrunken(y), np.isfinite(y).sum(axis=1)
    seeds = np.nanmean(y - found.means[:, None], axis=0)  # roughly what seeds add
    raw = np.array([np.nanmean(row - seeds) for row in y])
    kept = np.abs(found.means - found.means.mean()) / np.abs(raw - raw.mean())
    assert kept[n == 6].mean() > kept[n == 2].mean()
    assert (found.errors[n == 2] > found.errors[n == 6].max()).all()


def test_trials_that_differ_by_noise_alone_are_all_drawn_together() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(0, 1, (40, 4))
    y -= y.mean(axis=1, keepdims=True)  # less between trials than noise would give
    found = shrunken(y)
    assert found.between == 0
    np.testing.assert_allclose(found.means, found.means[0], atol=1e-12)
    y[7] += 0.01  # still less: but who is ahead can be told
    found = shrunken(y)
    assert found.between == 0
    np.testing.assert_allclose(found.means, found.means[0], atol=1e-6)
    assert found.means.argmax() == 7
    np.testing.assert_allclose(found.errors, 0)


def test_trials_without_any_value_have_no_mean() -> None:
    found = shrunken([[1.0, 2.0], [NAN, NAN], [3.0, 4.0]])
    assert np.isnan(found.means[1])
    assert found.means[2] > found.means[0]
    assert np.isnan(shrunken([[NAN, NAN]]).means).all()
    assert shrunken(np.empty((0, 3))).means.shape == (0,)
    assert shrunken([[1.0, 3.0]]).means == pytest.approx([2.0])


def test_merit_is_the_shrunken_mean_less_the_penalty() -> None:
    values = {3: np.array([1.0, 2.0]), 5: np.array([2.0, 3.5]), 8: np.array([0.0, 1.0])}
    errors = {3: 0.1, 5: 0.1, 8: 0.1}
    ranked = by_merit(values, errors)
    assert [n for n, _ in ranked] == [5, 3, 8]
    means = shrunken(np.array([*values.values()])).means
    assert [merit for _, merit in ranked] == pytest.approx([means[1], means[0], means[2]])
    costly = by_merit(values, errors | {5: 9.0}, penalty=1.0)
    assert [n for n, _ in costly] == [3, 8, 5]
    assert by_merit({}, {}) == []
    same = {k: np.array([1.0, 2.0]) for k in (4, 2, 9)}
    assert [n for n, _ in by_merit(same, dict.fromkeys(same, 0.1))] == [4, 2, 9]  # as given


def test_residual_variance_of_a_complete_table_is_the_interaction() -> None:
    y = np.random.default_rng(0).normal(size=(5, 4))
    rest = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
    variance, freedom = residual_variance(y)
    assert freedom == 12
    assert variance == pytest.approx((rest**2).sum() / 12)


def test_residual_variance_of_what_is_left() -> None:
    y = panel(0)
    variance, freedom = residual_variance(y)
    assert freedom == np.isfinite(y).sum() - 12 - 6 + 1
    assert 0.5 < variance < 2
    assert np.isnan(residual_variance([[1.0, 2.0]])[0])
    assert residual_variance([[NAN, NAN]])[1] == 0


def test_the_front_is_what_no_other_beats() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 6, (60, 2)).astype(float)
    y[7, 1] = NAN
    want = [
        np.isfinite(a).all()
        and not any((b >= a).all() and (b > a).any() for b in y if np.isfinite(b).all())
        for a in y
    ]
    assert front(y).tolist() == want
    assert front([[1.0, 1.0], [1.0, 1.0]]).all()
    corners = [list(x) for x in product([0.0, 1.0], repeat=2)]
    assert front(corners).tolist() == [False, False, False, True]
