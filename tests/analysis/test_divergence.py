"""Divergences against scipy, closed-form nulls and p-values against every permutation."""

from collections.abc import Callable
from itertools import combinations, permutations, product

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from analysis.statistics import divergence
from analysis.statistics.divergence import cross_divergences, jensen_shannon, permutation_test


def oracle(p: np.ndarray, q: np.ndarray) -> float:
    return float(jensenshannon(p, q, base=2) ** 2)


def test_jensen_shannon_is_scipys_squared_in_bits() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), (2, 30))
    np.testing.assert_allclose(jensen_shannon(p, q), list(map(oracle, p, q)), atol=1e-12)
    assert jensen_shannon([1, 0], [0, 1]) == pytest.approx(1)
    assert jensen_shannon([0.3, 0.7, 0], [0.3, 0.7, 0]) == 0


def test_every_pair_of_labels_agrees_with_scipy() -> None:
    x = np.random.default_rng(1).dirichlet(np.ones(3), (5, 2, 4, 2))
    got = cross_divergences(x)
    for g, s, t in product(range(2), range(5), range(5)):
        every = np.array(
            [
                [
                    np.mean([oracle(x[s, g, a, r], x[t, g, b, r]) for r in range(2)])
                    for b in range(4)
                ]
                for a in range(4)
            ]
        )
        if s != t:
            assert got.matched[g, s, t] == pytest.approx(np.diag(every).mean(), abs=1e-12)
            assert got.anyhow[g, s, t] == pytest.approx(every.mean(), abs=1e-12)


def test_work_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(2).dirichlet(np.ones(4), (7, 3, 5, 1))
    whole = cross_divergences(x)
    monkeypatch.setattr(divergence, "_WORK", 1)
    for a, b in zip(whole, cross_divergences(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_permutations_in_pieces_have_the_same_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = np.random.default_rng(2).dirichlet(np.ones(4), (4, 1, 3, 1))
    whole = permutation_test([(x, [1.0])], draws=1999).p_value
    monkeypatch.setattr(divergence, "_WORK", 1)
    assert permutation_test([(x, [1.0])], draws=1999).p_value == pytest.approx(whole, abs=0.05)


@pytest.mark.parametrize("size", [1.0, 0.05, 1e-4, 0.0])
def test_many_seeds_have_null_means_as_exact_as_few(size: float) -> None:
    """In float32 alone, differences of 1e-4 would drown and identical rows would differ."""
    rng = np.random.default_rng(5)
    x = rng.dirichlet(np.ones(4)) + size * rng.random((40, 2, 3, 1, 4))
    x /= x.sum(axis=-1, keepdims=True)
    got = cross_divergences(x).anyhow
    want = [
        np.mean([oracle(x[3, 1, a, 0], x[9, 1, b, 0]) for a in range(3) for b in range(3)]),
        np.mean([oracle(x[0, 0, a, 0], x[39, 0, b, 0]) for a in range(3) for b in range(3)]),
    ]
    np.testing.assert_allclose([got[1, 3, 9], got[0, 0, 39]], want, rtol=1e-4, atol=1e-14)
    if size == 0:
        assert got.max() < 1e-14


def test_the_null_mean_is_that_of_all_permutations() -> None:
    x = np.random.default_rng(3).dirichlet(np.ones(4), (2, 1, 3, 1))
    orders = list(permutations(range(3)))
    drawn = [
        np.mean([oracle(x[0, 0, a[r], 0], x[1, 0, b[r], 0]) for r in range(3)])
        for a in orders
        for b in orders
    ]
    assert cross_divergences(x).anyhow[0, 0, 1] == pytest.approx(np.mean(drawn), abs=1e-12)


def of_all_permutations(x: np.ndarray, statistic: Callable[[np.ndarray], float]) -> float:
    """Exact p-value of (n, L, ...): the share of all permutations at least as alike."""
    orders = [list(o) for o in permutations(range(x.shape[1]))]
    observed = statistic(x)
    found = [
        statistic(np.stack([seed[order] for seed, order in zip(x, chosen, strict=True)]))
        for chosen in product(orders, repeat=len(x))
    ]
    return float(np.mean(np.array(found) <= observed + 1e-9))


def hellinger(x: np.ndarray) -> float:
    """Mean squared Hellinger distance of equal labels over all pairs of seeds."""
    return float(np.mean([(1 - np.sqrt(a * b).sum(axis=-1)).mean() for a, b in combinations(x, 2)]))


def test_the_p_value_is_that_of_all_permutations() -> None:
    rng = np.random.default_rng(4)
    x = 0.6 * rng.dirichlet(np.ones(3), (3, 3)) + 0.4 * np.eye(3)
    x[0] = x[0][rng.permutation(3)]
    exact = of_all_permutations(x, hellinger)
    assert 0.02 < exact < 0.9
    test = permutation_test([(x[:, None], np.ones(1))], draws=4999)
    assert test.p_value == pytest.approx(exact, abs=0.02)
    assert test.of_groups[0] == test.p_value
    none = permutation_test([(x[:, None], np.ones(1))], draws=0)
    assert np.isnan(none.p_value)


def test_equal_choices_of_pairs_are_compared_over_all_pairs() -> None:
    hot = np.eye(4)[np.random.default_rng(5).integers(4, size=(3, 4))]
    hot[1] = hot[0]

    def unlike(x: np.ndarray) -> float:
        return float(np.mean([(a != b).any(axis=-1).mean() for a, b in combinations(x, 2)]))

    exact = of_all_permutations(hot, unlike)
    assert 0.001 < exact < 0.9
    test = permutation_test([(hot[:, None], [1.0])], draws=4999)
    assert test.p_value == pytest.approx(exact, abs=0.02)


def test_groups_are_weighted_and_permuted_by_themselves() -> None:
    rng = np.random.default_rng(6)
    alike, unlike = np.tile(np.eye(4), (6, 1, 1)), rng.dirichlet(np.ones(4), (6, 4))
    x = np.stack([alike, unlike], axis=1)
    of_first = permutation_test([(x, [1.0, 0.0])], draws=199)
    assert of_first.p_value == of_first.of_groups[0] == 1 / 200
    of_second = permutation_test([(x, [0.0, 1.0])], draws=199)
    assert of_second.p_value == of_second.of_groups[1] > 0.02


def test_more_seeds_find_more() -> None:
    """All seeds are in the test: what 15 miss as often as not, 60 find."""
    truth = np.random.default_rng(7).normal(size=(4, 5, 5))

    def found(n: int) -> float:
        rejected = []
        for i in range(40):
            z = 0.15 * truth + np.random.default_rng([n, i]).normal(size=(n, 4, 5, 5))
            p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
            rejected.append(permutation_test([(p, np.full(4, 0.25))], draws=99).p_value <= 0.05)
        return float(np.mean(rejected))

    few, many = found(15), found(60)
    assert many > few + 0.2
    assert many > 0.8


def test_another_number_of_axes_is_refused() -> None:
    with pytest.raises(ValueError, match="4 axes"):
        cross_divergences(np.ones((2, 2, 2, 2)))
