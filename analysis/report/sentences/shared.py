"""What all sentences share: which settings they are about, and how many are told."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.quantities import used
from analysis.report import text
from analysis.statistics.inference import SMALL_N

MOST_TOLD = 6  # settings or comparisons that are told one by one; the tables have all of them
FEW = 10  # seeds under which it is said what so few cannot show

Frames = Mapping[str, pd.DataFrame]


def compared(settings: pd.DataFrame) -> list[str]:
    """Quantities in which comparisons of these settings are told, the one accuracy first."""
    benchmark = (settings["benchmark_test_n"] > 0).any()
    other = "derived_accuracy" if benchmark else "benchmark_test"
    return [quantity for quantity in used("compared") if quantity != other]


def usable_settings(tables: Frames) -> pd.DataFrame:
    """Settings without reservations: conclusions are about these."""
    return tables["settings"][tables["settings"]["reservations"] == ""]


def placebo_first(tables: Frames, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with those of placebos first: what is told of a transition is told of its control."""
    models = tables["settings"].set_index("setting")["model"]
    rank = frame["setting"].map(models) != "placebo"
    return frame.loc[rank.sort_values(kind="stable").index]


def holding(*sentences: tuple[object, str]) -> list[str]:
    """Those sentences that hold."""
    return [sentence for holds, sentence in sentences if holds]


def first_ones(told: list[str], where: str) -> list[str]:
    """The first sentences, and where the others are."""
    more = len(told) - MOST_TOLD
    return told[:MOST_TOLD] + [f"{more} more are in tables/{where}.csv."] * (more > 0)


def held_back(tables: Frames) -> str:
    """That nothing is concluded from settings with reservations, and why; empty without any."""
    held = tables["settings"][tables["settings"]["reservations"] != ""].to_dict("records")
    why = text.listed(f"“{s['setting']}” ({s['reservations']}; n={s['n']})" for s in held)
    return f"No conclusion is drawn from {why}." if held else ""


def few(tables: Frames) -> str:
    """What stands beside intervals of few seeds; empty where no setting has so few."""
    return SMALL_N * bool((tables["settings"]["n"] < FEW).any())
