"""How many seeds suffice: the power of comparing two settings by their means over seeds."""

from __future__ import annotations

import math
from typing import Any

from study.errors import StudyError

LEVEL, POWER = 0.05, 0.8
SEED_SPREAD = 0.2
"""points of CIFAR-10 test accuracy between seeds of one setting, as published for DARTS
(97.23 +- .20 over 8 runs against random cells' 96.92 +- .19)"""
FEWEST = 3
"""seeds; two have no spread to speak of (and SciPy no noncentral t)"""
DIFFERENCES = (0.3, 0.2, 0.15, 0.1)


def paired_seeds(difference: float | None, spread: float | None) -> dict[str, float] | None:
    """Seeds a setting that find a difference of two settings' means, paired by seed.

    `spread` is the standard deviation over seeds of the paired difference, in the same unit; a
    two-sided t-test at 5% with 80% power (`solve_power` of statsmodels). None where nothing is
    asked. Raises `StudyError` where one of the two is missing.
    """
    if difference is None and spread is None:
        return None
    if difference is None or spread is None:
        raise StudyError("--difference and --spread belong together")
    from statsmodels.stats.power import TTestPower

    ratio, test = difference / spread, TTestPower()
    seeds = FEWEST
    if test.power(ratio, seeds, LEVEL) < POWER:
        seeds = math.ceil(test.solve_power(effect_size=ratio, alpha=LEVEL, power=POWER))
    return {"difference": difference, "spread": spread, "seeds": seeds}


def seed_power(seeds: int) -> dict[str, Any]:
    """What `seeds` runs a setting can show, by a two-sided t-test at 5% with 80% power.

    `detectable` is the smallest difference of two settings' means, in standard deviations over
    seeds; null for one seed. `needed` gives the seeds a setting for differences in points of
    accuracy at the published spread of 0.2 points.
    """
    from statsmodels.stats.power import TTestIndPower

    test = TTestIndPower()
    detectable = None
    if seeds >= 2:
        found = test.solve_power(nobs1=seeds, alpha=LEVEL, power=POWER)
        detectable = round(float(found), 3)
    needed = {
        f"{difference:g}": math.ceil(
            float(test.solve_power(effect_size=difference / SEED_SPREAD, alpha=LEVEL, power=POWER))
        )
        for difference in DIFFERENCES
    }
    return {"per_setting": seeds, "detectable": detectable, "needed": needed}
