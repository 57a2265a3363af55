"""Simulated studies with known truth: do intervals cover it, do tests reject a true null?

The short form runs in the suite, with room for its own noise. The long one (`-m slow`, 1,000
studies each) holds the numbers themselves: intervals cover 92-98% at 10 and 20 seeds,
proportions at least 92%, and tests of a true null at 5% reject 3.5-6.5%.
"""

from collections.abc import Callable

import numpy as np
import pytest

from analysis.statistics import inference
from analysis.statistics import matrices as m
from analysis.statistics.agreement import operation_agreement, probability_divergence
from analysis.statistics.inference import Agreement, Interval
from tests.analysis.synthetic import softmax

OPS = tuple("abcde")
SHORT, LONG = 150, 1000
# Four standard errors of a short run's share around the bounds of the long one.
ROOM = 4 * (0.95 * 0.05 / SHORT) ** 0.5

TRUTH = np.random.default_rng(0).normal(0, 1.5, (4, 5, 5))
DIRECTION = np.random.default_rng(1).dirichlet(np.ones(5), 14)
Draw = Callable[[np.random.Generator, int], list[np.ndarray]]


def around_one_truth(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    return list(np.moveaxis(softmax(TRUTH + rng.normal(size=(n, 4, 5, 5))), 1, 0))


def with_seeds_of_unequal_noise(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    size = np.exp(0.5 * rng.normal(size=(n, 1, 1, 1)))
    return list(np.moveaxis(softmax(TRUTH + size * rng.normal(size=(n, 4, 5, 5))), 1, 0))


def independent(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    return list(np.moveaxis(softmax(1.5 * rng.normal(size=(n, 4, 5, 5))), 1, 0))


def stability(drawn: list[np.ndarray]) -> Agreement:
    agreement = m.dependence_stability(drawn, draws=0)[0].agreement
    assert agreement is not None
    return agreement


def divergence(drawn: list[np.ndarray]) -> Agreement:
    agreement = probability_divergence([x[:, 0] for x in drawn], [OPS] * 4, draws=0).agreement
    assert agreement is not None
    return agreement


def choices(rng: np.random.Generator, n: int) -> np.ndarray:
    cumulated = DIRECTION.cumsum(axis=1)
    return (rng.random((n, 14, 1)) > cumulated).sum(axis=2).clip(0, 4)


def truth_of(draw: Draw, of: Callable[[list[np.ndarray]], Agreement]) -> float:
    """From many seeds: a ratio of means that no longer moves in the third digit."""
    large = [of(draw(np.random.default_rng([7, i]), 60)) for i in range(40)]
    matched = np.mean([a.matched_mean for a in large])
    chance = np.mean([a.chance_mean for a in large])
    return float(matched if np.isnan(chance) else 1 - matched / chance)


def coverage(
    interval: Callable[[np.random.Generator, int], Interval], truth: float, n: int, times: int
) -> float:
    found = [interval(np.random.default_rng([n, i]), n) for i in range(times)]
    return float(np.mean([i.low <= truth <= i.high for i in found]))


CASES: dict[str, tuple[Draw, Callable[[list[np.ndarray]], Agreement]]] = {
    "stability": (around_one_truth, stability),
    "stability, unequal noise": (with_seeds_of_unequal_noise, stability),
    "stability of nothing": (independent, stability),
    "divergence": (around_one_truth, divergence),
    "divergence, unequal noise": (with_seeds_of_unequal_noise, divergence),
    "divergence of nothing": (independent, divergence),
}


def check_setting_intervals(case: str, n: int, times: int, room: float) -> None:
    draw, of = CASES[case]
    truth = 0.0 if case == "stability of nothing" else truth_of(draw, of)
    got = coverage(lambda rng, k: inference.jackknife(of(draw(rng, k))), truth, n, times)
    assert 0.92 - room <= got <= 0.98 + room


@pytest.mark.parametrize("case", ["stability", "stability of nothing", "divergence"])
def test_intervals_of_settings_cover(case: str) -> None:
    check_setting_intervals(case, 10, SHORT, ROOM)


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("case", CASES)
def test_intervals_of_settings_cover_at_length(case: str, n: int) -> None:
    check_setting_intervals(case, n, LONG, 0.006)


def kappa_truth() -> float:
    chance = (DIRECTION.mean(axis=0) ** 2).sum()
    return float(((DIRECTION**2).sum(axis=1).mean() - chance) / (1 - chance))


@pytest.mark.parametrize(
    ("n", "times", "room"),
    [
        (10, SHORT, ROOM),
        pytest.param(10, LONG, 0.0, marks=pytest.mark.slow),
        pytest.param(20, LONG, 0.0, marks=pytest.mark.slow),
    ],
)
def test_intervals_of_kappa_cover(n: int, times: int, room: float) -> None:
    def interval(rng: np.random.Generator, k: int) -> Interval:
        return operation_agreement(choices(rng, k), [OPS] * 14, draws=0).interval

    assert 0.92 - room <= coverage(interval, kappa_truth(), n, times) <= 0.98 + room


def of_one_skewed_trait(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    """Every seed's matrices lie along one direction, as far as its one random number says."""
    size = 1 + 0.6 * rng.normal(size=(n, 1, 1, 1))
    return list(np.moveaxis(softmax(size * TRUTH + 0.5 * rng.normal(size=(n, 4, 5, 5))), 1, 0))


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 20])
def test_two_cases_outside_are_as_docs_analysis_says(n: int) -> None:
    truth = truth_of(of_one_skewed_trait, stability)
    got = coverage(
        lambda rng, k: inference.jackknife(stability(of_one_skewed_trait(rng, k))), truth, n, LONG
    )
    assert 0.84 <= got <= 0.95

    def coin_flips(rng: np.random.Generator, k: int) -> Interval:
        return operation_agreement(rng.integers(5, size=(k, 6)), [OPS] * 6, draws=0).interval

    nothing = coverage(coin_flips, 0.0, n, LONG)
    assert 0.96 <= nothing <= 0.995
    print(f"n={n}: skewed {got:.3f}, kappa of nothing {nothing:.3f}")


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("kind", ["normal", "skewed", "bimodal"])
def test_intervals_of_means_cover(kind: str, n: int) -> None:
    def values(rng: np.random.Generator, k: int) -> np.ndarray:
        if kind == "normal":
            return rng.normal(0.9, 0.02, k)
        if kind == "skewed":
            return 0.9 - 0.02 * rng.gamma(4, 0.5, k)
        return np.where(rng.random(k) < 0.4, 0.6, 0.9) + rng.normal(0, 0.01, k)

    mean = {"normal": 0.9, "skewed": 0.86, "bimodal": 0.78}[kind]
    got = coverage(lambda rng, k: inference.mean_interval(values(rng, k)), mean, n, 2000)
    assert 0.92 <= got <= 0.98
    if kind != "bimodal":  # half of a bimodal sample lies on a cliff: no mean is trimmed there
        middle = np.sort(values(np.random.default_rng(9), 400_000))
        truth = middle[100_000:300_000].mean()
        trimmed = coverage(
            lambda rng, k: inference.interquartile_interval(values(rng, k)), truth, n, 2000
        )
        assert 0.92 <= trimmed <= 0.98


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5])
def test_proportions_cover_at_least(rate: float, n: int) -> None:
    from scipy.stats import binom

    k = np.arange(n + 1)
    inside = [i.low <= rate <= i.high for i in (inference.proportion_interval(x, n) for x in k)]
    assert (binom.pmf(k, n, rate) * inside).sum() >= 0.95


