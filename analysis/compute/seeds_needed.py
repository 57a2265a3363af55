"""How many seeds it takes: interval widths against the number of seeds, and reliability.

Up to the seeds that are there, widths are measured by subsampling (m of n seeds, drawn without
replacement); beyond, they are projected from the variance that one seed and one pair add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.compute.stability import SettingStability
from analysis.statistics.inference import NAN, components, jackknife, mean_interval
from analysis.statistics.metrics import Array, t_quantile
from analysis.statistics.quantities import Quantity

DRAWS = 10
MOST_SEEDS = 200
LADDER = (3, 5, 8, 12, 20, 32, 50, 80, 128, MOST_SEEDS)

TARGETS: Mapping[str, tuple[float, ...]] = {
    "benchmark_test": (4.0, 2.0, 1.0, 0.5),
    "skip_connections": (2.0, 1.0, 0.5),
    "inner_edges_kept": (2.0, 1.0, 0.5),
    "settling_epoch": (10.0, 5.0, 2.0),
}
"""Widths asked about, in the quantity's unit."""

USUAL_TARGETS = (0.4, 0.2, 0.1, 0.05)

QUANTITIES = (
    "operation_agreement",
    "edge_agreement",
    "probability_divergence",
    "transition_divergence",
    "dependence_stability",
    "learned_dependence_stability",
    "link_specificity",
    "attention_agreement",
    "dependence_strength",
    "valid_accuracy",
    "derived_accuracy",
    "benchmark_test",
)


class WidthCurve(NamedTuple):
    """Widths of a quantity's 95% interval at several numbers of seeds.

    seeds (k,); width, low, high (k,): the median and quartiles over subsamples where
    `measured`, else the projection (low and high NaN). now: seeds there are. targets: a width
    to the seeds it takes, None where more than MOST_SEEDS.
    """

    setting: str
    cell: str
    quantity: str
    seeds: NDArray[np.int64]
    width: Array
    low: Array
    high: Array
    measured: NDArray[np.bool_]
    now: int
    targets: Mapping[float, int | None]


def width_curves(item: SettingStability) -> tuple[WidthCurve, ...]:
    """Curves of one setting's quantities; those with fewer than four seeds have none."""
    found = []
    for (cell, name), quantity in item.quantities.items():
        if name in QUANTITIES and quantity.known and quantity.interval.n >= 4:
            found.append(width_curve(item.setting, cell, name, quantity))
    return tuple(found)


def width_curve(
    setting: str, cell: str, name: str, quantity: Quantity, draws: int = DRAWS
) -> WidthCurve:
    """The curve of one quantity, which needs at least four seeds."""
    n = quantity.interval.n
    ladder = sorted({m for m in LADDER if m != n} | {n})
    measured = np.array([m <= n for m in ladder])
    rng = np.random.default_rng(0)
    rows = []
    for m in ladder:
        if m == n:
            rows.append((quantity.interval.width,) * 3)
        elif m < n:
            widths = [_width(quantity, rng.permutation(n)[:m]) for _ in range(draws)]
            rows.append(tuple(np.nanquantile(widths, (0.5, 0.25, 0.75))))
        else:
            rows.append((projected_width(quantity, m), NAN, NAN))
    width, low, high = np.array(rows, dtype=float).T
    goals = TARGETS.get(name, USUAL_TARGETS)
    targets = {goal: seeds_for(quantity, goal) for goal in goals}
    seeds = np.array(ladder)
    return WidthCurve(setting, cell, name, seeds, width, low, high, measured, n, targets)


def _width(quantity: Quantity, seeds: NDArray[np.int64]) -> float:
    if quantity.agreement is not None:
        return jackknife(quantity.agreement.take(seeds)).width
    assert quantity.values is not None
    finite = quantity.values[np.isfinite(quantity.values)]
    return mean_interval(finite[seeds]).width


def projected_width(quantity: Quantity, m: int) -> float:
    """Width of the 95% interval expected with m seeds, from those there are."""
    if quantity.agreement is not None:
        of_seed, of_pair = components(quantity.agreement)
        variance = 4 * of_seed / m + 2 * of_pair / (m * (m - 1))
    else:
        assert quantity.values is not None
        x = quantity.values[np.isfinite(quantity.values)]
        variance = float(x.var(ddof=1)) / m
    return 2 * float(t_quantile(m - 1)) * float(np.sqrt(variance))


