"""How often do 95% intervals hold the truth? Simulated studies of known truth, world by world.

    python -m tests.analysis.studies.coverage [--studies 1000] [--out docs/coverage.md]

A world draws n seeds of one setting: edge probabilities, choices, transition matrices, attention,
accuracies, the three divergences of a transfer. All quantities are computed of every study by the
functions that `analyze` uses. The truth is that of 60 studies of 60 seeds each, taken together.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.statistics import matrices as m
from analysis.statistics.agreement import (
    edge_agreement,
    operation_agreement,
    probability_divergence,
)
from analysis.statistics.inference import (
    Quantity,
    difference,
    interquartile,
    interval,
    of_runs,
    rate,
)
from analysis.statistics.seeds import Agreement, Ratio

OPS = tuple("abcde")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OUTER = np.array([source == 0 for source, _ in EDGES])
SEEDS = (3, 5, 10, 20)


class Study(NamedTuple):
    """n seeds of one setting; arrays have the seeds first."""

    edges: np.ndarray  # (n, 6, 5) probabilities
    choices: np.ndarray  # (n, 6)
    links: np.ndarray  # (n, 4, 5, 5) matrices
    starts: np.ndarray  # (n, 4, 5, 5)
    attention: np.ndarray  # (n, 2, 3)
    accuracy: np.ndarray  # (n,)
    collapsed: np.ndarray  # (n,)
    transfer: np.ndarray  # (n, 3): D of start, columns, full


@dataclass(frozen=True)
class World:
    """How seeds scatter about a truth.

    noise: standard deviation of logits. common: the share of the variance that all parts of a
    seed have in common. tails: degrees of freedom of a seed's own scale (0: all have one).
    other: how many of the seeds have another truth. flips: with which probability an edge's
    choice is another than the truth's (None: it is the largest probability). signal: size of the
    truth. dirichlet: distributions have that concentration about the truth's instead.
    """

    noise: float = 1.0
    common: float = 0.0
    tails: float = 0.0
    other: float = 0.0
    flips: float | None = None
    signal: float = 1.5
    dirichlet: float = 0.0


WORLDS: Mapping[str, World] = {
    "normal": World(),
    "Dirichlet": World(dirichlet=5.0),
    "correlated": World(common=0.5),
    "heavy tails": World(tails=3.0),
    "near 1": World(noise=0.25, flips=0.012),
    "two modes": World(noise=0.5, other=0.5),
    "nothing": World(signal=0.0),
    "outliers": World(noise=0.5, other=0.1),
}
PAIRED = {
    "twice as noisy": (World(noise=0.7), World(noise=1.4)),
    "near 1 against noisy": (WORLDS["near 1"], WORLDS["normal"]),
    "heavy tails against normal": (WORLDS["heavy tails"], WORLDS["normal"]),
    "correlated against Dirichlet": (WORLDS["correlated"], WORLDS["Dirichlet"]),
}


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _truths(shape: tuple[int, ...], key: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.random.default_rng([key, k]).normal(size=shape) for k in (0, 1))  # type: ignore[return-value]


def draw(world: World, rng: np.random.Generator, n: int) -> Study:
    """One study of n seeds."""
    scale = np.ones(n) if not world.tails else (world.tails / rng.chisquare(world.tails, n)) ** 0.5
    mode = (rng.random(n) < world.other).astype(int)
    # An even split between what all parts of a seed share and what is each part's own.
    shared = rng.normal(size=(n, 5))

    def part(shape: tuple[int, ...], key: int) -> np.ndarray:
        truth = world.signal * np.stack(_truths(shape, key))[mode]
        own = rng.normal(size=(n, *shape))
        both = shared[:, : shape[-1]].reshape(n, *(1,) * (len(shape) - 1), shape[-1])
        noise = (1 - world.common) ** 0.5 * own + world.common**0.5 * both
        size = (world.noise * scale).reshape(n, *(1,) * len(shape))
        if world.dirichlet:
            gamma = rng.gamma(world.dirichlet * softmax(truth) + 0.05) + 1e-9
            return gamma / gamma.sum(axis=-1, keepdims=True)
        return softmax(truth + size * noise)

    edges = part((6, 5), 1)
    choices = edges.argmax(axis=-1)
    if world.flips is not None:
        right = np.stack(_truths((6, 5), 1))[mode].argmax(axis=-1)
        wrong = rng.random((n, 6)) < world.flips
        choices = np.where(wrong, (right + rng.integers(1, 5, (n, 6))) % 5, right)
    starts = softmax(2 * np.eye(5) + 1e-3 * rng.normal(size=(n, 4, 5, 5)))
    accuracy = 0.9 - 0.3 * mode + 0.02 * world.noise * scale * rng.normal(size=n)
    d_start = 0.02 * scale * rng.gamma(9, 1 / 9, n)
    d_columns = d_start * rng.beta(12, 8, n)
    d_full = d_columns - d_start * (0.1 + 0.1 * rng.normal(size=n))  # rows may mislead
    return Study(
        edges, choices, part((4, 5, 5), 2), starts, part((2, 3), 3),
        accuracy, mode == 1, np.stack([d_start, d_columns, d_full], axis=1),
    )  # fmt: skip


def _kept(choices: np.ndarray) -> list[frozenset[tuple[int, int, str]]]:
    return [frozenset((*e, OPS[c]) for e, c in zip(EDGES, row, strict=True)) for row in choices]


def _links(stack: np.ndarray) -> list[np.ndarray]:
    return list(np.moveaxis(stack, 1, 0))


def _learned(s: Study) -> list[np.ndarray]:
    return m.learned(_links(s.links), _links(s.starts))


def _of_edges(edges: np.ndarray, keep: np.ndarray | slice) -> Quantity:
    some = _links(edges[:, keep])
    return probability_divergence(some, [OPS] * len(some), draws=0)


QUANTITIES: Mapping[str, Callable[[Study], Quantity]] = {
    "operation_agreement": lambda s: operation_agreement(s.choices, [OPS] * 6, draws=0),
    "operation_agreement_inner": lambda s: operation_agreement(
        s.choices[:, ~OUTER], [OPS] * 3, draws=0
    ),
    "operation_agreement_outer": lambda s: operation_agreement(
        s.choices[:, OUTER], [OPS] * 3, draws=0
    ),
    "edge_agreement": lambda s: edge_agreement(_kept(s.choices), dict.fromkeys(EDGES, OPS)),
    "probability_divergence": lambda s: _of_edges(s.edges, slice(None)),
    "probability_divergence_inner": lambda s: _of_edges(s.edges, ~OUTER),
    "transition_divergence": lambda s: m.transition_divergence(
        _links(s.links), _links(s.edges[:, [0, 0, 1, 2]])
    )[0],
    "dependence_stability": lambda s: m.dependence_stability(_links(s.links), draws=0)[0],
    "learned_dependence_stability": lambda s: m.dependence_stability(_learned(s), draws=0)[0],
    "link_specificity": lambda s: m.link_specificity(_links(s.links), [(OPS, OPS)] * 4, draws=0),
    "attention_agreement": lambda s: m.attention_agreement(_links(s.attention), draws=0),
    "dobrushin_coefficient": lambda s: m.dobrushin_coefficient(_links(s.links)),
    "accuracy": lambda s: of_runs(s.accuracy),
    "accuracy_iqm": lambda s: interquartile(s.accuracy),
    "collapse_rate": lambda s: rate(s.collapsed),
    "dependence_transfer": lambda s: interval(
        Ratio(s.transfer[:, 1] - s.transfer[:, 2], s.transfer[:, 0])
    ),
    "column_transfer": lambda s: interval(
        Ratio(s.transfer[:, 0] - s.transfer[:, 1], s.transfer[:, 0])
    ),
}
DISCRETE = ("operation_agreement", "edge_agreement", "collapse_rate")
"""Made of choices: covered more often than 98% where nearly all seeds choose the same."""


@cache
def population(world: World, name: str, studies: int = 60, n: int = 60) -> float:
    """The quantity of all seeds of a world, from `studies` of n each, with other random numbers."""
    kinds = [QUANTITIES[name](s).statistic for s in large(world, studies, n)]
    first = kinds[0]
    if name == "accuracy_iqm":
        x = np.sort(draw(world, np.random.default_rng(5), 20_000).accuracy)
        return float(x[5_000:15_000].mean())
    if isinstance(first, Agreement):
        # Pairs of different seeds only: what is left of kappa with ever more seeds.
        matched = np.mean([k.matched_mean for k in kinds])
        if first.chance is None:
            return float(matched)
        return float(1 - matched / np.mean([Agreement(k.chance).estimate for k in kinds]))
    if isinstance(first, Ratio):  # of `Values`, the mean itself
        sums = [(k.numerator.mean(), k.denominator.mean()) for k in kinds]
        return float(np.divide(*np.mean(sums, axis=0)))
    raise TypeError(name)


@cache
def large(world: World, studies: int, n: int) -> list[Study]:
    return [draw(world, np.random.default_rng([11, i]), n) for i in range(studies)]


class Covered(NamedTuple):
    """Shares of the studies: truth inside, no interval; and the interval's median width."""

    inside: float
    none: float
    width: float


