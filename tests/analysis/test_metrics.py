"""Metrics against scipy, statsmodels and numbers computed by hand."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import proportion_confint

from analysis.statistics import metrics


def test_estimate_is_students_interval() -> None:
    x = np.array([0.51, 0.55, 0.58, 0.62, 0.50])
    got = metrics.estimate(x)
    low, high = stats.t.interval(0.95, 4, loc=x.mean(), scale=stats.sem(x))
    assert (got.mean, got.low, got.high) == pytest.approx((0.552, low, high), rel=1e-12)
    assert got.sd == pytest.approx(np.sqrt(np.sum((x - 0.552) ** 2) / 4))
    assert got.n == 5
    np.testing.assert_array_equal(got.values, x)


def test_estimate_leaves_out_what_is_not_finite_and_says_so_in_n() -> None:
    got = metrics.estimate([1.0, np.nan, 3.0, np.inf])
    assert (got.mean, got.n) == (2.0, 2)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    one = metrics.estimate([0.5])
    assert (one.mean, one.n) == (0.5, 1)
    assert np.isnan([one.low, one.high, one.sd]).all()
    none = metrics.estimate([])
    assert np.isnan(none.mean)
    assert none.n == 0


def test_t_halfwidth_agrees_with_estimate() -> None:
    x = np.random.default_rng(0).normal(size=7)
    e = metrics.estimate(x)
    half = metrics.t_halfwidth([e.sd, e.sd], [7, 1])
    assert half[0] == pytest.approx(e.high - e.mean)
    assert np.isnan(half[1])


def test_t_interval_covers_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = [e.low < 3 < e.high for e in map(metrics.estimate, rng.normal(3, 2, (2000, 4)))]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_proportions_agree_with_statsmodels() -> None:
    for successes, n in ((0, 4), (3, 12), (12, 12), (1, 100)):
        got = metrics.proportion(successes, n)
        want = proportion_confint(successes, n, method="beta")
        assert (got.low, got.high) == pytest.approx(want, abs=1e-10)
        assert (got.rate, got.successes, got.n) == (successes / n, successes, n)
    assert np.isnan(metrics.proportion(0, 0).rate)


def test_interquartile_mean_is_that_of_the_middle_half() -> None:
    assert metrics.interquartile_mean([100, 2, 3, 4, 5, 6, 7, -50]) == pytest.approx(4.5)
    assert metrics.interquartile_mean([2.0, np.nan]) == 2.0
    assert np.isnan(metrics.interquartile_mean([]))


def test_total_variation_and_entropy_by_hand() -> None:
    p, q = [[0.5, 0.5, 0.0], [1, 0, 0]], [[0.25, 0.25, 0.5], [0, 0, 1]]
    np.testing.assert_allclose(metrics.total_variation(p, q), [0.5, 1.0])
    np.testing.assert_allclose(metrics.entropy(p), [np.log(2), 0.0])


def test_spread_is_over_the_first_axis() -> None:
    x = np.random.default_rng(2).normal(size=(5, 3, 2))
    got = metrics.spread(x)
    np.testing.assert_allclose(got.mean, x.mean(0))
    np.testing.assert_allclose(got.sd, x.std(0, ddof=1))
    assert got.n == 5
    assert np.isnan(metrics.spread(x[:1]).sd).all()
    with pytest.raises(ValueError, match="no seed"):
        metrics.spread(x[:0])


@pytest.mark.parametrize("n", [2, 4, 10, 50])
def test_detectable_difference_agrees_with_statsmodels(n: int) -> None:
    want = TTestIndPower().solve_power(nobs1=n, power=0.8, alpha=0.05)
    assert metrics.detectable_difference(0.02, n) == pytest.approx(0.02 * float(want), rel=1e-4)


def test_detectable_difference_of_too_little_is_nan() -> None:
    assert np.isnan(metrics.detectable_difference(0.1, 1))
    assert np.isnan(metrics.detectable_difference(float("nan"), 5))
    assert metrics.detectable_difference(0.0, 5) == 0.0
