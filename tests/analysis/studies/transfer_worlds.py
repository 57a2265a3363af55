"""Transfer in simulated studies of known truth: size, bias, power, coverage (docs/transfer.md).

    python -m tests.analysis.studies.transfer_worlds --studies 300 > transfer_worlds.md
    python -m tests.analysis.studies.transfer_worlds --fresh 1000 --seeds 5 --worlds rows

Cells of NAS-Bench-201 (three inner edges, four links of 5 x 5 operations). A seed's logits are its
start plus what the world adds, in logits: a preference for columns, the same in every seed; a
weakening of the start; a preference that grows with p_q; rows; and noise of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.statistics.flow import FlowCell, FlowEdge, FlowLink
from analysis.statistics.transfer import Transfer, transfer

OPERATIONS = tuple("abcde")
LINKS = ((0, None), (1, None), (2, None), (2, 0))
"""Of each link: its inner edge, and the inner edge that is its predecessor (None: an outer one)."""
EDGES = 3
TRUTHS = 3
"""Truths of every world, that is, of what all seeds of a study have in common."""


@dataclass(frozen=True)
class World:
    """What is true in a world; sizes are standard deviations of logits, or logits."""

    noise: float = 0.7
    columns: float = 0.0
    weaker: float = 0.0
    """share of the start's own logits that the optimiser takes away"""
    visited: float = 0.0
    """preference for columns of a row that is visited always"""
    power_of_p: float = 1.0
    """how visits count; other than 1 is a world that no form describes"""
    rows: float = 0.0
    sharp: float = 1.5
    """of p_q's logits; 0.3 is near uniform"""
    common: float = 0.5
    """share of p_q's logits that seeds have in common"""
    uneven: float = 0.0
    """spread over seeds of log strength of all that is common"""
    tails: float = 0.0
    """spread over seeds of the log of the noise, whose entries then have 3 degrees of freedom"""
    noise_by_visits: bool = False
    init: str = "identity"
    own_weight: float = 0.0
    sharing: str = "link"

    @property
    def learns(self) -> bool:
        """Whether seeds learn anything in common."""
        return bool(self.columns or self.weaker or self.visited or self.rows)


def softmax(x: np.ndarray) -> np.ndarray:
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def draw(world: World, n: int, rng: np.random.Generator, truth: int = 0) -> FlowCell:
    """One study of n seeds. truth: which of the world's truths, what all its seeds share."""
    shared = np.random.default_rng(truth)
    k, own = len(OPERATIONS), world.own_weight
    matrices = len(LINKS) if world.sharing == "link" else 1
    beginning = {"identity": 2.0 * np.eye(k), "uniform": np.zeros((k, k)), "random": None}[
        world.init
    ]
    jitter = rng.normal(size=(n, matrices, k, k))
    start = 2.0 * jitter if beginning is None else beginning + 1e-3 * jitter
    outer = world.sharp * (
        world.common**0.5 * shared.normal(size=(1, len(LINKS), k))
        + (1 - world.common) ** 0.5 * rng.normal(size=(n, len(LINKS), k))
    )
    outer = softmax(outer)  # (n, links, k), used where the predecessor is an outer edge
    attention = softmax(0.5 * rng.normal(size=(n, 2)))
    columns = world.columns * shared.normal(size=(matrices, 1, k))
    direction = world.visited * shared.normal(size=(matrices, 1, k))
    rows = world.rows * shared.normal(size=(matrices, k, k))
    rows -= rows.mean(axis=1, keepdims=True)
    noise = rng.normal(size=(n, matrices, k, k))
    if world.tails:
        noise = rng.standard_t(3, size=noise.shape) / 3**0.5
        noise *= np.exp(world.tails * rng.normal(size=(n, 1, 1, 1)))
    strength = np.exp(world.uneven * rng.normal(size=(n, 1, 1, 1)))
    fixed = start + strength * (columns - world.weaker * start + rows)
    flows: list[np.ndarray] = [np.zeros((n, k)) for _ in range(EDGES)]
    p_of: list[np.ndarray] = []
    edges: list[FlowEdge] = []
    links: list[FlowLink] = []
    free = softmax(rng.normal(size=(n, EDGES, k)))
    for number, (edge, before) in enumerate(LINKS):
        p = outer[:, number] if before is None else p_of[before]
        m = number if matrices > 1 else 0
        seen = p if matrices > 1 else outer.mean(axis=1)
        visits = seen[..., None] ** world.power_of_p
        by_visits = np.sqrt(k * seen)[..., None] if world.noise_by_visits else 1.0
        logits = fixed[:, m] + strength[:, 0] * visits * direction[m]
        table = softmax(logits + world.noise * by_visits * noise[:, m])
        w = attention[:, number - 2] if edge == 2 else np.ones(n)
        links.append(FlowLink(edge, softmax(start[:, m]), table, p, w, m))
        flows[edge] = flows[edge] + w[:, None] * np.einsum("nr,nrc->nc", p, table)
        if number in (0, 1, 3):
            p_of.append(own * free[:, edge] + (1 - own) * flows[edge])
            edges.append(FlowEdge(p_of[-1], OPERATIONS))
    return FlowCell(tuple(edges), tuple(links), own, random_start=world.init == "random")


