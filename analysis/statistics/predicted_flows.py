"""Flows of one seed predicted by others, without their rows and with them (see `transfer`).

Arrays of a `Block` have C operations of the inner edges before the Q rows of all matrices; what is
predicted is a job: a seed, and the others whose mean it is predicted by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.divergence import TINY
from analysis.statistics.flow import FLOOR, Block, flow_divergence
from analysis.statistics.metrics import Array

FORMS = ("start", "a", "c", "d", "cd", "b", "mean")
"""Ways to predict without rows, simplest first. b is one of flows, not of tables; mean, which is
the others' mean matrix without its rows, is tried under `init: random` alone."""

RESIDUAL = FORMS.index("cd")
"""The form that says the most; what it leaves are the residual rows."""

FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Multiples of the residual rows that *full* may add."""

STEPS = len(FACTORS) - 1
FACTOR_OF = (0.0, *FACTORS[1:] * RESIDUAL, 1.0, 1.0)
"""Of every way to predict by *full*: none, the factors form by form, the others' mean tilt as it is
and, under `init: random`, their mean matrix."""

ONCE = 20
"""Seeds beyond which form and factor are chosen once a setting and `DRAWS_OF_MANY` draws do."""

_WORK = 1 << 16  # elements per step, so that a step's arrays stay in the processor's cache


class Jobs(NamedTuple):
    """What is predicted: H times a seed (`target`) by others (`keep`: (H, n), their shares).

    own: (n,), the job that predicts seed i from all others. pairs: whether there is also one for
    every other seed k without k and i (job i n + k), by which i's form and factor are chosen.
    """

    target: NDArray[np.int64]
    keep: Array
    own: NDArray[np.int64]
    pairs: bool

    @classmethod
    def of(cls, n: int, pairs: bool = True) -> Jobs:
        """The jobs of n seeds, 3 or more; with more than `ONCE` there are no pairs."""
        seeds = np.arange(n)
        pairs = pairs and n <= ONCE
        without, target = np.divmod(np.arange(n * n), n) if pairs else (seeds, seeds)
        keep = np.ones((len(target), n))
        keep[np.arange(len(target)), target] = keep[np.arange(len(target)), without] = 0
        own = seeds * (n + 1) if pairs else seeds
        return cls(target, keep / keep.sum(axis=1, keepdims=True), own, pairs)

    def choose(self, d: Array) -> NDArray[np.int64]:
        """(..., ways, H) divergences to the best way for every seed: (..., n)."""
        if not self.pairs:
            once = d.mean(axis=-1).argmin(axis=-1)
            return np.repeat(once[..., None], len(self.own), axis=-1)
        n = len(self.own)
        return (d.reshape(*d.shape[:-1], n, n).sum(axis=-1) - d[..., self.own]).argmin(axis=-2)

    def of_seeds(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) what was chosen for every seed to (H,), what its jobs use."""
        return np.repeat(chosen, len(self.own)) if self.pairs else chosen

    def left_out(self, x: Array) -> Array:
        """(H,) values to means over the other seeds with each left out: (1 or 2, n).

        The others' own values; and, with pairs, those predicted without the seed that is left out.
        """
        n, own = len(self.own), x[self.own]
        sums = [own.sum(), x.reshape(n, n).sum(axis=1)] if self.pairs else [own.sum()]
        return np.stack([total_of - own for total_of in sums]) / (n - 1)


