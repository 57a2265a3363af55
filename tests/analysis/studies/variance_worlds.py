"""How often the intervals of variance shares hold the truth, in simulated studies.

    python -m tests.analysis.studies.variance_worlds [--studies 1000] [--methods ...] [--worlds ...]

Four intervals of a share are compared: `pivots` (that of `analysis.statistics.variance`),
`bootstrap` (percentiles of studies drawn from the estimates), `jackknife` (leaving out each level
of each seed, Student's t with the least freedom) and `satterthwaite` (F of the
component over the rest, each with Satterthwaite's freedom).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.statistics import variance
from analysis.statistics.metrics import Array

NAMES = ("setting", "seed_weights", "seed_data", "seed_architecture")
SOURCES = (*NAMES, *(f"setting:{seed}" for seed in NAMES[1:]), "residual")
# Which factors (setting, weights, data, architecture) an effect belongs to, and its variance.
Effects = Mapping[tuple[int, ...], float]
MIXED: Effects = {
    (0,): 1.0, (1,): 0.5, (2,): 0.25, (3,): 0.25, (0, 1): 0.25, (0, 2): 0.25, (0, 3): 0.25,
    (1, 2): 0.25, (1, 2, 3): 0.25, (0, 1, 2, 3): 0.5,
}  # fmt: skip


class World(NamedTuple):
    """Effects, normal or Student's t with 4 degrees; runs missing; what a setting multiplies."""

    effects: Effects
    heavy: bool = False
    missing: float = 0.0
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)


WORLDS = {
    "normal": World(MIXED),
    "heavy tails": World(MIXED, heavy=True),
    "no setting, no weights": World(MIXED | {(0,): 0.0, (1,): 0.0, (0, 1): 0.0}),
    "one seed decides": World({(1,): 4.0, (0,): 0.2, (0, 1): 0.2, (0, 1, 2, 3): 0.2}),
    "interactions only": World({(0, 1): 1.0, (0, 1, 2, 3): 0.2}),
    "seeds act together": World({(1, 2): 1.0, (1, 3): 1.0, (0, 1, 2, 3): 0.5}),
    "15% of runs missing": World(MIXED, missing=0.15),
    "settings of unequal spread": World(MIXED, scale=(1.0, 0.5, 0.25)),
    "one setting alone varies": World(MIXED, scale=(1.0, 0.0, 0.0)),
}
DESIGNS = ((3, 4, 4, 3), (3, 5, 5, 4), (1, 4, 4, 3), (1, 5, 5, 4))
Labels = dict[str, np.ndarray]


def crossing(*sizes: int) -> Labels:
    """Labels of a full cross of settings and seeds."""
    columns = np.array(list(itertools.product(*map(range, sizes)))).T
    return dict(zip(NAMES, columns, strict=True))


def study(rng: np.random.Generator, sizes: tuple[int, ...], world: World) -> tuple[Array, Labels]:
    """One study's values and labels."""
    y = np.zeros(sizes)
    scale = np.array(world.scale * sizes[0])[: sizes[0], None, None, None]
    for where, size in world.effects.items():
        shape = [k if i in where else 1 for i, k in enumerate(sizes)]
        drawn = rng.standard_t(4, shape) / 2**0.5 if world.heavy else rng.normal(size=shape)
        if where == (0,):  # the settings are fixed: their variance is what it is said to be
            drawn = (drawn - drawn.mean()) / (drawn.std(ddof=1) if sizes[0] > 1 else 1.0)
        y = y + size**0.5 * drawn * (1.0 if where == (0,) else scale)
    kept = np.sort(rng.permutation(y.size)[: round(y.size * (1 - world.missing))])
    return y.ravel()[kept], {k: x[kept] for k, x in crossing(*sizes).items()}


def truth(world: World, settings: int) -> dict[str, float]:
    """True shares; with one setting its terms are part of the seeds' and of the residual."""
    found = dict.fromkeys(SOURCES, 0.0)
    scale = np.array(world.scale[:settings])
    within = (scale**2).mean()
    common = (
        within if settings == 1 else np.outer(scale, scale)[~np.eye(settings, dtype=bool)].mean()
    )

    def add(where: tuple[int, ...], size: float) -> None:
        name = ":".join(NAMES[i] for i in where)
        found[name if name in found else "residual"] += size

    for where, size in world.effects.items():
        seeds = tuple(i for i in where if i)
        if settings == 1:
            add(seeds, size * within * bool(seeds))
        elif where == (0,):
            add(where, size)
        elif 0 in where:
            add(where, size * within)
        else:  # what settings scale unequally is an interaction with them
            add(seeds, size * common)
            add((0, *seeds), size * (within - common))
    total = sum(found.values())
    return {name: x / total for name, x in found.items()}


def pivots(y: Array, labels: Labels) -> Array:
    """(8, 2): the package's own."""
    return np.array(list(variance.components(y, labels).intervals.values()))


