"""Transfer: does what other seeds learned about rows help to derive this seed's cell?

Seed i's flow into every inner edge (`flow`) is derived again from its own p_q and attention, but
with matrices that it did not make: its *start* at epoch -1, tilted by what the other seeds learned.
D is the Jensen-Shannon divergence (bits) to its real flow, mean over inner edges.

With Z = log(T / start) and X = log start, both centred within rows, v = p_q less its mean, and
every mean and coefficient taken over the other seeds of a setting, matrix by matrix:

- *columns* knows all but what a particular predecessor operation leads to. It is the start itself
  (so that no learning comes to 0), or X tilted by (a) the column means of Z, (b) its flow tilted
  by the mean log ratio of flow to start flow, (c) a, and X times its regression coefficient (an
  optimiser that weakens an identity start alike in every seed; a start that is forgotten), (d) a,
  and v times a slope for every column (rows that are visited more move more), (cd) both.
- *full* is *columns*, or one of (a), (c), (d) and (cd) plus a factor times the mean residual rows,
  which are what (cd) does not say of Z; or X tilted by the mean of Z as it is. Under `init: random`
  the others' mean matrix with its rows is one more, and without them one more form of *columns*.

Form and factor are those with the smallest mean D over the other seeds, each predicted without
itself and without i; so that 'no rows' is exactly *columns*. What (c) and (d) say is no part of the
residual rows, or *full* would take for rows what *columns* missed by choosing (a).

The p-value permutes the residual rows within every seed, once a distinct matrix: forms stay. Its
statistic is the mean D with a quarter of them added to the best of those four forms, whatever was
chosen: a small step along the rows finds more than the best step (docs/transfer.md), since noise
hurts it less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.divergence import DRAWS
from analysis.statistics.flow import (
    Block,
    FlowCell,
    blocks,
    choices,
    exchange_effect,
    flow_divergence,
    flow_effects,
)
from analysis.statistics.inference import NAN, Quantity
from analysis.statistics.metrics import Array, t_quantile
from analysis.statistics.predicted_flows import (
    FACTOR_OF,
    ONCE,
    RESIDUAL,
    STEPS,
    Columns,
    Jobs,
    Rows,
    permuted,
    total,
)

DRAWS_OF_MANY = 99

SHARES = ("column_transfer", "dependence_transfer")

LEAST_EFFECT = 0.002
"""Bits; of a smaller mean D(start) no share is told."""


@dataclass(frozen=True)
class Transfer:
    """Transfer of one cell kind of a setting, or of several together (`pooled`).

    edges: number of inner edges. d_start, d_columns, d_full, flow_effect, flow_effect_start,
    exchange_effect: (n,), bits, means over inner edges. forms, factors: (n, cell kinds), what was
    chosen for each seed, as indices of `FORMS` and as factors. chosen: (n, edges), operations
    chosen with the real flow and with those of "full", "columns", "start" and "row_means"; TIED
    where two are equal. drawn: (1 + draws,), the test's mean D, observed and permuted. note: why
    something is NaN. left_out: by name of a share, (ways, n), the mean of its numerator over the
    other seeds with each seed left out: as they are; predicted again without it, where that was
    done; and both with the smallest step (a quarter of the rows; form a) instead of the chosen one.
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
    left_out: dict[str, Array]
    note: str = ""

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.d_start)

    def parts(self, name: str) -> tuple[Array, Array]:
        """(n,) numerator and (n,) denominator of column_transfer or dependence_transfer."""
        if name == "column_transfer":
            return self.d_start - self.d_columns, self.d_start
        return self.d_columns - self.d_full, self.d_start

    def share(self, name: str) -> float:
        """The ratio of both parts' means; NaN where mean D(start) is under `LEAST_EFFECT`."""
        above, below = self.parts(name)
        if not (self.n and below.mean() >= LEAST_EFFECT):
            return NAN
        return float(above.mean() / below.mean())

    def interval(self, name: str) -> Quantity:
        """A share with its plain 95% jackknife-t interval; none where n < 5.

        Of the standard errors of all ways of leaving a seed out the largest is taken: values kept
        as they are forget that seeds are predicted by each other; chosen steps that are 0 in all
        seeds, and so have no error, may have been chosen by luck.
        """
        estimate, n = self.share(name), self.n
        if n < 5 or not np.isfinite(estimate):
            return Quantity(estimate, NAN, NAN, n)
        start = (self.d_start.sum() - self.d_start) / (n - 1)
        error = ((n - 1) * (self.left_out[name] / start).var(axis=1).max()) ** 0.5
        half = float(t_quantile(n - 1)) * error
        return Quantity(estimate, estimate - half, estimate + half, n)

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
        """(1 + draws with a mean D at most as large) / (draws + 1); approximate."""
        return p_value(self.drawn)

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


def p_value(drawn: Array) -> float:
    """Of `Transfer.drawn`; NaN without draws. A tie (in float32) counts as at least as good."""
    if len(drawn) < 2:
        return NAN
    return float((drawn <= drawn[0] + 1e-7).sum()) / len(drawn)


def transfer(cell: FlowCell, draws: int | None = None, seed: int = 0) -> Transfer:
    """Transfer of one cell kind; give every kind of one setting a seed of its own.

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
    d_start = total([flow_divergence(p, q) for p, q in zip(begun, real, strict=True)]) / edges
    d_columns, d_full, drawn, note = none, none, np.zeros(0), ""
    forms, factors = np.full(n, -1), none
    left_out = dict.fromkeys(SHARES, none[None])
    if n < 3:
        note = "fewer than three seeds: nobody else to predict by"
    else:
        jobs = Jobs.of(n)
        job = np.arange(len(jobs.target))
        columns = [Columns(b, jobs, cell.random_start) for b in found]
        d_forms = total([c.d(c.flows) for c in columns])  # (forms, H)
        forms, tables = jobs.choose(d_forms), 1 + jobs.choose(d_forms[1 : RESIDUAL + 1])
        flows_full = [c.with_rows() for c in columns]
        d_full_of = total([c.d(f) for c, f in zip(columns, flows_full, strict=True)])
        d = np.concatenate([d_forms[None, jobs.of_seeds(forms), job], d_full_of]) / edges
        picked = jobs.choose(d)
        factors = np.array(FACTOR_OF)[picked]
        d_columns, d_full = d[0, jobs.own], d[picked, jobs.own]
        base = jobs.of_seeds(tables)
        gains = {
            "column_transfer": (
                d_start[jobs.target] - d[0],
                d_start[jobs.target] - d_forms[1] / edges,
            ),
            "dependence_transfer": (
                d[0] - d[jobs.of_seeds(picked), job],
                d_forms[base, job] / edges - d[1 + STEPS * (base - 1), job],
            ),
        }
        left_out = {k: np.concatenate([jobs.left_out(g) for g in v]) for k, v in gains.items()}
        flows["columns"] = [c.flows[forms, jobs.own] for c in columns]
        flows["full"] = [
            np.concatenate([c.flows[None, jobs.of_seeds(forms), job], f])[picked, jobs.own]
            for c, f in zip(columns, flows_full, strict=True)
        ]
        if draws is None:
            draws = DRAWS if n <= ONCE else DRAWS_OF_MANY
        light = [Rows(c, jobs.own, tables, RESIDUAL, np.float32) for c in columns]
        drawn = permuted(light, draws, np.random.default_rng(seed)) / edges
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
        left_out,
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
        left_out={
            k: sum(f * c.left_out[k] for f, c in zip(share, cells, strict=True)) for k in SHARES
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