class Columns:
    """One block's predictions without rows.

    logits: (tables' forms, H, C, Q). flows: (forms, H, C, E). change, start: (n, C, Q), Z and X
    less their column means. coefficient (tables' forms, H, Q), slope (tables' forms, H, C, Q):
    what each form says of `start` and of the visits.
    """

    def __init__(self, block: Block, jobs: Jobs, random_start: bool = False) -> None:
        self.block, self.jobs = block, jobs
        keep, target, row = jobs.keep, jobs.target, block.matrix
        x = np.log(np.maximum(block.start, FLOOR))
        x -= x.mean(axis=1, keepdims=True)
        z = np.log(np.maximum(block.table, FLOOR)) - np.log(np.maximum(block.start, FLOOR))
        z -= z.mean(axis=1, keepdims=True)
        z_mean, x_mean = block.means(z), block.means(x)
        self.change, self.start = z - z_mean, x - x_mean
        v = block.visits
        # Sums over rows, then over seeds, matrix by matrix: a regression on X and v (per column).
        zx = keep @ block.sums((self.change * self.start).sum(axis=1))  # (H, matrices)
        xx = keep @ block.sums((self.start**2).sum(axis=1))
        vv = keep @ block.sums(v**2)
        vz = over_seeds(keep, block.sums(self.change * v[:, None]))  # (H, C, matrices)
        vx = over_seeds(keep, block.sums(self.start * v[:, None]))
        slope_alone = _ratio(vz, vv[:, None])
        alone = _ratio(zx, xx)
        left = (vx * _ratio(vx, vv[:, None])).sum(axis=1)  # of X, what v explains
        both = _ratio(
            zx - (vx * slope_alone).sum(axis=1), np.where(xx - left > 1e-9 * xx, xx - left, 0)
        )
        slope = _ratio(vz - both[:, None] * vx, vv[:, None])
        columns, begun = over_seeds(keep, z_mean), over_seeds(keep, x_mean)
        visits = v[target][:, None]
        b, g = alone[:, row], slope_alone[..., row]
        self.coefficient = np.stack([0 * b, 0 * b, b, 0 * b, both[:, row]])
        self.slope = np.stack([0 * g, 0 * g, 0 * g, g, slope[..., row]])
        tilt = np.stack([0 * columns, *[columns] * RESIDUAL])
        tilt += self.coefficient[:, :, None] * (x[target] - begun) + self.slope * visits
        self.logits = x[target] + tilt
        real, start = block.flow(block.table), block.flow(block.start)
        ratio = np.log(np.maximum(real, FLOOR)) - np.log(np.maximum(start, FLOOR))
        by_flow = start[target] * np.exp(over_seeds(keep, ratio))
        by_flow /= by_flow.sum(axis=1, keepdims=True)
        by_table = softmax(self.logits) @ block.weights[target]
        self.flows = np.concatenate([by_table, by_flow[None]])
        self.mean = None
        if random_start:
            mean = over_seeds(keep, block.table)
            self.mean = mean @ block.weights[target]
            self.flows = np.concatenate([self.flows, [block.means(mean) @ block.weights[target]]])
        self.real = real[target]

    def with_rows(self) -> Array:
        """(ways, H, C, E), flows with rows: `FACTOR_OF` but its first, form by form."""
        job = np.arange(len(self.jobs.target))
        found = []
        for form in range(1, RESIDUAL + 1):
            rows = Rows(self, job, form, RESIDUAL, float)
            found.append(rows.flows(rows.unpermuted(), STEPS)[0])
        rows = Rows(self, job, 1, 1, float)
        found.append(rows.flows(rows.unpermuted(), STEPS)[0, -1:])
        if self.mean is not None:
            found.append(self.mean[None])
        return np.concatenate(found)

    def d(self, flows: Array) -> Array:
        """(..., H, C, E) flows to divergences from the real ones, bits, summed over edges."""
        return flow_divergence(flows, self.real)


