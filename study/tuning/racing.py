"""Racing: seeds are spent on trials that may still win.

As in SMAC3's intensifier (Lindauer et al. 2022), with a test in place of its plain comparison. A
trial begins with `start` seeds and is extended by doubling, up to `all`, while it may still win
against the incumbent on the same seeds. With d the mean paired difference to the incumbent over its
n seeds, the mean difference over all N seeds is t-distributed around d with variance
2 s^2 (1/n - 1/N), where s^2 is what of a run is neither its trial's nor its seed's, estimated from
all runs of feasible trials so far. The trial goes on where the probability that it is above 0 is at
least `chance`; where nothing is known of s, it goes on; without any noise, unless d is below 0. The
incumbent is, of the feasible trials with all seeds, the one with the largest shrunken mean (less
the penalty, if any); without one every trial goes on. A trial of which a run diverged, or that
hardly moved, does not go on. How good the rule is, and why `chance` is 0.1: docs/tuning.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.statistics.metrics import Array
from analysis.statistics.trials import residual_variance


@dataclass(frozen=True)
class Race:
    """See above. start = all: every trial has all seeds."""

    start: int
    all: int
    chance: float

    def stage(self, seeds: int) -> int:
        """How many seeds a trial that has so many (complete) has next."""
        return min(max(2 * seeds, self.start), self.all) if seeds else self.start

    def packs(self, seeds: int) -> int:
        """How many more times a trial that has so many seeds may be extended."""
        count = 0
        while seeds < self.all:
            seeds, count = self.stage(seeds), count + 1
        return count

    def may_win(self, own: Array, incumbent: Array, every: Array) -> bool:
        """Whether a trial goes on.

        own, incumbent: (all,), values by seed; NaN where a trial has no run yet. every: (trials,
        all), those of all feasible trials so far.
        """
        both = np.isfinite(own) & np.isfinite(incumbent)
        n = int(both.sum())
        variance, freedom = residual_variance(every)
        if not n or n >= self.all or not freedom:
            return True
        mean = float((own - incumbent)[both].mean())
        error = (2 * variance * (1 / n - 1 / self.all)) ** 0.5
        if error == 0:
            return mean >= 0
        return float(special.stdtr(freedom, mean / error)) >= self.chance
