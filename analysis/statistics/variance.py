"""Attribution of variance to the setting, to each seed and to their interactions.

Half the squared difference of two runs is, in expectation, the sum of the variances of what
they do not share. So from pairs of runs that share exactly the setting, exactly one seed, both,
and so on, the components follow by inclusion and exclusion (Koch 1967, Technometrics 9). In a
complete crossing that is analysis of variance by expected mean squares; it needs only squared
distances, so numbers and distributions are treated alike (Anderson 2001), and holes do not bias
it. Interactions of seeds with each other, and of three or four factors, are the residual.

Seeds are random; the settings are those at hand: their component is the variance (divisor: one
less than their number) of what each gives on average over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.metrics import NAN, Array, Ints

SETTING = "setting"
RESIDUAL = "residual"
LEAST_CROSSED = (4, 4, 3)
LEAST_PRESENT = 0.8
NEEDED = "a variance decomposition takes at least 4 x 4 x 3 crossed seeds"
DRAWS = 2000
TAILS = (1.5, 98.5)  # percentiles: beyond 95%, so that heavy tails are covered too


class Components(NamedTuple):
    """Variance by source: `setting`, the seeds, `setting:seed`, and `residual`.

    variances: in the values' unit squared (of distances: in their unit), 0 where they are `below`
    0; shares of their sum, NaN where it is 0, with 95% `intervals` (NaN for distances). n: of runs.
    """

    variances: dict[str, float]
    shares: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    below: tuple[str, ...]
    n: int


def in_every_setting(levels: Mapping[str, ArrayLike]) -> NDArray[np.bool_]:
    """(n,): the runs whose three seeds each occur in every setting; the others share too little."""
    columns = {name: np.asarray(x).ravel() for name, x in levels.items()}
    keep = np.ones(len(next(iter(columns.values()))), bool)
    setting = columns.pop(SETTING, np.zeros(len(keep)))
    for column, one in product(columns.values(), np.unique(setting)):
        keep &= np.isin(column, column[setting == one])
    return keep


def why_not_crossed(levels: Mapping[str, ArrayLike]) -> str | None:
    """None where these runs allow a decomposition, else a sentence that says why not.

    levels: (n,) each: the runs' "setting" (may be missing: one setting) and three seeds under any
    other names. Every setting has to cross `LEAST_CROSSED` seeds that all settings have, in any
    order, with a run for `LEAST_PRESENT` of the combinations. Raises ValueError unless three seeds.
    """
    columns = {name: np.asarray(x).ravel() for name, x in levels.items()}
    everywhere = in_every_setting(columns)
    setting = columns.pop(SETTING, np.zeros(len(everywhere)))
    if len(columns) != 3:
        raise ValueError(f"crossing takes three seeds, not {list(columns)}")
    seeds = np.stack(list(columns.values()), axis=1)
    if not len(seeds):
        return "There is no run, so there is no variance to attribute."
    plain = [name.removeprefix("seed_").removesuffix("_seed") for name in columns]
    twins = [(i, j) for i, j in combinations(range(3), 2) if np.array_equal(*seeds.T[[i, j]])]
    if len(twins) == 3:
        return f"The three seeds are always equal, so their shares cannot be told apart; {NEEDED}."
    if twins:
        pair = " and ".join(plain[i] for i in twins[0])
        return f"The {pair} seeds are always equal, so their shares cannot be told; {NEEDED}."
    present = np.unique(setting)
    ways = (("", np.ones(len(seeds), bool)), (" and in every setting", everywhere))
    for (shared, used), one in product(ways, present):
        where = f" in setting {one}" if len(present) > 1 else ""
        runs = seeds[(setting == one) & used]
        counts = [len(np.unique(column)) for column in runs.T]
        if any(np.sort(counts)[::-1] < LEAST_CROSSED):
            few = [f"{k} {name}" for k, name in zip(counts, plain, strict=True) if k < 4]
            are = "seed is" if len(few) == 1 and few[0].startswith("1 ") else "seeds are"
            return f"Only {' and '.join(few)} {are} crossed{where}{shared}; {NEEDED}."
        share = len(np.unique(runs, axis=0)) / np.prod(counts)
        if share < LEAST_PRESENT:
            told = f"Only {share:.0%} of the {' x '.join(map(str, counts))} combinations of seeds"
            least = f"a variance decomposition takes at least {LEAST_PRESENT:.0%} of them."
            return f"{told}{where} have a run; {least}"
    return None


def components(
    values: ArrayLike, factors: Mapping[str, ArrayLike], draws: int = DRAWS
) -> Components:
    """Variance components of (n,) numbers, or of n objects by their (n, n) SQUARED distances.

    factors: "setting" and three seeds, (n,) labels each, for which `why_not_crossed` finds no
    reason; with one setting its terms are NaN. The mean Jensen-Shannon divergence is a squared
    distance (Endres & Schindelin 2003). Raises ValueError for what is not finite, lengths that
    differ, or distances that are not symmetric. Intervals are percentiles of generalised pivots
    (Weerahandi 1993): each mean square over a chi-square draw of its degrees of freedom; that of
    the settings, which are fixed, over a noncentral one. How often they cover: docs/variance.md.
    """
    y = np.asarray(values, dtype=float)
    codes = {k: np.unique(x, return_inverse=True)[1].ravel() for k, x in factors.items()}
    if not np.isfinite(y).all() or any(len(x) != len(y) for x in codes.values()):
        raise ValueError("values are not finite, or not as many as labels")
    if y.ndim == 2 and not np.allclose(y, y.T, atol=1e-9 * float(np.abs(y).max(initial=0.0))):
        raise ValueError("squared distances are not symmetric")
    setting, seeds = codes.pop(SETTING), np.array(list(codes.values()))
    levels = [int(x.max()) + 1 for x in (setting, *seeds)]
    order = [SETTING, *codes, *(f"{SETTING}:{name}" for name in codes), RESIDUAL]
    found = _found(y, setting, seeds)
    told = _sources(found)
    if levels[0] == 1:
        told[[0, 4, 5, 6]] = NAN
    bounds = np.full((2, len(order)), NAN)
    known = np.isfinite(told)
    if y.ndim == 1 and draws and told[known].any():
        drawn = _sources(_pivots(found, levels, len(y), draws))[:, known]
        held = np.maximum(drawn, 0.0)
        # What is below 0 counts in the rest, or else no share could be found to be 1.
        rest = np.maximum(drawn.sum(axis=1, keepdims=True) - drawn, 0.0)
        share = np.divide(held, held + rest, out=np.zeros_like(held), where=held > 0)
        bounds[:, known] = np.percentile(share, TAILS, axis=0)
    below = [k for k, x in zip(order, told, strict=True) if x < -1e-12 * np.nansum(np.abs(told))]
    variances = dict(zip(order, np.maximum(told, 0.0).tolist(), strict=True))
    shares = dict(zip(order, _shares(told).tolist(), strict=True))
    intervals = dict(zip(order, map(tuple, bounds.T.tolist()), strict=True))
    return Components(variances, shares, intervals, tuple(below), len(y))


def _found(y: Array, setting: Ints, seeds: Ints) -> Array:
    """(2, 2, 2, 2) components of every set of factors: the setting first, then the seeds."""
    halves = _half_differences(y, setting, seeds)  # (2, 2, 2, s, s)
    same = np.nanmean(np.diagonal(halves, axis1=-2, axis2=-1), axis=-1)
    apart = halves[..., ~np.eye(halves.shape[-1], dtype=bool)]
    parts = np.array([np.nanmean(apart, axis=-1) if apart.size else same, same])
    return -_fold(parts, (0, 1, 2, 3), subset=-1.0)


def _half_differences(y: Array, setting: Ints, seeds: Ints) -> Array:
    """Half the mean squared difference of runs of two settings: (2, 2, 2, s, s).

    The first axes say which of the three seeds the two runs share; NaN where no pair does.
    """
    settings = int(setting.max()) + 1
    sums, counts = np.zeros((2, 2, 2, 2, settings, settings))
    for shared in product((0, 1), repeat=3):
        cell = np.unique(seeds * np.array(shared)[:, None], axis=1, return_inverse=True)[1].ravel()
        if y.ndim == 1:
            x = y - y[0]  # exactly 0 where all are equal
            size, first, second = np.zeros((3, settings, cell.max() + 1))
            for total, of_run in ((size, 1.0), (first, x), (second, x**2)):
                np.add.at(total, (setting, cell), of_run)
            sums[shared] = size @ second.T + second @ size.T - 2 * first @ first.T
            counts[shared] = size @ size.T
        else:
            alike, one = (cell[:, None] == cell).astype(float), np.eye(settings)[setting]
            sums[shared], counts[shared] = (one.T @ x @ one for x in (y * alike, alike))
    # From pairs that share at least these seeds to pairs that share no others.
    sums, counts = (_fold(x, (0, 1, 2), superset=-1.0) for x in (sums, counts))
    return np.divide(sums, 2 * counts, out=np.full_like(sums, NAN), where=counts > 0)


def _fold(x: Array, axes: tuple[int, ...], subset: float = 0.0, superset: float = 0.0) -> Array:
    """Sums over subsets or supersets (factor 1), or what inverts them (-1), axis by axis.

    Along each of the axes, of length 2, index 1 is a set with the axis' factor, 0 without.
    """
    for axis in axes:
        without, with_it = np.moveaxis(x, axis, 0)
        x = np.stack([without + superset * with_it, with_it + subset * without], axis)
    return x


def _sources(found: Array) -> Array:
    """(..., 2, 2, 2, 2) components to (..., 8): setting, seeds, their interactions, the rest."""
    flat = found.reshape(*found.shape[:-4], 16)  # the setting's bit is 8, the seeds' 4, 2, 1
    named = flat[..., [8, 4, 2, 1, 12, 10, 9]]
    rest = flat[..., 1:].sum(axis=-1) - named.sum(axis=-1)
    return np.concatenate([named, rest[..., None]], axis=-1)


def _shares(variances: Array) -> Array:
    """Variances (..., 8), those below 0 set to 0, over their sum; NaN stays NaN."""
    held = np.maximum(variances, 0.0)
    total = np.nansum(held, axis=-1, keepdims=True)
    return np.divide(held, total, out=np.full_like(held, NAN), where=total > 0)


def _mean_squares(found: Array, levels: list[int], n: int) -> tuple[Array, Array, Array]:
    """Mean squares, their degrees of freedom, and runs per cell of each effect: (2, 2, 2, 2)."""
    inside = np.array(list(product((False, True), repeat=4))).reshape(2, 2, 2, 2, 4)
    each = np.where(inside, 1, levels).prod(axis=-1)
    freedom = np.where(inside, np.array(levels) - 1, 1).prod(axis=-1).astype(float)
    # Runs that are missing take from interactions; that much covers by simulation.
    freedom[inside.sum(axis=-1) > 1] *= (n / each[0, 0, 0, 0]) ** 2
    own = found * each
    own[0, 0, 0, 0] = 0.0
    return np.maximum(_fold(own, (0, 1, 2, 3), superset=1.0), 0.0), freedom, each


def _pivots(found: Array, levels: list[int], n: int, draws: int) -> Array:
    """Draws of the (2, 2, 2, 2) components that could have given `found`: (draws, 2, 2, 2, 2)."""
    rng = np.random.default_rng(0)
    mean_squares, freedom, each = _mean_squares(found, levels, n)
    chi = rng.chisquare(np.maximum(freedom, 1), (draws, 2, 2, 2, 2))
    drawn = _fold(mean_squares * freedom / chi, (1, 2, 3, 4), superset=-1.0) / each
    if levels[0] > 1:
        index, df = (1, 0, 0, 0), levels[0] - 1
        part = drawn[:, 1] * each[1]
        noise = part.sum(axis=(1, 2, 3)) - part[:, 0, 0, 0]
        noise = np.maximum(noise, np.maximum(part[:, 1, 1, 1], 1e-12 * mean_squares[index]))
        # Sum of squares over noise = (z + a)^2 + chi-square; solved for a^2, the noncentrality.
        z = rng.standard_normal((draws, df))
        rest = df * mean_squares[index] / np.maximum(noise, 1e-300) - (z[:, 1:] ** 2).sum(axis=1)
        far = np.maximum(np.sqrt(np.maximum(rest, 0.0)) - z[:, 0], 0.0) ** 2
        drawn[(slice(None), *index)] = far * noise / (df * each[index])
    return drawn
