"""Curves over epochs and mean matrices, as tables, against plain loops over the written rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis.compute import trajectories
from analysis.compute.setting import matrices_table
from analysis.statistics import matrices
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

LINK = ["cell", "predecessor_source", "predecessor_target", "source", "target"]


def samples_of(folder: Path, at: Sequence[int | str], **only: object) -> dict:
    results = analysis.load(folder)
    runs = results.runs
    for column, value in only.items():
        runs = runs[runs[column] == value]
    return analysis.read_samples(results, runs, at)


def epochs_of(folder: Path) -> pd.DataFrame:
    results = analysis.load(folder)
    names = results.runs.set_index("run_id")["setting"]
    rows = results.epochs()
    return rows.assign(setting=rows["run_id"].map(names))


def test_quantities_of_runs_are_means_over_seeds_at_every_epoch(nb201: Path) -> None:
    rows = epochs_of(nb201)
    order = ["transition", "independent", "placebo"]
    table = trajectories.of_runs(rows, order)
    assert table["setting"].unique().tolist() == order
    curve = table.query("setting == 'transition' and quantity == 'valid_accuracy'")
    assert curve["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert (curve["seeds"] == 4).all()
    for row in curve.itertuples():
        here = (rows["epoch"] == row.epoch) & (rows["setting"] == "transition")
        x = rows.loc[here, "valid_accuracy"]
        low, high = stats.t.interval(0.95, 3, loc=x.mean(), scale=stats.sem(x))
        assert (row.estimate, row.low, row.high) == pytest.approx((x.mean(), low, high))
    # The diverged run's numbers are not there to be averaged.
    placebo = table.query("setting == 'placebo' and quantity == 'train_loss'")
    assert (placebo["seeds"] == 3).all()


def test_runs_that_stopped_early_leave_the_curve(darts: Path) -> None:
    table = trajectories.of_runs(epochs_of(darts), ["transition"])
    assert table.query("quantity == 'train_loss'")["seeds"].tolist() == [3, 3, 2, 2]


def test_a_quantity_that_a_setting_lacks_has_no_rows(nb201: Path) -> None:
    table = trajectories.of_runs(epochs_of(nb201), ["independent", "placebo", "transition"])
    having = table.loc[table["quantity"] == "transition_displacement", "setting"]
    assert set(having) == {"placebo", "transition"}


def test_operation_probabilities_against_a_plain_loop(darts: Path) -> None:
    rows = analysis.load(darts).edges()
    table = trajectories.operation_probabilities(samples_of(darts, range(-1, 4)))
    places = table.drop_duplicates(["cell", "source", "target"])
    want = [(c, *e) for c in ("normal", "reduce") for e in DARTS_EDGES]
    assert list(zip(places["cell"], places["source"], places["target"], strict=True)) == want
    assert places["inner"].sum() == 12
    assert len(table) == 28 * 5 * 8
    edge = table[(table["cell"] == "normal") & (table["source"] == 2) & (table["target"] == 4)]
    assert edge["epoch"].unique().tolist() == [-1, 0, 1, 2, 3]
    for epoch, got in edge.groupby("epoch"):
        here = rows[(rows["epoch"] == epoch) & (rows["cell"] == "normal")]
        here = here[(here["source"] == 2) & (here["target"] == 4)]
        stack = np.array(here["probabilities"].to_list(), dtype=float)
        assert got["operation"].tolist() == list(here["operations"].iloc[0])
        np.testing.assert_allclose(got["mean"], stack.mean(0))
        np.testing.assert_allclose(got["sd"], stack.std(0, ddof=1))
        assert (got["n"] == len(stack)).all()


def test_known_probabilities_come_out_without_noise(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a", moved=0.5)], noise=0.0))
    table = trajectories.operation_probabilities(samples_of(tmp_path, range(-1, 5)))
    np.testing.assert_allclose(table["sd"], 0, atol=1e-12)
    for index, (_, edge) in enumerate(table.groupby(["target", "source"])):
        first, last = (edge[edge["epoch"] == e] for e in (-1, 4))
        np.testing.assert_allclose(first["mean"], 0.2, atol=1e-7)
        np.testing.assert_allclose(last["mean"], softmax(true_logits(5, index)), atol=1e-6)
        assert last["operation"].tolist() == list(NB201_OPS)


def test_one_seed_has_means_and_no_spread(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a")], seeds=[7]))
    samples = samples_of(tmp_path, [0, -1, "last"])
    table = trajectories.operation_probabilities({0: samples[0]})
    assert np.isfinite(table["mean"]).all()
    assert table["sd"].isna().all()
    links = matrices_table(samples["last"], samples[-1])
    assert np.isfinite(links["mean"]).all()
    assert links["sd"].isna().all()
    of_runs = trajectories.of_runs(epochs_of(tmp_path), ["a"])
    assert of_runs["low"].isna().all()


@pytest.mark.parametrize(
    ("last", "most", "want"),
    [(3, 60, [-1, 0, 1, 2, 3]), (-1, 60, [-1]), (49, 3, [-1, 24, 49]), (599, 60, None)],
)
def test_thinned_keeps_both_ends(last: int, most: int, want: list[int] | None) -> None:
    got = trajectories.thinned(last, most)
    assert (got[0], got[-1]) == (-1, last)
    assert len(got) <= most
    assert want is None or got == want


def test_mean_matrices_stand_beside_the_start(darts: Path) -> None:
    results = analysis.load(darts)
    table = analysis.compute_study(results)["transition_matrices"]
    assert (table["setting"] == "transition").all()
    links = table.drop_duplicates(LINK)
    assert links["cell"].tolist() == ["normal"] * 16 + ["reduce"] * 16
    assert links[LINK].iloc[0].tolist() == ["normal", 0, 2, 2, 3]
    before, after = results.links(epoch="first"), results.links(epoch="last")
    assert len(table) == 32 * 64
    for key, got in list(table.groupby(LINK))[::5]:
        stacks = []
        for rows in (before, after):
            here = rows[(rows[LINK] == list(key)).all(axis=1)]
            stacks.append(np.array(here["matrix"].to_list(), dtype=float))
        start, last = stacks
        np.testing.assert_allclose(got["start_mean"], start.mean(0))
        np.testing.assert_allclose(got["mean"], last.mean(0))
        np.testing.assert_allclose(got["sd"], last.std(0, ddof=1))
        assert (got["n"] == 3).all()
        assert not np.allclose(got["mean"], got["start_mean"], atol=1e-3)
        predecessors = {2: 2, 3: 3, 4: 4}[key[3]]
        assert got["attention_weight_mean"].tolist() == pytest.approx([1 / predecessors] * 64)


def test_rectangular_matrices_keep_rows_and_columns_apart(tmp_path: Path) -> None:
    write_study(tmp_path, Study("s1", settings=[Setting("a")], noise=0.0))
    samples = samples_of(tmp_path, ["last", -1])
    table = matrices_table(samples["last"], samples[-1])
    lists = dict(zip(DARTS_EDGES, RAGGED, strict=True))
    shapes = set()
    for (_, ps, pt, s, t), got in table.groupby(LINK):
        rows, columns = lists[ps, pt], lists[s, t]
        assert got["row"].tolist() == [r for r in rows for _ in columns]
        assert got["column"].tolist() == [c for _ in rows for c in columns]
        shape = len(rows), len(columns)
        shapes.add(shape)
        np.testing.assert_allclose(got["mean"], softmax(true_matrix(*shape)).ravel(), atol=1e-6)
        np.testing.assert_allclose(got["start_mean"], got["mean"], atol=1e-6)  # without noise
    assert {(2, 3), (3, 2)} <= shapes


def test_settling_is_after_the_last_change_of_any_edge(tmp_path: Path) -> None:
    study = Study(settings=[Setting("a")], seeds=range(3), epochs=6, noise=1.0)
    write_study(tmp_path, study)
    results = analysis.load(tmp_path)
    runs = results.runs
    got = trajectories.settling_epochs(runs, samples_of(tmp_path, range(-1, 6)))
    rows = results.edges()
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
    table = analysis.compute_study(results)["stability"].set_index("quantity")
    assert table.loc["settling_epoch", "estimate"] == pytest.approx(got.mean())
    quick = analysis.compute_study(results, with_trajectories=False)
    unread = quick["stability"].set_index("quantity").loc["settling_epoch"]
    assert np.isnan(unread["estimate"])
    assert unread["note"] == "the epochs between were not read"
    assert quick["trajectories"].empty


def test_quantities_over_epochs_are_those_of_each_epoch(nb201: Path) -> None:
    results = analysis.load(nb201)
    runs = results.runs.query("setting == 'transition'")
    samples = samples_of(nb201, [-1, 2, 4], setting="transition")
    table = trajectories.of_settings(runs, samples)
    for name, epochs in (
        ("dependence_stability", [-1, 2, 4]),
        ("learned_dependence_stability", [2, 4]),
    ):
        curve = table[table["quantity"] == name]
        assert curve["epoch"].tolist() == epochs
        assert (curve["cell"] == "normal").all()
        assert (curve["seeds"] == 4).all()
        for row in curve.itertuples():
            now = [k.matrices for k in samples[row.epoch].links]
            if name.startswith("learned"):
                now = matrices.learned(now, [k.matrices for k in samples[-1].links])
            want = matrices.dependence_stability(now)[0]
            found = (row.estimate, row.low, row.high, row.seeds)
            assert found == pytest.approx((want.estimate, want.low, want.high, want.n), nan_ok=True)


def test_the_last_epoch_of_the_curves_is_the_table_stability(noisy_study: analysis.Study) -> None:
    keys = ["setting", "cell", "quantity"]
    curves = noisy_study["trajectories"]
    curves = curves[(curves["epoch"] == 3) & (curves["cell"] == "normal")].set_index(keys)
    assert len(curves) >= 15
    want = noisy_study["stability"].set_index(keys).loc[curves.index]
    np.testing.assert_allclose(curves["estimate"], want["estimate"])
    assert curves["null_mean"].notna().any()
