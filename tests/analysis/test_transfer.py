"""Transfer: flows against brute force, properties that hold exactly, size and power in short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from analysis.statistics import flow
from analysis.statistics.agreement import TIED
from analysis.statistics.flow import FlowCell, FlowEdge, FlowLink
from analysis.statistics.predicted_flows import FORMS, ONCE, Jobs, share_found
from analysis.statistics.transfer import SHARES, Transfer, pooled, transfer
from tests.analysis.studies import transfer_worlds as worlds
from tests.analysis.studies.transfer_worlds import World, draw, softmax

RNG = np.random.default_rng


def ragged_cell(n: int, own_weight: float = 0.0, seed: int = 0) -> FlowCell:
    """Three inner edges with 3, 4 and 3 operations; predecessors have 2, 3 and 5."""
    rng = RNG(seed)
    sizes, links = (3, 4, 3), []
    flows = [np.zeros((n, c)) for c in sizes]
    into = [(0, 2, 1.0), (1, 3, 0.3), (1, 5, 0.7), (2, 5, 1.0)]
    for number, (edge, rows, weight) in enumerate(into):
        start = rng.normal(size=(n, rows, sizes[edge]))
        table = start + rng.normal(size=start.shape) + rng.normal(size=start.shape[1:])
        p = softmax(rng.normal(size=(n, rows)))
        w = np.full(n, weight)
        links.append(FlowLink(edge, softmax(start), softmax(table), p, w, number))
        flows[edge] += w[:, None] * np.einsum("nr,nrc->nc", p, softmax(table))
    own = [softmax(rng.normal(size=(n, c))) for c in sizes]
    edges = [
        FlowEdge(own_weight * o + (1 - own_weight) * f, tuple("abcd"[: f.shape[1]]))
        for o, f in zip(own, flows, strict=True)
    ]
    return FlowCell(tuple(edges), tuple(links), own_weight)


def flow_of(cell: FlowCell, edge: int, seed: int, tables: list[np.ndarray]) -> np.ndarray:
    """One edge's flow by the definition, operation by operation. tables: (n, R, C) per link."""
    out = np.zeros(len(cell.edges[edge].operations))
    for link, table in zip(cell.links, tables, strict=True):
        if link.edge == edge:
            for row in range(table.shape[1]):
                for column in range(table.shape[2]):
                    p = link.w[seed] * link.p[seed, row]
                    out[column] += p * table[seed, row, column]
    return out


def mean_divergence(cell: FlowCell, seed: int, first: list, second: list) -> float:
    return float(
        np.mean(
            [
                jensenshannon(flow_of(cell, e, seed, first), flow_of(cell, e, seed, second), base=2)
                ** 2
                for e in range(len(cell.edges))
            ]
        )
    )


def numbers(found: Transfer) -> np.ndarray:
    """All that is told of every seed."""
    return np.stack([found.d_start, found.d_columns, found.d_full, found.factors[:, 0]])


@pytest.mark.parametrize("cell", [ragged_cell(4), draw(World(sharing="cell"), 4, RNG(1))])
def test_flows_are_those_of_the_definition(cell: FlowCell) -> None:
    real = [k.matrices for k in cell.links]
    for block in flow.blocks(cell):
        for place, edge in enumerate(block.edges):
            for seed in range(4):
                expected = flow_of(cell, edge, seed, real)
                np.testing.assert_allclose(block.flow(block.table)[seed, :, place], expected)
                np.testing.assert_allclose(cell.edges[edge].probabilities[seed], expected)


def test_start_and_effects_against_brute_force() -> None:
    cell = ragged_cell(4)
    real, start = [k.matrices for k in cell.links], [k.start for k in cell.links]
    alike = [np.repeat(m.mean(axis=1, keepdims=True), m.shape[1], axis=1) for m in real]
    found = transfer(cell, 0)
    exchanged = flow.exchange_effect(cell)
    for i in range(4):
        assert found.d_start[i] == pytest.approx(mean_divergence(cell, i, start, real))
        assert found.flow_effect[i] == pytest.approx(mean_divergence(cell, i, alike, real))
        each = []
        for j in set(range(4)) - {i}:
            links = tuple(replace(k, p=k.p[[j] * 4]) for k in cell.links)
            other = replace(cell, links=links)
            for e in range(3):
                pair = flow_of(cell, e, i, real), flow_of(other, e, i, real)
                each.append(jensenshannon(*pair, base=2) ** 2)
        assert exchanged[i] == pytest.approx(np.mean(each))


