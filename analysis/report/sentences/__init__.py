"""The report's sentences, made of tables: nothing is said that no number says.

Every sentence carries its n or its interval. No conclusion is drawn from settings with
reservations, which are named, and an interval that holds 0 is never turned into "no difference".
"""

from analysis.report.sentences.settings import (
    accuracy,
    controls,
    dependence,
    genotypes,
    movement,
    seeds,
    stabilities,
    variance,
)
from analysis.report.sentences.shared import Frames, compared, few
from analysis.report.sentences.study import backends, coverage, limits, mixtures
from analysis.report.sentences.tuning import tuning
from analysis.report.sentences.verdict import verdict

__all__ = [
    "Frames",
    "accuracy",
    "backends",
    "compared",
    "controls",
    "coverage",
    "dependence",
    "few",
    "genotypes",
    "limits",
    "mixtures",
    "movement",
    "seeds",
    "stabilities",
    "tuning",
    "variance",
    "verdict",
]
