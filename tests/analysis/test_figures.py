"""Figures through what their axes hold, never through pixels."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

import analysis
from analysis.compute import study as compute
from analysis.compute.study import ACCURACIES, DYNAMICS, Computed
from analysis.compute.summary import summarise
from analysis.compute.tuning import tuning
from analysis.data import genotypes
from analysis.figures import cells as cell_drawing
from analysis.figures import palette, rendering
from analysis.figures import settings as figures
from analysis.figures import tuning as tuning_figures
from analysis.figures.gallery import _by_setting
from tests.analysis.test_genotypes import DARTS_V2, NB201

pytestmark = pytest.mark.usefixtures("no_global_state")


@pytest.fixture(scope="module")
def computed(nb201: Path) -> Computed:
    return compute.compute_study(analysis.load(nb201))


def labels(ax) -> list[str]:
    return ax.get_legend_handles_labels()[1]


def test_diverged_runs_are_in_no_curve_and_no_matrix(computed: Computed) -> None:
    assert computed.curves["valid_accuracy"][1].n.tolist() == [3] * 5
    for edge in computed.operations["placebo"].edges:
        assert edge.n.tolist() == [3] * 6
        assert np.isfinite(edge.mean).all()
    assert {link.matrix.n for link in computed.transitions["placebo"].links} == {3}


def test_accuracy_shows_every_seed_and_the_interval(computed: Computed) -> None:
    figure = figures.accuracy_by_setting(computed.summaries)
    assert len(figure.axes) == 3
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["independent (n=4)", "placebo (n=3)", "transition (n=4)"]
    for ax, quantity in zip(
        figure.axes, ("valid_accuracy", "derived_accuracy", "benchmark_test"), strict=True
    ):
        assert ax.get_xlabel()
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        for line, summary in zip(dots, computed.summaries, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), summary.estimates[quantity].values)
        (bars,) = ax.containers[0][2]
        e = computed.summaries[0].estimates[quantity]
        assert bars.get_segments()[0][:, 0] == pytest.approx([e.low, e.high])


def test_displacement_has_its_thresholds_and_says_where_it_does_not_apply(
    computed: Computed,
) -> None:
    figure = figures.displacement_by_setting(computed.summaries)
    at = [
        line.get_xdata()[0]
        for ax in figure.axes
        for line in ax.lines
        if "hardly" in line.get_label()
    ]
    assert at == [0.2, 0.02]
    assert [t.get_text() for t in figure.axes[1].texts] == ["not applicable"]


def test_curves_have_one_panel_per_setting_and_one_line_per_quantity(computed: Computed) -> None:
    grouped = _by_setting(computed.curves, ACCURACIES)
    figure = figures.curves_by_setting(grouped, "accuracy (0..1)")
    assert [ax.get_title() for ax in figure.axes] == [
        "independent (n=4)",
        "placebo (n=3)",
        "transition (n=4)",
    ]
    assert figure.axes[0].get_ylabel() == "accuracy (0..1)"
    assert all(ax.get_xlabel() == "epoch" for ax in figure.axes)
    for ax, lines in zip(figure.axes, grouped.values(), strict=True):
        assert len(ax.lines) == len(ax.collections) == 3
        np.testing.assert_array_equal(ax.lines[1].get_ydata(), lines[1].mean)
    assert len(figure.legends[0].get_texts()) == 3


def test_dynamics_name_every_setting_once(computed: Computed) -> None:
    figure = figures.curves_together({q: computed.curves[q] for q in DYNAMICS})
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "independent (n=4)",
        "placebo (n=3)",
        "transition (n=4)",
    ]
    assert [len(ax.lines) for ax in figure.axes] == [3, 3, 2, 3]


def test_operation_probabilities_have_one_panel_per_edge(computed: Computed) -> None:
    curves = computed.operations["transition"]
    figure = figures.operation_probabilities(curves, "normal")
    titles = [ax.get_title() for ax in figure.axes if ax.lines]
    assert titles == [
        "outer edge 0→1",
        "outer edge 0→2",
        "inner edge 1→2",
        "outer edge 0→3",
        "inner edge 1→3",
        "inner edge 2→3",
    ]
    for ax, edge in zip(figure.axes, curves.edges, strict=True):
        for line, operation, mean in zip(ax.lines, edge.operations, edge.mean.T, strict=True):
            assert to_hex(line.get_color()) == palette.operation_colour(operation)
            np.testing.assert_array_equal(line.get_ydata(), mean)
        assert ax.get_ylim() == (-0.02, 1.02)
    assert "n=4" in figure.get_suptitle()


def test_genotype_bars_add_up_to_the_runs(computed: Computed) -> None:
    (ax,) = figures.genotype_counts(computed.summaries).axes
    assert sum(patch.get_width() for patch in ax.patches) == 11
    ends = [t.get_text().strip() for t in ax.texts if "distinct" in t.get_text()]
    assert ends == [f"{len(s.genotypes)} distinct of {s.n}" for s in computed.summaries]


def test_tuning_figures(tuned: Path) -> None:
    item = tuning(analysis.load(tuned).runs)
    assert item is not None
    (ax,) = tuning_figures.history(item).axes
    assert labels(ax) == ["one trial (mean of n=2)", "best so far", "a run diverged"]
    figure = tuning_figures.rates(item)
    assert [ax.get_xscale() for ax in figure.axes] == ["log"] * 3
    assert [ax.get_xlabel().split()[0] for ax in figure.axes] == [
        "architecture_lr",
        "transition_lr",
        "attention_lr",
    ]
    x = figure.axes[0].lines[0].get_xdata()
    np.testing.assert_allclose(x, [0.001, 0.002, 0.004, 0.008, 0.016])


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        (NB201, ["0", "1", "2", "3"]),
        (DARTS_V2, ["$c_{k-2}$", "$c_{k-1}$", "0", "1", "2", "3", "$c_k$"]),
    ],
)
def test_the_cell_has_all_nodes_and_labelled_edges(text: str, nodes: list[str]) -> None:
    cell = genotypes.parse(text)["normal"]
    figure = cell_drawing.cell_figure(cell, "title with $ sign")
    (ax,) = figure.axes
    drawn = [t.get_text() for t in ax.texts]
    for node in nodes:
        assert drawn.count(node) == 1
    operations = [t for t in drawn if t not in nodes]
    assert sorted(operations) == sorted(palette.operation_name(e.operation) for e in cell.edges)
    arrows = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
    dashed = [p for p in arrows if p.get_linestyle() not in ("solid", "-")]
    assert len(dashed) == sum(e.source < cell.inputs for e in cell.edges)


def overlapping(cell: genotypes.Cell) -> int:
    """Pairs of labels whose drawn boxes overlap, and labels on a node."""
    figure = cell_drawing.cell_figure(cell, "")
    rendering.png(figure)
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    return sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_labels_overlap_neither_each_other_nor_nodes() -> None:
    rng = np.random.default_rng(0)
    names = ["sep_conv_3x3", "skip_connect", "max_pool_3x3"]
    cells = [genotypes.parse(DARTS_V2)["reduce"], genotypes.parse(NB201)["normal"]]
    for _ in range(6):
        pairs = [
            (str(rng.choice(names)), int(s))
            for target in range(2, 6)
            for s in rng.choice(target, 2, replace=False)
        ]
        cells.append(
            genotypes.parse(f"Genotype(normal={pairs}, normal_concat=range(2, 6))")["normal"]
        )
    assert [overlapping(cell) for cell in cells] == [0] * len(cells)


def test_one_run_and_only_diverged_runs_can_be_drawn(nb201: Path) -> None:
    runs = analysis.load(nb201).runs
    one = summarise(runs[runs["seed_data"] == 0])
    figures.accuracy_by_setting(one)
    figures.genotype_counts(one)
    none = summarise(runs[runs["status"] == "diverged"])
    figure = figures.displacement_by_setting(none)
    assert [t.get_text() for t in figure.axes[0].texts] == ["not applicable"]
    figures.genotype_counts(none)


def test_long_names_are_cut_so_that_their_ends_show() -> None:
    name = "transition " + " ".join(f"key{i}=value" for i in range(20))
    text = palette.wrapped(f"{name} last=$5", 34, 2)
    assert [len(line) <= 34 for line in text.replace(r"\$", "$").split("\n")] == [True, True]
    assert text.startswith("transition key0=value")
    assert text.endswith(r"last=\$5")
    assert palette.wrapped("short") == "short"


def test_operations_have_colours_of_their_own_within_a_space() -> None:
    darts = ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3"]
    darts += ["sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "noise"]
    nb201 = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    for space in (darts, nb201):
        assert len({palette.operation_colour(o) for o in space}) == len(space)
    assert palette.operation_colour("new_op") == palette.operation_colour("new_op")