def test_form_a_and_full_step_against_brute_force() -> None:
    """Uniform p_q leaves no slope, a uniform start no coefficient: a and residual rows alone."""
    rng, n = RNG(3), 4
    start, p = np.full((n, 3, 3), 1 / 3), np.full((n, 3), 1 / 3)
    table = softmax(rng.normal(size=(n, 3, 3)) + 2 * rng.normal(size=(1, 3, 3)))
    edge = FlowEdge(table.mean(axis=1), tuple("abc"))
    cell = FlowCell((edge,), (FlowLink(0, start, table, p, np.ones(n), 0),))
    found = transfer(cell, 0)
    assert (found.factors > 0).any()
    z = np.log(table) - np.log(table).mean(axis=2, keepdims=True)
    for i in range(n):
        mean = z[[j for j in range(n) if j != i]].mean(axis=0)
        columns = np.tile(mean.mean(axis=0), (3, 1))
        guess = {
            "start": np.zeros((3, 3)), "a": columns, "c": columns, "d": columns, "cd": columns,
        }  # fmt: skip
        real, form = table[i].mean(axis=0), FORMS[found.forms[i, 0]]
        if form == "b":
            logs = np.log(table.mean(axis=1))
            by = softmax(logs[[j for j in range(n) if j != i]].mean(axis=0))
        else:
            by = softmax(guess[form]).mean(axis=0)
        assert found.d_columns[i] == pytest.approx(jensenshannon(by, real, base=2) ** 2)
        factor = found.factors[i, 0]
        if factor and form != "b":
            by = softmax(guess[form] + factor * (mean - columns)).mean(axis=0)
            assert found.d_full[i] == pytest.approx(jensenshannon(by, real, base=2) ** 2)


@pytest.mark.parametrize("own_weight", [0.0, 0.3, 0.9])
def test_choices_keep_the_edges_own_share(own_weight: float) -> None:
    cell = replace(ragged_cell(20, own_weight), excluded=("a",))
    found = transfer(cell, 0)
    start = [k.start for k in cell.links]
    real = [k.matrices for k in cell.links]
    for e, edge in enumerate(cell.edges):
        for i in range(20):
            own = edge.probabilities[i] - (1 - own_weight) * flow_of(cell, e, i, real)
            p = (1 - own_weight) * flow_of(cell, e, i, start) + own
            assert found.chosen["start"][i, e] == 1 + p[1:].argmax()
            assert found.chosen["real"][i, e] == 1 + edge.probabilities[i, 1:].argmax()
    same = (found.chosen["start"] == found.chosen["real"]).mean(axis=1)
    np.testing.assert_allclose(found.choice_transfer("start"), same)


def test_tied_edges_do_not_count_as_chosen() -> None:
    cell = ragged_cell(3)
    edges = (replace(cell.edges[0], probabilities=np.full((3, 3), 1 / 3)), *cell.edges[1:])
    real = transfer(replace(cell, edges=edges, own_weight=1.0), 0).chosen["real"]
    assert (real[:, 0] == TIED).all()
    assert np.isfinite(
        transfer(replace(cell, edges=edges, own_weight=1.0), 0).choice_transfer()
    ).all()


@pytest.mark.parametrize("n", [3, 5, ONCE + 1])
@pytest.mark.parametrize("sharing", ["link", "cell"])
def test_seeds_that_are_alike_predict_each_other(n: int, sharing: str) -> None:
    cell = draw(World(noise=0.0, columns=0.7, rows=1.0, sharing=sharing), n, RNG(0))
    found = transfer(cell, 19)
    assert found.d_full.max() < 1e-6 < 1e-3 < found.d_columns.mean()
    assert sum(found.share(name).estimate for name in SHARES) == pytest.approx(1, abs=1e-3)
    assert found.p_value == 1 / 20
    assert (found.choice_transfer() == 1).all()


def test_a_random_start_that_is_forgotten_leaves_the_mean_matrix() -> None:
    world = World(noise=0.0, columns=0.7, rows=1.0, weaker=1.0, init="random")
    found = transfer(draw(world, 5, RNG(0)), 19)
    assert found.d_full.max() < 1e-9 < 1e-3 < found.d_columns.mean()
    bare = transfer(draw(replace(world, rows=0.0), 5, RNG(0)), 19)
    assert bare.d_columns.max() < 1e-9 < 1e-3 < bare.d_start.mean()
    assert bare.share("dependence_transfer").estimate == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("form", ["columns", "weaker", "visited"])
@pytest.mark.parametrize("init", ["identity", "random"])
@pytest.mark.parametrize("n", [3, 4, 8])
def test_without_rows_full_is_columns(form: str, init: str, n: int) -> None:
    world = World(noise=0.0, **{form: 0.6}, init=init)
    found = transfer(draw(world, n, RNG(2)), 19)
    assert found.d_columns.max() < 1e-5 < found.d_start.mean()
    assert found.share("dependence_transfer").estimate == pytest.approx(0, abs=1e-4)
    columns = draw(World(noise=0.0, columns=0.6), n, RNG(2))
    exact = transfer(columns, 19)
    assert exact.p_value == 1.0


