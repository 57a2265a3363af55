"""Stabilities of matrices: shapes of truth that must come out, and brute force."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from analysis.statistics import matrices as m
from tests.analysis.synthetic import softmax

OPS = tuple("abcde")
LISTS = [(OPS, OPS)] * 4


def study(truth: np.ndarray, noise: float, n: int = 12, seed: int = 0) -> list[np.ndarray]:
    """(n, R, C) per link: row-softmax of truth (links, R, C) plus normal noise."""
    rng = np.random.default_rng(seed)
    return [softmax(t + noise * rng.normal(size=(n, *t.shape))) for t in truth]


def truth(seed: int = 1, links: int = 4) -> np.ndarray:
    return 2 * np.random.default_rng(seed).normal(size=(links, 5, 5))


def divergence_of(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([jensenshannon(x, y, base=2) ** 2 for x, y in zip(a, b, strict=True)]))


def test_identical_rows_with_reproducible_columns_are_no_dependence() -> None:
    columns = 3 * np.random.default_rng(2).normal(size=(4, 1, 5)).repeat(5, axis=1)
    got, links = m.dependence_stability(study(columns, 0.0))
    assert got.estimate == pytest.approx(0, abs=1e-9)
    assert got.p_value == 1
    noisy, _ = m.dependence_stability(study(columns, 0.5))
    assert noisy.estimate == pytest.approx(0, abs=0.03)
    assert noisy.low < 0 < noisy.high
    assert noisy.p_value > 0.01
    assert links is not None


def test_frozen_uniform_matrices_of_many_seeds_are_no_dependence() -> None:
    uniform = [np.full((20, 8, 8), 0.125)] * 3
    got, _ = m.dependence_stability(uniform)
    assert (got.estimate, got.p_value) == (0, 1)


def test_one_strong_matrix_on_every_link_is_stable_but_of_no_link() -> None:
    one = np.repeat(4 * truth()[:1], 4, axis=0)
    got, _ = m.dependence_stability(study(one, 0.1))
    assert got.estimate > 0.97
    assert got.p_value == 1 / 1000
    specific = m.link_specificity(study(one, 0.1, seed=1), LISTS)
    assert specific.estimate == pytest.approx(0, abs=0.1)
    assert specific.low < 0 < specific.high
    assert specific.p_value > 0.01
    exactly = m.link_specificity(study(one, 0.0), LISTS)
    assert (exactly.estimate, exactly.p_value) == (0, 1)


def test_matrices_of_their_own_are_specific() -> None:
    got = m.link_specificity(study(truth(), 0.1), LISTS)
    assert got.estimate > 0.9
    assert got.p_value == 1 / 1000


def test_independent_random_matrices_are_nothing() -> None:
    drawn = study(np.zeros((4, 5, 5)), 2.0, n=20)
    for got in (m.dependence_stability(drawn)[0], m.link_specificity(drawn, LISTS)):
        assert got.estimate == pytest.approx(0, abs=0.02)
        assert got.low < 0 < got.high
        assert got.p_value > 0.01


def test_what_an_identity_start_brings_is_not_learned() -> None:
    start = study(np.stack([2 * np.eye(5)] * 4), 1e-3)
    rng = np.random.default_rng(3)
    moved = [softmax(np.log(s) + 1.5 * rng.normal(size=s.shape)) for s in start]
    assert m.dependence_stability(moved)[0].estimate > 0.1
    learned, _ = m.dependence_stability(m.learned(moved, start))
    assert learned.estimate == pytest.approx(0, abs=0.03)
    assert learned.p_value > 0.01
    # And what was learned alike comes out, whatever the start.
    alike = 2 * rng.normal(size=(5, 5))
    both = [softmax(np.log(s) + alike) for s in start]
    for got in m.learned(both, start):
        np.testing.assert_allclose(got, softmax(alike)[None].repeat(12, 0), atol=1e-9)


def test_dependence_stability_by_brute_force() -> None:
    """Two seeds, one link of three rows: every permutation of both matrices' rows."""
    rng = np.random.default_rng(4)
    a, b = rng.dirichlet(np.ones(3), (2, 3))
    got, _ = m.dependence_stability([np.stack([a, b])])
    orders = list(permutations(range(3)))
    null = [divergence_of(a[list(p)], b[list(q)]) for p in orders for q in orders]
    assert got.estimate == pytest.approx(1 - divergence_of(a, b) / np.mean(null), abs=1e-12)
    exact = np.mean([x <= divergence_of(a, b) + 1e-12 for x in null])
    assert got.p_value == pytest.approx(exact, abs=0.05)


def test_link_specificity_by_brute_force() -> None:
    rng = np.random.default_rng(5)
    x = rng.dirichlet(np.ones(3), (3, 2, 3))  # seeds, links, rows
    got = m.link_specificity([x[:, 0], x[:, 1]], [(OPS[:3], OPS[:3])] * 2)
    pairs = list(combinations(range(3), 2))
    matched = np.mean([divergence_of(x[s, k], x[t, k]) for s, t in pairs for k in range(2)])
    anyhow = np.mean(
        [divergence_of(x[s, k], x[t, j]) for s, t in pairs for k in range(2) for j in range(2)]
    )
    assert got.estimate == pytest.approx(1 - matched / anyhow, abs=1e-12)


