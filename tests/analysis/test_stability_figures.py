"""Estimates with intervals and seeds as points, through what axes hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from analysis import figures
from analysis.figures.study import Study, clipped, span
from tests.analysis.figure_frames import make

pytestmark = pytest.mark.usefixtures("no_global_state")
Tables = Mapping[str, pd.DataFrame]


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return dict(make(epochs=1))


def panel(tables: Tables, figure: str, label: str) -> Axes:
    found = figures.draw(tables, figure)
    (ax,) = [a for a in found.axes if a.get_xlabel().replace("\n", " ").startswith(label)]
    return ax


def points(ax: Axes) -> pd.DataFrame:
    """Every seed's point: x, y, the colour of its setting, whether it is hollow, its sign."""
    found = []
    for c in ax.collections:
        if c.get_label() not in ("one seed", "one seed goes on beyond the axis"):
            continue
        faces = [to_hex(f) for f in c.get_facecolor()]
        edges = [to_hex(e) for e in c.get_edgecolor()] * (len(faces) // len(c.get_edgecolor()))
        corners = len(c.get_paths()[0].vertices)
        found += [
            {"x": x, "y": y, "colour": edge, "hollow": face == "#ffffff", "corners": corners}
            for (x, y), face, edge in zip(c.get_offsets(), faces, edges, strict=True)
        ]
    return pd.DataFrame(found)


def intervals(ax: Axes, label: str = "estimate") -> np.ndarray:
    """Ends (x, x) and height of every interval."""
    segments = [s for c in ax.collections if c.get_label() == label and hasattr(c, "get_segments")
                for s in c.get_segments()]  # fmt: skip
    return np.array([[s[0, 0], s[1, 0], s[0, 1]] for s in segments])


@pytest.mark.parametrize(
    ("figure", "quantity", "label"),
    [
        ("stability", "operation_agreement", "operation agreement"),
        ("stability", "dependence_stability", "dependence stability"),
        ("transfer", "dependence_transfer", "dependence transfer"),
        ("transfer", "choice_transfer", "choice transfer"),
        ("accuracy", "derived_accuracy", "derived accuracy"),
        ("displacement", "architecture_displacement", "architecture displacement"),
    ],
)
def test_every_seed_is_a_point_and_collapsed_ones_are_hollow(
    tables: Tables, figure: str, quantity: str, label: str
) -> None:
    got = points(panel(tables, figure, label))
    want = tables["seed_values"].query("quantity == @quantity")
    assert len(got) == len(want) > 4
    looks = Study(tables).looks
    for setting, own in want.groupby("setting"):
        drawn = got[got["colour"] == looks[setting]["color"]].sort_values("y")
        assert drawn["x"].tolist() == pytest.approx(own["value"].tolist())  # in seed order
        assert drawn["hollow"].tolist() == own["collapsed"].tolist() == [False, False, False, True]


def test_estimates_intervals_and_chance_are_the_tables(tables: Tables) -> None:
    ax = panel(tables, "stability", "edge agreement")
    want = tables["stability"].query("quantity == 'edge_agreement'")
    (marks,) = [c for c in ax.collections if c.get_label() == "estimate"
                and not hasattr(c, "get_segments")]  # fmt: skip
    assert marks.get_offsets()[:, 0].tolist() == pytest.approx(want["estimate"].tolist())
    low, high = ax.get_xlim()
    got = intervals(ax)
    assert got[:, 0].tolist() == pytest.approx(want["low"].clip(max(low, 0), high).tolist())
    assert got[:, 1].tolist() == pytest.approx(want["high"].clip(low, min(high, 1)).tolist())
    (null,) = [line for line in ax.lines if line.get_marker() == "|"]
    assert null.get_xdata().tolist() == want["null_mean"].tolist()
    labels = [t.get_text() for t in ax.figure.axes[0].get_yticklabels()]
    assert labels == ["independent (n=4)", "placebo (n=4)", "transition (n=4)"]
    np.testing.assert_array_equal(np.round(got[:, 2]), [0, 1, 2])


def test_quantities_with_and_without_the_collapsed_seeds(tables: dict[str, pd.DataFrame]) -> None:
    some = tables["without_collapsed"]
    tables["without_collapsed"] = some[some["setting"] == "transition"]
    figure = figures.draw(tables, "stability")
    (row,) = intervals(figure.axes[0], "without the seeds that collapsed")
    want = tables["without_collapsed"].query("quantity == 'operation_agreement'").iloc[0]
    low, high = figure.axes[0].get_xlim()
    assert row[:2].tolist() == pytest.approx(np.clip([want["low"], want["high"]], low, high))
    assert round(row[2]) == 2
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "without the seeds that collapsed" in texts
    assert "one that collapsed" in texts
    none = tables | {"without_collapsed": pd.DataFrame(),
                     "seed_values": tables["seed_values"].assign(collapsed=False)}  # fmt: skip
    texts = [t.get_text() for t in figures.draw(none, "stability").legends[0].get_texts()]
    assert not [t for t in texts if "collapsed" in t]


def test_what_a_setting_lacks_is_said(tables: Tables) -> None:
    ax = panel(tables, "stability", "dependence stability")
    assert [(t.get_text(), t.get_position()[1]) for t in ax.texts] == [("n/a", 0)]
    ax = panel(tables, "displacement", "transition displacement")
    assert [t.get_text() for t in ax.texts] == ["n/a"]
    lines = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert lines == [0.02]


def test_accuracies_intervals_end_at_what_is_possible(tables: dict[str, pd.DataFrame]) -> None:
    wide = tables["stability"].copy()
    wide.loc[wide["quantity"] == "derived_accuracy", ["low", "high"]] = (-0.4, 1.7)
    tables["stability"] = wide
    got = intervals(panel(tables, "accuracy", "derived accuracy"))
    assert got[:, 0].min() >= 0
    assert got[:, 1].max() <= 1
    assert clipped("benchmark_test", [-3, 50, 103]).tolist() == [0, 50, 100]
    assert clipped("operation_agreement", [-3, 1.2]).tolist() == [-3, 1]
    figure = figures.draw(tables, "accuracy_stability")
    upright = [x.get_ydata() for x in figure.axes[0].lines if len(set(x.get_xdata())) == 1]
    ends = np.array([y for y in upright if len(y) == 2])
    assert ends.min() == pytest.approx(0)
    assert ends.max() == pytest.approx(1)


def test_a_wild_interval_squashes_nothing_and_wild_seeds_stay_visible(
    tables: dict[str, pd.DataFrame],
) -> None:
    wild = tables["stability"].copy()
    of = (wild["quantity"] == "operation_agreement") & (wild["setting"] == "placebo")
    wild.loc[of, "low"] = -40.0
    seeds = tables["seed_values"].copy()
    one = (seeds["quantity"] == "operation_agreement") & (seeds["run_id"] == "transition/seed 2")
    seeds.loc[one, "value"] = 90.0
    tables |= {"stability": wild, "seed_values": seeds}
    figure = figures.draw(tables, "stability")
    low, high = figure.axes[0].get_xlim()
    assert -3 < low < high < 3
    got = points(figure.axes[0])
    assert len(got) == 12
    assert got["x"].between(low, high).all()
    (far,) = got[got["corners"] == got["corners"].min()].to_dict("records")  # a triangle
    assert far["x"] == high
    assert round(far["y"]) == 2
    assert "goes on beyond the axis" in [t.get_text() for t in figure.legends[0].get_texts()]


@pytest.mark.parametrize("seed", range(20))
def test_limits_hold_every_estimate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    estimates = rng.standard_cauchy(5)
    half = np.abs(rng.standard_cauchy(5))
    low, high = span("", estimates, estimates - half, estimates + half, rng.standard_cauchy(20))
    assert low < estimates.min()
    assert estimates.max() < high
    assert span("", [np.nan], [np.nan], [np.nan]) == (0, 1)
    low, high = span("", [0.5], [np.nan], [np.nan])
    assert low < 0.5 < high


def test_two_cell_kinds_have_markers_of_their_own() -> None:
    tables = make(darts=True, seeds=3, epochs=1)
    ax = panel(tables, "stability", "operation agreement")
    heights = intervals(ax)[:, 2]
    assert len(heights) == 6
    assert len(set(np.round(heights))) == 3
    kinds = {len(c.get_paths()[0].vertices) for c in ax.collections if c.get_label() == "one seed"}
    assert len(kinds) == 2
    texts = [t.get_text() for t in figures.draw(tables, "transfer").legends[0].get_texts()]
    assert {"normal cell", "reduce cell"} <= set(texts)


def test_differences_to_controls(tables: Tables) -> None:
    figure = figures.draw(tables, "controls")
    rows = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert rows == ["transition − independent (n=4)", "transition − placebo (n=4)"]
    want = tables["comparisons"].query("quantity == 'dependence_transfer'").sort_values("kind")
    (marks,) = [c for c in figure.axes[0].collections if c.get_label() == "estimate"
                and not hasattr(c, "get_segments")]  # fmt: skip
    assert marks.get_offsets()[:, 0].tolist() == pytest.approx(want["difference"].tolist())
    want_colour = Study(tables).looks["transition"]["color"]
    assert {to_hex(c) for c in marks.get_facecolor()} == {want_colour}
    assert 0 in [line.get_xdata()[0] for line in figure.axes[0].lines]
    drawn = [t.get_text() for ax in figure.axes for t in ax.texts]
    assert not [t for t in drawn if "*" in t]


def test_seeds_needed_are_ranges_and_more_than_most_is_an_arrow(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["seeds_needed"]
    frame.loc[(frame["setting"] == "placebo") & (frame["target"] == 0.2), "seeds_high"] = np.nan
    frame.loc[frame["setting"] == "independent", "target"] = np.nan  # too few seeds to tell
    figure = figures.draw(tables, "seeds_needed")
    ax = figure.axes[0]
    label = ax.get_xlabel().replace("\n", " ")
    assert label == "seeds for width 0.2 of the interval of dependence transfer"
    assert ax.get_xscale() == "log"
    got = intervals(ax)
    assert got[:, 0].tolist() == [5, 5]
    assert got[:, 1].tolist() == [ax.get_xlim()[1], 40]
    rows = [t.get_text() for t in ax.get_yticklabels()]
    assert rows == ["placebo (n=4)", "transition (n=4)"]
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "goes on beyond the axis" in texts
    assert "the seeds there are" in texts
    (ax,) = [a for a in figure.axes if "seeds to see the difference to placebo in dependence" in
             a.get_xlabel().replace("\n", " ")]  # fmt: skip
    np.testing.assert_allclose(intervals(ax)[:, :2], [[1 / 0.3, 8 / 0.3]])


def test_accuracy_against_stability(tables: Tables) -> None:
    figure = figures.draw(tables, "accuracy_stability")
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "operation agreement (Fleiss' kappa)", "dependence transfer",
    ]  # fmt: skip
    values = tables["stability"].set_index(["setting", "quantity"])["estimate"]
    *_, mark = [line for line in figure.axes[0].lines if line.get_label() == "transition"]
    assert mark.get_xydata().tolist() == [
        [values["transition", q] for q in ("operation_agreement", "derived_accuracy")]
    ]
    assert len(points(figure.axes[0])) == 12
    assert points(figure.axes[0])["hollow"].sum() == 3


def test_the_shared_axis_of_accuracies_holds_settings_that_only_one_panel_has() -> None:
    tables = make(epochs=1)  # independent settings have no dependence transfer
    frame = tables["stability"]
    alone = (frame["setting"] == "independent") & (frame["quantity"] == "derived_accuracy")
    frame.loc[alone, ["estimate", "low", "high"]] = (0.95, 0.9, 1.0)
    low, high = figures.draw(tables, "accuracy_stability").axes[0].get_ylim()
    assert low < 0.95 < high