NOTHING = World()
COLUMNS = World(columns=0.7)
DIAGONALS = World(weaker=0.5)
VISITED = World(visited=2.0)
ALL = World(columns=0.7, weaker=0.5, visited=2.0)
ROWS = replace(ALL, rows=0.7)

NULLS: dict[str, World] = {
    "nothing but noise": NOTHING,
    "nothing, heavy-tailed noise": replace(NOTHING, tails=0.7),
    "nothing, uniform start": replace(NOTHING, init="uniform"),
    "nothing, random start": replace(NOTHING, init="random"),
    "columns": COLUMNS,
    "columns, uneven over seeds": replace(COLUMNS, uneven=0.5),
    "columns, uniform start": replace(COLUMNS, init="uniform"),
    "columns, random start": replace(COLUMNS, init="random"),
    "diagonals": DIAGONALS,
    "diagonals, uneven over seeds": replace(DIAGONALS, uneven=0.5),
    "diagonals, random start": replace(DIAGONALS, init="random"),
    "visited rows": VISITED,
    "visited rows, p_q as in other seeds": replace(VISITED, common=0.95, sharp=2.5),
    "visited rows, uniform start": replace(VISITED, init="uniform"),
    "visited rows, as the root of p_q": replace(VISITED, power_of_p=0.5),
    "noise of visited rows": replace(COLUMNS, noise_by_visits=True),
    "all three": ALL,
    "all three, uneven, heavy tails": replace(ALL, uneven=0.5, tails=0.7),
    "all three, own weight 0.3": replace(ALL, own_weight=0.3),
    "all three, one matrix a cell": replace(ALL, sharing="cell"),
    "all three, random start": replace(ALL, init="random"),
    "columns, random start forgotten": replace(COLUMNS, weaker=1.0, init="random"),
    "all three, uniform start": replace(ALL, init="uniform"),
    "all three, p_q near uniform": replace(ALL, sharp=0.3),
    "all three, p_q sharp": replace(ALL, sharp=3.0),
}

PLANTED: dict[str, World] = {
    "rows alone": World(rows=0.7),
    "rows and all three": ROWS,
    "the same, p_q sharp": replace(ROWS, sharp=3.0),
    "the same, p_q near uniform": replace(ROWS, sharp=0.3),
    "the same, heavy tails": replace(ROWS, tails=0.7),
    "the same, own weight 0.3": replace(ROWS, own_weight=0.3),
    "the same, one matrix a cell": replace(ROWS, sharing="cell"),
    "the same, uniform start": replace(ROWS, init="uniform"),
    "the same, random start": replace(ROWS, init="random"),
    "the same, random start forgotten": replace(ROWS, weaker=1.0, init="random"),
    "rows half as strong": replace(ROWS, rows=0.35),
}


@dataclass(frozen=True)
class Outcome:
    """Of one world and n: shares over its studies, and means of ratios."""

    rejected: float
    dependence: float
    columns: float
    covered: float
    columns_covered: float


def outcome(world: World, n: int, studies: int, draws: int = 199, first: int = 0) -> Outcome:
    """Run `studies` studies, a third of them with each of three truths.

    first: number of the first study and of the first truth; another one draws all of them afresh.
    Coverage is of 0 where no rows were planted (of column_transfer: where nothing was learned),
    else of the truth's ratio of expectations at this n.
    """
    found = [
        transfer(draw(world, n, np.random.default_rng([n, i]), first + i % TRUTHS), draws, i)
        for i in range(first, first + studies)
    ]
    dependence, covered = _covered(found, "dependence_transfer", None if world.rows else 0.0)
    columns, columns_covered = _covered(found, "column_transfer", None if world.learns else 0.0)
    rejected = float(np.mean([t.p_value < 0.05 for t in found]))
    return Outcome(rejected, dependence, columns, covered, columns_covered)


def _covered(found: Sequence[Transfer], name: str, truth: float | None) -> tuple[float, float]:
    parts = np.array([t.parts(name) for t in found])  # (studies, 2, n)
    means = parts.mean(axis=2)
    inside = []
    for first in range(TRUTHS):
        above, below = means[first::TRUTHS].mean(axis=0)
        target = above / below if truth is None else truth
        ends = [t.share(name) for t in found[first::TRUTHS]]
        inside += [e.low - 1e-12 <= target <= e.high + 1e-12 for e in ends]
    above, below = means.mean(axis=0)
    return float(above / below), float(np.mean(inside))


def main() -> None:
    """Print the table, a line per world and number of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 8, 10])
    parser.add_argument("--draws", type=int, default=199)
    parser.add_argument("--fresh", type=int, default=0, help="number of the first study and truth")
    parser.add_argument("--worlds", default="", help="only those whose name contains this")
    args = parser.parse_args()
    print("| world | n | p < 0.05 | dependence_transfer | covered | column_transfer | covered |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, world in (NULLS | PLANTED).items():
        for n in args.seeds if args.worlds in name else ():
            o = outcome(world, n, args.studies, args.draws, args.fresh)
            print(
                f"| {name} | {n} | {o.rejected:.1%} | {o.dependence:+.4f} | {o.covered:.1%} "
                f"| {o.columns:+.3f} | {o.columns_covered:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