def test_transition_divergence_weighs_rows_by_both_seeds_predecessors() -> None:
    rng = np.random.default_rng(6)
    T, p = rng.dirichlet(np.ones(4), (3, 5)), rng.dirichlet(np.ones(5), 3)
    got, links = m.transition_divergence([T, T], [p, p])
    want = [
        sum(
            (p[s, r] + p[t, r]) / 2 * jensenshannon(T[s, r], T[t, r], base=2) ** 2 for r in range(5)
        )
        for s, t in combinations(range(3), 2)
    ]
    assert got.estimate == pytest.approx(np.mean(want), abs=1e-12)
    assert links == pytest.approx([np.mean(want)] * 2)


def test_a_shared_matrix_counts_once_for_each_of_its_links() -> None:
    drawn = study(truth(links=3), 1.0)
    repeated = [drawn[0], drawn[0], drawn[0], drawn[1]]
    shared, links = m.dependence_stability(repeated, [0, 0, 0, 3])
    assert shared.estimate == pytest.approx(m.dependence_stability(repeated)[0].estimate)
    assert links is not None
    assert len(links.intervals) == 4
    assert links.intervals[0] == links.intervals[2]
    # Holm's family is of the two distinct matrices.
    assert links.corrected[0] <= 2 * links.p_values[0] + 1e-12
    nothing = m.link_specificity(repeated, LISTS, [0, 0, 0, 0])
    assert not nothing.known
    assert nothing.note == "no two links with equal operation lists and distinct matrices"


def test_rectangular_matrices_of_several_shapes() -> None:
    rng = np.random.default_rng(7)
    drawn = [rng.dirichlet(np.ones(c), (6, r)) for r, c in ((2, 3), (4, 2), (2, 3))]
    got, links = m.dependence_stability(drawn)
    each = [m.dependence_stability([x])[0].statistic for x in drawn]
    matched, chance = np.mean([(a.matched_mean, a.chance_mean) for a in each], axis=0)
    assert got.estimate == pytest.approx(1 - matched / chance, abs=1e-12)
    assert links is not None
    for interval, alone in zip(links.intervals, each, strict=True):
        assert interval.estimate == pytest.approx(alone.estimate)
    lists = [(OPS[:2], OPS[:3]), (OPS[:4], OPS[:2]), (OPS[:2], OPS[:3])]
    specific = m.link_specificity(drawn, lists)
    assert specific.estimate == pytest.approx(
        m.link_specificity([drawn[0], drawn[2]], [lists[0]] * 2).estimate
    )
    assert "1 of 3 matrices left out" in specific.note


def test_attention_agrees_beyond_chance_or_not() -> None:
    rng = np.random.default_rng(8)
    strong = softmax(np.array([2.0, 0, -2]) + 0.1 * rng.normal(size=(10, 3)))
    got = m.attention_agreement([strong, np.ones((10, 1))])
    assert got.estimate > 0.9
    assert got.p_value == 1 / 1000
    random = m.attention_agreement([rng.dirichlet(np.ones(3), 10)])
    assert random.low < 0 < random.high
    uniform = m.attention_agreement([np.full((10, 2), 0.5)])
    assert (uniform.estimate, uniform.p_value) == (0, 1)
    assert not m.attention_agreement([np.ones((10, 1))]).known


def test_attention_by_brute_force() -> None:
    a, b = np.random.default_rng(9).dirichlet(np.ones(3), 2)
    got = m.attention_agreement([np.stack([a, b])])
    orders = [list(p) for p in permutations(range(3))]
    null = [jensenshannon(a[p], b[q], base=2) ** 2 for p in orders for q in orders]
    assert got.estimate == pytest.approx(1 - jensenshannon(a, b, base=2) ** 2 / np.mean(null))


def test_dobrushin_by_hand() -> None:
    T = np.array([[[0.5, 0.5], [0.9, 0.1]], [[1.0, 0.0], [0.0, 1.0]]])
    got = m.dobrushin_coefficient([T])
    assert got.statistic is not None
    assert got.statistic.pseudo_values() == pytest.approx([0.4, 1.0])
    assert got.estimate == pytest.approx(0.7)


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_seeds(n: int) -> None:
    drawn = [x[:n] for x in study(truth(), 1.0)]
    for got in (
        m.dependence_stability(drawn)[0],
        m.link_specificity(drawn, LISTS),
        m.transition_divergence(drawn, [np.full((n, 5), 0.2)] * 4)[0],
    ):
        assert got.known == (n == 2)
        assert np.isnan(got.low)


def test_seeds_in_another_order_give_the_same() -> None:
    drawn = study(truth(), 2.0)
    order = np.random.default_rng(10).permutation(12)
    shuffled = [x[order] for x in drawn]
    for f in (lambda x: m.dependence_stability(x)[0], lambda x: m.link_specificity(x, LISTS)):
        first, second = f(drawn), f(shuffled)
        assert (first.low, first.estimate, first.high) == pytest.approx(
            (second.low, second.estimate, second.high)
        )
        assert first.p_value == pytest.approx(second.p_value, abs=0.03)