def covered(found: list[Quantity], truth: float) -> Covered:
    with_one = [q for q in found if np.isfinite(q.low)]
    # Where truth lies on a limit, rounding is no miss.
    inside = [q.low - 1e-9 <= truth <= q.high + 1e-9 for q in with_one]
    width = float(np.median([q.width for q in with_one])) if with_one else np.nan
    return Covered(float(np.mean(inside or [np.nan])), 1 - len(with_one) / len(found), width)


def of_world(name: str, n: int, studies: int, names: tuple[str, ...] = ()) -> dict[str, Covered]:
    """Coverage of each quantity in one world."""
    drawn = [draw(WORLDS[name], np.random.default_rng([n, i]), n) for i in range(studies)]
    return {
        q: covered([QUANTITIES[q](s) for s in drawn], population(WORLDS[name], q))
        for q in names or QUANTITIES
    }


def of_difference(
    name: str, n: int, studies: int, names: tuple[str, ...] = ()
) -> dict[str, Covered]:
    """Coverage of the difference of two settings of unlike worlds, quantity by quantity."""
    first, second = PAIRED[name]
    drawn = [
        (
            draw(first, np.random.default_rng([n, i]), n),
            draw(second, np.random.default_rng([n, i, 1]), n),
        )
        for i in range(studies)
    ]
    found = {}
    for q in names or [q for q in QUANTITIES if q not in ("accuracy_iqm", "collapse_rate")]:
        truth = population(first, q) - population(second, q)
        both = [(QUANTITIES[q](a).statistic, QUANTITIES[q](b).statistic) for a, b in drawn]
        known = [(a, b) for a, b in both if a is not None and b is not None]
        found[q] = covered([difference(a, b) for a, b in known], truth)
    return found


