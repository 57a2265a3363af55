"""Seeds needed: projections against what more seeds have, power against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from analysis.statistics import projection
from analysis.statistics.inference import difference, interval
from analysis.statistics.seeds import Ratio, Statistic, Values
from tests.analysis.studies.coverage import QUANTITIES, WORLDS, draw

NORMAL = WORLDS["normal"]


def scaled(n: int, sd: float = 1.0, seed: int = 0) -> Values:
    """n values with this standard deviation exactly."""
    x = np.random.default_rng(seed).normal(size=n)
    return Values(sd * (x - x.mean()) / x.std(ddof=1))


@pytest.mark.parametrize("effect", [0.3, 0.7, 1.5])
def test_seeds_for_a_difference_are_those_of_the_power_analysis(effect: float) -> None:
    want = TTestPower().solve_power(effect_size=effect, power=0.8, alpha=0.05)
    assert projection.for_difference(scaled(12), effect)[1] == np.ceil(want)
    # The same through a difference of two settings, in its own unit, and for the one seen.
    paired = difference(Values(scaled(12).numerator * 0.1 + effect / 10), Values(np.zeros(12)))
    assert paired.statistic is not None
    assert projection.for_difference(paired.statistic)[1] == np.ceil(want)
    ratio = Ratio(scaled(12).numerator + effect, np.ones(12))
    assert projection.for_difference(ratio)[1] == np.ceil(want)


def test_seeds_for_a_width_are_the_fewest_that_do() -> None:
    low, best, high = projection.for_width(scaled(10), 0.8)
    assert low is not None
    assert best is not None
    assert high is not None
    assert low < best < high
    assert interval(scaled(best)).width <= 0.8 < interval(scaled(best - 1)).width
    # Were the variance 2.7 times as large (10 seeds, 95%), or 0.53 times.
    for m, share in ((low, 16.919), (high, 3.325)):
        sd = (9 / share) ** 0.5
        assert interval(scaled(m, sd)).width <= 0.8 < interval(scaled(m - 1, sd)).width
    assert projection.for_width(scaled(10), 0.01) == (None, None, None)


@pytest.mark.parametrize("name", ["dependence_stability", "operation_agreement", "accuracy"])
def test_the_projection_is_right_on_average(name: str) -> None:
    """From 12 seeds to 48: the widths that 48 seeds then have."""
    projected, found = [], []
    for i in range(20):
        some, all_48 = (draw(NORMAL, np.random.default_rng([i, n]), n) for n in (12, 48))
        statistic = QUANTITIES[name](some).statistic
        assert statistic is not None
        projected.append(float(projection.projected_width(statistic, 48)))
        found.append(QUANTITIES[name](all_48).width)
    assert np.mean(projected) == pytest.approx(np.mean(found), rel=0.15)


def contains(name: str, target: float, n: int, studies: int) -> float:
    """Share of studies whose range holds what the variance of very many seeds would take."""

    def statistic(seed: int, seeds: int) -> Statistic:
        found = QUANTITIES[name](draw(NORMAL, np.random.default_rng([seed, seeds]), seeds))
        assert found.statistic is not None
        return found.statistic

    many = np.mean([projection.projected_width(statistic(i, 60), range(3, 201))
                    for i in range(30)], axis=0)  # fmt: skip
    truth = 3 + int(np.flatnonzero(many <= target)[0])
    ranges = [projection.for_width(statistic(1000 + i, n), target) for i in range(studies)]
    return float(np.mean([(a or 201) <= truth <= (b or 201) for a, _, b in ranges]))


@pytest.mark.parametrize(("name", "target"), [("dependence_stability", 0.1), ("accuracy", 0.02)])
def test_the_range_holds_the_number_in_most_studies(name: str, target: float) -> None:
    assert contains(name, target, 10, 100) >= 0.75
