"""How many seeds it takes: for an interval of a given width, or to tell a number from 0.

What one seed and one pair of seeds add to the variance is estimated from the seeds there are, and
few seeds know it badly: a variance of n seeds is off by a factor that follows a chi-square with
n - 1 degrees of freedom. So the answer is a range, from the number that would do if the variance
were as small as one study in twenty would have it, to that if it were as large; and under
LEAST_SEEDS seeds there is none. Also here: the split-half reliability of mean matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.compute.stability import SettingStability
from analysis.statistics.inference import NAN, Quantity, components
from analysis.statistics.metrics import Array, t_quantile
from analysis.statistics.seeds import Statistic

LEAST_SEEDS = 6
MOST_SEEDS = 200
FEW = f"fewer than {LEAST_SEEDS} seeds cannot tell how many it takes"
_MANY = np.arange(3, MOST_SEEDS + 1)
LADDER = (6, 8, 12, 20, 32, 50, 80, 128, MOST_SEEDS)

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


class Needed(NamedTuple):
    """Seeds that a goal takes, from low to high (see above); None: more than MOST_SEEDS.

    goal: "width" of the 95% interval, or "difference" to be told from 0 at 5% (two-sided) in 80%
    of studies; target: that width or difference in the quantity's unit. here, width_here: the
    seeds there are and the width they have. note: why there is no number.
    """

    setting: str
    cell: str
    quantity: str
    goal: str
    target: float
    low: int | None
    seeds: int | None
    high: int | None
    here: int
    width_here: float
    note: str = ""


def projected_error(statistic: Statistic, m: ArrayLike, factor: float = 1.0) -> Array:
    """Standard error expected with m seeds, at `factor` times the variance."""
    of_seed, of_pair = components(statistic)
    m = np.asarray(m, dtype=float)
    variance = 4 * factor * (of_seed + of_pair / np.maximum(m - 2, 1)) / m
    return np.maximum(np.sqrt(variance), statistic.step * statistic.n / m)


def projected_width(statistic: Statistic, m: ArrayLike, factor: float = 1.0) -> Array:
    """Width of the 95% interval expected with m seeds, at `factor` times the variance."""
    return 2 * t_quantile(np.asarray(m) - 1) * projected_error(statistic, m, factor)


def factors(n: int) -> tuple[float, float, float]:
    """How much smaller, and larger, the variance may be than n seeds say (90%); 1 between."""
    low, high = special.chdtri(n - 1, (0.05, 0.95))  # quantiles 95% and 5%
    return (n - 1) / float(low), 1.0, (n - 1) / float(high)


def for_width(statistic: Statistic, width: float) -> tuple[int | None, int | None, int | None]:
    """The fewest seeds whose interval is at most this wide: low, best, high; 3 at least."""
    each = [projected_width(statistic, _MANY, factor) <= width for factor in factors(statistic.n)]
    return _first(each[0]), _first(each[1]), _first(each[2])


def for_difference(
    statistic: Statistic, difference: float | None = None, power: float = 0.8
) -> tuple[int | None, int | None, int | None]:
    """The fewest seeds that tell a true `difference` from 0: low, best, high.

    statistic: usually a paired difference. difference: the one to be seen, None for the one that
    was; the range is of the noise alone, not of what the true difference may be.
    """
    effect = abs(statistic.estimate if difference is None else difference)
    critical = t_quantile(_MANY - 1)
    # The chance to see it on the wrong side is left out; statsmodels' is NaN for large effects.
    each = [
        special.nctdtr(_MANY - 1, effect / projected_error(statistic, _MANY, factor), critical)
        <= 1 - power
        for factor in factors(statistic.n)
    ]
    return _first(each[0]), _first(each[1]), _first(each[2])


def _first(enough: NDArray[np.bool_]) -> int | None:
    return int(_MANY[enough][0]) if enough.any() else None


def needed(item: SettingStability) -> tuple[Needed, ...]:
    """For every quantity of a setting and the widths asked about."""
    found = []
    for (cell, name), quantity in item.quantities.items():
        if name in QUANTITIES and quantity.known:
            found += needed_for(item.setting, cell, name, quantity)
    return tuple(found)


def needed_for(
    setting: str,
    cell: str,
    name: str,
    quantity: Quantity,
    goal: str = "width",
    targets: Sequence[float] | None = None,
) -> list[Needed]:
    """Of one quantity: the usual widths, or `targets` of either goal."""
    goals = TARGETS.get(name, USUAL_TARGETS) if targets is None else targets
    here = (setting, cell, name, goal)
    if quantity.statistic is None or quantity.n < LEAST_SEEDS or np.isnan(quantity.width):
        note = FEW if quantity.n < LEAST_SEEDS else quantity.note or "it has no interval"
        return [Needed(*here, NAN, None, None, None, quantity.n, quantity.width, note)]
    of = for_width if goal == "width" else for_difference
    return [
        Needed(*here, target, *of(quantity.statistic, target), quantity.n, quantity.width)
        for target in goals
    ]


def needed_table(items: Sequence[Needed]) -> pd.DataFrame:
    """The table of seeds needed: one row per setting, cell, quantity, goal and target."""
    columns = [
        "setting", "cell", "quantity", "goal", "target", "seeds_low", "seeds", "seeds_high",
        "seeds_here", "width_here", "note",
    ]  # fmt: skip
    frame = pd.DataFrame(list(items), columns=columns)
    return frame.astype(dict.fromkeys(("seeds_low", "seeds", "seeds_high"), "Int64"))


class WidthCurve(NamedTuple):
    """Widths of a quantity's 95% interval at several numbers of seeds.

    seeds (k,); width, low, high (k,): projected, and were the variance as small or large as it
    may be; measured at the seeds there are, `now`. targets: a width to the seeds it takes.
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
    """Curves of one setting's quantities; those with fewer than LEAST_SEEDS seeds have none."""
    return tuple(
        width_curve(item.setting, cell, name, quantity)
        for (cell, name), quantity in item.quantities.items()
        if name in QUANTITIES and quantity.known and quantity.n >= LEAST_SEEDS
    )


def width_curve(setting: str, cell: str, name: str, quantity: Quantity) -> WidthCurve:
    """The curve of one quantity, which needs at least LEAST_SEEDS seeds."""
    n, statistic = quantity.n, quantity.statistic
    assert statistic is not None
    seeds = np.array(sorted({*LADDER, n}))
    low, width, high = (projected_width(statistic, seeds, factor) for factor in factors(n))
    now = seeds == n
    for x in (low, width, high):
        x[now] = quantity.width
    found = {x.target: x.seeds for x in needed_for(setting, cell, name, quantity)}
    return WidthCurve(setting, cell, name, seeds, width, low, high, now, n, found)


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
                "source": np.where(c.measured, "here", "projection"),
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
