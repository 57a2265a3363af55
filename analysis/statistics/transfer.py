"""Transfer: does what other seeds learned about rows help to derive this seed's cell?

Seed i's flow into every inner edge (`flow`) is derived again from its own p_q and attention, but
with matrices that it did not make: its *start* at epoch -1, tilted by what the other seeds learned.
D is the Jensen-Shannon divergence (bits) to its real flow, mean over inner edges.

With Z = log(T / start) and X = log start, both centred within rows, v = p_q less its mean, and
every mean and coefficient taken over the other seeds of a setting, matrix by matrix:

- *columns* knows all but what a particular predecessor operation leads to: X as it is, so that no
  learning at all comes to 0; X tilted by (a) the column means of Z, (b) not X but its flow, by the mean log ratio of flow to start flow, (c) a, and
  X times its regression coefficient (an optimiser that weakens an identity start alike in every
  seed; a start that is forgotten), (d) a, and v times a slope for every column (rows that are
  visited more move more), (cd) both.
- *full* adds a factor times the mean of the residual rows: Z less column means, c and d.

The form is the one with the smallest mean D over the other seeds, each predicted without itself
and without i; then, with the form that i has, the factor is found alike, and 0 means *columns*.
The p-value permutes the residual rows within every seed, once a distinct matrix: forms stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.divergence import DRAWS, TINY
from analysis.statistics.flow import (
    FLOOR,
    Block,
    FlowCell,
    blocks,
    choices,
    exchange_effect,
    flow_divergence,
    flow_effects,
)
from analysis.statistics.metrics import Array

FORMS = ("start", "a", "c", "d", "cd", "b")
"""Ways to predict without rows, simplest first; b, the last, is one of flows, not of matrices."""

FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Multiples of the residual rows that *full* may add."""

ONCE = 20
"""Seeds beyond which form and factor are chosen once a setting and `DRAWS_OF_MANY` draws do."""

DRAWS_OF_MANY = 99

LEAST_EFFECT = 0.002
"""Bits; of a smaller mean D(start) no share is told."""

_WORK = 1 << 16  # elements per step, so that a step's arrays stay in the processor's cache


@dataclass(frozen=True)
class Transfer:
    """Transfer of one cell kind of a setting, or of several together (`pooled`).

    edges: number of inner edges. d_start, d_columns, d_full, flow_effect, flow_effect_start,
    exchange_effect: (n,), bits, means over inner edges. forms, factors: (n, cell kinds), what was
    chosen for each seed, as indices of `FORMS` and as factors. chosen: (n, edges), operations
    chosen with the real flow and with those of "full", "columns", "start" and "row_means"; TIED
    where two are equal. drawn: (draws,), mean d_full with permuted rows. note: why something is
    NaN. Shares are ratios of means over seeds, `parts` both parts of each.
    """

    edges: int
    d_start: Array
    d_columns: Array
    d_full: Array
    flow_effect: Array
    flow_effect_start: Array
    exchange_effect: Array
    forms: NDArray[np.int64]
    factors: Array
    chosen: dict[str, NDArray[np.int64]]
    drawn: Array
    note: str = ""

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.d_start)

    def parts(self, name: str) -> tuple[Array, Array]:
        """(n,) numerator and (n,) denominator of column_transfer or dependence_transfer."""
        ends = {
            "column_transfer": (self.d_start, self.d_columns),
            "dependence_transfer": (self.d_columns, self.d_full),
        }
        first, second = ends[name]
        return first - second, self.d_start

    def share(self, name: str) -> float:
        """The ratio of both parts' means; NaN where mean D(start) is under `LEAST_EFFECT`."""
        above, below = self.parts(name)
        if not (self.n and below.mean() >= LEAST_EFFECT):
            return float("nan")
        return float(above.mean() / below.mean())

    @property
    def dependence_transfer(self) -> float:
        """(D(columns) - D(full)) / D(start): what the others' rows bring back."""
        return self.share("dependence_transfer")

    @property
    def column_transfer(self) -> float:
        """1 - D(columns) / D(start): what comes back without knowing rows."""
        return self.share("column_transfer")

    @property
    def p_value(self) -> float:
        """(1 + draws with a mean D(full) at most as large) / (draws + 1); approximate."""
        if not len(self.drawn):
            return float("nan")
        # Draws are in float32; a tie counts as at least as good.
        return float(1 + (self.drawn <= self.d_full.mean() + 1e-6).sum()) / (len(self.drawn) + 1)

    def choice_transfer(self, by: str = "full") -> Array:
        """(n,) share of inner edges whose choice is the same `by` another flow.

        Edges tied in the seed itself are left out; NaN where that leaves none.
        """
        real, other = self.chosen["real"], self.chosen.get(by)
        if other is None:
            return np.full(self.n, np.nan)
        untied = real >= 0
        same = ((real == other) & untied).sum(axis=1)
        count = untied.sum(axis=1)
        return np.divide(same, count, out=np.full(self.n, np.nan), where=count > 0)


