"""Inference against independent implementations: statsmodels, scipy, brute force."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from analysis.statistics import inference
from analysis.statistics.inference import Agreement


def random_pairs(n: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).random((n, n))
    x = x + x.T
    np.fill_diagonal(x, 0)
    return x


def test_a_mean_over_pairs_and_an_agreement_by_hand() -> None:
    d, c = random_pairs(5), 3 + random_pairs(5, 1)
    np.fill_diagonal(c, 0)
    first, second = np.triu_indices(5, 1)
    assert Agreement(d).estimate == pytest.approx(d[first, second].mean())
    ratio = d[first, second].mean() / c[first, second].mean()
    assert Agreement(d, c).estimate == pytest.approx(1 - ratio)
    with_self = Agreement(d, c + np.eye(5), with_self=True)
    assert with_self.estimate == pytest.approx(1 - d[first, second].mean() / (c + np.eye(5)).mean())


@pytest.mark.parametrize("with_self", [False, True])
def test_leaving_one_out_is_taking_the_others(with_self: bool) -> None:
    quantity = Agreement(random_pairs(6), 2 + random_pairs(6, 1), with_self)
    want = [quantity.take([j for j in range(6) if j != i]).estimate for i in range(6)]
    np.testing.assert_allclose(quantity.leave_one_out(), want, atol=1e-13)


def test_zero_over_zero_is_no_agreement() -> None:
    nothing = np.zeros((4, 4))
    assert Agreement(nothing, nothing).estimate == 0
    np.testing.assert_array_equal(Agreement(nothing, nothing).leave_one_out(), 0)
    interval = inference.jackknife(Agreement(nothing, nothing))
    assert interval[:3] == (0, 0, 0)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_seeds_have_no_interval(n: int) -> None:
    interval = inference.jackknife(Agreement(random_pairs(n)))
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.n == n
    assert np.isnan(interval.estimate) == (n < 2)


def test_the_jackknife_of_a_seeds_own_share_is_students_interval() -> None:
    # Where a pair's value is the mean of what its seeds have, the quantity is a mean of seeds.
    x = np.random.default_rng(2).uniform(0.4, 0.6, size=9)
    x -= x.mean() - 0.5
    x = np.sort(np.concatenate([x, 1 - x]))  # symmetric: no skewness to correct
    interval = inference.jackknife(Agreement((x[:, None] + x[None]) / 2))
    low, high = stats.t.interval(0.95, x.size - 1, loc=x.mean(), scale=stats.sem(x))
    assert interval.estimate == pytest.approx(x.mean())
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-6)


def test_variance_components_of_pairs_are_unbiased() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(400):
        a, g = rng.normal(0, 0.3, 12), rng.normal(0, 0.2, (12, 12))
        g = np.triu(g, 1) + np.triu(g, 1).T
        found.append(inference.components(Agreement(5 + a[:, None] + a[None] + g)))
    np.testing.assert_allclose(np.mean(found, axis=0), (0.09, 0.04), rtol=0.06)


def test_a_seed_leaves_both_settings_at_once() -> None:
    a, b = random_pairs(8), random_pairs(8, 5)
    same = inference.jackknife_difference(Agreement(a), Agreement(a))
    assert same.difference == same.low == same.high == 0
    assert same.p_value == 1
    forth = inference.jackknife_difference(Agreement(a), Agreement(b))
    back = inference.jackknife_difference(Agreement(b), Agreement(a))
    assert forth.difference == pytest.approx(-back.difference)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.p_value == pytest.approx(back.p_value)
    # The p-value is below 0.05 exactly where the interval leaves 0 out.
    assert (forth.p_value < 0.05) == (not forth.low < 0 < forth.high)
    with pytest.raises(ValueError, match="8 seeds against 7"):
        inference.jackknife_difference(Agreement(a), Agreement(b).take(range(7)))


def test_interquartile_interval_is_tukeys_and_mclaughlins() -> None:
    x = np.random.default_rng(4).normal(size=11)
    got = inference.interquartile_interval(x)
    assert got.estimate == pytest.approx(stats.trim_mean(x, 0.25))
    winsorised = np.asarray(stats.mstats.winsorize(x, (2 / 11, 2 / 11)))
    error = winsorised.std(ddof=1) / ((1 - 4 / 11) * 11**0.5)
    assert got.width / 2 == pytest.approx(stats.t.ppf(0.975, 6) * error)


def test_proportions_have_clopper_and_pearsons_interval() -> None:
    for successes, n in ((0, 10), (1, 10), (7, 12), (12, 12)):
        got = inference.proportion_interval(successes, n)
        want = proportion_confint(successes, n, method="beta")
        assert (got.low, got.high) == pytest.approx(want, abs=1e-10)
    assert np.isnan(inference.proportion_interval(0, 0).estimate)


def test_swapping_labels_agrees_with_scipy() -> None:
    rng = np.random.default_rng(5)
    for n in (3, 8):
        x, y = rng.normal(0.4, 1, n), rng.normal(0, 1, n)
        want = stats.permutation_test(
            (x, y), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
        )
        assert inference.swapped_labels(x - y) == pytest.approx(want.pvalue)
    assert inference.swapped_labels(np.zeros(6)) == 1
    assert np.isnan(inference.swapped_labels([1.0]))
    # Beyond all of them, a random part of the swaps gives nearly the same.
    x = rng.normal(0.3, 1, 16)
    exact = inference.swapped_labels(x, draws=2**16)
    assert inference.swapped_labels(x, draws=9999) == pytest.approx(exact, abs=0.015)


def test_probability_of_improvement_is_mann_whitneys() -> None:
    x, y = np.array([1.0, 2, 3, 3]), np.array([0.0, 2, 3])
    u = stats.mannwhitneyu(x, y).statistic
    assert inference.probability_of_improvement(x, y) == pytest.approx(u / 12)
    assert np.isnan(inference.probability_of_improvement([], y))


def test_holm_agrees_with_statsmodels() -> None:
    p = np.random.default_rng(6).random(20) ** 3
    np.testing.assert_allclose(
        inference.holm(p), multipletests(p, method="holm")[1], rtol=0, atol=1e-12
    )
    with_gap = inference.holm([0.01, np.nan, 0.04])
    np.testing.assert_allclose(with_gap, [0.02, np.nan, 0.04])
    assert inference.holm([]).size == 0


def test_holms_published_example() -> None:
    # Holm (1979) steps down: 0.005*4, 0.011*3, 0.02*2, 0.04*1.
    np.testing.assert_allclose(
        inference.holm([0.02, 0.005, 0.04, 0.011]), [0.04, 0.02, 0.04, 0.033]
    )
