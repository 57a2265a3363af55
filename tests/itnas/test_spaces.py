"""Spaces against the published facts: edges, links, candidate lists, parameter counts."""

import pytest

from itnas.engine.plan.blueprint import count_parameters
from itnas.method.spaces import SPACES, get_space

DARTS_LISTS = {
    "s2": ("skip_connect", "sep_conv_3x3"),
    "s3": ("none", "skip_connect", "sep_conv_3x3"),
    "s4": ("noise", "sep_conv_3x3"),
}


@pytest.mark.parametrize("name", ["darts", "s1", "s2", "s3", "s4"])
def test_darts_family_has_14_edges_and_16_links_in_each_cell_kind(name):
    space = get_space(name)
    assert list(space.cells) == ["normal", "reduce"]
    for cell in space.cells.values():
        assert len(cell.edges) == 14
        assert len(cell.outer_edges) == 8
        assert len(cell.inner_edges) == 6
        assert len(cell.links) == 16


def test_nas_bench_201_has_6_edges_and_4_links():
    space = get_space("nas-bench-201")
    assert list(space.cells) == ["normal"]
    cell = space.cells["normal"]
    assert [(e.source, e.target) for e in cell.edges] == [
        (0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3),
    ]  # fmt: skip
    assert len(cell.outer_edges) == 3
    ends = [(cell.edges[k.predecessor][:2], cell.edges[k.edge][:2]) for k in cell.links]
    assert ends == [((0, 1), (1, 2)), ((0, 1), (1, 3)), ((0, 2), (2, 3)), ((1, 2), (2, 3))]


@pytest.mark.parametrize("name", list(SPACES))
def test_a_link_joins_an_edge_to_each_edge_that_ends_where_it_starts(name):
    for cell in get_space(name).cells.values():
        for e, edge in enumerate(cell.edges):
            before = {cell.links[n].predecessor for n in cell.links_into(e)}
            assert before == {q for q, other in enumerate(cell.edges) if other[1] == edge[0]}
            assert edge.inner == (edge.source >= cell.inputs) == bool(before)


def test_candidate_lists_of_s2_s3_s4_are_one_list_on_every_edge():
    for name, operations in DARTS_LISTS.items():
        for cell in get_space(name).cells.values():
            assert {edge.operations for edge in cell.edges} == {operations}


def test_candidate_lists_of_s1_differ_from_edge_to_edge():
    normal, reduce = (get_space("s1").cells[k].edges for k in ("normal", "reduce"))
    assert normal[0][:2] == (0, 2)
    assert normal[0].operations == ("skip_connect", "dil_conv_3x3")
    assert normal[5][:2] == (0, 4)  # destination first, then source
    assert normal[5].operations == ("max_pool_3x3", "skip_connect")
    assert normal[13].operations == ("dil_conv_3x3", "dil_conv_5x5")
    assert reduce[0].operations == ("max_pool_3x3", "avg_pool_3x3")
    assert reduce[6].operations == ("max_pool_3x3", "sep_conv_3x3")
    assert all(len(e.operations) == 2 for e in (*normal, *reduce))


@pytest.mark.parametrize(
    ("name", "channels", "cells", "image_channels", "published"),
    [
        ("nas-bench-201", 16, 5, 3, 1_686_106),
        ("darts", 16, 8, 3, 1_930_618),
        ("darts", 4, 3, 3, 72_854),
        ("darts", 4, 3, 1, 72_638),
        ("nas-bench-201", 8, 1, 3, 99_378),
    ],
)
def test_parameters_of_the_supernet_are_those_of_the_published_codes(
    name, channels, cells, image_channels, published
):
    assert count_parameters(get_space(name), channels, cells, image_channels, 10) == published


def test_an_unknown_space_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'darst' is not known; one of nas-bench-201, darts"):
        get_space("darst")
