"""Figures of a tuning through what their axes hold: the race, slices, areas, front, fresh seeds."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import figures
from tests.analysis.clashes import clashes
from tests.analysis.figure_frames import make

pytestmark = pytest.mark.usefixtures("no_global_state")
Tables = Mapping[str, pd.DataFrame]
RACED = [3, 4, 5, 6, 8, 9, 10, 11]


@pytest.fixture(scope="module")
def tables() -> Tables:
    return make()


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def line(ax: Axes, label: str) -> Line2D:
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def test_the_history_shows_every_seed_and_the_race(tables: Tables) -> None:
    figure = figures.draw(tables, "tuning_history")
    ax, race = figure.axes
    frame = tables["tuning"].set_index("trial")
    raced = line(ax, "raced out")
    assert raced.get_xdata().tolist() == RACED
    np.testing.assert_array_equal(raced.get_ydata(), frame["objective"][RACED])
    assert raced.get_markerfacecolor() == "white"
    assert line(ax, "had all seeds").get_xdata().tolist() == [0, 2, 7]
    assert line(ax, "infeasible").get_xdata().tolist() == [1]  # at the foot of the panel
    assert line(ax, "infeasible").get_ydata() == [0.03]
    assert line(ax, "default").get_xdata().tolist() == [0]
    assert line(ax, "incumbent").get_xdata().tolist() == [2]
    seeds = tables["tuning_seeds"].query("trial != 1")
    (points,) = [x for x in ax.lines if x.get_marker() == "."]
    np.testing.assert_array_equal(points.get_xdata(), seeds["trial"])
    np.testing.assert_allclose(points.get_ydata(), seeds["value"])  # none beyond the axis here
    (best,) = [x for x in ax.lines if x.get_drawstyle() == "steps-post"]
    np.testing.assert_array_equal(best.get_ydata(), frame["incumbent_merit"])
    assert [bar.get_height() for bar in race.patches] == frame["n"].tolist()
    hollow = [to_hex(bar.get_facecolor()) == "#ffffff" for bar in race.patches]
    assert hollow == [k in RACED for k in frame.index]
    assert legend(figure) == [
        "had all seeds (n=3 trials)", "raced out (n=8 trials)", "infeasible (n=1 trials)",
        "default (trial 0)", "incumbent (trial 2)", "one seed", "the incumbent's shrunken mean",
    ]  # fmt: skip


def test_slices_have_the_parameters_scales_and_defaults(tables: Tables) -> None:
    figure = figures.draw(tables, "tuning_rates")
    assert [ax.get_xscale() for ax in figure.axes] == ["log", "log", "linear", "linear"]
    frame, rate = tables["tuning"].set_index("trial"), figure.axes[0]
    np.testing.assert_array_equal(
        line(rate, "raced out").get_xdata(), frame["architecture_lr"][RACED]
    )
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["line: auto, here 0.03", "line: 0.03", "line: auto, here 2.0",
                      "line: identity"]  # fmt: skip
    for ax, at in zip(figure.axes, (0.03, 0.03, 2.0, 0), strict=True):
        (default,) = [x for x in ax.lines if x.get_linestyle() == "--"]
        assert set(default.get_xdata()) == {at}
    for ax in figure.axes[:2]:
        low, high = ax.get_xlim()
        assert low < 0.003
        assert high > 0.3
        assert [t.get_text() for t in ax.get_xticklabels() if low < t.get_position()[0] < high] == [
            "0.003", "0.01", "0.03", "0.1", "0.3"
        ]  # fmt: skip
    choices = figure.axes[3]
    assert [t.get_text() for t in choices.get_xticklabels()] == ["identity", "uniform", "random"]
    np.testing.assert_array_equal(
        np.round(line(choices, "raced out").get_xdata()),
        [["identity", "uniform", "random"].index(x) for x in frame["init"][RACED]],
    )
    assert figure.axes[0].get_xlabel() == "architecture_lr (logit per step)"
    assert "derived accuracy" in figure.axes[0].get_ylabel()


def test_areas_are_between_enough_trials_in_log_scale(tables: Tables) -> None:
    rng = np.random.default_rng(0)
    free = tables["tuning"].assign(transition_lr=10 ** rng.uniform(-2.5, -0.5, 12))
    figure = figures.draw({**tables, "tuning": free}, "tuning_contour")
    labels = [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes[:3]]
    rates = [f"{name} (logit per step)" for name in ("architecture_lr", "transition_lr")]
    assert labels == [(rates[0], rates[1]), *((rate, "init_strength") for rate in rates)]
    first, second = figure.axes[:2]
    assert (first.get_xscale(), first.get_yscale(), second.get_yscale()) == ("log", "log", "linear")
    points, areas = {}, {}
    for ax in figure.axes[:3]:
        points[ax] = [c for c in ax.collections if type(c).__name__ == "PathCollection"]
        areas[ax] = [c for c in ax.collections if "Contour" in type(c).__name__]
    good = free[free["feasible"]]
    np.testing.assert_allclose(
        points[first][0].get_offsets(), good[["architecture_lr", "transition_lr"]]
    )
    np.testing.assert_allclose(points[first][0].get_array(), good["objective"])
    assert len(areas[first]) == 1
    # Areas end where trials do, on the axes' own scale.
    ends = np.concatenate([p.vertices for p in areas[first][0].get_paths() if len(p.vertices)])
    low, high = np.log10(good["architecture_lr"].min()), np.log10(good["architecture_lr"].max())
    assert ends[:, 0].min() == pytest.approx(low)
    assert ends[:, 0].max() == pytest.approx(high)
    assert areas[second] == []  # seven trials have both
    # All on one line: points alone.
    same = figures.draw(tables, "tuning_contour").axes[0]
    assert not [c for c in same.collections if "Contour" in type(c).__name__]


def test_importance_says_where_trials_are_too_few(tables: Tables) -> None:
    (ax,) = figures.draw(tables, "tuning_importance").axes
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == ["architecture_lr (n=25)", "transition_lr (n=25)", "init_strength (n=25)"]
    assert [t.get_text() for t in ax.texts] == ["", "", "too few trials (12 of 20)"]
    np.testing.assert_array_equal(ax.lines[0].get_xdata()[:2], [0.7, 0.3])
    assert "the best 20% of trials" in ax.get_xlabel()


def test_the_front_is_a_line(tables: Tables) -> None:
    figure = figures.draw(tables, "tuning_front")
    ax, frame = figure.axes[0], tables["tuning"].set_index("trial")
    (front,) = [x for x in ax.lines if x.get_linestyle() == "-"]
    np.testing.assert_array_equal(front.get_xdata(), frame["objective"][[0, 2]])
    assert legend(figure) == ["on the front (n=2 trials)", "dominated (n=9 trials)",
                              "infeasible (n=1 trials)"]  # fmt: skip
    assert "relaxed accuracy" in ax.get_ylabel()
    one = {**tables, "tuning": tables["tuning"].drop(columns="front")}
    assert "tuning_front" not in [name for name, _, _ in figures.names(one)]


def test_fresh_seeds_are_paired_with_the_default(tables: Tables) -> None:
    (ax,) = figures.draw(tables, "tuning_confirmation").axes
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == ["trial 2 (incumbent, n=4)", "trial 7 (next, n=4)"]
    points = [x.get_xdata() for x in ax.lines if x.get_marker() == "."]
    seeds = tables["tuning_confirmation_seeds"].groupby("role")["difference"]
    np.testing.assert_array_equal(points, [seeds.get_group(k) for k in ("incumbent", "next")])
    assert [0, 0] in [list(x.get_xdata()) for x in ax.lines]
    assert "less the default's" in ax.get_xlabel()


@pytest.mark.parametrize("style", figures.STYLES)
def test_no_text_meets_another(tables: Tables, style: str) -> None:
    many = pd.concat([tables["tuning"].assign(trial=lambda f, k=k: f["trial"] + 12 * k)
                      for k in range(10)])  # fmt: skip
    for name in [name for name in figures.FIGURES if name.startswith("tuning")]:
        assert clashes(figures.draw({**tables, "tuning": many}, name, style=style)) == [], name
