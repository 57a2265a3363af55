"""Metrics against scipy, statsmodels and numbers computed by hand."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from analysis.statistics import metrics


def test_t_halfwidth_is_that_of_scipys_interval() -> None:
    x = np.random.default_rng(0).normal(size=7)
    low, high = stats.t.interval(0.95, 6, loc=x.mean(), scale=stats.sem(x))
    half = metrics.t_halfwidth([x.std(ddof=1)] * 2, [7, 1])
    assert half[0] == pytest.approx((high - low) / 2)
    assert np.isnan(half[1])


def test_total_variation_by_hand() -> None:
    p, q = [[0.5, 0.5, 0.0], [1, 0, 0]], [[0.25, 0.25, 0.5], [0, 0, 1]]
    np.testing.assert_allclose(metrics.total_variation(p, q), [0.5, 1.0])


def test_groups_are_in_the_order_of_their_first_places() -> None:
    found = metrics.groups_of([("b",), ("a",), ("b",), ("c",)])
    assert [g.tolist() for g in found] == [[0, 2], [1], [3]]
    assert metrics.groups_of([]) == []


@pytest.mark.parametrize("n", [2, 4, 10, 50])
def test_detectable_difference_agrees_with_statsmodels(n: int) -> None:
    want = TTestIndPower().solve_power(nobs1=n, power=0.8, alpha=0.05)
    assert metrics.detectable_difference(0.02, n) == pytest.approx(0.02 * float(want), rel=1e-4)


def test_detectable_difference_of_too_little_is_nan() -> None:
    assert np.isnan(metrics.detectable_difference(0.1, 1))
    assert np.isnan(metrics.detectable_difference(float("nan"), 5))
    assert metrics.detectable_difference(0.0, 5) == 0.0