def rejection(p_value: Callable[[np.random.Generator], float], times: int) -> float:
    return float(np.mean([p_value(np.random.default_rng([3, i])) <= 0.05 for i in range(times)]))


LISTS = [(OPS, OPS)] * 4


def identical_rows(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    columns = 2 * TRUTH[:, :1] + rng.normal(size=(n, 4, 5, 5))
    return list(np.moveaxis(softmax(columns), 1, 0))


def one_matrix(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    return list(np.moveaxis(softmax(TRUTH[:1] + rng.normal(size=(n, 4, 5, 5))), 1, 0))


NULLS: dict[str, Callable[[np.random.Generator, int], float]] = {
    "rows": lambda rng, d: m.dependence_stability(identical_rows(rng, 10), draws=d)[0].p_value,
    "links": lambda rng, d: m.link_specificity(one_matrix(rng, 10), LISTS, draws=d).p_value,
    "attention": lambda rng, d: (
        m.attention_agreement(list(rng.dirichlet(np.ones(3), (3, 10))), draws=d).p_value
    ),
    "kappa": lambda rng, d: (
        operation_agreement(rng.integers(5, size=(10, 14)), [OPS] * 14, draws=d).p_value
    ),
    "swapped labels": lambda rng, _: inference.swapped_labels(
        np.subtract(*rng.gamma(2, 1, (2, 10)))
    ),
}


@pytest.mark.parametrize("null", NULLS)
def test_true_nulls_are_rejected_as_often_as_said(null: str) -> None:
    got = rejection(lambda rng: NULLS[null](rng, 199), SHORT)
    assert 0.05 - ROOM <= got <= 0.05 + ROOM


@pytest.mark.slow
@pytest.mark.parametrize("null", NULLS)
def test_true_nulls_are_rejected_as_often_as_said_at_length(null: str) -> None:
    assert 0.035 <= rejection(lambda rng: NULLS[null](rng, 399), 2000) <= 0.065


def difference_of_settings(rng: np.random.Generator, n: int) -> inference.Difference:
    """Two settings with one truth, paired by a part of their seeds' noise."""
    common = 0.7 * rng.normal(size=(n, 4, 5, 5))
    both = [softmax(TRUTH + common + 0.7 * rng.normal(size=common.shape)) for _ in range(2)]
    a, b = (stability(list(np.moveaxis(x, 1, 0))) for x in both)
    return inference.jackknife_difference(a, b)


@pytest.mark.parametrize(
    ("n", "times", "room"),
    [
        (10, SHORT, ROOM),
        pytest.param(10, 2000, 0.0, marks=pytest.mark.slow),
        pytest.param(20, 2000, 0.0, marks=pytest.mark.slow),
    ],
)
def test_paired_differences_of_settings_have_their_size(n: int, times: int, room: float) -> None:
    found = [difference_of_settings(np.random.default_rng([n, i]), n) for i in range(times)]
    covered = np.mean([d.low <= 0 <= d.high for d in found])
    assert 0.92 - room <= covered <= 0.98 + room
    assert np.mean([d.p_value <= 0.05 for d in found]) == pytest.approx(1 - covered, abs=1e-9)