class Rows:
    """One block's predictions with the others' residual rows added, for some of the jobs.

    job: (H,). tables: the form of each, one of tables, or one for all. less: likewise, the form
    whose explanation the rows are without. kind: the precision.
    """

    def __init__(
        self,
        columns: Columns,
        job: NDArray[np.int64],
        tables: NDArray[np.int64] | int,
        less: NDArray[np.int64] | int,
        kind: type,
    ) -> None:
        jobs, block = columns.jobs, columns.block
        logits = columns.logits[tables, job]  # (H, C, Q)

        def of(x: Array) -> NDArray:
            return x.astype(kind)

        self.matrix = block.matrix
        self.table = of(np.exp(logits - logits.max(axis=1, keepdims=True)))
        self.weights = of(block.weights[jobs.target[job]])
        self.real = of(np.maximum(columns.real[job], TINY))
        self.entropy = plogp(self.real)  # (H,)
        self.keep = of(jobs.keep[job])
        self.change, self.start = of(columns.change), of(columns.start)
        self.visits = of(block.visits[:, None])  # (n, 1, Q)
        self.coefficient = of(columns.coefficient[less, job][:, None])
        self.slope = of(columns.slope[less, job])

    def unpermuted(self) -> NDArray[np.int64]:
        """(1, n, Q), every row where it is."""
        n, _, q = self.change.shape
        return np.broadcast_to(np.arange(q), (1, n, q))

    def orders(self, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(draws, n, Q), rows permuted within every matrix of every seed."""
        n, _, q = self.change.shape
        keys = rng.random((draws, n, q), dtype=np.float32) + self.matrix.astype(np.float32)
        return keys.argsort(axis=-1)

    def flows(self, order: NDArray[np.int64], steps: int) -> NDArray:
        """(draws, steps, H, C, E) with a quarter of the residual rows, a half, and so on."""
        at = order[:, :, None]

        def mean(x: NDArray) -> NDArray:  # of the other seeds, with their rows in this order
            return over_seeds(self.keep, np.take_along_axis(x[None], at, axis=-1))

        rest = mean(self.change)
        rest -= self.coefficient * mean(self.start)
        rest -= self.slope * mean(self.visits)
        rest *= FACTORS[1]
        step = np.exp(rest, out=rest)
        table, out = self.table, []
        for _ in range(steps):
            table = table * step
            out.append((table / table.sum(axis=-2, keepdims=True)) @ self.weights)
        return np.stack(out, axis=1)

    def divergences(self, flows: NDArray) -> NDArray:
        """(draws, steps, H) of `flows`, bits, summed over edges."""
        q = np.maximum(flows, TINY)
        return np.asarray((plogp(q) + self.entropy) / 2 - plogp((q + self.real) / 2))


def permuted(rows: Sequence[Rows], draws: int, rng: np.random.Generator) -> Array:
    """(1 + draws,) with a quarter of the rows: as they are, then permuted in every seed.

    The mean over jobs of the divergence (bits) summed over the edges of all blocks.
    """
    out = [total([r.divergences(r.flows(r.unpermuted(), 1)) for r in rows])]
    step = max(1, _WORK // sum(r.table.size for r in rows))
    for begin in range(0, draws, step):
        count = min(step, draws - begin)
        out.append(total([r.divergences(r.flows(r.orders(count, rng), 1)) for r in rows]))
    return np.concatenate(out).mean(axis=(1, 2), dtype=float)


def plogp(p: NDArray) -> NDArray:
    """(..., C, E), all above 0, to the sum of p log2 p: (...)."""
    return np.asarray((p * np.log2(p)).sum(axis=(-1, -2)))


def over_seeds(keep: NDArray, x: NDArray) -> NDArray:
    """(H, n) shares, (..., n, A, B) values to means over seeds (..., H, A, B)."""
    flat = keep @ x.reshape(*x.shape[:-2], -1)
    return flat.reshape(*flat.shape[:-1], *x.shape[-2:])


def softmax(logits: Array) -> Array:
    """Distributions along the last axis but one."""
    p = np.exp(logits - logits.max(axis=-2, keepdims=True))
    return p / p.sum(axis=-2, keepdims=True)


def _ratio(above: Array, below: Array) -> Array:
    """above / below, 0 where there is nothing to divide by."""
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 1e-12)


def total(arrays: Sequence[NDArray]) -> NDArray:
    """Sum of several arrays of one shape."""
    return np.sum(arrays, axis=0)
