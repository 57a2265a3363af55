"""Transition matrices: their mean over seeds and their spread, link by link."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analysis.data.samples import Sample
from analysis.statistics.metrics import Estimate, Spread, estimate, spread


class Link(NamedTuple):
    """One link over seeds.

    matrix.mean and matrix.sd are (rows, columns): rows are the predecessor's operations,
    columns the inner edge's. predecessor and edge are (source, target).
    """

    cell: str
    predecessor: tuple[int, int]
    edge: tuple[int, int]
    row_operations: tuple[str, ...]
    column_operations: tuple[str, ...]
    matrix: Spread
    attention: Estimate


class Transitions(NamedTuple):
    """All links of one setting, normal cell first, then by inner edge and predecessor."""

    setting: str
    links: tuple[Link, ...]

    @property
    def mean_sd(self) -> float:
        """Mean over all entries of all links of the standard deviation over seeds."""
        if not self.links:
            return float("nan")
        return float(np.mean(np.concatenate([link.matrix.sd.ravel() for link in self.links])))


def mean_transitions(sample: Sample, setting: str) -> Transitions:
    """The mean over a setting's runs of every link's matrix and attention."""
    return Transitions(
        setting,
        tuple(
            Link(
                link.cell,
                link.nodes[:2],
                link.nodes[2:],
                link.predecessor.operations,
                link.edge.operations,
                spread(link.matrices),
                estimate(link.attention),
            )
            for link in sample.links
        ),
    )