def seeds_for(quantity: Quantity, width: float) -> int | None:
    """The fewest seeds whose projected width is at most this; None where over MOST_SEEDS."""
    for m in range(3, MOST_SEEDS + 1):
        if projected_width(quantity, m) <= width:
            return m
    return None


class Reliability(NamedTuple):
    """Split-half reliability of a setting's mean transition matrices, of one part of them.

    correlation: mean over splits of Pearson's r between the entries of both halves' means;
    reliability: Spearman and Brown's step-up of it to all n seeds; low, high: quartiles over
    splits.
    """

    setting: str
    cell: str
    part: str
    correlation: float
    reliability: float
    low: float
    high: float
    n: int


def split_half(matrices: Sequence[ArrayLike], splits: int = 64) -> tuple[Array, Array]:
    """Correlations (splits,) between the mean matrices of two random halves of the seeds.

    matrices: (n, R, C) per link, n >= 4. The second array is of their reliabilities at n seeds.
    """
    arrays = [np.asarray(m, dtype=float) for m in matrices]
    flat = np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)
    n = len(flat)
    rng = np.random.default_rng(0)
    found = np.zeros(splits)
    for index in range(splits):
        order = rng.permutation(n)
        half = n // 2
        first, second = flat[order[:half]].mean(axis=0), flat[order[half : 2 * half]].mean(axis=0)
        first, second = first - first.mean(), second - second.mean()
        size = float(np.sqrt((first**2).sum() * (second**2).sum()))
        found[index] = float(first @ second) / size if size > 1e-12 else 0.0
    return found, 2 * found / (1 + np.maximum(found, -0.999))


def reliabilities(
    item: SettingStability, learned: Mapping[str, list[Array] | str]
) -> tuple[Reliability, ...]:
    """Of every cell kind: the matrices, what was learned, and what is a link's own.

    learned: cell kind to what `stability.learned_matrices` gives. "link" is each matrix less
    the mean over links with its shape, so that one matrix on every link earns nothing there.
    """
    found = []
    for cell in item.sample.cells:
        links = item.sample.links_of(cell)
        n = item.sample.n
        if not links or n < 4:
            continue
        matrices = [link.matrices for link in links]
        parts: dict[str, list[Array]] = {"matrix": matrices}
        relative = learned.get(cell)
        if isinstance(relative, list):
            parts["learned"] = relative
        parts["link"] = _less_the_mean(matrices)
        for part, arrays in parts.items():
            correlation, reliability = split_half(arrays)
            low, high = np.quantile(reliability, (0.25, 0.75))
            means = float(correlation.mean()), float(reliability.mean())
            found.append(Reliability(item.setting, cell, part, *means, float(low), float(high), n))
    return tuple(found)


def _less_the_mean(matrices: Sequence[Array]) -> list[Array]:
    by_shape: dict[tuple[int, ...], list[Array]] = {}
    for matrix in matrices:
        by_shape.setdefault(matrix.shape, []).append(matrix)
    return [m - np.mean(by_shape[m.shape], axis=0) for m in matrices]


def table(curves: Sequence[WidthCurve]) -> pd.DataFrame:
    """The `seeds_needed` table: one row per setting, cell, quantity and number of seeds."""
    parts = [
        pd.DataFrame(
            {
                "setting": c.setting, "cell": c.cell, "quantity": c.quantity, "seeds": c.seeds,
                "width": c.width, "width_low": c.low, "width_high": c.high,
                "source": np.where(c.measured, "subsampling", "projection"),
            }
        )
        for c in curves
    ]  # fmt: skip
    columns = ["setting", "cell", "quantity", "seeds", "width", "width_low", "width_high", "source"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def targets_table(curves: Sequence[WidthCurve]) -> pd.DataFrame:
    """The `seeds_for_width` table: the seeds that an interval of a given width takes."""
    rows = [
        (c.setting, c.cell, c.quantity, width, seeds, c.now)
        for c in curves
        for width, seeds in c.targets.items()
    ]
    columns = ["setting", "cell", "quantity", "width", "seeds_needed", "seeds_here"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"seeds_needed": "Int64"})


def reliability_table(items: Sequence[Reliability]) -> pd.DataFrame:
    """The `reliability` table: one row per setting, cell and part of the mean matrices."""
    columns = ["setting", "cell", "part", "correlation", "reliability", "low", "high", "seeds"]
    return pd.DataFrame(list(items), columns=columns)
