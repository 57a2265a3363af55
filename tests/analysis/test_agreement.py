"""Agreement on choices: kappa against statsmodels and Fleiss' own example, chance by hand."""

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import kendalltau
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from analysis.statistics.agreement import (
    TIED,
    chosen_operations,
    edge_agreement,
    function_agreement,
    operation_agreement,
    operation_rank_agreement,
    probability_divergence,
)
from analysis.statistics.metrics import groups_of

OPS = ("a", "b", "c", "d")

# Fleiss (1971), the example most often reprinted: 10 subjects, 14 raters, 5 categories.
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def test_kappa_is_fleiss_published_one() -> None:
    choices = np.stack([np.repeat(np.arange(5), row) for row in FLEISS], axis=1)
    lists = [("1", "2", "3", "4", "5")] * 10
    got = operation_agreement(choices, lists)
    assert got.estimate == pytest.approx(0.20993070442195522, abs=1e-8)
    assert round(got.estimate, 3) == 0.210
    assert got.n == 14


def test_kappa_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for n, edges in ((2, 14), (9, 6), (20, 14)):
        choices = np.where(rng.random((n, edges)) < 0.5, np.arange(edges) % 4, 0)
        choices = np.where(rng.random((n, edges)) < 0.3, rng.integers(4, size=(n, edges)), choices)
        table, _ = aggregate_raters(choices.T, 4)
        got = operation_agreement(choices, [OPS] * edges, draws=0)
        assert got.estimate == pytest.approx(fleiss_kappa(table), abs=1e-10)


def test_chance_is_taken_within_edges_of_one_list() -> None:
    # Coin flips on edges with lists of their own: one chance level for all would give 0.3.
    rng = np.random.default_rng(1)
    lists = [(f"a{i}", f"b{i}") for i in range(3)] * 4
    kappas = [
        operation_agreement(rng.integers(2, size=(40, 12)), lists, draws=0).estimate
        for _ in range(30)
    ]
    assert np.mean(kappas) == pytest.approx(0, abs=0.02)
    choices = rng.integers(2, size=(5, 12))
    expected = []
    for group in groups_of(lists):
        shares = np.array([(choices[:, group] == k).mean() for k in range(2)])
        expected.append((len(group) / 12, (shares**2).sum()))
    chance = sum(weight * value for weight, value in expected)
    observed = np.mean([(a == b).mean() for a, b in combinations(choices, 2)])
    want = (observed - chance) / (1 - chance)
    assert operation_agreement(choices, lists).estimate == pytest.approx(want, abs=1e-12)


def test_tied_edges_are_left_out_in_all_seeds_and_counted() -> None:
    rng = np.random.default_rng(2)
    choices = rng.integers(4, size=(6, 5))
    tied = choices.copy()
    tied[3, 1] = TIED
    got = operation_agreement(tied, [OPS] * 5)
    rest = operation_agreement(choices[:, [0, 2, 3, 4]], [OPS] * 4)
    assert got.estimate == rest.estimate
    assert "1 of 5 edges left out: tied in some seed" in got.note


def test_one_operation_only_is_nothing_to_agree_on() -> None:
    got = operation_agreement(np.zeros((5, 6), int), [OPS] * 6)
    assert not got.known
    assert got.note == "only one operation occurs: nothing to agree on"
    assert operation_agreement(np.zeros((1, 6), int), [OPS] * 6).note == "one seed only"
    assert not operation_agreement(np.full((3, 2), TIED), [OPS] * 2).known


def test_perfect_agreement_on_several_operations_is_one() -> None:
    choices = np.tile(np.arange(6) % 4, (5, 1))
    got = operation_agreement(choices, [OPS] * 6)
    assert got.estimate == 1
    assert got.p_value < 0.02


def test_the_best_operation_and_its_ties() -> None:
    p = [[0.1, 0.2, 0.4, 0.3], [0.4, 0.4, 0.1, 0.1], [0.4, 0.4 - 2e-6, 0.1, 0.1]]
    assert chosen_operations(p, OPS).tolist() == [2, TIED, 0]
    assert chosen_operations(p, OPS, exclude=("a", "c")).tolist() == [3, 1, 1]
    assert chosen_operations([[1.0]], ("a",)).tolist() == [0]


def kept(*items: str) -> frozenset[tuple[int, int, str]]:
    return frozenset((int(i[0]), int(i[1]), i[2:]) for i in items)


def test_edge_agreement_is_the_mean_jaccard_index() -> None:
    sets = [kept("02a", "12b"), kept("02a", "12c"), kept("02b", "12b")]
    edges = dict.fromkeys([(0, 2), (1, 2)], OPS)
    got = edge_agreement(sets, edges)
    assert got.estimate == pytest.approx((1 / 3 + 1 / 3 + 0) / 3)
    # Both edges are always kept; an operation meets itself with 1/3² + (1/2)² + (1/6)².
    same = (2 / 6) ** 2 + (3 / 6) ** 2 + (1 / 6) ** 2
    p = {k: c * same**k * (1 - same) ** (2 - k) for k, c in ((0, 1), (1, 2), (2, 1))}
    assert got.null_mean == pytest.approx(p[1] / 3 + p[2], abs=1e-12)


