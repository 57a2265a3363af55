"""Figures of stability: what is drawn is what was computed; odd inputs are drawn too."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.spatial.distance import jensenshannon

import analysis
from analysis import panels, run_figures
from analysis import stability_figures as figures
from analysis.compute import Computed, compute_study
from analysis.profiles import performance_profile, profiles
from analysis.rendering import png
from analysis.similarity import seed_similarity
from analysis.stability import HEADLINE
from tests.analysis.synthetic import Setting, Study, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    folder = tmp_path_factory.mktemp("figures") / "study"
    write_study(folder, Study(seeds=range(6), noise=2.0, epochs=4, benchmark=True))
    return compute_study(analysis.load(folder))


def points(figure: Figure, label: str) -> np.ndarray:
    """x and y of every line whose label begins so."""
    lines = [
        line.get_xydata() for ax in figure.axes for line in ax.get_lines()
        if str(line.get_label()).startswith(label)
    ]  # fmt: skip
    return np.concatenate(lines) if lines else np.zeros((0, 2))


def test_stability_shows_estimates_and_chance(study: Computed) -> None:
    figure = figures.stability_by_setting(study.stabilities)
    ax = figure.axes[figures.SHOWN.index("operation_agreement")]
    drawn = [
        line.get_xdata()[0] for line in ax.get_lines()
        if str(line.get_label()).startswith("normal cell")
    ]  # fmt: skip
    want = [i.get("normal", "operation_agreement").estimate for i in study.stabilities]
    assert drawn == pytest.approx(np.clip(want, -0.3, 1.05))
    edge = figure.axes[figures.SHOWN.index("edge_agreement")]
    nulls = [line.get_xdata()[0] for line in edge.get_lines() if line.get_label() == "by chance"]
    assert nulls == pytest.approx(
        [i.get("normal", "edge_agreement").null_mean for i in study.stabilities]
    )
    texts = [t.get_text() for t in figure.axes[3].texts]
    assert texts == ["n/a"]  # independent has no matrices
    assert "(n=6)" in figure.axes[0].get_yticklabels()[0].get_text()


def test_differences_are_those_of_one_quantity(study: Computed) -> None:
    figure = figures.differences_to_controls(study.comparisons, HEADLINE)
    (c,) = [c for c in study.comparisons if c.quantity == HEADLINE and c.difference.n]
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["transition − placebo"]
    drawn = {line.get_xdata()[0] for line in ax.get_lines()}
    assert any(x == pytest.approx(c.difference.difference) for x in drawn)
    assert str(c.difference.n) in [t.get_text() for t in ax.texts]


def test_curves_over_epochs(study: Computed) -> None:
    figure = figures.stability_over_epochs(study.over_epochs)
    names = [n for n in panels.AXES if study.over_epochs.get(n)]
    for ax, name in zip(figure.axes, names, strict=False):
        curves = study.over_epochs[name]
        assert len([x for x in ax.get_lines() if len(x.get_xdata()) == len(curves[0].epochs)]) >= 1
        np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), curves[0].mean)


def test_widths_measured_and_projected(study: Computed) -> None:
    figure = run_figures.seeds_needed(study.widths)
    (curve,) = [c for c in study.widths if (c.setting, c.quantity) == ("transition", HEADLINE)]
    lines = [line.get_ydata() for line in figure.axes[0].get_lines()]
    assert any(np.array_equal(y, curve.width[curve.measured]) for y in lines)
    assert figure.axes[0].get_xscale() == "log"


def test_similarity_is_scipys(study: Computed) -> None:
    found = seed_similarity(study.stabilities)
    assert found is not None
    assert len(found.settings) == 18
    first, last = study.stabilities[0].sample, study.stabilities[-1].sample
    want = [
        jensenshannon(a.probabilities[1], b.probabilities[2], base=2) ** 2
        for a, b in zip(first.edges, last.edges, strict=True)
    ]
    assert found.matrix[1, 12 + 2] == pytest.approx(1 - np.mean(want))
    np.testing.assert_allclose(found.matrix, found.matrix.T)
    np.testing.assert_allclose(np.diag(found.matrix), 1)
    few = seed_similarity(study.stabilities, most=7)
    assert few is not None
    assert few.settings == ("independent",) * 2 + ("placebo",) * 2 + ("transition",) * 2


def test_the_clustermap_leaves_nothing_in_pyplot(study: Computed) -> None:
    found = seed_similarity(study.stabilities)
    assert found is not None
    figure = run_figures.similarity_clustermap(found)
    assert plt.get_fignums() == []
    assert len(png(figure, 50)) > 1000
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert labels == ["independent (n=6)", "placebo (n=6)", "transition (n=6)"]


def test_profiles_count_runs_above(study: Computed) -> None:
    got = performance_profile([1.0, 2.0, 3.0, np.nan], [0.5, 1.0, 2.5, 3.0])
    assert got.share.tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert got.n == 3
    assert (got.low <= got.share).all()
    assert (got.high >= got.share).all()
    found = profiles(study.stabilities, "benchmark_test")
    assert [p.setting for p in found] == ["independent", "placebo", "transition"]
    figure = run_figures.performance_profiles(found)
    np.testing.assert_array_equal(figure.axes[0].get_lines()[2].get_ydata(), found[2].share)
    assert profiles(study.stabilities, "transition_displacement")[0].setting == "placebo"


def test_frequencies_are_shares_of_seeds(study: Computed) -> None:
    figure = run_figures.operation_frequencies(study.stabilities, "normal")
    share = figure.axes[2].images[0].get_array()
    item = study.stabilities[2]
    for row, edge in zip(share, item.sample.edges, strict=True):
        counts = np.bincount(edge.probabilities.argmax(axis=1), minlength=5) / 6
        np.testing.assert_allclose(row, counts)


def test_accuracy_against_stability(study: Computed) -> None:
    figure = figures.accuracy_against_stability(study.stabilities, accuracy="benchmark_test")
    got = points(figure, "transition")[0]
    item = study.stabilities[2]
    assert got[0] == pytest.approx(item.get("normal", "operation_agreement").estimate)
    assert got[1] == pytest.approx(item.get("all", "benchmark_test").estimate)


def test_one_setting_of_one_seed_with_an_odd_name_is_drawn(tmp_path: Path) -> None:
    write_study(tmp_path, Study("s1", settings=[Setting("$x_1$ <b> & $")], seeds=[0], epochs=2))
    study = compute_study(analysis.load(tmp_path))
    items = study.stabilities
    assert seed_similarity(items) is None
    drawn = [
        figures.stability_by_setting(items),
        figures.accuracy_against_stability(items),
        run_figures.performance_profiles(profiles(items, "derived_accuracy")),
        run_figures.operation_frequencies(items, "reduce", ("none",)),
        figures.stability_over_epochs(study.over_epochs),
    ]
    for figure in drawn:
        assert len(png(figure, 50)) > 1000
    assert plt.get_fignums() == []