def transfer(cell: FlowCell, draws: int | None = None, seed: int = 0) -> Transfer:
    """Transfer of one cell kind.

    draws: permutations behind the p-value (0: none is taken); None is `DRAWS`, or `DRAWS_OF_MANY`
    beyond `ONCE` seeds. Without at least three seeds there is nobody to choose by: only what
    needs no other seed is told, the rest is NaN.
    """
    n, edges = cell.n, len(cell.edges)
    found = blocks(cell)
    real = [b.flow(b.table) for b in found]
    begun = [b.flow(b.start) for b in found]
    flows = {
        "real": real,
        "start": begun,
        "row_means": [b.flow(b.means(b.table)) for b in found],
    }
    none = np.full(n, np.nan)
    d_start = sum(map(flow_divergence, begun, real), np.zeros(n)) / edges
    d_columns, d_full, drawn, note = none, none, np.zeros(0), ""
    forms, factors = np.full(n, -1), none
    if n < 3:
        note = "fewer than three seeds: nobody else to predict by"
    else:
        jobs = Jobs.of(n)
        columns = [_Columns(b, jobs) for b in found]
        d = sum(c.divergences() for c in columns) / edges  # (forms, jobs)
        forms = jobs.choose(d)
        of_tables = jobs.choose(d[:-1])
        rows = [_Rows(c, forms, of_tables, float) for c in columns]
        by_rows = [r.flows(r.unpermuted()) for r in rows]  # (1, factors, jobs, C, E)
        d = sum(r.divergences(f) for r, f in zip(rows, by_rows, strict=True))[0] / edges
        picked = jobs.choose(d)
        factors = np.array(FACTORS)[picked]
        d_columns, d_full = d[0, jobs.own], d[picked, jobs.own]
        flows["columns"] = [c.flows[forms, jobs.own] for c in columns]
        flows["full"] = [f[0, picked, jobs.own] for f in by_rows]
        if draws is None:
            draws = DRAWS if n <= ONCE else DRAWS_OF_MANY
        light = [_Rows(c, forms, of_tables, np.float32) for c in columns]
        drawn = _permuted(light, jobs, draws, edges, np.random.default_rng(seed))
        if d_start.mean() < LEAST_EFFECT:
            note = f"mean D(start) under {LEAST_EFFECT:g} bits: hardly anything was learned"
    effect, effect_start = flow_effects(cell)
    by_edge = {name: _by_edge(found, each, edges) for name, each in flows.items()}
    return Transfer(
        edges,
        d_start,
        d_columns,
        d_full,
        effect,
        effect_start,
        exchange_effect(cell),
        forms[:, None],
        factors[:, None],
        {name: choices(cell, each) for name, each in by_edge.items()},
        drawn,
        note,
    )


def pooled(cells: Sequence[Transfer]) -> Transfer:
    """Several cell kinds of the same seeds as one: means over the inner edges of all of them."""
    edges = np.array([c.edges for c in cells])
    share = edges / edges.sum()

    def mean(name: str) -> Array:
        return np.asarray(sum(s * getattr(c, name) for s, c in zip(share, cells, strict=True)))

    names = ("d_start", "d_columns", "d_full", "flow_effect", "flow_effect_start")
    of_all = {name: mean(name) for name in (*names, "exchange_effect", "drawn")}
    note = ""
    if not of_all["d_start"].mean() >= LEAST_EFFECT or np.isnan(of_all["d_full"]).any():
        note = next((c.note for c in cells if c.note), "")
    return Transfer(
        edges=int(edges.sum()),
        forms=np.concatenate([c.forms for c in cells], axis=1),
        factors=np.concatenate([c.factors for c in cells], axis=1),
        chosen={
            name: np.concatenate([c.chosen[name] for c in cells], axis=1)
            for name in cells[0].chosen
        },
        note=note,
        **of_all,
    )


def _by_edge(found: Sequence[Block], flows: Sequence[Array], edges: int) -> list[Array]:
    """(n, C, E) of every block to (n, C) of every edge of the cell."""
    out: list[Array] = [np.zeros(0)] * edges
    for block, flow in zip(found, flows, strict=True):
        for place, edge in enumerate(block.edges):
            out[edge] = flow[..., place]
    return out


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
    def of(cls, n: int) -> Jobs:
        """The jobs of n seeds, 3 or more."""
        seeds = np.arange(n)
        pairs = n <= ONCE
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


