"""How good are tunings? Synthetic ones with a known optimum, behind the same `Trials` and `Race`.

    python -m tests.benchmarks.racing --tunings 200
    python -m tests.benchmarks.racing --tunings 40 --worlds kind --sampler gp
    python -m tests.benchmarks.racing --worlds kind --ways 2:8:0.1 2:8:0.3 2:8:0.5 8:8:0

Three log rates, Optuna in memory, no Ray. What a search gives is true value + what its seed adds
(the same for all settings) + noise; a unit is the standard deviation of the true values of the best
quarter of random settings. Worlds, each with an optimum of its own in every tuning:

kind        unimodal, normal noise
heavy       noise is Student's t with 3 degrees of freedom
uneven      noise grows with the distance to the optimum; half of it near there is a smooth function
            of the setting that each seed has of its own
collapse    beyond a bound of the first rate 4 searches in 10 end far below: two modes
flat        all settings are equally good: what is found is luck

Ways START:ALL:CHANCE are races (start = all: flat averaging), with `/random` another sampler; `best
of N` takes the largest mean of trials of N seeds, as one writes in a line. All of them spend at
most the same number of searches, meet the same worlds and begin with the default setting. Regret:
true value of the optimum less that of the setting chosen. Leads are over the default, in brackets
the root of the mean squared error. Confirmation: the chosen setting and the default on 8 seeds that
no trial saw.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import optuna

from analysis.statistics.inference import difference, rate
from analysis.statistics.metrics import t_quantile
from analysis.statistics.seeds import Values
from analysis.statistics.trials import by_merit, lead
from itnas.data import DataSettings
from itnas.settings import Setting
from study.file.searched import Parameter
from study.file.tune import TrialSeeds
from study.tuning.objective import Objective
from study.tuning.racing import Race
from study.tuning.samplers import make_sampler
from study.tuning.space import Space
from study.tuning.trials import Trials

RATES = ("architecture_lr", "transition_lr", "attention_lr")
LOW, HIGH = 1e-3, 1.0
SPACE = Space(
    tuple(Parameter("search", name, "number", LOW, HIGH, True) for name in RATES),
    Setting(),
    DataSettings(),
)
DEFAULT = dict.fromkeys(RATES, (LOW * HIGH) ** 0.5)
FRESH = 8
"""seeds of the confirmation"""
COLLAPSED, OFTEN = -12.0, 0.4
"""of a search that collapsed, and how often one does beyond the bound"""
WORLDS = ("kind", "heavy", "uneven", "collapse", "flat")
CHANCE = TrialSeeds().chance
WAYS = (f"2:8:{CHANCE:g}", "8:8:0", "8:8:0/random", "best of 1", "best of 3")


@dataclass(frozen=True)
class World:
    """One synthetic tuning. noise, seed_effect: standard deviations in units of the spread."""

    name: str
    tuning: int
    noise: float = 1.0
    seed_effect: float = 1.0

    @cached_property
    def optimum(self) -> np.ndarray:
        """(3,), in the unit cube."""
        return np.random.default_rng([self.tuning, 1]).uniform(0.2, 0.8, 3)

    @cached_property
    def scale(self) -> float:
        """Of squared distances, so that the true values of good settings have a spread of 1."""
        at = np.random.default_rng(0).uniform(size=(4096, 3))
        square = np.sort(((at - self.optimum) ** 2).sum(axis=1))
        return 1 / float(square[: len(square) // 4].std())

    def place(self, values: dict) -> np.ndarray:
        """(3,), of a trial's values in the unit cube."""
        return np.log([values[name] / LOW for name in RATES]) / np.log(HIGH / LOW)

    def loss(self, at: np.ndarray) -> float:
        """How far below the optimum a search is that did not collapse."""
        return 0.0 if self.name == "flat" else self.scale * float(((at - self.optimum) ** 2).sum())

    def risk(self, at: np.ndarray) -> float:
        """Probability that a search collapses."""
        return OFTEN if self.name == "collapse" and at[0] > self.optimum[0] + 0.1 else 0.0

    def true(self, values: dict) -> float:
        """The mean over all seeds there are, less what they add; 0 at the optimum."""
        at = self.place(values)
        risk = self.risk(at)
        return -(1 - risk) * self.loss(at) + risk * min(COLLAPSED, -self.loss(at))

    def search(self, values: dict, seed: int) -> float:
        """What a search gives: always the same of a setting and a seed."""
        at = self.place(values)
        rng = np.random.default_rng([self.tuning, seed, *at.view(np.uint32)])
        of_seed = np.random.default_rng([self.tuning, 2, seed])
        added = self.seed_effect * float(of_seed.normal())
        loss, noise = self.loss(at), float(rng.normal())
        if self.name == "heavy":
            noise = float(rng.standard_t(3)) / 3**0.5
        if self.name == "uneven":
            waves, phases = of_seed.normal(0, 3, (16, 3)), of_seed.uniform(0, 2 * np.pi, 16)
            smooth = float(np.cos(waves @ at + phases).sum()) / 8**0.5
            noise = 0.5**0.5 * ((1 + loss / 4) * noise + smooth)
        if rng.uniform() < self.risk(at):
            loss = max(-COLLAPSED, loss)
        return added - loss + self.noise * noise


@dataclass(frozen=True)
class Way:
    """How searches are spent, and how a setting is chosen."""

    name: str
    race: Race
    sampler: str
    naive: bool

    @staticmethod
    def of(text: str, sampler: str) -> Way:
        """See the module's docstring."""
        spent, _, other = text.partition("/")
        if text.startswith("best of "):
            n = int(spent.removeprefix("best of "))
            return Way(text, Race(n, n, 0.0), other or sampler, True)
        start, every, chance = spent.split(":")
        return Way(text, Race(int(start), int(every), float(chance)), other or sampler, False)


