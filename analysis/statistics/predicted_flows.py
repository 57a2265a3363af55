"""Flows of one seed predicted by others, without their rows and with them (see `transfer`).

Arrays have C operations before the Q rows of all matrices, or before E edges (see `flow.Block`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from analysis.statistics.divergence import TINY
from analysis.statistics.flow import Block, FlowCell, blocks, flow_divergence
from analysis.statistics.metrics import NAN, Array, Ints

FORMS = ("start", "a", "c", "d", "cd", "b", "mean")
"""Ways to predict without rows, simplest first, in logarithms less their means over operations. Of
tables: the start X; X tilted by (a) the others' column means of Z = log(table / start), (c) a and a
coefficient times X, (d) a and, column by column, a slope times v = p_q less its mean, (cd) both. b:
the start's flow, tilted by the others' log ratio of flow to it. mean, under `init: random` alone:
the others' mean matrix without its rows. Coefficients are the others', matrix by matrix."""

RESIDUAL = FORMS.index("cd")  # the form that says the most; what it leaves are the residual rows
FACTORS = (0.25, 0.5, 0.75, 1.0)  # multiples of the residual rows that *full* may add
FACTOR_OF = np.array((0.0, *FACTORS * RESIDUAL, 1.0, 1.0))
"""Of every way to predict by *full*: none, the factors form by form, the others' mean Z as it is
and, under `init: random`, their mean matrix."""

DRAWS_OF_MANY = 99  # permutations with more than ONCE seeds
ONCE = 20  # seeds beyond which form and factor are chosen once a setting, and few draws do
_WORK = 1 << 16  # elements per step, so that a step's arrays stay in the processor's cache


class Jobs(NamedTuple):
    """What is predicted: H times a seed (`target`) by others (`keep`: (H, n), their shares).

    own: (n,), the jobs of seeds by all others. pairs: whether there is also one of every seed k
    without k and i (job i n + k), by which i's form and factor are chosen.
    """

    target: Ints
    keep: Array
    own: Ints
    pairs: bool

    @classmethod
    def of(cls, n: int, pairs: bool = True) -> Jobs:
        """The jobs of n seeds, 3 or more; with more than `ONCE` there are no pairs."""
        seeds = np.arange(n)
        pairs = pairs and n <= ONCE
        without, target = np.divmod(np.arange(n * n), n) if pairs else (seeds, seeds)
        keep = (seeds != target[:, None]) & (seeds != without[:, None])
        own = seeds * (n + 1) if pairs else seeds
        return cls(target, keep / keep.sum(axis=1, keepdims=True), own, pairs)

    def choose(self, d: Array) -> Ints:
        """(..., ways, H) divergences to the best way for every seed: (..., n)."""
        n = len(self.own)
        if not self.pairs:
            return np.repeat(d.mean(axis=-1).argmin(axis=-1)[..., None], n, axis=-1)
        return (d.reshape(*d.shape[:-1], n, n).sum(axis=-1) - d[..., self.own]).argmin(axis=-2)

    def of_seeds(self, chosen: Ints) -> Ints:
        """(n,) what was chosen for every seed to (H,), what its jobs use."""
        return np.repeat(chosen, len(self.own)) if self.pairs else chosen

    def left_out(self, x: Array) -> Array:
        """(H,) values to means over the other seeds with each left out: (1 or 2, n).

        The others' own values; and, with pairs, those predicted without the seed that is left out.
        """
        n, own = len(self.own), x[self.own]
        sums = [own.sum(), x.reshape(n, n).sum(axis=1)] if self.pairs else [own.sum()]
        return np.stack([of_all - own for of_all in sums]) / (n - 1)


class Columns:
    """One block's predictions without rows.

    logits: (tables' forms, H, C, Q). flows: (forms, H, C, E). change, start: (n, C, Q), Z and X
    less their column means. coefficient (tables' forms, H, Q), slope (tables' forms, H, C, Q):
    what each form says of `start` and of the visits.
    """

    def __init__(self, block: Block, jobs: Jobs, random_start: bool = False) -> None:
        self.block, self.jobs = block, jobs
        keep, target, v = jobs.keep, jobs.target, block.visits[:, None]
        x = log(block.start)
        z = log(block.table) - x
        x, z = (y - y.mean(axis=1, keepdims=True) for y in (x, z))
        z_mean, x_mean = block.means(z), block.means(x)
        self.change, self.start = z - z_mean, x - x_mean
        # Sums over rows, then over seeds, matrix by matrix: a regression on X and v (per column).
        both = (self.change, self.start)
        zx, xx = (keep @ block.sums((y * self.start).sum(axis=1)) for y in both)  # (H, matrices)
        vz, vx = (over_seeds(keep, block.sums(y * v)) for y in both)  # (H, C, matrices)
        vv = over_seeds(keep, block.sums(v**2))  # (H, 1, matrices)
        b_alone, slope_alone = _ratio(zx, xx), _ratio(vz, vv)
        left = xx - (vx * _ratio(vx, vv)).sum(axis=1)  # of X, what v does not explain
        left = np.where(left > 1e-9 * xx, left, 0)
        b = _ratio(zx - (vx * slope_alone).sum(axis=1), left)
        slope = _ratio(vz - b[:, None] * vx, vv)
        self.coefficient = np.stack([0 * b, 0 * b, b_alone, 0 * b, b])[..., block.matrix]
        self.slope = np.stack([0 * slope] * 3 + [slope_alone, slope])[..., block.matrix]
        columns = over_seeds(keep, z_mean)
        tilt = np.stack([0 * columns, *[columns] * RESIDUAL])
        begun = x[target] - over_seeds(keep, x_mean)
        tilt += self.coefficient[:, :, None] * begun + self.slope * v[target]
        self.logits = x[target] + tilt
        weights = block.weights[target]
        real, start = block.flow(block.table), block.flow(block.start)
        by_flow = start[target] * np.exp(over_seeds(keep, log(real) - log(start)))
        by_flow /= by_flow.sum(axis=1, keepdims=True)
        mean = [over_seeds(keep, block.table)] if random_start else []
        self.mean = [m @ weights for m in mean]  # with its rows
        without = [by_flow, *(block.means(m) @ weights for m in mean)]
        self.flows = np.concatenate([softmax(self.logits, axis=-2) @ weights, without])
        self.real = real[target]

    def with_rows(self) -> Array:
        """(ways, H, C, E), flows with rows: `FACTOR_OF` but its first, form by form."""
        job = np.arange(len(self.jobs.target))
        found = [
            Rows(self, job, form, RESIDUAL, np.float64).flows(None, len(FACTORS))[0]
            for form in range(1, RESIDUAL + 1)
        ]
        tilted = Rows(self, job, 1, 1, np.float64).flows(None, len(FACTORS))[0, -1]
        return np.concatenate([*found, [tilted, *self.mean]])

    def d(self, flows: Array) -> Array:
        """(..., H, C, E) flows to divergences from the real ones, bits, summed over edges."""
        return flow_divergence(flows, self.real)


class Rows:
    """One block's predictions of some jobs (H,) with the others' residual rows added.

    tables: the form of each job, or of all. less: the form whose explanation the rows are without.
    """

    def __init__(
        self, columns: Columns, job: Ints, tables: Ints | int, less: int, kind: type[np.floating]
    ) -> None:
        jobs, block = columns.jobs, columns.block
        logits = columns.logits[tables, job]  # (H, C, Q)
        self.matrix = block.matrix
        self.table = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(kind)
        self.weights = block.weights[jobs.target[job]].astype(kind)
        self.real = np.maximum(columns.real[job], TINY).astype(kind)
        self.keep = jobs.keep[job].astype(kind)
        self.change, self.start = columns.change.astype(kind), columns.start.astype(kind)
        self.visits = block.visits[:, None].astype(kind)  # (n, 1, Q)
        self.coefficient = columns.coefficient[less, job][:, None].astype(kind)
        self.slope = columns.slope[less, job].astype(kind)

    def flows(self, order: Ints | None, steps: int) -> NDArray:
        """(draws, steps, H, C, E) with 1/4 of the residual rows, 1/2 ...; None: as they are."""

        def mean(x: NDArray) -> NDArray:  # of the other seeds, with their rows in this order
            drawn = x if order is None else np.take_along_axis(x[None], order[:, :, None], axis=-1)
            return over_seeds(self.keep, drawn)

        rest = mean(self.change)
        rest -= self.coefficient * mean(self.start)
        rest -= self.slope * mean(self.visits)
        rest *= FACTORS[0]
        step = np.exp(rest, out=rest).reshape(-1, *self.table.shape)
        table, out = self.table, []
        for _ in range(steps):
            table = table * step
            out.append((table / table.sum(axis=-2, keepdims=True)) @ self.weights)
        return np.stack(out, axis=1)

    def divergences(self, draws: int, rng: np.random.Generator) -> NDArray:
        """(draws, H), bits, summed over edges, of a quarter of the rows, permuted; 0: as they are.

        They are permuted within every matrix of every seed.
        """
        order, (n, _, size) = None, self.change.shape
        if draws:
            keys = rng.random((draws, n, size), dtype=np.float32) + self.matrix.astype(np.float32)
            order = keys.argsort(axis=-1)
        q = np.maximum(self.flows(order, 1)[:, 0], TINY)
        each = [(p * np.log2(p)).sum(axis=(-1, -2)) for p in (q, self.real, (q + self.real) / 2)]
        return np.asarray((each[0] + each[1]) / 2 - each[2])


def of_forms(columns: Sequence[Columns]) -> tuple[Array, Ints]:
    """(forms, H) divergences without rows, and the best form of tables but the start: (n,)."""
    d = np.sum([c.d(c.flows) for c in columns], axis=0)
    return d, 1 + columns[0].jobs.choose(d[1 : RESIDUAL + 1])


def permuted(columns: Sequence[Columns], draws: int, rng: np.random.Generator) -> Array:
    """(1 + draws,) with a quarter of the rows: as they are, then permuted in every seed.

    The mean over seeds of the divergence (bits) summed over the edges of all blocks.
    """
    own, tables = columns[0].jobs.own, of_forms(columns)[1]
    rows = [Rows(c, own, tables, RESIDUAL, np.float32) for c in columns]
    step = max(1, _WORK // sum(r.table.size for r in rows))
    counts = [0, *(min(step, draws - begin) for begin in range(0, draws, step))]
    out = [sum(r.divergences(count, rng) for r in rows) for count in counts]
    return np.concatenate(out).mean(axis=1, dtype=float)


def p_value(drawn: Array) -> float:
    """Of `permuted`; NaN without draws. A tie (in float32) counts as at least as good."""
    return float((drawn <= drawn[0] + 1e-7).mean()) if len(drawn) > 1 else NAN


def share_found(cells: Sequence[FlowCell], strength: float = 1.0, studies: int = 60) -> float:
    """Would rows as strong as the seeds' noise have been found? The power of the test, simulated.

    A study that finds no rows says something only where it would have found them. So its seeds are
    taken again, with their p_q, attention, starts and columns, but with residual rows that all have
    in common, normal, and noise: how the residual rows differ between the seeds, permuted within
    every seed, with signs drawn. Returns the share of such studies, cells pooled, with p < 0.05.

    strength: of the rows, in standard deviations of that noise, matrix by matrix; 0 simulates the
    test's size. Forms are chosen once a study, which changes little; of more than `ONCE` seeds the
    first ones are taken, which find less than all would. NaN where n < 3.
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


def over_seeds(keep: NDArray, x: NDArray) -> NDArray:
    """(H, n) shares, (..., n, A, B) values to means over seeds (..., H, A, B)."""
    flat = keep @ x.reshape(*x.shape[:-2], -1)
    return flat.reshape(*flat.shape[:-1], *x.shape[-2:])


def log(p: Array) -> Array:
    """The logarithm, of 1e-12 where p is less."""
    return np.log(np.maximum(p, 1e-12))


def _ratio(above: Array, below: Array) -> Array:
    """above / below, 0 where there is nothing to divide by."""
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 1e-12)