class _Columns:
    """One block's predictions without rows.

    logits: (tables' forms, H, C, Q). flows: (forms, H, C, E). change, start: (n, C, Q), Z and X
    less their column means; coefficient (H, Q) and slope (H, C, Q), those of both together.
    """

    def __init__(self, block: Block, jobs: Jobs) -> None:
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
        self.coefficient, self.slope = both[:, row], slope[..., row]
        columns, begun = over_seeds(keep, z_mean), over_seeds(keep, x_mean)
        own, visits = x[target], v[target][:, None]
        ahead = own + columns
        self.logits = np.stack(
            [
                own + np.zeros_like(columns),
                ahead,
                ahead + alone[:, None, row] * (own - begun),
                ahead + slope_alone[..., row] * visits,
                ahead + both[:, None, row] * (own - begun) + self.slope * visits,
            ]
        )
        real, start = block.flow(block.table), block.flow(block.start)
        ratio = np.log(np.maximum(real, FLOOR)) - np.log(np.maximum(start, FLOOR))
        by_flow = start[target] * np.exp(over_seeds(keep, ratio))
        by_flow /= by_flow.sum(axis=1, keepdims=True)
        by_table = softmax(self.logits) @ block.weights[target]
        self.flows = np.concatenate([by_table, by_flow[None]])
        self.real = real[target]

    def divergences(self) -> Array:
        """(forms, H), bits, summed over edges."""
        return flow_divergence(self.flows, self.real)


class _Rows:
    """One block's predictions with the others' residual rows added, in the precision `kind`."""

    def __init__(
        self, columns: _Columns, forms: NDArray[np.int64], of_tables: NDArray[np.int64], kind: type
    ) -> None:
        block, jobs = columns.block, columns.jobs
        job = np.arange(len(jobs.target))
        logits = columns.logits[jobs.of_seeds(of_tables), job]  # (H, C, Q)
        logits = logits - logits.max(axis=1, keepdims=True)
        self.block, self.kind = block, kind
        self.table = np.exp(logits).astype(kind)
        self.weights = block.weights[jobs.target].astype(kind)
        self.columns = columns.flows[jobs.of_seeds(forms), job].astype(kind)
        self.real = np.maximum(columns.real, TINY).astype(kind)
        self.entropy = (self.real * np.log2(self.real)).sum(axis=(-1, -2))  # (H,)
        self.keep = jobs.keep.astype(kind)
        self.change, self.start = columns.change.astype(kind), columns.start.astype(kind)
        self.visits = block.visits[:, None].astype(kind)  # (n, 1, Q)
        self.coefficient = columns.coefficient[:, None].astype(kind)
        self.slope = columns.slope.astype(kind)

    def unpermuted(self) -> NDArray[np.int64]:
        """(1, n, Q), every row where it is."""
        n, _, q = self.change.shape
        return np.broadcast_to(np.arange(q), (1, n, q))

    def orders(self, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(draws, n, Q), rows permuted within every matrix of every seed."""
        n, _, q = self.change.shape
        keys = rng.random((draws, n, q), dtype=np.float32) + self.block.matrix.astype(np.float32)
        return keys.argsort(axis=-1)

    def flows(self, order: NDArray[np.int64]) -> NDArray:
        """(draws, factors, H, C, E), the first of the factors being *columns*."""
        at = order[:, :, None]

        def mean(x: NDArray) -> NDArray:  # of the other seeds, with their rows in this order
            moved = np.take_along_axis(x[None], at, axis=-1)
            return over_seeds(self.keep, moved)

        rest = mean(self.change)
        rest -= self.coefficient * mean(self.start)
        rest -= self.slope * mean(self.visits)
        rest *= FACTORS[1]
        step = np.exp(rest, out=rest)  # the factors are its multiples
        out = np.empty((len(order), len(FACTORS), *self.columns.shape), self.kind)
        out[:, 0] = self.columns
        table = self.table
        for f in range(1, len(FACTORS)):
            table = table * step
            out[:, f] = (table / table.sum(axis=-2, keepdims=True)) @ self.weights
        return out

    def divergences(self, flows: NDArray) -> NDArray:
        """(draws, factors, H) of `flows`, bits, summed over edges."""
        q = np.maximum(flows, TINY)
        mixed = (q + self.real) / 2
        own = (q * np.log2(q)).sum(axis=(-1, -2))
        return (own + self.entropy) / 2 - (mixed * np.log2(mixed)).sum(axis=(-1, -2))


def _permuted(
    rows: Sequence[_Rows], jobs: Jobs, draws: int, edges: int, rng: np.random.Generator
) -> Array:
    """(draws,) mean D(full) with residual rows permuted within every seed, factors chosen anew."""
    out = np.empty(draws)
    size = sum(r.table.size for r in rows)
    step = max(1, _WORK // size)
    for begin in range(0, draws, step):
        part = slice(begin, min(begin + step, draws))
        count = part.stop - begin
        d = sum(r.divergences(r.flows(r.orders(count, rng))) for r in rows)
        picked = jobs.choose(d)  # (draws, n)
        full = np.take_along_axis(d[:, :, jobs.own], picked[:, None], axis=1)
        out[part] = full.mean(axis=(1, 2)) / edges
    return out


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