@dataclass(frozen=True)
class Outcome:
    """Of one tuning. lead: true lead of the chosen setting over the default; own: the same on the
    tuning's own seeds; merit: by shrunken means; shrunk: by those among the trials with all seeds;
    low, high: the confirmation's interval, NaN where the default was chosen; loudest: regret of the
    largest mean, which Optuna calls best.
    """

    regret: float
    loudest: float
    trials: float
    searches: float
    lead: float
    own: float
    merit: float
    shrunk: float
    low: float
    high: float


def tune(world: World, way: Way, budget: int) -> tuple[Trials, int]:
    """Trials of a tuning that has spent its searches, and how many they are."""
    rows: dict[tuple, dict] = {}

    def known(values: dict) -> dict:
        return rows.setdefault(tuple(values.values()), {})

    trials = Trials(
        optuna.create_study(direction="maximize"), SPACE, Objective(("derived_accuracy",)),
        way.race, known, lambda n: make_sampler(way.sampler, 1000 * world.tuning + n, 10), DEFAULT,
    )  # fmt: skip
    trials.begin(budget)
    spent = 0
    while (ask := trials.next()) is not None and spent + len(ask.seeds) <= budget:
        for seed in ask.seeds:
            known(ask.values)[seed] = {
                "run_id": f"{ask.number}-{seed}", "pack_id": str(ask.number), "status": "complete",
                "architecture_displacement": 1.0,
                "derived_accuracy": world.search(ask.values, seed),
            }  # fmt: skip
        spent += len(ask.seeds)
        trials.went_on(ask.number)
    return trials, spent


def outcome(world: World, way: Way, budget: int) -> Outcome:
    """Tune, choose and confirm."""
    trials, spent = tune(world, way, budget)
    found = trials.finished
    loudest = max(found, key=lambda n: found[n].told[0])
    by_seed = {n: t.by_seed for n, t in found.items()}
    best = loudest if way.naive else trials.incumbent
    chosen, merits = found[best].values, dict(by_merit(by_seed, {}))
    fresh = [1000 + seed for seed in range(FRESH)]
    pair = [[world.search(v, seed) for seed in fresh] for v in (chosen, DEFAULT)]
    confirmed = difference(Values(pair[0]), Values(pair[1]))
    return Outcome(
        -world.true(chosen), -world.true(found[loudest].values), len(found), spent,
        world.true(chosen) - world.true(DEFAULT),
        float(np.nanmean(by_seed[best] - by_seed[0])), merits[best] - merits[0],
        lead(by_seed, best, 0),
        confirmed.low, confirmed.high,
    )  # fmt: skip


def outcomes(worlds: list[World], way: Way, budget: int) -> dict[str, np.ndarray]:
    """(tunings,) of each field of `Outcome`."""
    found = [outcome(world, way, budget) for world in worlds]
    return {f.name: np.array([getattr(o, f.name) for o in found]) for f in fields(Outcome)}


def interval(x: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95% interval, Student's."""
    half = float(t_quantile(len(x) - 1)) * float(x.std(ddof=1)) / len(x) ** 0.5
    return float(x.mean()), float(x.mean()) - half, float(x.mean()) + half


HEADER = """\
| way | regret | less that of the first | largest mean | trials | searches | true lead | on its \
own seeds | shrunken | among whole trials | covered | above 0 | below 0 | default kept |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def line(way: Way, found: dict[str, np.ndarray], first: dict[str, np.ndarray]) -> str:
    """A row of the table."""
    off = "" if found is first else "{:+.2f} ({:+.2f}..{:+.2f})".format(
        *interval(found["regret"] - first["regret"]))  # fmt: skip
    known = np.isfinite(found["low"])
    low, high, true = (found[name][known] for name in ("low", "high", "lead"))
    covered = rate((low <= true) & (true <= high))

    def error(name: str) -> float:
        return float(((found[name] - found["lead"]) ** 2).mean() ** 0.5)

    cells = [
        way.name, f"{found['regret'].mean():.2f}", off, f"{found['loudest'].mean():.2f}",
        *(f"{found[name].mean():.0f}" for name in ("trials", "searches")),
        f"{found['lead'].mean():.2f}",
        *(f"{found[name].mean():.2f} ({error(name):.2f})" for name in ("own", "merit", "shrunk")),
        f"{covered.estimate:.1%} ({covered.low:.1%}..{covered.high:.1%})",
        f"{(low > 0).sum() / known.size:.1%}", f"{(high < 0).sum() / known.size:.1%}",
        f"{1 - known.mean():.1%}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tunings", type=int, default=200)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=WORLDS)
    parser.add_argument("--ways", nargs="+", default=WAYS, metavar="WAY")
    parser.add_argument("--sampler", choices=("tpe", "gp", "random"), default="tpe")
    parser.add_argument("--searches", type=int, default=160, help="of a tuning, at most")
    parser.add_argument("--noise", type=float, default=1.0, help="in units of the spread")
    parser.add_argument("--seed-effect", type=float, default=1.0, help="in units of the spread")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name in args.worlds:
        print(f"\n{name} (n = {args.tunings} tunings, {args.sampler})\n\n{HEADER}", flush=True)
        worlds = [World(name, n, args.noise, args.seed_effect) for n in range(args.tunings)]
        first = None
        for text in args.ways:
            way, began = Way.of(text, args.sampler), time.perf_counter()
            found = outcomes(worlds, way, args.searches)
            first = first or found
            seconds = (time.perf_counter() - began) / args.tunings
            print(line(way, found, first), f"{seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
