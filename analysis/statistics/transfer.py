"""Transfer: does what other seeds learned about rows help to derive this seed's cell?

Seed i's flow into every inner edge (`flow`) is derived again from its own p_q and attention, but
with matrices that it did not make: its *start* at epoch -1, tilted by what the other seeds learned.
D is the Jensen-Shannon divergence (bits) to its real flow, mean over inner edges: by *columns*, the
best of `FORMS`, and by *full*, which may add a multiple of the others' mean residual rows. Form and
factor are those with the smallest mean D over the other seeds, each predicted without itself and
without i. docs/transfer.md says why, and how the p-value and the interval come about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.statistics import predicted_flows as predict
from analysis.statistics.divergence import DRAWS
from analysis.statistics.flow import FlowCell, blocks, choices, exchange_effect, flow_divergence
from analysis.statistics.inference import Quantity, missing
from analysis.statistics.metrics import NAN, Array, Ints, t_quantile
from analysis.statistics.seeds import Ratio

SHARES = ("column_transfer", "dependence_transfer")
LEAST_EFFECT = 0.002  # bits; of a smaller mean D(start) no share is told
LEAST_SEEDS = 5  # seeds from which on a share has an interval


@dataclass(frozen=True)
class Transfer:
    """Transfer of one cell kind of a setting, or of several together (`pooled`).

    d_start to exchange_effect: (n,), bits, means over the inner `edges`; flow_effect: to the flow
    with every matrix replaced by the mean of its rows, now and at the start. drawn: (1 + draws,),
    the test's mean D, observed and permuted. forms, factors: (n, cell kinds), what was chosen for
    each seed, as indices of `FORMS` and as factors. chosen: (n, edges), operations chosen with the
    flows "real", "full", "columns", "start" and "row_means", or TIED. left_out: of every share,
    (ways, n), the mean of its numerator with each seed left out: of values as they are; predicted
    again without it, where that was done; and both with the smallest step (a quarter of the rows;
    form a) instead of the chosen one. note: why something is NaN.
    """

    edges: int
    d_start: Array
    d_columns: Array
    d_full: Array
    flow_effect: Array
    flow_effect_start: Array
    exchange_effect: Array
    drawn: Array
    forms: Ints
    factors: Array
    chosen: dict[str, Ints]
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

    def share(self, name: str) -> Quantity:
        """The ratio of both parts' means with its plain 95% jackknife-t interval.

        Missing where there is a `note`; without an interval where n < `LEAST_SEEDS`. Of the
        standard errors of all ways of leaving a seed out the largest is taken: values kept as they
        are forget that seeds are predicted by each other; chosen steps that are 0 in all seeds,
        and so have no error, may have been chosen by luck.
        """
        (above, below), n = self.parts(name), self.n
        if self.note:
            return missing(self.note, n)
        estimate = float(above.mean() / below.mean())
        p = self.p_value if name == "dependence_transfer" else NAN
        found = Quantity(estimate, NAN, NAN, n, 0.0, p, statistic=Ratio(above, below))
        if n < LEAST_SEEDS:
            return replace(found, note=f"fewer than {LEAST_SEEDS} seeds leave no interval")
        start = (self.d_start.sum() - self.d_start) / (n - 1)
        error = ((n - 1) * (self.left_out[name] / start).var(axis=1).max()) ** 0.5
        half = float(t_quantile(n - 1)) * error
        return replace(found, low=estimate - half, high=min(estimate + half, 1.0))

    @property
    def p_value(self) -> float:
        """(1 + draws with a mean D at most as large) / (draws + 1); approximate."""
        return predict.p_value(self.drawn)

    def choice_transfer(self, by: str = "full") -> Array:
        """(n,) share of inner edges whose choice is the same `by` another flow.

        Edges tied in the seed itself are left out; NaN where that leaves none.
        """
        if by not in self.chosen:
            return np.full(self.n, NAN)
        real = self.chosen["real"]
        untied = real >= 0
        same, count = ((real == self.chosen[by]) & untied).sum(axis=1), untied.sum(axis=1)
        return np.divide(same, count, out=np.full(self.n, NAN), where=count > 0)


def transfer(cell: FlowCell, draws: int | None = None, seed: int = 0) -> Transfer:
    """Transfer of one cell kind; give every kind of one setting a seed of its own.

    draws: permutations behind the p-value (0: none is taken); None is `DRAWS`, or `DRAWS_OF_MANY`
    beyond `ONCE` seeds. With fewer than three seeds, what needs others is NaN.
    """
    n, edges, found = cell.n, len(cell.edges), blocks(cell)

    def d(p: list[Array], q: list[Array]) -> Array:
        return np.sum([flow_divergence(x, y) for x, y in zip(p, q, strict=True)], axis=0) / edges

    real, start = [b.flow(b.table) for b in found], [b.flow(b.start) for b in found]
    flows = {"real": real, "start": start, "row_means": [b.flow(b.means(b.table)) for b in found]}
    start_means = [b.flow(b.means(b.start)) for b in found]
    none = np.full(n, NAN)
    told = Transfer(
        edges, d_start=d(start, real), d_columns=none, d_full=none,
        flow_effect=d(real, flows["row_means"]), flow_effect_start=d(start, start_means),
        exchange_effect=exchange_effect(cell), drawn=none[:0], forms=np.full((n, 1), -1),
        factors=none[:, None], chosen={}, left_out=dict.fromkeys(SHARES, none[None]),
        note="fewer than three seeds: nobody else to predict by",
    )  # fmt: skip
    if n > 2:
        columns = [predict.Columns(b, predict.Jobs.of(n), cell.random_start) for b in found]
        predicted, by = _predicted(columns, told.d_start, edges)
        flows |= by
        if draws is None:
            draws = DRAWS if n <= predict.ONCE else predict.DRAWS_OF_MANY
        drawn = predict.permuted(columns, draws, np.random.default_rng(seed)) / edges
        little = f"mean D(start) under {LEAST_EFFECT:g} bits: hardly anything was learned"
        note = little if told.d_start.mean() < LEAST_EFFECT else ""
        told = replace(told, **predicted, drawn=drawn, note=note)
    return replace(told, chosen={k: choices(cell, found, f, real) for k, f in flows.items()})


def _predicted(
    columns: Sequence[predict.Columns], d_start: Array, edges: int
) -> tuple[dict[str, Any], dict[str, list[Array]]]:
    """What `Transfer` tells of 3 seeds and more, and their flows by *columns* and *full*."""
    jobs = columns[0].jobs
    job = np.arange(len(jobs.target))
    d_forms, tables = predict.of_forms(columns)
    forms = jobs.choose(d_forms)
    full = [
        np.concatenate([c.flows[None, jobs.of_seeds(forms), job], c.with_rows()]) for c in columns
    ]
    d = np.sum([c.d(f) for c, f in zip(columns, full, strict=True)], axis=0) / edges
    picked, d_forms = jobs.choose(d), d_forms / edges
    least = jobs.of_seeds(tables)  # the form that the smallest step is added to
    gains = {
        "column_transfer": (d_start[jobs.target] - d[0], d_start[jobs.target] - d_forms[1]),
        "dependence_transfer": (
            d[0] - d[jobs.of_seeds(picked), job],
            d_forms[least, job] - d[1 + len(predict.FACTORS) * (least - 1), job],
        ),
    }
    told = {
        "d_columns": d[0, jobs.own],
        "d_full": d[picked, jobs.own],
        "forms": forms[:, None],
        "factors": predict.FACTOR_OF[picked][:, None],
        "left_out": {k: np.concatenate([jobs.left_out(g) for g in v]) for k, v in gains.items()},
    }
    by_columns = [c.flows[forms, jobs.own] for c in columns]
    return told, {"columns": by_columns, "full": [f[picked, jobs.own] for f in full]}


def pooled(cells: Sequence[Transfer]) -> Transfer:
    """Several cell kinds of the same seeds as one: means over the inner edges of all of them."""
    edges = sum(c.edges for c in cells)
    of = {name: [getattr(c, name) for c in cells] for name in vars(cells[0])}

    def mean(arrays: Sequence[Array]) -> Array:
        return np.asarray(sum(c.edges / edges * x for c, x in zip(cells, arrays, strict=True)))

    def joined(arrays: Sequence[Any]) -> Any:
        return np.concatenate(arrays, axis=1)

    means = {name: mean(x) for name, x in of.items() if name.startswith(("d", "flow", "exch"))}
    fine = means["d_start"].mean() >= LEAST_EFFECT and not np.isnan(means["d_full"]).any()
    return Transfer(
        edges, **means, forms=joined(of["forms"]), factors=joined(of["factors"]),
        chosen={name: joined([x[name] for x in of["chosen"]]) for name in cells[0].chosen},
        left_out={name: mean([x[name] for x in of["left_out"]]) for name in SHARES},
        note="" if fine else next(filter(None, of["note"]), ""),
    )  # fmt: skip