def test_chance_also_moves_which_edges_are_kept() -> None:
    # Of three in-edges one is kept, always with the same operation: chance is 1/3.
    sets = [kept("03a"), kept("03a"), kept("13a"), kept("03a")]
    got = edge_agreement(sets, dict.fromkeys([(0, 3), (1, 3), (2, 3)], OPS))
    assert got.estimate == pytest.approx(0.5)
    assert got.null_mean == pytest.approx(1 / 3, abs=1e-12)


def test_chance_is_that_of_simulated_cells() -> None:
    """Nodes that keep one, two or three edges, of three candidate lists."""
    rng = np.random.default_rng(5)
    edges = {(s, t): OPS[: 2 + (s + t) % 3] for t in (2, 3, 4) for s in range(t)}

    def cell(frequencies: dict[tuple[str, ...], np.ndarray]) -> frozenset[tuple[int, int, str]]:
        items = []
        for t in (2, 3, 4):
            for s in rng.permutation(t)[: rng.integers(1, t)]:
                of_list = edges[int(s), t]
                items.append((int(s), t, str(rng.choice(of_list, p=frequencies[of_list]))))
        return frozenset(items)

    sets = [cell({o: np.full(len(o), 1 / len(o)) for o in edges.values()}) for _ in range(6)]
    kept_items = [item for items in sets for item in items]
    frequencies = {}
    for of_list in set(edges.values()):
        found = [o for s, t, o in kept_items if edges[s, t] == of_list]
        frequencies[of_list] = np.array([found.count(o) / len(found) for o in of_list])
    counts = {t: [sum(item[1] == t for item in items) for items in sets] for t in (2, 3, 4)}

    def by_chance() -> frozenset[tuple[int, int, str]]:
        items = []
        for t in (2, 3, 4):
            for s in rng.permutation(t)[: rng.choice(counts[t])]:
                of_list = edges[int(s), t]
                items.append((int(s), t, str(rng.choice(of_list, p=frequencies[of_list]))))
        return frozenset(items)

    jaccard = []
    for _ in range(4000):
        a, b = by_chance(), by_chance()
        jaccard.append(len(a & b) / len(a | b))
    error = np.std(jaccard) / len(jaccard) ** 0.5
    assert edge_agreement(sets, edges).null_mean == pytest.approx(np.mean(jaccard), abs=4 * error)


def test_rank_agreement_is_kendalls_tau_b_of_scipy() -> None:
    rng = np.random.default_rng(6)
    p = [rng.dirichlet(np.ones(k), 6) for k in (2, 4, 5)]
    p[1] = np.round(p[1], 1) + 0.001  # with ties
    p[1][:, 0] += 0.05
    got = operation_rank_agreement(p)
    want = np.mean([kendalltau(a[s], a[t])[0] for a in p for s, t in combinations(range(6), 2)])
    assert got.estimate == pytest.approx(want, abs=1e-12)
    assert got.null_mean == 0
    without = [operation_rank_agreement([np.delete(a, s, 0) for a in p]).estimate for s in range(6)]
    assert got.statistic is not None
    np.testing.assert_allclose(got.statistic.leave_one_out(), without)


def test_rank_agreement_of_chance_of_opposites_and_of_ties() -> None:
    rng = np.random.default_rng(7)
    chance = operation_rank_agreement([rng.random((60, 5)) for _ in range(20)])
    assert chance.estimate == pytest.approx(0, abs=0.02)
    up = np.arange(4.0)
    opposite = operation_rank_agreement([np.stack([up, up[::-1]])])
    assert opposite.estimate == -1
    same = operation_rank_agreement([np.stack([up] * 3), np.ones((3, 4))])
    assert same.estimate == 1
    assert same.note.startswith("1 of 2 edges left out: all operations tied in some seed")
    assert not operation_rank_agreement([np.ones((3, 4))]).known
    assert operation_rank_agreement([up[None]]).note == "one seed only"


def test_function_agreement_is_a_share_of_pairs() -> None:
    got = function_agreement(["f", "f", "g", "f"], ["1", "2", "3", "1"])
    assert got.estimate == pytest.approx(3 / 6)
    assert got.note == "with equal strings 0.167"
    assert got.statistic is not None
    np.testing.assert_allclose(got.statistic.leave_one_out(), [1 / 3, 1 / 3, 1, 1 / 3])
    assert 0 <= got.low < 0.5 < got.high <= 1
    assert not function_agreement(["f"], ["1"]).known


def test_probability_divergence_against_scipy() -> None:
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(4), (5, 3))
    got = probability_divergence(list(np.moveaxis(p, 1, 0)), [OPS] * 3)
    want = [
        np.mean([jensenshannon(a[e], b[e], base=2) ** 2 for e in range(3)])
        for a, b in combinations(p, 2)
    ]
    assert got.estimate == pytest.approx(np.mean(want), abs=1e-12)
    anyhow = [
        jensenshannon(a[e], b[f], base=2) ** 2
        for a, b in combinations(p, 2)
        for e in range(3)
        for f in range(3)
    ]
    assert got.null_mean == pytest.approx(np.mean(anyhow), abs=1e-12)
    assert 0.02 < got.p_value < 1


def test_lists_of_different_lengths_are_compared_each_with_itself() -> None:
    rng = np.random.default_rng(4)
    p = [rng.dirichlet(np.ones(k), 4) for k in (2, 5)]
    got = probability_divergence(p, [("a", "b"), ("a", "b", "c", "d", "e")])
    assert got.estimate == pytest.approx(got.null_mean)  # no edge has another to be taken for
