"""Transition matrices and cells with what is reproducible of them, through what axes hold."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

from analysis.compute import stability
from analysis.compute.stability import LinkResult, SettingStability
from analysis.compute.transitions import Link, Transitions, mean_transitions
from analysis.data import genotypes
from analysis.data.samples import EdgeSample, LinkSample, Sample
from analysis.errors import ResultsError
from analysis.figures import cells as cell_drawing
from analysis.figures import heatmaps, palette, rendering
from analysis.figures.heatmaps import Marks, marks_of, transition_heatmaps
from analysis.statistics.matrices import dependence_stability
from analysis.statistics.metrics import estimate, spread
from tests.analysis.synthetic import DARTS_EDGES, DARTS_OPS, RAGGED
from tests.analysis.test_genotypes import DARTS_V2, NB201

pytestmark = pytest.mark.usefixtures("no_global_state")

INNER = [((0, 2), (2, 3)), ((1, 2), (2, 3)), ((0, 2), (2, 4)), ((1, 2), (2, 4)), ((2, 3), (3, 4))]
REPRODUCIBLE = (1, 2, 2, 4)


def drawn_links(lists, nodes, n: int) -> Transitions:
    """Links of random matrices; lists: operations of every edge."""
    rng = np.random.default_rng(0)
    links = [
        Link(
            "normal",
            predecessor,
            edge,
            lists[predecessor],
            lists[edge],
            spread(rng.dirichlet(np.ones(len(lists[edge])), (n, len(lists[predecessor])))),
            estimate(rng.uniform(size=n)),
        )
        for predecessor, edge in nodes
    ]
    return Transitions("a setting with $ sign", tuple(links))


def all_equal(size: int) -> dict[tuple[int, int], tuple[str, ...]]:
    return dict.fromkeys(DARTS_EDGES, DARTS_OPS[:size])


@functools.lru_cache
def setting(size: int, learned: bool = True, n: int = 6) -> SettingStability:
    """Six seeds whose matrices have nothing in common, except those of one link.

    Of what was learned it is the link before it, so that the two marks differ.
    """
    rng = np.random.default_rng(1)
    operations = DARTS_OPS[:size]
    edges = {
        e: EdgeSample(
            "normal", *e, e[0] >= 2, operations, rng.dirichlet(np.ones(size), n)
        )
        for e in DARTS_EDGES
    }  # fmt: skip
    links = []
    for predecessor, edge in INNER:
        matrices = rng.dirichlet(np.ones(size), (n, size))
        if (*predecessor, *edge) == REPRODUCIBLE:
            matrices = 0.1 * matrices + 0.9 * np.eye(size)
        attention = rng.uniform(size=n)
        links.append(LinkSample("normal", edges[predecessor], edges[edge], matrices, attention))
    matrices = [link.matrices for link in links]
    _, dependence = dependence_stability(matrices)
    _, of_learned = dependence_stability([*matrices[1:], matrices[0]])
    results = [
        LinkResult(link, 0.0, dependence, of_learned if learned else None, i)
        for i, link in enumerate(links)
    ]
    ids = tuple(str(i) for i in range(n))
    seeds = np.arange(n)[:, None].repeat(3, axis=1)
    sample = Sample(ids, seeds, tuple(edges.values()), tuple(links), ())
    return SettingStability("s", "transition", seeds, {}, tuple(results), sample)


def panels(figure, links: int) -> list:
    """The axes of links; those of colour bars come after them."""
    return figure.axes[:links]


def foot(figure) -> str:
    return figure.texts[-1].get_text()


@pytest.mark.parametrize("size", [4, 6])
def test_marks_are_at_the_right_links(size: int) -> None:
    item = setting(size)
    marks = marks_of(item, "normal")
    assert marks_of(item, "reduce") == {}
    assert marks == {
        (*p, *e): Marks((*p, *e) == REPRODUCIBLE, (*p, *e) == (0, 2, 2, 4)) for p, e in INNER
    }
    figure = transition_heatmaps(mean_transitions(item.sample, "s"), "normal", marks)
    titles = [ax.get_title() for ax in panels(figure, 5)]
    assert [t for t in titles if "●" in t] == [t for t in titles if "edge 1→2 to 2→4" in t]
    assert [t for t in titles if "◆" in t] == [t for t in titles if "edge 0→2 to 2→4" in t]
    assert len({t.split("\n")[0] for t in titles}) == 5
    reproducible, of_learned = foot(figure).split("\n")
    assert "●" in reproducible
    assert reproducible.endswith("(Holm p < 0.05): 1 of 5 links")
    assert "◆" in of_learned
    assert of_learned.endswith("1 of 5 links")


def test_what_was_not_tested_is_not_marked_and_said() -> None:
    item = setting(4, learned=False)
    marks = marks_of(item, "normal")
    assert {m.learned for m in marks.values()} == {None}
    transitions = mean_transitions(item.sample, "s")
    figure = transition_heatmaps(transitions, "normal", marks)
    assert "◆" not in "".join(ax.get_title() for ax in panels(figure, 5))
    assert foot(figure).endswith("◆ what was learned is: not tested")
    without = transition_heatmaps(transitions, "normal")
    texts = [*without.texts, *(ax.title for ax in without.axes)]
    assert not any(mark in t.get_text() for t in texts for mark in "●◆")
    # Marks of some links only leave the others as they are.
    some = transition_heatmaps(transitions, "normal", {REPRODUCIBLE: Marks(True, True)})
    assert sum("● ◆" in ax.get_title() for ax in some.axes) == 1


def test_large_matrices_are_two_maps_with_one_scale_each() -> None:
    transitions = drawn_links(all_equal(8), INNER, 4)
    figure = transition_heatmaps(transitions, "normal")
    assert len(figure.axes) == 5 + 2
    highest = max(link.matrix.sd.max() for link in transitions.links)
    for ax, link in zip(panels(figure, 5), transitions.links, strict=True):
        mean, sd = ax.images
        np.testing.assert_array_equal(mean.get_array(), link.matrix.mean)
        np.testing.assert_array_equal(sd.get_array(), link.matrix.sd)
        assert mean.get_clim() == (0, 1)
        assert sd.get_clim() == (0, pytest.approx(highest))
        assert mean.get_cmap().name == "Blues"
        assert sd.get_cmap().name == "Oranges"
        assert mean.get_extent()[1] < sd.get_extent()[0]
        assert not ax.texts
        (a, b), (c, d) = link.predecessor, link.edge
        w = link.attention
        assert ax.get_title() == f"edge {a}→{b} to {c}→{d}\nw {w.mean:.2f} ± {w.sd:.2f}"
    assert [ax.get_title() for ax in figure.axes[5:]] == ["mean over seeds", "sd over seeds"]


def test_operations_are_named_once_a_row_and_column_where_all_are_the_same() -> None:
    figure = transition_heatmaps(drawn_links(all_equal(8), INNER * 2, 2), "normal")
    links = panels(figure, 10)
    names = [palette.operation_name(o) for o in DARTS_OPS]
    rows = [[t.get_text() for t in ax.get_yticklabels()] for ax in links]
    columns = [[t.get_text() for t in ax.get_xticklabels()] for ax in links]
    first = [ax.get_position().x0 for ax in links]
    for i, (of_rows, of_columns) in enumerate(zip(rows, columns, strict=True)):
        assert of_rows == (names if first[i] == min(first) else [])
        beneath = any(x == first[i] for x in first[i + 1 :])
        assert of_columns == ([] if beneath else names * 2)


@pytest.mark.parametrize("longest", [3, 7])
def test_rectangular_matrices_of_different_lists(longest: int) -> None:
    lists = dict(zip(DARTS_EDGES, map(tuple, RAGGED), strict=True))
    if longest > 5:
        lists = {e: DARTS_OPS[i % 2 : i % 2 + 1 + 3 * i % 7] for i, e in enumerate(DARTS_EDGES)}
    transitions = drawn_links(lists, INNER, 3)
    figure = transition_heatmaps(transitions, "normal")
    for ax, link in zip(panels(figure, 5), transitions.links, strict=True):
        rows, columns = link.matrix.mean.shape
        assert len(ax.images) == (2 if longest > 5 else 1)
        assert {image.get_array().shape for image in ax.images} == {(rows, columns)}
        assert len(ax.texts) == (0 if longest > 5 else rows * columns)
        assert [t.get_text() for t in ax.get_yticklabels()] == [
            palette.operation_name(o) for o in link.row_operations
        ]
        assert len(ax.get_xticks()) == columns * len(ax.images)
        # An entry has the same size whatever the shape of the matrix.
        high = ax.get_position().height * figure.get_figheight() / rows
        assert high == pytest.approx(heatmaps.SMALL if longest > 5 else heatmaps.ENTRY[1])


def test_small_matrices_have_mean_and_sd_in_every_entry() -> None:
    lists = dict(zip(DARTS_EDGES, map(tuple, RAGGED), strict=True))
    transitions = drawn_links(lists, INNER, 3)
    figure = transition_heatmaps(transitions, "normal")
    assert len(figure.axes) == 5 + 1
    for ax, link in zip(panels(figure, 5), transitions.links, strict=True):
        rows, columns = link.matrix.mean.shape
        assert len(ax.texts) == rows * columns
        for text in ax.texts:
            column, row = text.get_position()
            mean, sd = text.get_text().split("\n±")
            assert float(mean) == pytest.approx(link.matrix.mean[row, column], abs=0.005)
            assert float(sd) == pytest.approx(link.matrix.sd[row, column], abs=0.005)
        (a, b), (c, d) = link.predecessor, link.edge
        assert ax.get_title().startswith(f"edge {a}→{b} to {c}→{d}\nw ")


@pytest.mark.parametrize("size", [3, 8])
def test_one_seed_has_no_spread(size: int) -> None:
    transitions = drawn_links(all_equal(size), INNER, 1)
    figure = transition_heatmaps(transitions, "normal")
    assert len(figure.axes) == 5 + 1
    everything = [t.get_text() for ax in figure.axes for t in [*ax.texts, ax.title]]
    assert not any("±" in t or "nan" in t for t in everything)
    assert [len(ax.images) for ax in panels(figure, 5)] == [1] * 5
    item = setting(4, n=6)
    alone = [LinkResult(r.sample, np.nan, None, None, r.index) for r in item.links]
    single = SettingStability("s", "transition", item.seeds[:1], {}, tuple(alone), item.sample)
    marks = marks_of(single, "normal")
    assert set(marks.values()) == {Marks(None, None)}
    assert cell_drawing.edge_reproducibility(single, "normal") == {}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("size", [2, 5, 6, 8])
@pytest.mark.parametrize("links", [1, 2, 5])
def test_nothing_touches_or_is_cut(size: int, links: int, n: int) -> None:
    transitions = drawn_links(all_equal(size), INNER[:links], n)
    transitions = transitions._replace(setting="a setting with a long name key=value " * 5)
    marks = {(*p, *e): Marks(True, True) for p, e in INNER[:links]}
    figure = transition_heatmaps(transitions, "normal", marks)
    assert len(panels(figure, links)) == links
    assert not rendering._clashes(figure, (0, 0))


def test_a_cell_without_links_is_an_error_of_one_line() -> None:
    with pytest.raises(ResultsError, match="no links in a cell called 'reduce'"):
        transition_heatmaps(drawn_links(all_equal(3), INNER, 2), "reduce")


def test_reproducibility_of_an_edge_is_the_mean_over_its_links() -> None:
    item = setting(4)
    found = cell_drawing.edge_reproducibility(item, "normal")
    each = item.links[0].dependence.intervals
    assert found == {
        (2, 3): pytest.approx((each[0].estimate + each[1].estimate) / 2),
        (2, 4): pytest.approx((each[2].estimate + each[3].estimate) / 2),
        (3, 4): pytest.approx(each[4].estimate),
    }
    assert max(found, key=found.get) == (2, 4)
    assert cell_drawing.edge_reproducibility(item, "reduce") == {}


def arrows(figure) -> list[FancyArrowPatch]:
    """Those of edges; concatenation to the output has no head."""
    found = [p for p in figure.axes[0].patches if isinstance(p, FancyArrowPatch)]
    return [p for p in found if p.get_zorder() == 2]


@pytest.mark.parametrize("text", [NB201, DARTS_V2])
def test_inner_edges_have_the_colour_of_their_reproducibility(text: str) -> None:
    cell = genotypes.parse(text)["normal"]
    inner = [(e.source, e.target) for e in cell.edges if e.source >= cell.inputs]
    assert inner
    values = dict(zip(inner, [0.3, -0.2, 0.9, 0.6], strict=False))
    values[0, 3 if cell.inputs == 2 else 1] = 0.5  # of an outer edge: stays grey
    figure = cell_drawing.cell_figure(cell, "title", values)
    colours = cell_drawing._REPRODUCIBILITY
    solid = [p for p in arrows(figure) if p.get_linestyle() in ("solid", "-")]
    dashed = [p for p in arrows(figure) if p.get_linestyle() not in ("solid", "-")]
    assert sorted(to_hex(p.get_edgecolor()) for p in solid) == sorted(
        to_hex(colours(max(values[e], 0.0))) for e in inner
    )
    assert {to_hex(p.get_edgecolor()) for p in dashed} == {cell_drawing._GREY}
    assert len(dashed) == len(cell.edges) - len(inner)
    bar = figure.axes[1]
    assert bar.get_title().startswith("dependence stability of the edge's links (0: chance")
    assert bar.get_xlim()[1] == pytest.approx(1)
    names = [palette.operation_name(e.operation) for e in cell.edges]
    labels = [t for t in figure.axes[0].texts if t.get_text() in names]
    assert {to_hex(t.get_color()) for t in labels} == {"#222222"}
    assert not rendering._clashes(figure, (0, 0))


def test_inner_edges_of_unknown_reproducibility_are_grey() -> None:
    cell = genotypes.parse(NB201)["normal"]
    figure = cell_drawing.cell_figure(cell, "", {(1, 2): 1.0, (1, 3): None, (2, 3): np.nan})
    drawn = sorted(to_hex(p.get_edgecolor()) for p in arrows(figure))
    assert drawn == sorted([to_hex(cell_drawing._REPRODUCIBILITY(1.0))] + [cell_drawing._GREY] * 5)


@pytest.mark.parametrize("known", [None, {}, {(1, 2): None}])
def test_without_reproducibility_edges_have_their_operations_colours(known) -> None:
    cell = genotypes.parse(NB201)["normal"]
    figure = cell_drawing.cell_figure(cell, "", known)
    assert len(figure.axes) == 1
    assert sorted(to_hex(p.get_edgecolor()) for p in arrows(figure)) == sorted(
        palette.operation_colour(e.operation) for e in cell.edges
    )


def test_marks_agree_with_the_table_of_links() -> None:
    item = setting(4)
    table = stability.links_table((item,))
    nodes = ["predecessor_source", "predecessor_target", "source", "target"]
    marks = marks_of(item, "normal")
    for row in table.to_dict("records"):
        mark = marks[tuple(row[name] for name in nodes)]
        assert mark.dependence == (row["dependence_stability_p_holm"] < 0.05)
        assert mark.learned == (row["learned_dependence_stability_p_holm"] < 0.05)
