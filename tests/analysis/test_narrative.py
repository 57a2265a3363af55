"""The report's sentences: they say what the numbers say, with n, and no more."""

from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.compute.stability import replicates
from analysis.compute.summary import SettingSummary, summarise
from analysis.report import narrative
from analysis.report.narrative import Coverage
from analysis.statistics import metrics
from tests.analysis.synthetic import Setting, Study, write_study


def summaries_with(folder: Path, accuracies: dict[str, list[float]]) -> tuple[SettingSummary, ...]:
    """Settings whose derived accuracies are exactly these."""
    seeds = range(len(next(iter(accuracies.values()))))
    settings = [Setting(name) for name in accuracies]
    write_study(folder, Study(settings=settings, seeds=seeds, epochs=2, noise=3.0))
    runs = analysis.load(folder).runs
    for name, values in accuracies.items():
        runs.loc[runs["setting"] == name, "derived_accuracy"] = values
    return summarise(runs)


def test_overlapping_intervals_are_no_difference_and_no_equality(tmp_path: Path) -> None:
    items = summaries_with(tmp_path, {"a": [0.50, 0.55, 0.60], "b": [0.51, 0.56, 0.64]})
    text = " ".join(narrative.accuracy(items))
    assert "do not separate any two of them, which is not evidence that they are equal" in text
    low, high = (s.estimates["derived_accuracy"] for s in items)
    assert f"{low.mean:.3f} [{low.low:.3f},\u00a0{low.high:.3f}] (“a”, n=3)" in text
    sd = np.sqrt((np.var([0.50, 0.55, 0.60], ddof=1) + np.var([0.51, 0.56, 0.64], ddof=1)) / 2)
    assert f"true difference of {metrics.detectable_difference(sd, 3):.3f} four times" in text
    assert high.n == 3


def test_separate_intervals_are_described_and_not_called_a_test(tmp_path: Path) -> None:
    # The extremes overlap, since b is noisy; a and c do not.
    data = {"a": [0.50, 0.501, 0.502], "b": [0.40, 0.7, 0.9], "c": [0.60, 0.601, 0.602]}
    text = " ".join(narrative.accuracy(summaries_with(tmp_path, data)))
    assert "Of 3 pairs of settings, 1 have intervals that do not overlap (“c” over “a”)" in text
    assert "it is no test" in text


def test_movement_names_who_did_not_move(tmp_path: Path) -> None:
    settings = [Setting("moved", moved=0.6), Setting("still", moved=0.01)]
    write_study(tmp_path, Study(settings=settings, noise=3.0))
    text = " ".join(narrative.movement(summarise(analysis.load(tmp_path).runs)))
    assert text.startswith("“moved” moved by at least 0.2 on average")
    assert "No conclusion is drawn from “still” (hardly moved" in text
    assert "Every setting moved" not in text


def test_nothing_is_concluded_where_nothing_moved(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a", moved=0.1), Setting("b", moved=0.1)]))
    items = summarise(analysis.load(tmp_path).runs)
    text = " ".join(narrative.movement(items))
    assert text.startswith("No conclusion is drawn from “a” (hardly moved")
    assert "says nothing about stability yet" in text
    assert narrative.accuracy(items) == []
    assert narrative.genotypes(items) == []
    assert narrative.dependence(items, {}) == []


def test_movement_of_all_is_said_only_with_several_genotypes(tmp_path: Path) -> None:
    write_study(tmp_path / "a", Study(settings=[Setting("x")], noise=3.0))
    several = " ".join(narrative.movement(summarise(analysis.load(tmp_path / "a").runs)))
    assert "its seeds derived more than one genotype" in several
    write_study(tmp_path / "b", Study(settings=[Setting("x")], noise=0.0))
    same = " ".join(narrative.movement(summarise(analysis.load(tmp_path / "b").runs)))
    assert "more than one genotype" not in same
    assert "In “x” all seeds derived one genotype" in same


def test_dependence_asks_for_the_placebo(tmp_path: Path) -> None:
    settings = [Setting("t"), Setting("p", "placebo")]
    write_study(tmp_path, Study(settings=settings))
    runs = analysis.load(tmp_path).runs
    with_control = " ".join(narrative.dependence(summarise(runs), {}))
    assert "Compare with “p”, where nothing can flow" in with_control
    assert "dependence strength 0.200" in with_control
    without = " ".join(narrative.dependence(summarise(runs[runs["model"] == "transition"]), {}))
    assert "no placebo to compare with" in without
    assert narrative.dependence(summarise(runs[runs["model"] == "placebo"]), {}) == []


def test_crossed_seeds_are_said_to_be_crossed(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a")], crossed=True, epochs=2))
    runs, note = replicates(analysis.load(tmp_path).runs)
    text = " ".join(narrative.coverage(summarise(runs), Coverage(4, None), note))
    assert text.startswith("4 runs are here.")
    assert "(crossed seeds: the 1 of 4 runs with three equal seeds)" in text
    assert "the variance decomposition is over all" in text


@pytest.mark.parametrize(
    ("here", "planned", "missing"), [(3, 5, 2), (5, 5, 0), (6, 5, 0), (3, None, 0)]
)
def test_missing_runs(here: int, planned: int | None, missing: int) -> None:
    assert Coverage(here, planned).missing == missing


def test_numbers_as_text() -> None:
    assert narrative.interval(metrics.estimate([])) == "—"
    assert narrative.interval(metrics.estimate([0.5])) == "0.500 (one seed: no interval)"
    assert narrative.interval(metrics.estimate([-1e-9, 0.0, 1e-9]), 1) == "0.0 [0.0,\u00a00.0]"
    assert narrative.rate(metrics.proportion(3, 12)) == "3 of 12, 25% [5%,\u00a057%]"
    assert narrative.rate(metrics.proportion(0, 0)) == "—"
    assert narrative.listed(["a"]) == "a"
    assert narrative.listed(["a", "b", "c"]) == "a, b and c"
