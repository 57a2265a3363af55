"""Would rows as strong as the seeds' noise have been found? Power of `transfer`'s test, simulated.

A study that finds no rows says something only where it would have found them. Its own seeds are
taken again, with their p_q, attention, starts, columns and all that the forms of `transfer` say;
their residual rows are replaced by rows that all seeds have in common, normal, as strong as the
residual rows differ between the seeds, and by noise: those differences, with rows permuted within
every seed and signs drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from analysis.statistics.flow import Block, FlowCell, blocks
from analysis.statistics.metrics import NAN
from analysis.statistics.predicted_flows import ONCE, RESIDUAL, Columns, Jobs, log, permuted
from analysis.statistics.transfer import DRAWS_OF_MANY, p_value


def share_found(cells: Sequence[FlowCell], strength: float = 1.0, studies: int = 60) -> float:
    """Share of simulated studies in which planted rows are found (p < 0.05), cells pooled.

    strength: of the rows, in standard deviations of the seeds' noise, matrix by matrix; 0 simulates
    the test's size. Forms are chosen once a study, which changes little; of more than `ONCE` seeds
    the first ones are taken, which find less than all would. NaN where n < 3.
    """
    n = min(cells[0].n, ONCE)
    if n < 3:
        return NAN
    rng, jobs = np.random.default_rng(0), Jobs.of(n, pairs=False)
    worlds = [[_World(block) for block in blocks(cell.of(range(n)))] for cell in cells]
    found = 0
    for _ in range(studies):
        drawn = np.zeros(DRAWS_OF_MANY + 1)
        for of_cell in worlds:
            columns = [Columns(world.draw(strength, rng), jobs) for world in of_cell]
            drawn += permuted(columns, DRAWS_OF_MANY, rng)
        found += p_value(drawn / sum(len(cell.edges) for cell in cells)) < 0.05
    return found / studies


class _World:
    """What one block's seeds have without their residual rows, and how these differ."""

    def __init__(self, block: Block) -> None:
        n = len(block.table)
        fit = Columns(block, Jobs(np.arange(n), np.full((n, n), 1 / n), np.arange(n), False))
        rest = fit.change - fit.coefficient[RESIDUAL, :, None] * fit.start
        rest -= fit.slope[RESIDUAL] * block.visits[:, None]  # (n, C, Q)
        self.block, self.logits = block, log(block.table) - rest
        self.noise = (rest - rest.mean(axis=0)) * (n / (n - 1)) ** 0.5
        self.spread = block.means((self.noise**2).mean(axis=(0, 1))) ** 0.5  # (Q,)

    def draw(self, strength: float, rng: np.random.Generator) -> Block:
        """The block with planted rows and noise drawn anew."""
        rows = rng.normal(size=self.noise.shape[1:]) * self.spread * strength
        rows -= self.block.means(rows)
        n, _, q = self.noise.shape
        order = (rng.random((n, 1, q)) + self.block.matrix).argsort(axis=-1)
        signs = rng.choice([-1.0, 1.0], size=(n, 1, q))
        noise = signs * np.take_along_axis(self.noise, order, axis=-1)
        return self.block._replace(table=softmax(self.logits + rows + noise, axis=-2))
