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

from analysis.statistics.flow import FLOOR, Block, FlowCell, blocks
from analysis.statistics.metrics import Array
from analysis.statistics.predicted_flows import (
    ONCE,
    RESIDUAL,
    Columns,
    Jobs,
    Rows,
    permuted,
    softmax,
    total,
)
from analysis.statistics.transfer import p_value


def share_found(
    cells: Sequence[FlowCell],
    strength: float = 1.0,
    studies: int = 60,
    draws: int = 99,
    seed: int = 0,
) -> float:
    """Share of simulated studies in which planted rows are found (p < 0.05), cells pooled.

    strength: of the planted rows, in standard deviations of the seeds' noise, matrix by matrix; 0
    simulates the test's size. Forms are chosen once a study, which costs little and changes
    little; of more than `ONCE` seeds the first ones are taken, which find less than all would.
    NaN where n < 3.
    """
    n = min(cells[0].n, ONCE)
    if n < 3:
        return float("nan")
    cells = [cell.of(range(n)) for cell in cells]
    rng = np.random.default_rng(seed)
    jobs = Jobs.of(n, pairs=False)
    worlds = [_World(block) for cell in cells for block in blocks(cell)]
    sizes = np.cumsum([len(blocks(cell)) for cell in cells])[:-1]
    found = 0
    for _ in range(studies):
        drawn = np.zeros(draws + 1)
        of_cells = np.split(np.arange(len(worlds)), sizes)
        for indices in of_cells:
            columns = [Columns(worlds[i].draw(strength, rng), jobs) for i in indices]
            tables = 1 + jobs.choose(total([c.d(c.flows) for c in columns])[1 : RESIDUAL + 1])
            drawn += permuted(
                [Rows(c, jobs.own, tables, RESIDUAL, np.float32) for c in columns], draws, rng
            )
        found += p_value(drawn / sum(len(cell.edges) for cell in cells)) < 0.05
    return found / studies


class _World:
    """What one block's seeds have without their residual rows, and how these differ."""

    def __init__(self, block: Block) -> None:
        n = len(block.table)
        together = Jobs(np.arange(n), np.full((n, n), 1 / n), np.arange(n), False)
        fit = Columns(block, together)
        rest = fit.change - fit.coefficient[RESIDUAL, :, None] * fit.start
        rest -= fit.slope[RESIDUAL] * block.visits[:, None]  # (n, C, Q)
        self.block = block
        self.logits = np.log(np.maximum(block.table, FLOOR)) - rest
        self.noise = (rest - rest.mean(axis=0)) * (n / (n - 1)) ** 0.5
        self.spread = block.means((self.noise**2).mean(axis=(0, 1))) ** 0.5  # (Q,)

    def draw(self, strength: float, rng: np.random.Generator) -> Block:
        """The block with planted rows and noise drawn anew."""
        matrix = self.block.matrix
        rows: Array = rng.normal(size=self.noise.shape[1:]) * self.spread * strength
        rows -= self.block.means(rows)
        n, _, q = self.noise.shape
        order = (rng.random((n, 1, q)) + matrix).argsort(axis=-1)
        signs = rng.choice([-1.0, 1.0], size=(n, 1, q))
        noise = signs * np.take_along_axis(self.noise, order, axis=-1)
        return self.block._replace(table=softmax(self.logits + rows + noise))
