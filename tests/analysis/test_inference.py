"""Inference against independent implementations: statsmodels, scipy, brute force."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from analysis.statistics import inference
from analysis.statistics.agreement import operation_agreement
from analysis.statistics.inference import difference, interval
from analysis.statistics.seeds import Agreement, Paired, Ratio, Statistic, Values

OPS = tuple("abcde")


def random_pairs(n: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).random((n, n))
    x = x + x.T
    np.fill_diagonal(x, 0)
    return x


def of_kinds(n: int) -> dict[str, Statistic]:
    rng = np.random.default_rng(8)
    with_gap = np.where(np.arange(n) == 2, np.nan, rng.normal(size=n))
    return {
        "values": Values(rng.normal(size=n)),
        "values, one missing": Values(with_gap),
        "ratio": Ratio(rng.normal(size=n), 3 + rng.random(n)),
        "mean divergence": Agreement(random_pairs(n)),
        "agreement": Agreement(random_pairs(n), 2 + random_pairs(n, 1)),
        "kappa": Agreement(random_pairs(n), 2 + random_pairs(n, 1), with_self=True),
        "paired": Paired(Agreement(random_pairs(n)), Values(rng.normal(size=n))),
    }


def test_a_mean_over_pairs_and_an_agreement_by_hand() -> None:
    d, c = random_pairs(5), 3 + random_pairs(5, 1)
    np.fill_diagonal(c, 0)
    first, second = np.triu_indices(5, 1)
    assert Agreement(d).estimate == pytest.approx(d[first, second].mean())
    ratio = d[first, second].mean() / c[first, second].mean()
    assert Agreement(d, c).estimate == pytest.approx(1 - ratio)
    with_self = Agreement(d, c + np.eye(5), with_self=True)
    assert with_self.estimate == pytest.approx(1 - d[first, second].mean() / (c + np.eye(5)).mean())
    assert Ratio(np.array([1.0, 5]), np.array([4.0, 8])).estimate == pytest.approx(0.5)


@pytest.mark.parametrize("kind", of_kinds(6))
def test_leaving_one_out_is_taking_the_others(kind: str) -> None:
    statistic = of_kinds(6)[kind]
    places = np.flatnonzero(statistic.usable)
    want = [statistic.take([j for j in places if j != i]).estimate for i in places]
    np.testing.assert_allclose(statistic.leave_one_out()[places], want, atol=1e-13)
    pseudo = statistic.n * statistic.estimate - (statistic.n - 1) * np.array(want)
    np.testing.assert_allclose(statistic.pseudo_values()[places], pseudo)
    assert np.isnan(statistic.pseudo_values()[~statistic.usable]).all()


def test_a_pair_is_known_where_both_are() -> None:
    kinds = of_kinds(6)
    both = Paired(kinds["ratio"], kinds["values, one missing"])
    rest = both.take([0, 1, 3, 4, 5])
    assert both.n == 5
    assert np.isnan(both.pseudo_values()[2])
    np.testing.assert_allclose(np.delete(both.pseudo_values(), 2), rest.pseudo_values())
    assert interval(both).estimate == rest.estimate


@pytest.mark.parametrize("kind", of_kinds(6))
def test_what_pairs_add_is_the_first_order(kind: str) -> None:
    """The mean over pairs that have a seed moves as the statistic does without the seed."""
    statistic = of_kinds(40)[kind].known()
    n, pairs = statistic.n, statistic.pairs()
    off = np.where(np.eye(n) == 1, 0.0, pairs)
    own = off.sum(axis=1) / (n - 1)
    influence = statistic.leave_one_out().mean() - statistic.leave_one_out()
    assert np.corrcoef(own, influence)[0, 1] > 0.99
    assert np.polyfit(own, influence, 1)[0] == pytest.approx(2 / n, rel=0.1)


def test_the_mean_of_values_has_students_interval() -> None:
    x = np.array([0.51, 0.55, np.nan, 0.58, 0.62, 0.50])
    got = interval(Values(x))
    known = x[np.isfinite(x)]
    low, high = stats.t.interval(0.95, 4, loc=known.mean(), scale=stats.sem(known))
    assert (got.estimate, got.low, got.high) == pytest.approx((0.552, low, high), rel=1e-12)
    assert got.n == 5
    assert interval(Values(x), limits=(0.53, 0.56)).low == 0.53
    two = interval(Values(np.array([1.0, 3.0])))
    assert (two.low, two.high) == pytest.approx(stats.t.interval(0.95, 1, 2.0, 1.0))


def test_an_agreement_has_students_interval_of_the_logarithms_pseudo_values() -> None:
    d, c = random_pairs(7), 4 + random_pairs(7, 1)
    got = interval(Agreement(d, c))

    def log_ratio(keep: list[int]) -> float:
        index = np.ix_(keep, keep)
        off = ~np.eye(len(keep), dtype=bool)
        return float(np.log(d[index][off].mean() / c[index][off].mean()))

    each = [log_ratio([j for j in range(7) if j != i]) for i in range(7)]
    pseudo = 7 * log_ratio(list(range(7))) - 6 * np.array(each)
    low, high = stats.t.interval(0.95, 6, pseudo.mean(), stats.sem(pseudo))
    assert (got.low, got.high) == pytest.approx((1 - np.exp(high), 1 - np.exp(low)))


def test_pairs_that_agree_by_accident_leave_a_width() -> None:
    # Two halves of four: whichever seed is left out, the same number of pairs agree.
    mode = np.repeat([0, 1], 4)
    halves = Agreement((mode[:, None] != mode).astype(float), np.ones((8, 8)))
    assert np.ptp(halves.leave_one_out()) == pytest.approx(0, abs=1e-12)
    # 16 of 28 pairs differ: were they independent, as a proportion.
    share = 16 / 28
    want = (share * (1 - share) / 27) ** 0.5
    assert inference.standard_error(halves) == pytest.approx(want)
    assert interval(halves).low < 0.3 < 0.43 < interval(halves).high


@pytest.mark.parametrize("n", [3, 5, 20])
def test_seeds_that_all_agree_have_an_interval(n: int) -> None:
    choices = np.tile(np.arange(6) % 4, (n, 1))
    got = operation_agreement(choices, [OPS] * 6, draws=0)
    assert got.estimate == got.high == 1
    assert got.low < 1
    # One of n that chose differently once: what the interval allows for.
    other = choices.copy()
    other[0, 0] = 4
    once = operation_agreement(other, [OPS] * 6, draws=0)
    assert got.statistic is not None
    assert got.statistic.step == pytest.approx(1 - once.estimate, rel=0.1)
    assert got.low == pytest.approx(1 - stats.t.ppf(0.975, n - 1) * got.statistic.step)


def test_two_settings_that_each_agree_do_not_differ_for_certain() -> None:
    """Three seeds of one genotype against three others of one genotype."""
    first = operation_agreement(np.tile(np.arange(6) % 4, (3, 1)), [OPS] * 6, draws=0)
    second = operation_agreement(np.tile(np.arange(6) % 3, (3, 1)), [OPS] * 6, draws=0)
    rng = np.random.default_rng(0)
    third = operation_agreement(rng.integers(5, size=(3, 6)), [OPS] * 6, draws=0)
    statistics = [q.statistic for q in (first, second, third) if q.statistic is not None]
    same = difference(statistics[0], statistics[1])
    assert (same.estimate, same.p_value) == (0, 1)
    assert same.width > 0.2
    assert difference(statistics[0], statistics[2]).p_value > 1e-3


def test_equal_numbers_have_no_interval_and_say_so() -> None:
    got = interval(Values(np.full(6, 0.3)))
    assert got.estimate == pytest.approx(0.3)
    assert np.isnan([got.low, got.high]).all()
    assert got.note == inference.NO_SPREAD
    assert interval(Values(np.full(4, 8.0), unit=1.0)).width == pytest.approx(
        2 * stats.t.ppf(0.975, 3) / 4
    )
    nothing = np.zeros((4, 4))
    assert Agreement(nothing, nothing).estimate == 0
    np.testing.assert_array_equal(Agreement(nothing, nothing).leave_one_out(), 0)
    assert interval(Agreement(nothing, nothing)).note == inference.NO_SPREAD
    # A difference that is the same in all seeds: as improbable as all signs being equal.
    x = np.random.default_rng(1).normal(size=6)
    shifted = difference(Values(x + 0.5), Values(x))
    assert np.isnan(shifted.low)
    assert shifted.p_value == pytest.approx(2 / 2**6)
    assert difference(Values(x), Values(x)).p_value == 1


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_seeds_have_no_interval(n: int) -> None:
    got = interval(Agreement(random_pairs(n)))
    assert np.isnan([got.low, got.high]).all()
    assert got.n == n
    assert got.known == (n == 2)
    assert np.isnan(difference(Agreement(random_pairs(n)), Agreement(random_pairs(n))).p_value)


def test_variance_components_of_pairs_are_unbiased() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(400):
        a, g = rng.normal(0, 0.3, 12), rng.normal(0, 0.2, (12, 12))
        g = np.triu(g, 1) + np.triu(g, 1).T
        found.append(inference.components(Agreement(5 + a[:, None] + a[None] + g)))
    np.testing.assert_allclose(np.mean(found, axis=0), (0.09, 0.04), rtol=0.06)
    x = rng.normal(size=9)
    assert inference.components(Values(x))[0] == pytest.approx(x.var(ddof=1) / 4)


def test_a_difference_of_means_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.3, 1, 9), rng.normal(size=9)
    x[4] = np.nan
    got = difference(Values(x), Values(y))
    want = stats.ttest_rel(x, y, nan_policy="omit")
    assert got.p_value == pytest.approx(want.pvalue)
    bounds = want.confidence_interval()
    assert (got.low, got.high, got.n) == pytest.approx((bounds.low, bounds.high, 8))


def test_a_seed_leaves_both_settings_at_once() -> None:
    a, b = random_pairs(8), random_pairs(8, 5)
    forth = difference(Agreement(a), Agreement(b))
    back = difference(Agreement(b), Agreement(a))
    assert forth.estimate == pytest.approx(-back.estimate)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.p_value == pytest.approx(back.p_value)
    # The p-value is below 0.05 exactly where the interval leaves 0 out.
    assert (forth.p_value < 0.05) == (not forth.low < 0 < forth.high)
    keep = [[j for j in range(8) if j != i] for i in range(8)]
    without = [Agreement(a).take(k).estimate - Agreement(b).take(k).estimate for k in keep]
    pseudo = 8 * forth.estimate - 7 * np.array(without)
    assert forth.width / 2 == pytest.approx(stats.t.ppf(0.975, 7) * stats.sem(pseudo))
    with pytest.raises(ValueError, match="8 seeds against 7"):
        difference(Agreement(a), Agreement(b).take(range(7)))


def test_interquartile_interval_is_tukeys_and_mclaughlins() -> None:
    x = np.random.default_rng(4).normal(size=11)
    got = inference.interquartile(x)
    assert got.estimate == pytest.approx(stats.trim_mean(x, 0.25))
    winsorised = np.asarray(stats.mstats.winsorize(x, (2 / 11, 2 / 11)))
    error = winsorised.std(ddof=1) / ((1 - 4 / 11) * 11**0.5)
    assert got.width / 2 == pytest.approx(stats.t.ppf(0.975, 6) * error)
    assert inference.interquartile(x, limits=(got.estimate, 9)).low == got.estimate
    assert np.isnan(inference.interquartile(np.ones(8)).low)


def test_rates_have_clopper_and_pearsons_interval() -> None:
    for successes, n in ((0, 10), (1, 10), (7, 12), (12, 12)):
        got = inference.rate(np.arange(n) < successes)
        want = proportion_confint(successes, n, method="beta")
        assert (got.low, got.high) == pytest.approx(want, abs=1e-10)
    assert np.isnan(inference.rate([]).estimate)


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


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.gamma(1, 1, n)


def two_modes(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.where(rng.random(n) < 0.5, 0.6, 0.9) + rng.normal(0, 0.01, n)


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("values", [skewed, two_modes])
def test_equal_settings_are_told_apart_in_five_of_a_hundred(
    values: Callable[[np.random.Generator, int], np.ndarray], n: int
) -> None:
    """Swapping labels within seeds, which is exact, never rejects at 5% with five seeds."""
    rng = np.random.default_rng(n)
    found = [difference(Values(values(rng, n)), Values(values(rng, n))) for _ in range(1000)]
    assert np.mean([q.p_value <= 0.05 for q in found]) < 0.08