def goal(quantity: str, n: int) -> tuple[float, float]:
    """What the share should lie between."""
    if n < 5:
        return 0.0, 1.0
    if n < 10:
        return 0.9, 1.0
    return (0.9, 1.0) if quantity.startswith(DISCRETE) else (0.93, 0.98)


def _table(columns: Mapping[str, Mapping[str, Covered]], n: int) -> list[str]:
    """Quantities as rows; a share below its goal in bold, one above it in italics."""
    lines = [f"| n = {n} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for q in next(iter(columns.values())):
        cells = []
        for of_world in columns.values():
            c, (low, high) = of_world[q], goal(q, n)
            text = "" if np.isnan(c.inside) else f"{100 * c.inside:.1f}"
            mark = "**" if c.inside < low else "*" if c.inside > high else ""
            none = f" ({c.none:.0%} none)" if text and c.none >= 0.005 else ""
            cells.append(f"{mark}{text}{mark}{none}")
        lines.append(f"| `{q}` | " + " | ".join(cells) + " |")
    return [*lines, ""]


HEAD = """# How often 95% intervals hold the truth

Percent of {studies:,} simulated studies in which the interval of n seeds holds the truth:
`python -m tests.analysis.studies.coverage --studies {studies}`. The goal is 90 and more from five
seeds, and 93 to 98 from ten for what is not made of choices. **Below**, *above* (too wide).

Worlds: logits scatter about a truth (*normal*); Dirichlet distributions; half of the variance
common to all parts of a seed (*correlated*); each seed with a noise of its own size, drawn as that
of a t distribution with three degrees of freedom (*heavy tails*); choices that agree with a kappa
of 0.97 on six edges, and little noise (*near 1*); half of the seeds about another truth (*two
modes*, asked from ten seeds); no truth at all (*nothing*, where agreement is 0: there the test
decides, and intervals are too wide); one seed in ten about another truth (*outliers*).

Under the goal by one or two points: skewed quantities in heavy tails at ten seeds, and the
interquartile mean, which is no good summary of two modes at all. From three seeds there is no goal.

**What cannot be covered**: outliers. Five seeds have none of them in 59% of studies, ten in 35%,
and no interval of theirs can know. The report says so beside small n.

"""


def main() -> None:
    """Simulate all cases and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    chosen = parser.parse_args()
    lines = ["## One setting", ""]
    for n in SEEDS:
        lines += _table({w: of_world(w, n, chosen.studies) for w in WORLDS}, n)
    lines += ["## Paired difference of two settings of unlike kinds", ""]
    for n in SEEDS:
        lines += _table({w: of_difference(w, n, chosen.studies) for w in PAIRED}, n)
    chosen.out.write_text(HEAD.format(studies=chosen.studies) + "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
