"""Figures of stability: what is drawn is what was computed; odd inputs are drawn too."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFT, CARETRIGHT
from scipy.spatial.distance import jensenshannon

import analysis
from analysis.compute.comparisons import Comparison
from analysis.compute.profiles import performance_profile, profiles
from analysis.compute.seeds_needed import WidthCurve
from analysis.compute.similarity import seed_similarity
from analysis.compute.stability import HEADLINE, SettingStability
from analysis.compute.study import Computed, compute_study
from analysis.compute.trajectories import Curve
from analysis.figures import panels
from analysis.figures import runs as run_figures
from analysis.figures import stability as figures
from analysis.figures.rendering import _clashes, png
from analysis.statistics.inference import Difference, Interval
from analysis.statistics.quantities import Quantity
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


def wide(estimate: float = 0.1, low: float = -0.1, high: float = 0.3) -> Difference:
    return Difference(estimate, low, high, 0.01, 6)


def compared(setting: str, kind: str, quantity: str, d: Difference) -> Comparison:
    return Comparison(setting, "r", kind, "normal", quantity, d, 0.02, np.nan, "")


def test_differences_are_drawn_where_they_are_in_any_unit() -> None:
    c = compared("s", "placebo", "benchmark_test", wide(3.0, 2.0, 4.0))
    figure = figures.differences_to_controls([c], "benchmark_test")
    assert points(figure, "minus its placebo").tolist() == [[3.0, 0.0]]
    assert "(points)" in figure.axes[0].get_xlabel()
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["0.02", "6", "p (Holm)", "n"]


def test_a_wild_interval_squashes_nothing_and_ends_in_an_arrow() -> None:
    ones = [compared(f"s{i}", "placebo", HEADLINE, wide()) for i in range(4)]
    wild = compared("wild", "placebo", HEADLINE, wide(0.1, -40.0, 0.3))
    (ax,) = figures.differences_to_controls([*ones, wild], HEADLINE).axes
    low, high = ax.get_xlim()
    assert -1 < low < -0.1
    assert 0.3 < high < 1
    arrows = [line for line in ax.get_lines() if line.get_marker() == CARETLEFT]
    assert [line.get_xydata().tolist() for line in arrows] == [[[low, 4.0]]]
    assert not [line for line in ax.get_lines() if line.get_marker() == CARETRIGHT]


def test_no_kind_of_control_is_dropped_and_the_rest_is_said() -> None:
    kinds = ("independent", "placebo", "frozen")
    many = [compared(f"s{i}", kind, HEADLINE, wide()) for i in range(30) for kind in kinds]
    figure = figures.differences_to_controls(many, HEADLINE)
    assert len(figure.axes[0].get_yticklabels()) == 3 * 24
    assert len(figure.legends[0].get_texts()) == 3
    assert figure.get_suptitle() == "the first 24 of 30 settings"


def test_curves_without_numbers_or_of_one_cell_kind_are_drawn() -> None:
    at, nan = np.array([-1, 0, 1]), np.full(3, np.nan)
    some = [
        Curve("a", HEADLINE, at, nan, nan, nan, at * 0 + 2, "normal"),
        Curve("b", HEADLINE, at, at * 0.1, at * 0.1, at * 0.1, at * 0 + 3, "reduce"),
    ]
    figure = figures.stability_over_epochs({HEADLINE: some})
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names == ["a (n=2)", "b (n=3)", "normal cell", "reduce cell"]
    assert [line.get_linestyle() for line in figure.axes[0].get_lines()[:2]] == ["-", "--"]
    assert len(png(figures.stability_over_epochs({}), 50)) > 500


def test_settings_after_the_tenth_have_a_second_cue() -> None:
    at = np.arange(3)
    many = [
        Curve(f"s{i}", HEADLINE, at, at * 0.1, at * 0.1, at * 0.1, at * 0 + 2, "normal")
        for i in range(26)
    ]
    figure = figures.stability_over_epochs({HEADLINE: many})
    drawn = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 3]
    cues = {(str(line.get_color()), str(line.get_marker())) for line in drawn}
    assert len(drawn) == len(cues) == 24
    assert figure.get_suptitle() == "the first 24 of 26 settings"


def test_accuracies_stay_within_what_is_possible(study: Computed) -> None:
    two = [replace_interval(i, Interval(0.3, -3.0, 4.0, 2)) for i in study.stabilities]
    figure = figures.accuracy_against_stability(two, "operation_agreement")
    low, high = figure.axes[0].get_ylim()
    assert low >= -0.03
    assert high <= 1.03
    assert len(figure.axes) == 1


def replace_interval(item: SettingStability, interval: Interval) -> SettingStability:
    quantities = {**item.quantities, ("all", "derived_accuracy"): Quantity(*interval)}
    return replace(item, quantities=quantities)


def test_widths_that_are_not_known_leave_the_rest_of_a_curve() -> None:
    seeds, width = np.array([3, 5, 8]), np.array([np.nan, 0.5, 0.4])
    curve = WidthCurve(
        "s", "normal", "operation_agreement", seeds, width, width, width, seeds < 9, 8, {}
    )
    figure = run_figures.seeds_needed([curve])
    np.testing.assert_array_equal(figure.axes[0].get_lines()[0].get_ydata(), width)
    texts = [t.get_text() for t in run_figures.seeds_needed([]).axes[0].texts]
    assert texts == ["no quantity has the four seeds that this takes"]


def test_runs_are_taken_evenly_and_other_edges_are_left_out(
    study: Computed, tmp_path: Path
) -> None:
    write_study(tmp_path, Study("darts", settings=[Setting("other")], seeds=range(2), epochs=2))
    (other,) = compute_study(analysis.load(tmp_path), False).stabilities
    found = seed_similarity([*study.stabilities, other])
    assert found is not None
    assert found.left_out == ("other",)
    assert len(found.settings) == 18
    figure = run_figures.similarity_clustermap(found)
    assert figure.get_suptitle() == "n=18 runs of 3 settings; 1 with other edges left out"
    some = [replace(study.stabilities[0], sample=study.stabilities[0].sample.of_runs(
        study.stabilities[0].sample.run_ids[:2])), *study.stabilities[1:]]  # fmt: skip
    taken = seed_similarity(some, most=12)
    assert taken is not None
    assert [taken.settings.count(i.setting) for i in some] == [2, 5, 5]


def test_a_clustermap_keeps_figures_that_others_have_open(study: Computed) -> None:
    found = seed_similarity(study.stabilities)
    assert found is not None
    mine = plt.figure()
    try:
        run_figures.similarity_clustermap(found)
        assert plt.get_fignums() == [mine.number]
    finally:
        plt.close(mine)


def test_a_clustermap_needs_no_display(study: Computed, tmp_path: Path) -> None:
    found = seed_similarity(study.stabilities)
    (tmp_path / "found").write_bytes(pickle.dumps(found))
    program = (
        "import pickle, sys, pathlib; from analysis.figures.runs import similarity_clustermap;"
        "similarity_clustermap(pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()))"
    )
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", program, str(tmp_path / "found")]
    subprocess.run(command, cwd=root, env=env, check=True)


@pytest.mark.parametrize("name", ["plain", "$x_1$ <b> & $ " + "key=value " * 12])
def test_no_text_is_cut_or_meets_another(name: str, tmp_path: Path) -> None:
    settings = [Setting(f"{name}{i}", m) for i, m in enumerate(("placebo", "transition"))]
    write_study(tmp_path, Study("s1", settings=settings, seeds=range(4), epochs=2))
    study = compute_study(analysis.load(tmp_path))
    items, found = study.stabilities, seed_similarity(study.stabilities)
    assert found is not None
    drawn = [
        figures.stability_by_setting(items),
        figures.differences_to_controls(study.comparisons, HEADLINE),
        figures.stability_over_epochs(study.over_epochs),
        figures.accuracy_against_stability(items),
        run_figures.seeds_needed(study.widths),
        run_figures.similarity_clustermap(found),
        run_figures.performance_profiles(profiles(items, "derived_accuracy")),
    ]
    assert [_clashes(figure, (0, 0)) for figure in drawn] == [set()] * len(drawn)
