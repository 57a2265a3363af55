"""Genotypes: the two rules, the published strings, round trips, ties, counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itnas.method.genotype import Genotype, count_tied_edges, derive
from itnas.method.network import build_network
from itnas.method.spaces import get_space

NB201, DARTS = get_space("nas-bench-201"), get_space("darts")

# As published with DARTS (second order, CIFAR-10); a node's edges come in order of weight there.
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def peaked(space, choices, height=0.9):
    """Probabilities with `height` on the named operation of an edge, the rest even."""
    probabilities = {}
    for kind, cell in space.cells.items():
        probabilities[kind] = []
        for edge in cell.edges:
            operation, weight = choices[kind].get(edge[:2], (edge.operations[0], height))
            rest = (1 - weight) / (len(edge.operations) - 1)
            probabilities[kind].append(
                [weight if o == operation else rest for o in edge.operations]
            )
    return probabilities


def test_nas_bench_201_takes_the_largest_operation_of_every_edge_none_included():
    wanted = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    operations = {
        (0, 1): "nor_conv_3x3", (0, 2): "none", (1, 2): "skip_connect",
        (0, 3): "avg_pool_3x3", (1, 3): "nor_conv_1x1", (2, 3): "none",
    }  # fmt: skip
    choices = {"normal": {edge: (o, 0.6) for edge, o in operations.items()}}
    genotype = derive(NB201, peaked(NB201, choices))
    assert str(genotype) == wanted
    assert Genotype.parse(wanted) == genotype
    assert genotype.counts(NB201) == {
        "skip_connections": 1, "parameterless_operations": 4,
        "inner_edges_kept": 2,  # (1, 2) and (1, 3); (2, 3) is none
    }  # fmt: skip


def test_darts_keeps_two_edges_a_node_and_never_none():
    choices = {
        "normal": {
            (0, 2): ("sep_conv_3x3", 0.5), (1, 2): ("none", 0.99),  # both kept: there are two
            (0, 3): ("none", 0.999), (1, 3): ("dil_conv_5x5", 0.4), (2, 3): ("skip_connect", 0.3),
            (0, 4): ("sep_conv_5x5", 0.3), (1, 4): ("max_pool_3x3", 0.2),
            (2, 4): ("skip_connect", 0.25), (3, 4): ("dil_conv_3x3", 0.4),
            (0, 5): ("skip_connect", 0.2), (1, 5): ("skip_connect", 0.3),
            (2, 5): ("skip_connect", 0.3), (3, 5): ("skip_connect", 0.3),
            (4, 5): ("avg_pool_3x3", 0.2),
        },
        "reduce": {},
    }  # fmt: skip
    genotype = derive(DARTS, peaked(DARTS, choices, height=0.2))
    normal = [(c.operation, c.source) for c in genotype.cells["normal"]]
    assert normal[0] == ("sep_conv_3x3", 0)
    assert normal[1][1] == 1
    assert normal[2:4] == [("dil_conv_5x5", 1), ("skip_connect", 2)]
    assert normal[4:6] == [("sep_conv_5x5", 0), ("dil_conv_3x3", 3)]
    assert normal[6:] == [("skip_connect", 1), ("skip_connect", 2)]  # equal: the earlier edges
    assert not any(c.operation == "none" for c in genotype.cells["normal"])


def test_the_published_darts_v2_literal_is_read_and_written_sorted_by_source():
    genotype = Genotype.parse(DARTS_V2)
    assert genotype.cell("normal") == (
        "[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
        "('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)]"
    )
    assert str(genotype).startswith("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1),")
    assert "normal_concat=range(2, 6), reduce=[(" in str(genotype)
    assert str(genotype).endswith("reduce_concat=range(2, 6))")
    assert genotype.counts(DARTS) == {
        "skip_connections": 5, "parameterless_operations": 10, "inner_edges_kept": 4,
    }  # fmt: skip
    assert Genotype.parse(str(genotype)) == genotype


def test_parameters_of_the_published_darts_v2_network():
    """3.349342 M as the published training log counts them, without the auxiliary head."""
    network = build_network(DARTS_V2, channels=36, cells=20)
    assert sum(p.numel() for p in network.parameters()) == 3_349_342


@pytest.mark.parametrize(
    ("nodes", "parameters"),
    [  # from NAS-Bench-201's table
        ("|skip_connect~0| |avg_pool_3x3~0|skip_connect~1| |none~0|nor_conv_3x3~1|nor_conv_1x1~2|",
         344_346),
        ("|nor_conv_3x3~0| |none~0|nor_conv_1x1~1| |nor_conv_3x3~0|none~1|nor_conv_3x3~2|",
         830_426),
        ("|avg_pool_3x3~0| |avg_pool_3x3~0|none~1| |skip_connect~0|skip_connect~1|avg_pool_3x3~2|",
         73_306),
    ],
)  # fmt: skip
def test_parameters_of_nas_bench_201_networks(nodes, parameters):
    network = build_network(nodes.replace(" ", "+"), channels=16, cells=5)
    assert sum(p.numel() for p in network.parameters()) == parameters


@given(st.data())
def test_any_architecture_survives_a_round_trip(data):
    space = data.draw(st.sampled_from([NB201, DARTS, get_space("s1"), get_space("s4")]))
    probabilities = {
        kind: [
            data.draw(st.lists(st.floats(0, 1), min_size=len(e[3]), max_size=len(e[3])))
            for e in cell.edges
        ]
        for kind, cell in space.cells.items()
    }
    genotype = derive(space, probabilities)
    assert Genotype.parse(str(genotype)) == genotype


@pytest.mark.parametrize(
    "text",
    [
        "", "|skip_connect~0|", "|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "Genotype(normal=[])",
        "Genotype(normal=[('none_such', 0)] * 8, reduce=[])", "__import__('os').system('true')",
        DARTS_V2.replace("('skip_connect', 2)", "('skip_connect', 7)"),
        DARTS_V2.replace("('max_pool_3x3', 0), ('max_pool_3x3', 1)",
                         "('max_pool_3x3', 0), ('max_pool_3x3', 0)"),
    ],
)  # fmt: skip
def test_anything_else_is_no_genotype(text):
    with pytest.raises(ValueError, match="not a genotype"):
        Genotype.parse(text)


def test_ties_are_counted_among_the_operations_that_may_be_chosen():
    probabilities = peaked(NB201, {"normal": {}})
    assert count_tied_edges(NB201, probabilities) == 0
    probabilities["normal"][2] = [0.2] * 5
    probabilities["normal"][4] = [0.4, 0.4 - 0.9e-6, 0.1, 0.1, 0.0]
    probabilities["normal"][5] = [0.4, 0.4 - 1.1e-6, 0.1, 0.1, 0.0]
    assert count_tied_edges(NB201, probabilities) == 2
    s3 = get_space("s3")  # none, skip_connect, sep_conv_3x3: none is never chosen
    even = {kind: [[0.4, 0.4, 0.2]] * 14 for kind in s3.cells}
    assert count_tied_edges(s3, even) == 0
    assert count_tied_edges(s3, {kind: [[0.2, 0.4, 0.4]] * 14 for kind in s3.cells}) == 28