def test_no_residual_rows_is_exactly_columns() -> None:
    """Noise in the columns alone: no step along rows can help, and none is taken."""
    rng, n = RNG(4), 6
    cell = draw(World(), n, rng)
    links = tuple(
        replace(
            k, matrices=softmax(np.log(k.start) + rng.normal(size=(n, 1, 5)) + rng.normal(size=5))
        )
        for k in cell.links
    )
    found = transfer(replace(cell, links=links), 19)
    np.testing.assert_allclose(found.d_full, found.d_columns, rtol=1e-9)
    assert found.share("dependence_transfer").estimate == pytest.approx(0, abs=1e-9)
    assert found.p_value == 1.0
    assert found.d_columns.mean() > 0.001


def reordered(cell: FlowCell, rng: np.random.Generator) -> FlowCell:
    """The same cell with its links, edges and all operations in another order."""
    place = rng.permutation(len(cell.edges))
    columns = [rng.permutation(len(e.operations)) for e in cell.edges]
    edges = tuple(
        FlowEdge(
            cell.edges[e].probabilities[:, columns[e]],
            tuple(cell.edges[e].operations[c] for c in columns[e]),
        )
        for e in place
    )
    links = []
    for number in rng.permutation(len(cell.links)):
        k = cell.links[number]
        rows = rng.permutation(k.p.shape[1])
        order = np.ix_(range(cell.n), rows, columns[k.edge])
        edge = int(np.flatnonzero(place == k.edge)[0])
        links.append(
            FlowLink(edge, k.start[order], k.matrices[order], k.p[:, rows], k.w, 9 - number)
        )
    return replace(cell, edges=edges, links=tuple(links))


@pytest.mark.parametrize("make", [ragged_cell, lambda n: draw(World(rows=0.5), n, RNG(5))])
def test_order_of_links_operations_and_seeds_does_not_matter(make) -> None:
    cell = make(6)
    expected = transfer(cell, 0)
    found = transfer(reordered(cell, RNG(1)), 0)
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=1e-9)
    order = RNG(2).permutation(6)
    np.testing.assert_allclose(
        numbers(transfer(cell.of(order), 0)), numbers(expected)[:, order], rtol=1e-9
    )


def test_links_that_share_a_matrix_are_as_one_link_with_their_mean() -> None:
    """Two links with one matrix and one p_q into one edge are one link with both weights."""
    cell = ragged_cell(5)
    k = cell.links[3]
    half = replace(k, w=k.w / 2)
    twice = replace(cell, links=(*cell.links[:3], half, half))
    np.testing.assert_allclose(numbers(transfer(twice, 0)), numbers(transfer(cell, 0)))


def test_placebo_has_uniform_predecessors() -> None:
    cell = ragged_cell(5)
    placebo = cell.uniform()
    assert all(np.ptp(k.p) == 0 and k.p.sum(axis=1)[0] == pytest.approx(1) for k in placebo.links)
    found = transfer(placebo, 0)
    np.testing.assert_allclose(found.flow_effect, 0, atol=1e-12)  # row means are what flows
    np.testing.assert_allclose(found.exchange_effect, 0, atol=1e-12)
    assert found.d_start.mean() != pytest.approx(transfer(cell, 0).d_start.mean())


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_seeds_tell_what_needs_no_other(n: int) -> None:
    found = transfer(ragged_cell(n))
    assert np.isfinite(found.d_start).all()
    assert np.isfinite(found.flow_effect).all()
    assert np.isnan(found.d_full).all()
    assert np.isnan(found.share("dependence_transfer").estimate)
    assert np.isnan(found.p_value)
    assert np.isnan(found.choice_transfer()).all()
    assert "three seeds" in found.note


def test_nothing_learned_leaves_no_share() -> None:
    cell = ragged_cell(5)
    same = replace(cell, links=tuple(replace(k, matrices=k.start) for k in cell.links))
    found = transfer(same, 9)
    assert found.d_start.max() < 1e-12
    assert np.isnan([found.share(name).estimate for name in SHARES]).all()
    assert "hardly" in found.note


@pytest.mark.parametrize("n", [3, 4, 5, ONCE, ONCE + 1])
def test_nobody_predicts_by_himself(n: int) -> None:
    jobs = Jobs.of(n)
    shares = jobs.keep[np.arange(len(jobs.target)), jobs.target]
    assert (shares == 0).all()
    np.testing.assert_allclose(jobs.keep.sum(axis=1), 1)
    if jobs.pairs:  # job i n + k: without i
        grid = jobs.keep.reshape(n, n, n)
        assert all((grid[i, :, i] == 0).all() for i in range(n))
    # A seed far from the others changes no other seed's prediction when it is left out.
    cell = draw(World(rows=0.5), n, RNG(6))
    wild = replace(
        cell,
        links=tuple(
            replace(k, matrices=np.concatenate([np.roll(k.matrices[:1], 1, 2), k.matrices[1:]]))
            for k in cell.links
        ),
    )
    kept = transfer(cell.of(range(1, n)), 0) if n > 3 else None
    if kept is not None and jobs.pairs:
        with_it = transfer(wild, 0)
        assert with_it.d_start[1:] == pytest.approx(kept.d_start)
        assert transfer(wild.of(range(1, n)), 0).d_full == pytest.approx(kept.d_full)