def _mean_squares(y: Array, labels: Labels) -> tuple[Array, Array, Array]:
    setting, *seeds = labels.values()
    levels = [int(x.max()) + 1 for x in labels.values()]
    found = variance._found(y, setting, np.array(seeds))
    return variance._mean_squares(found, levels, len(y))


def bootstrap(y: Array, labels: Labels) -> Array:
    """(8, 2): shares of studies whose mean squares are drawn about the estimates."""
    squares, freedom, each = _mean_squares(y, labels)
    chi = np.random.default_rng(0).chisquare(np.maximum(freedom, 1), (2000, 2, 2, 2, 2))
    drawn = variance._fold(squares * chi / np.maximum(freedom, 1), (1, 2, 3, 4), superset=-1.0)
    shares = variance._shares(variance._sources(drawn / each))
    return np.percentile(shares, (2.5, 97.5), axis=0).T


def jackknife(y: Array, labels: Labels) -> Array:
    """(8, 2): the sum over seeds of the delete-one-level jackknife variances."""

    def shares(keep: np.ndarray) -> Array:
        c = variance.components(y[keep], {k: x[keep] for k, x in labels.items()}, draws=0)
        return np.array(list(c.shares.values()))

    spread = np.zeros(8)
    for name in NAMES[1:]:
        column = labels[name]
        without = np.array([shares(column != one) for one in np.unique(column)])
        k = len(without)
        spread += (k - 1) ** 2 / k * without.var(axis=0, ddof=1)
    least = min(len(np.unique(labels[name])) for name in NAMES[1:]) - 1
    half = stats.t.ppf(0.975, least) * spread**0.5
    centre = shares(np.ones(y.size, bool))
    return np.clip(np.stack([centre - half, centre + half], axis=1), 0, 1)


def satterthwaite(y: Array, labels: Labels) -> Array:
    """(8, 2): component over the sum of the others as a ratio of scaled chi-squares.

    Both limits are 0 where the estimate is.
    """
    squares, freedom, each = _mean_squares(y, labels)
    used = freedom.ravel() > 0
    used[0] = False
    # Each source as a linear combination of the mean squares.
    basis = np.eye(16).reshape(16, 2, 2, 2, 2)
    weights = variance._sources(variance._fold(basis, (1, 2, 3, 4), superset=-1.0) / each).T
    bounds = []
    for mine in weights:
        parts = [(w * squares.ravel())[used] for w in (mine, weights.sum(axis=0) - mine)]
        (a, p), (b, q) = [
            (x.sum(), max(x.sum() ** 2 / max((x**2 / freedom.ravel()[used]).sum(), 1e-300), 0.1))
            for x in parts
        ]
        odds = max(a, 0) / max(b, 1e-9) / stats.f.ppf([0.975, 0.025], p, q)
        bounds.append(odds / (1 + odds) if a > 0 else np.array([0.0, 0.0]))
    return np.nan_to_num(np.clip(bounds, 0, 1), nan=1.0)


METHODS: dict[str, Callable[[Array, Labels], Array]] = {
    "pivots": pivots,
    "bootstrap": bootstrap,
    "jackknife": jackknife,
    "satterthwaite": satterthwaite,
}


def coverage(
    method: Callable[[Array, Labels], Array],
    world: World,
    sizes: tuple[int, ...],
    studies: int,
) -> tuple[Array, Array]:
    """(8,) how often the interval of each source holds the truth, and its median width."""
    right = np.array(list(truth(world, sizes[0]).values()))
    bounds = np.array(
        [method(*study(np.random.default_rng([i, *sizes]), sizes, world)) for i in range(studies)]
    )
    low, high = np.moveaxis(bounds, -1, 0)
    inside = (low <= right + 1e-9) & (high >= right - 1e-9)
    covered = inside.mean(axis=0)
    if sizes[0] == 1:
        covered[[0, 4, 5, 6]] = np.nan
    return covered, np.median(high - low, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--methods", nargs="+", default=["pivots"], choices=METHODS)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=WORLDS)
    chosen = parser.parse_args()
    print("Coverage in percent (median width), the least covered source of each kind.\n")
    print("| world | settings x seeds | interval | setting | a seed | setting:seed | residual |")
    print("|---|---|---|---|---|---|---|")
    groups = (slice(0, 1), slice(1, 4), slice(4, 7), slice(7, 8))
    for name in chosen.worlds:
        for sizes, method in itertools.product(DESIGNS, chosen.methods):
            covered, width = coverage(METHODS[method], WORLDS[name], sizes, chosen.studies)
            cells = []
            for part in groups:
                if np.isnan(covered[part]).all():
                    cells.append("")
                    continue
                worst = int(np.nanargmin(covered[part]))
                cells.append(f"{100 * covered[part][worst]:.1f} ({width[part][worst]:.2f})")
            size = " x ".join(map(str, sizes))
            print(f"| {name} | {size} | {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
