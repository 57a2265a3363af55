"""Curves over epochs and transition matrices against plain loops over the written rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis.compute import trajectories, transitions
from tests.analysis.synthetic import (
    DARTS_EDGES,
    NB201_OPS,
    RAGGED,
    Setting,
    Study,
    softmax,
    true_logits,
    true_matrix,
    write_study,
)


def test_quantity_curve_is_the_mean_over_seeds_at_every_epoch(nb201: Path) -> None:
    results = analysis.load(nb201)
    ids = results.runs.query("setting == 'transition'")["run_id"]
    rows = results.epochs(run_ids=ids)
    curve = trajectories.quantity_curve(rows, "transition", "valid_accuracy")
    assert curve.epochs.tolist() == [0, 1, 2, 3, 4]
    assert curve.n.tolist() == [4] * 5
    for i, epoch in enumerate(curve.epochs):
        x = rows.loc[rows["epoch"] == epoch, "valid_accuracy"]
        low, high = stats.t.interval(0.95, 3, loc=x.mean(), scale=stats.sem(x))
        assert (curve.mean[i], curve.low[i], curve.high[i]) == pytest.approx((x.mean(), low, high))


def test_runs_that_stopped_early_leave_the_curve(darts: Path) -> None:
    results = analysis.load(darts)
    curve = trajectories.quantity_curve(results.epochs(), "transition", "train_loss")
    assert curve.n.tolist() == [3, 3, 2, 2]


def test_a_quantity_that_a_setting_lacks_is_an_empty_curve(nb201: Path) -> None:
    results = analysis.load(nb201)
    ids = results.runs.query("setting == 'independent'")["run_id"]
    rows = results.epochs(run_ids=ids)
    assert trajectories.quantity_curve(rows, "x", "transition_displacement").epochs.size == 0


def samples_of(folder: Path, at: Sequence[int | str], **only: object) -> dict:
    results = analysis.load(folder)
    runs = results.runs
    for column, value in only.items():
        runs = runs[runs[column] == value]
    return analysis.read_samples(results, runs, at)


def test_operation_curves_against_a_plain_loop(darts: Path) -> None:
    rows = analysis.load(darts).edges()
    curves = trajectories.operation_curves(samples_of(darts, range(-1, 4)), "transition")
    places = [(e.cell, e.source, e.target) for e in curves.edges]
    assert places == [(c, *e) for c in ("normal", "reduce") for e in DARTS_EDGES]
    assert sum(e.inner for e in curves.edges) == 12
    edge = curves.edges[7]
    for i, epoch in enumerate(edge.epochs):
        here = rows[(rows["epoch"] == epoch) & (rows["cell"] == edge.cell)]
        here = here[(here["source"] == edge.source) & (here["target"] == edge.target)]
        stack = np.array(here["probabilities"].to_list(), dtype=float)
        np.testing.assert_allclose(edge.mean[i], stack.mean(0))
        np.testing.assert_allclose(edge.sd[i], stack.std(0, ddof=1))
        assert edge.n[i] == len(stack)
    assert edge.epochs.tolist() == [-1, 0, 1, 2, 3]


def test_known_probabilities_come_out_without_noise(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a", moved=0.5)], noise=0.0))
    curves = trajectories.operation_curves(samples_of(tmp_path, range(-1, 5)), "a")
    for index, edge in enumerate(curves.edges):
        np.testing.assert_allclose(edge.mean[0], 0.2, atol=1e-7)
        np.testing.assert_allclose(edge.mean[-1], softmax(true_logits(5, index)), atol=1e-6)
        np.testing.assert_allclose(edge.sd, 0, atol=1e-12)
        assert edge.operations == NB201_OPS


def test_one_seed_has_means_and_no_spread(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a")], seeds=[7]))
    samples = samples_of(tmp_path, [0, "last"])
    edge = trajectories.operation_curves({0: samples[0]}, "a").edges[0]
    assert np.isfinite(edge.mean).all()
    assert np.isnan(edge.sd).all()
    links = transitions.mean_transitions(samples["last"], "a")
    assert np.isnan(links.mean_sd)


@pytest.mark.parametrize(
    ("last", "most", "want"),
    [(3, 60, [-1, 0, 1, 2, 3]), (-1, 60, [-1]), (49, 3, [-1, 24, 49]), (599, 60, None)],
)
def test_thinned_keeps_both_ends(last: int, most: int, want: list[int] | None) -> None:
    got = trajectories.thinned(last, most)
    assert (got[0], got[-1]) == (-1, last)
    assert len(got) <= most
    assert want is None or got == want


def test_mean_matrices_against_a_plain_loop(darts: Path) -> None:
    results = analysis.load(darts)
    rows = results.links(epoch="last")
    got = transitions.mean_transitions(samples_of(darts, ["last"])["last"], "transition")
    assert len(got.links) == 32
    assert [k.cell for k in got.links] == ["normal"] * 16 + ["reduce"] * 16
    assert got.links[0].predecessor == (0, 2)
    assert got.links[0].edge == (2, 3)
    for link in got.links[::5]:
        here = rows[
            (rows["cell"] == link.cell) & (rows["predecessor_source"] == link.predecessor[0])
        ]
        here = here[(here["source"] == link.edge[0]) & (here["target"] == link.edge[1])]
        stack = np.array(here["matrix"].to_list(), dtype=float).reshape(3, 8, 8)
        np.testing.assert_allclose(link.matrix.mean, stack.mean(0))
        np.testing.assert_allclose(link.matrix.sd, stack.std(0, ddof=1))
        assert link.matrix.n == link.attention.n == 3
    every = np.concatenate([link.matrix.sd.ravel() for link in got.links])
    assert got.mean_sd == pytest.approx(every.mean())


def test_rectangular_matrices_keep_rows_and_columns_apart(tmp_path: Path) -> None:
    write_study(tmp_path, Study("s1", settings=[Setting("a")], noise=0.0))
    got = transitions.mean_transitions(samples_of(tmp_path, ["last"])["last"], "a")
    lists = dict(zip(DARTS_EDGES, RAGGED, strict=True))
    shapes = set()
    for link in got.links:
        assert link.row_operations == lists[link.predecessor]
        assert link.column_operations == lists[link.edge]
        shape = len(link.row_operations), len(link.column_operations)
        shapes.add(shape)
        np.testing.assert_allclose(link.matrix.mean, softmax(true_matrix(*shape)), atol=1e-6)
    assert {(2, 3), (3, 2)} <= shapes


def test_settling_is_after_the_last_change_of_any_edge(tmp_path: Path) -> None:
    study = Study(settings=[Setting("a")], seeds=range(3), epochs=6, noise=1.0)
    write_study(tmp_path, study)
    runs = analysis.load(tmp_path).runs
    got = trajectories.settling_epochs(runs, samples_of(tmp_path, range(-1, 6)))
    rows = analysis.load(tmp_path).edges()
    for run_id, settled in zip(runs["run_id"], got, strict=True):
        own = rows[rows["run_id"] == run_id]
        last = -1
        for _, edge in own.groupby(["source", "target"]):
            p = np.array(edge.sort_values("epoch")["probabilities"].to_list())
            sorted_p = np.sort(p, axis=1)
            best = np.where(sorted_p[:, -1] - sorted_p[:, -2] <= 1e-6, -1, p.argmax(axis=1))
            changes = np.flatnonzero(best[1:] != best[:-1])
            last = max(last, *(int(c) for c in changes), -1) if changes.size else last
        assert settled == last
    # From uniform probabilities (a tie on every edge) the first epoch is a change.
    assert (got >= 0).all()


def test_stability_over_epochs_is_that_of_each_epoch(nb201: Path) -> None:
    results = analysis.load(nb201)
    runs = results.runs.query("setting == 'transition'")
    samples = samples_of(nb201, [-1, 2, 4], setting="transition")
    curves = {c.quantity: c for c in trajectories.stability_curves(runs, samples, "transition")}
    from analysis.statistics import matrices

    for name in ("dependence_stability", "learned_dependence_stability"):
        curve = curves[name]
        assert curve.cell == "normal"
        for epoch, estimate in zip(curve.epochs, curve.mean, strict=True):
            T = [k.matrices for k in samples[int(epoch)].links]
            if name.startswith("learned"):
                T = matrices.learned(T, [k.matrices for k in samples[-1].links])
            want = matrices.dependence_stability(T)[0].estimate
            assert estimate == pytest.approx(want)
    assert curves["dependence_stability"].epochs.tolist() == [-1, 2, 4]
    assert curves["learned_dependence_stability"].epochs.tolist() == [2, 4]