def test_a_seed_is_chosen_for_by_the_others() -> None:
    """Two ways: the second is better for seed 0 itself, the first for all others without it."""
    jobs = Jobs.of(4)
    d = np.ones((2, 16))
    d[1, 0], d[1, 1:4] = 0.0, 1.1  # jobs of seed 0: itself, then 1 to 3 without it and 0
    assert jobs.choose(d).tolist() == [0, 0, 0, 0]
    d[1, 1:4] = 0.9
    assert jobs.choose(d).tolist() == [1, 0, 0, 0]
    d[1, 5] = -9.0  # seed 1 itself
    assert jobs.choose(d).tolist() == [1, 0, 0, 0]


def test_pooled_is_the_mean_over_all_inner_edges() -> None:
    first, small = transfer(ragged_cell(5), 9), ragged_cell(5, seed=1)
    small = replace(small, edges=small.edges[:1], links=small.links[:1])
    second = transfer(small, 9, seed=1)
    both = pooled([first, second])
    assert both.edges == 4
    np.testing.assert_allclose(both.d_full, (3 * first.d_full + second.d_full) / 4)
    np.testing.assert_allclose(both.drawn, (3 * first.drawn + second.drawn) / 4)
    assert both.chosen["full"].shape == (5, 4)
    pooled_share = both.share("dependence_transfer")
    assert pooled_share.low <= pooled_share.estimate
    alone = pooled([first])
    assert alone.p_value == first.p_value
    got, want = alone.share("column_transfer"), first.share("column_transfer")
    assert (got.low, got.high) == pytest.approx((want.low, want.high))


def test_interval_is_the_jackknife_of_the_ratio_or_wider() -> None:
    found = transfer(draw(World(rows=0.7, columns=0.5), 6, RNG(8)), 0)
    above, below = found.parts("column_transfer")
    without = [np.delete(above, i).mean() / np.delete(below, i).mean() for i in range(6)]
    error = (5 * np.var(without)) ** 0.5
    got = found.share("column_transfer")
    assert got.estimate == pytest.approx(above.mean() / below.mean())
    assert got.high - got.estimate >= 2.5706 * error - 1e-9  # t of 5 degrees of freedom
    assert found.share("column_transfer").n == 6
    assert np.isnan(transfer(ragged_cell(4), 0).share("column_transfer").low)


def rejections(world: World, n: int, studies: int) -> float:
    found = [transfer(draw(world, n, RNG([n, i]), i), 99, i) for i in range(studies)]
    return float(np.mean([f.p_value < 0.05 for f in found]))


def test_size_and_power_in_short() -> None:
    """200 studies of 5 seeds; the full table is in docs/transfer.md."""
    for name in ("nothing but noise", "all three"):
        # 3.4 standard errors over 5%: rejected in less than one of 1,000 if the size is 5%.
        assert rejections(worlds.NULLS[name], 5, 200) < 0.105
    assert rejections(worlds.PLANTED["rows alone"], 5, 100) > 0.6
    assert rejections(worlds.PLANTED["rows alone"], 8, 50) > 0.8


def test_planted_rows_are_found_where_p_is_sharp_and_seeds_are_many() -> None:
    few = share_found([draw(World(sharp=0.1), 4, RNG(9))], studies=40)
    many = share_found([draw(World(sharp=2.0), 12, RNG(9))], studies=40)
    none = share_found([draw(World(sharp=2.0), 12, RNG(9))], strength=0.0, studies=100)
    assert few + 0.2 < many
    assert many > 0.9
    assert none < 0.13
    assert np.isnan(share_found([ragged_cell(2)]))


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 8, 10])
@pytest.mark.parametrize("name", worlds.NULLS)
def test_nulls_at_length(name: str, n: int) -> None:
    found = worlds.outcome(worlds.NULLS[name], n, 300)
    assert found.rejected <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5
    assert -0.03 <= found.dependence <= 0.005
    assert found.covered >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", worlds.PLANTED)
def test_planted_rows_at_length(name: str) -> None:
    found = worlds.outcome(worlds.PLANTED[name], 8, 300)
    assert found.rejected > (0.15 if "half" in name else 0.4)
    assert found.dependence > 0
    assert found.covered >= 0.86
