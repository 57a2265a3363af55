"""Summaries of settings: means over seeds by hand, reservations, diverged and crossed runs."""

from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.compute import summary
from analysis.compute.summary import SettingSummary, summarise
from analysis.statistics.metrics import Estimate
from tests.analysis.synthetic import Setting, Study, write_study


def summaries_of(folder: Path, study: Study) -> dict[str, SettingSummary]:
    write_study(folder, study)
    return {s.setting: s for s in summarise(analysis.load(folder).runs)}


def test_means_are_over_the_seeds_of_a_setting(nb201: Path) -> None:
    runs = analysis.load(nb201).runs
    got = {s.setting: s for s in summarise(runs)}
    assert list(got) == ["independent", "placebo", "transition"]
    for name in ("independent", "transition"):
        values = runs.loc[runs["setting"] == name, "derived_accuracy"]
        e = got[name].estimates["derived_accuracy"]
        assert (e.mean, e.sd, e.n) == pytest.approx((values.mean(), values.std(), 4))
    assert got["transition"].estimates["benchmark_test"].mean == 81 + 1.5
    assert got["independent"].estimates["transition_displacement"].n == 0
    assert got["independent"].trainable is None
    assert got["transition"].trainable is True


def test_diverged_runs_are_named_counted_and_in_no_mean(nb201: Path) -> None:
    runs = analysis.load(nb201).runs
    placebo = {s.setting: s for s in summarise(runs)}["placebo"]
    assert placebo.diverged == ("seed 2",)
    assert (placebo.runs, placebo.n) == (4, 3)
    assert placebo.collapsed.n == 3
    for estimate in placebo.estimates.values():
        assert estimate.n in (0, 3)
    # The benchmark accuracy of the diverged run is a number, and still left out.
    assert placebo.estimates["benchmark_test"].mean == pytest.approx(81 + np.mean([0, 1, 3]))


def test_a_diverged_runs_genotype_need_not_be_readable(nb201: Path) -> None:
    runs = analysis.load(nb201).runs.copy()
    runs.loc[runs["status"] == "diverged", "genotype"] = ""
    assert sum(s.n for s in summarise(runs)) == 11
    runs.loc[runs["status"] != "diverged", "genotype"] = "?"
    with pytest.raises(analysis.ResultsError, match="no genotype"):
        summarise(runs)


@pytest.mark.parametrize(
    ("moved", "reason"),
    [(0.19, "hardly moved: mean architecture displacement 0.190, under 0.2"), (0.21, "")],
)
def test_hardly_moved_is_under_two_tenths(tmp_path: Path, moved: float, reason: str) -> None:
    got = summaries_of(tmp_path, Study(settings=[Setting("a", moved=moved)], noise=3.0))["a"]
    assert "; ".join(got.reservations) == reason


def test_matrices_that_hardly_moved_are_a_reservation_where_they_can_move(tmp_path: Path) -> None:
    settings = [Setting("learns", moved=0.5), Setting("frozen", moved=0.5, trainable=False)]
    write_study(tmp_path, Study(settings=settings))
    runs = analysis.load(tmp_path).runs
    runs["transition_displacement"] = 0.019
    got = {s.setting: s for s in summarise(runs)}
    assert got["frozen"].reservations == ()
    assert got["learns"].reservations == (
        "transition matrices hardly moved: mean displacement 0.019, under 0.02",
    )


def test_one_genotype_is_remarked_upon(tmp_path: Path) -> None:
    got = summaries_of(tmp_path, Study(settings=[Setting("a")], noise=0.0))["a"]
    assert got.one_genotype
    assert got.reservations == ()
    assert got.remarks == ("one genotype only over 4 runs",)
    assert len(got.genotypes[0].run_ids) == 4


def test_every_run_diverged(tmp_path: Path) -> None:
    study = Study(settings=[Setting("a")], diverged=[("a", s) for s in range(4)])
    got = summaries_of(tmp_path, study)["a"]
    assert got.n == 0
    assert got.reservations == ("every run diverged",)
    assert got.genotypes == ()


def test_crossed_seeds_are_seen_and_named(tmp_path: Path) -> None:
    got = summaries_of(tmp_path, Study(settings=[Setting("a")], crossed=True))["a"]
    assert got.crossed
    assert sorted(got.run_labels.values()) == [
        "seed 0",
        "seeds 0/1/0",
        "seeds 1/0/0",
        "seeds 1/1/0",
    ]


def test_collapse_rate_and_cells_of_each_kind(darts: Path) -> None:
    (got,) = summarise(analysis.load(darts).runs)
    assert list(got.cells) == ["normal", "reduce"]
    assert sum(len(c.run_ids) for c in got.cells["reduce"]) == 3
    assert got.stopped_early == ("seed 1",)
    assert got.n == 3


def test_pooled_sd_weighs_by_degrees_of_freedom() -> None:
    a, b = np.array([1.0, 2.0, 6.0]), np.array([0.0, 1.0, 2.0, 3.0])
    estimates = [Estimate(0, 0, 0, float(x.std(ddof=1)), x.size, x) for x in (a, b)]
    want = np.sqrt((((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / 5)
    assert summary.pooled_sd(estimates) == pytest.approx(want)
    assert np.isnan(summary.pooled_sd([]))
