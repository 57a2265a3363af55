"""Transition matrices of links with their marks, through what axes hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis import figures
from analysis.figures import heatmaps, palette
from tests.analysis.clashes import clashes
from tests.analysis.figure_frames import DARTS, NB201, make

pytestmark = pytest.mark.usefixtures("no_global_state")
Tables = Mapping[str, pd.DataFrame]


@pytest.fixture(scope="module")
def tables() -> Tables:
    return make(epochs=1)


def matrix(tables: Tables, index: int, column: str = "mean", setting: str = "transition"):
    """The index-th link's matrix, in the order of the operations."""
    frame = tables["transition_matrices"].query("setting == @setting")
    links = [g for _, g in frame.groupby(heatmaps.NODES, sort=False)]
    size = links[index]["row"].nunique()
    return links[index][column].to_numpy().reshape(size, -1)


def links(figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_title().startswith("edge")]


def numbers(ax: Axes) -> list[float]:
    return [float(t.get_text()) for t in ax.texts]


def test_every_link_has_mean_and_sd_with_their_numbers(tables: Tables) -> None:
    figure = figures.draw(tables, "transitions", "transition")
    assert len(links(figure)) == 4
    highest = tables["transition_matrices"].query("setting == 'transition'")["sd"].max()
    for index, ax in enumerate(links(figure)):
        mean, sd = ax.images
        np.testing.assert_array_equal(mean.get_array(), matrix(tables, index))
        np.testing.assert_array_equal(sd.get_array(), matrix(tables, index, "sd"))
        assert mean.get_clim() == (0, 1)
        assert sd.get_clim() == (0, highest)
        assert mean.get_extent()[1] < sd.get_extent()[0]
        want = [*matrix(tables, index).ravel(), *matrix(tables, index, "sd").ravel()]
        assert numbers(ax) == pytest.approx(want, abs=0.005)
    assert [ax.get_title().split("\n")[0] for ax in links(figure)] == [
        "edge 0→1 to 1→2", "edge 0→1 to 1→3", "edge 0→2 to 2→3", "edge 1→2 to 2→3",
    ]  # fmt: skip
    assert "w 0.50" in links(figure)[0].get_title()
    assert "n=4" in figure.get_suptitle()


def test_a_mark_beside_an_interval_that_holds_0_says_so(tables: Tables) -> None:
    figure = figures.draw(tables, "transitions", "transition")
    # p < 0.05 of links 1 and 2 of 0..3; the interval of link 1 holds 0, of both quantities
    marks = [ax.get_title().split("0.50")[1].strip() for ax in links(figure)]
    assert marks == ["", "○◇", "●", ""]
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert texts == [
        "● rows alike over seeds, start included, (permutations, Holm p < 0.05): 2 of 4 links",
        "○ the same, though its own 95% interval holds 0",
        "◆ what was learned alike over seeds (permutations, Holm p < 0.05): 1 of 4 links",
        "◇ the same, though its own 95% interval holds 0",
    ]
    known = {"dependence_stability_low": 0.1, "learned_dependence_stability_p_holm": np.nan}
    sure = {**tables, "links": tables["links"].assign(**known)}
    figure = figures.draw(sure, "transitions", "transition")
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert len(texts) == 1
    assert "○" not in "".join(ax.get_title() for ax in figure.axes)
    without = figures.draw({**tables, "links": pd.DataFrame()}, "transitions", "transition")
    assert not without.legends


def test_large_matrices_have_no_digits_and_name_operations_once() -> None:
    tables = make(darts=True, seeds=2, epochs=1)
    figure = figures.draw(tables, "transitions", "transition", "reduce")
    axes = links(figure)
    assert len(axes) == 16
    names = [palette.operation_name(o) for o in DARTS]
    first = min(ax.get_position().x0 for ax in axes)
    for k, ax in enumerate(axes):
        assert not ax.texts
        at_left = ax.get_position().x0 == pytest.approx(first)
        below = [b for b in axes[k + 1 :] if b.get_position().x0 == ax.get_position().x0]
        rows = [t.get_text() for t in ax.get_yticklabels()]
        columns = [t.get_text() for t in ax.get_xticklabels()]
        assert rows == (names if at_left else [])
        assert columns == ([] if below else names * 2)


def test_matrices_of_different_lists_keep_the_size_of_an_entry(tables: Tables) -> None:
    frame = tables["transition_matrices"]
    fewer = frame["target"].eq(3) & frame["source"].eq(1) & frame["column"].isin(NB201[:2])
    ragged = {**tables, "transition_matrices": frame[~fewer]}
    figure = figures.draw(ragged, "transitions", "transition")
    shapes = [ax.images[0].get_array().shape for ax in links(figure)]
    assert shapes == [(5, 5), (5, 3), (5, 5), (5, 5)]
    assert len({ax.get_xlim() for ax in links(figure)}) == 1
    assert len({round(ax.get_position().width, 6) for ax in links(figure)}) == 1
    names = [t.get_text() for t in links(figure)[1].get_xticklabels()]
    assert names == [palette.operation_name(o) for o in NB201[2:]] * 2
    assert clashes(figure) == []


def test_one_seed_has_no_spread(tables: Tables) -> None:
    single = {**tables, "transition_matrices": tables["transition_matrices"].assign(sd=np.nan)}
    figure = figures.draw(single, "transitions", "transition")
    assert [len(ax.images) for ax in links(figure)] == [1] * 4
    bars = [ax.get_xlabel() for ax in figure.axes if "over seeds" in ax.get_xlabel()]
    assert bars == ["mean over seeds"]


def test_the_first_screen_has_matrices_beside_their_start(tables: Tables) -> None:
    figure = figures.draw(tables, "matrices")
    for k, ax in enumerate(figure.axes[:4]):
        start, end = ax.images
        np.testing.assert_array_equal(start.get_array(), matrix(tables, k, "start_mean"))
        np.testing.assert_array_equal(end.get_array(), matrix(tables, k))
        assert start.get_clim() == end.get_clim() == (0, 1)
        assert start.get_extent()[1] < end.get_extent()[0]
        assert ax.get_title().endswith(": start, end")
    assert [ax.get_xlabel() for ax in figure.axes[4:]] == ["mean over seeds"]
    assert (
        figure.get_suptitle()
        .replace("\n", " ")
        .startswith("transition · normal cell · n=4 · all links")
    )


def test_the_first_screen_shows_the_primary_setting_and_the_links_that_moved_most() -> None:
    settings = (("placebo", "placebo"), ("first", "transition"), ("second", "transition"))
    tables = make(settings, seeds=2, darts=True, epochs=1)
    tables["verdict"]["primary"] = tables["verdict"]["setting"] == "second"
    frame = tables["transition_matrices"]
    still = frame["source"].ne(4)
    frame.loc[still, "mean"] = frame.loc[still, "start_mean"]
    figure = figures.draw(tables, "matrices")
    assert "second · normal cell · n=2 · the 4 of 16 links" in figure.get_suptitle()
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles == [f"{k}→4 to 4→5: start, end" for k in range(4)]
    del tables["verdict"]
    assert "first · normal" in figures.draw(tables, "matrices").get_suptitle()


@pytest.mark.parametrize(("size", "style"), [(2, "slides"), (5, "paper"), (8, "slides")])
def test_nothing_touches_or_is_cut(size: int, style: str) -> None:
    tables = make((("a setting with a long name " + "key=value " * 5, "transition"),), 3,
                  operations=DARTS[:size], epochs=1)  # fmt: skip
    for name in ("transitions", "matrices"):
        assert clashes(figures.draw(tables, name, style=style)) == []
