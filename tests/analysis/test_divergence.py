"""Divergences against scipy, closed-form nulls against every permutation."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from analysis.statistics import divergence
from analysis.statistics.divergence import cross_divergences, jensen_shannon, pairs_to_test


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
    for sample, (s, t) in zip(got.sample, got.pairs, strict=True):
        want = [oracle(x[s, 1, 2, r], x[t, 1, 3, r]) for r in range(2)]
        assert sample[1, 2, 3] == pytest.approx(np.mean(want), abs=1e-6)


def test_work_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(2).dirichlet(np.ones(4), (7, 3, 5, 1))
    whole = cross_divergences(x)
    monkeypatch.setattr(divergence, "_WORK", 1)
    for a, b in zip(whole, cross_divergences(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


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


def test_the_p_value_is_that_of_all_permutations() -> None:
    rng = np.random.default_rng(4)
    x = 0.6 * rng.dirichlet(np.ones(3), (3, 1, 3, 1)) + 0.4 * np.eye(3)[:, None]
    x[0] = x[0][:, rng.permutation(3)]
    cross = cross_divergences(x)
    orders = list(permutations(range(3)))
    pairs = [(0, 1), (0, 2), (1, 2)]

    def statistic(chosen: tuple) -> float:
        return float(
            np.mean(
                [
                    oracle(x[s, 0, chosen[s][r], 0], x[t, 0, chosen[t][r], 0])
                    for s, t in pairs
                    for r in range(3)
                ]
            )
        )

    observed = statistic((orders[0],) * 3)
    exact = np.mean([statistic(c) <= observed + 1e-9 for c in product(orders, repeat=3)])
    test = divergence.permutation_test([(cross.sample, np.ones(1))], cross.pairs, draws=4999)
    assert test.p_value == pytest.approx(exact, abs=0.02)
    assert test.of_groups[0] == test.p_value
    none = divergence.permutation_test([(cross.sample, np.ones(1))], cross.pairs, draws=0)
    assert np.isnan(none.p_value)


@pytest.mark.parametrize("n", [2, 9, 15, 16, 40, 300])
def test_every_seed_is_in_as_many_tested_pairs(n: int) -> None:
    pairs = pairs_to_test(n)
    assert len({frozenset(p) for p in pairs.tolist()}) == len(pairs)
    assert (pairs[:, 0] < pairs[:, 1]).all()  # as the divergences between labels are kept
    counts = np.bincount(pairs.ravel(), minlength=n)
    assert len(set(counts)) == 1
    if n <= 15:
        assert len(pairs) == n * (n - 1) // 2
    elif n <= 105:
        assert len(pairs) <= divergence.MOST_PAIRS


def test_another_number_of_axes_is_refused() -> None:
    with pytest.raises(ValueError, match="4 axes"):
        cross_divergences(np.ones((2, 2, 2, 2)))
