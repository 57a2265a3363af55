"""Does PED-ANOVA name the parameter that decides? Synthetic tunings in which one of three does.

    python -m tests.benchmarks.importance --tunings 40 --ways 2:8:0.1 8:8:0 8:8:0/random
    python -m tests.benchmarks.importance --tunings 30 --sampler gp --ways 8:8:0

Tunings and ways are those of `tests.benchmarks.racing` in its kind world, but for what is lost: the
first rate counts 20 times as much as the second, the third not at all; its optimum lies anywhere,
or near the upper end. A share of the trials is the best ones; what they are compared with is all
trials (local), or the whole space of what is searched.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from analysis.compute.importance import best_share
from tests.benchmarks.racing import RATES, Way, World, tune

COUNTS = np.array([2.0, 0.1, 0.0])
"""how much the squared distance to the optimum counts, by rate"""


@dataclass(frozen=True)
class OneDecides(World):
    """edge: the first rate's optimum lies near the upper end."""

    edge: bool = False

    def loss(self, at: np.ndarray) -> float:
        """How far below the optimum a search is."""
        optimum = np.array([0.95, *self.optimum[1:]]) if self.edge else self.optimum
        return self.scale * float(COUNTS @ (at - optimum) ** 2)


def shares(world: World, way: Way, budget: int) -> tuple[int, dict[tuple[str, bool], list[float]]]:
    """Of one tuning: its trials, importances by the best ones' share and what they are against."""
    trials, _ = tune(world, way, budget)
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials.study.get_trials(states=(TrialState.COMPLETE,)))
    n, found = len(study.trials), {}
    for name, share in (("1/10, 5 at least", max(0.1, 5 / n)), ("1/4", 0.25), ("1/2", 0.5),
                        ("the report's", best_share(n))):  # fmt: skip
        for local in (True, False):
            judge = PedAnovaImportanceEvaluator(target_quantile=share, evaluate_on_local=local)
            told = get_param_importances(study, evaluator=judge)
            found[name, local] = [told[rate] for rate in RATES]
    return n, found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tunings", type=int, default=40)
    parser.add_argument("--ways", nargs="+", default=("2:8:0.1", "8:8:0"), metavar="WAY")
    parser.add_argument("--sampler", choices=("tpe", "gp", "random"), default="tpe")
    parser.add_argument("--searches", type=int, default=160, help="of a tuning, at most")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print("| way | optimum | trials | the best | against | named first | shares |\n"
          "|---|---|---|---|---|---|---|")  # fmt: skip
    for text in args.ways:
        for edge in (False, True):
            worlds = [OneDecides("kind", n, edge=edge) for n in range(args.tunings)]
            every = [shares(world, Way.of(text, args.sampler), args.searches) for world in worlds]
            trials = np.mean([n for n, _ in every])
            for name, local in every[0][1]:
                told = np.array([found[name, local] for _, found in every])
                cells = [
                    f"{text} ({args.sampler}, n={args.tunings})", "near the end" if edge else "any",
                    f"{trials:.0f}", name, "trials" if local else "space",
                    f"{(told.argmax(axis=1) == 0).mean():.0%}",
                    " ".join(f"{share:.2f}" for share in told.mean(axis=0)),
                ]  # fmt: skip
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
