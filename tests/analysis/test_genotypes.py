"""Genotypes: the published literals, collapse, descriptions."""

from itertools import product

import numpy as np
import pytest

from analysis import ResultsError
from analysis.data import genotypes
from analysis.data.genotypes import Edge

NB201 = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
# The published genotype of second-order DARTS on CIFAR-10.
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=range(2, 6))"
)
SKIPS = (
    "|skip_connect~0|+|skip_connect~0|skip_connect~1|+"
    + "|skip_connect~0|"
    + ("skip_connect~1|skip_connect~2|")
)


def test_nb201_string() -> None:
    cells = genotypes.parse(NB201)
    assert list(cells) == ["normal"]
    assert cells["normal"].inputs == 1
    assert cells["normal"].edges == (
        Edge("nor_conv_3x3", 0, 1),
        Edge("nor_conv_1x1", 0, 2),
        Edge("skip_connect", 1, 2),
        Edge("none", 0, 3),
        Edge("avg_pool_3x3", 1, 3),
        Edge("nor_conv_3x3", 2, 3),
    )


def test_the_published_darts_literal() -> None:
    cells = genotypes.parse(DARTS_V2)
    assert list(cells) == ["normal", "reduce"]
    assert cells["normal"].inputs == 2
    assert cells["normal"].edges[4:] == (
        Edge("skip_connect", 0, 4),
        Edge("sep_conv_3x3", 1, 4),
        Edge("skip_connect", 0, 5),
        Edge("dil_conv_3x3", 2, 5),
    )
    assert cells["reduce"].edges[2] == Edge("max_pool_3x3", 1, 3)


def test_a_nodes_edges_may_come_in_any_order() -> None:
    swapped = DARTS_V2.replace(
        "('sep_conv_3x3', 1), ('skip_connect', 0), ", "('skip_connect', 0), ('sep_conv_3x3', 1), "
    )
    assert swapped != DARTS_V2
    assert genotypes.parse(swapped) == genotypes.parse(DARTS_V2)


@pytest.mark.parametrize(
    "text", ["", "nan", "|a|", "Genotype()", "Genotype(normal=[1])", "open('x')", "|a~0|+x"]
)
def test_what_is_no_genotype_is_one_line(text: str) -> None:
    with pytest.raises(ResultsError, match="no genotype") as error:
        genotypes.parse(text)
    assert "\n" not in str(error.value)


def test_collapse_is_more_than_half_of_the_normal_cell() -> None:
    assert genotypes.is_collapsed(genotypes.parse(SKIPS))
    # Three of six kept edges are parameterless: exactly half is not more than half.
    assert not genotypes.is_collapsed(genotypes.parse(NB201))
    four = NB201.replace("nor_conv_1x1", "none")
    assert genotypes.is_collapsed(genotypes.parse(four))
    # The reduction cell of DARTS_V2 has only parameterless edges, and does not count.
    assert not genotypes.is_collapsed(genotypes.parse(DARTS_V2))


def test_equal_content_is_one_description() -> None:
    swapped = DARTS_V2.replace(
        "('sep_conv_3x3', 1), ('skip_connect', 0), ", "('skip_connect', 0), ('sep_conv_3x3', 1), "
    )
    one, other = (genotypes.describe_all(genotypes.parse(t)) for t in (DARTS_V2, swapped))
    assert one == other
    assert one.startswith("normal: 0→2 sep_conv_3x3, 1→2 sep_conv_3x3, ")
    assert "; reduce: 0→2 max_pool_3x3, 1→2 max_pool_3x3, " in one
    text = genotypes.describe_all(genotypes.parse(NB201))
    assert text.startswith("0→1 nor_conv_3x3, 0→2 nor_conv_1x1")


def test_parts_are_described_apart() -> None:
    parsed = genotypes.parse(DARTS_V2)
    other = genotypes.parse(DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_5x5', 2)"))
    parts = ("whole", "normal", "reduce")
    same = [genotypes.describe_all(parsed, p) == genotypes.describe_all(other, p) for p in parts]
    assert same == [False, False, True]
    assert genotypes.describe_all(genotypes.parse(NB201), "reduce") == ""


def test_the_search_and_the_analysis_mean_the_same_by_parameterless() -> None:
    """Two spellings, since neither package may import the other."""
    from itnas.method.operations import parameterless

    assert parameterless() == genotypes.PARAMETERLESS


OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def published(cell: genotypes.Cell) -> str:
    """`Structure.to_unique_str(consider_zero=True)` of NAS-Bench-201, from its definition."""
    nodes = {0: "0"}
    for target in (1, 2, 3):
        terms = []
        for e in (e for e in cell.edges if e.target == target):
            if e.operation == "none" or nodes[e.source] == "#":
                terms.append("#")
            elif e.operation == "skip_connect":
                terms.append(nodes[e.source])
            else:
                terms.append(f"({nodes[e.source]})@{e.operation}")
        nodes[target] = "+".join(sorted(terms))
    return nodes[3]


def test_cells_of_nas_bench_201_by_what_they_compute() -> None:
    """One random function in place of each operation: equal cells give equal numbers."""
    cells = [
        genotypes.Cell(tuple(Edge(o, s, t) for o, (s, t) in zip(ops, edges, strict=True)), inputs=1)
        for edges in [[(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]]
        for ops in product(OPERATIONS, repeat=6)
    ]
    texts = [genotypes.function_of(cell) for cell in cells]
    unique = [published(cell) for cell in cells]
    assert len(cells) == 15_625
    assert len(set(unique)) == 6_466  # the published number
    assert len(set(texts)) == 4_930
    assert len(set(zip(texts, unique, strict=True))) == 6_466  # ours joins whole classes of theirs
    rates = {"nor_conv_1x1": 1.3, "nor_conv_3x3": 0.7, "avg_pool_3x3": 0.4}

    def value(cell: genotypes.Cell) -> float:
        nodes = [0.377, 0.0, 0.0, 0.0]
        for e in cell.edges:
            x = nodes[e.source]
            if e.operation == "skip_connect":
                nodes[e.target] += x
            elif e.operation != "none" and x != 0:
                nodes[e.target] += float(np.sin(rates[e.operation] * x) + x**2 * rates[e.operation])
        return round(nodes[3], 9)

    values = [value(cell) for cell in cells]
    assert len(set(values)) == len(set(zip(values, texts, strict=True))) == len(set(texts))


def test_a_function_in_words() -> None:
    def of(text: str) -> str:
        return genotypes.function_of(genotypes.parse(text)["normal"])

    assert of("|none~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|skip_connect~2|") == "0"
    assert of(SKIPS) == "x + x + x + x"
    first = of("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|")
    assert first == of("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|")
    assert first == "nor_conv_3x3(x)"
