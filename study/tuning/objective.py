"""By what trials are judged: from the rows of a trial's runs to the numbers that Optuna is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.statistics.metrics import Array
from analysis.statistics.trials import Judged, judged
from study.file.tune import TRANSFER

Row = Mapping[str, Any]
"""run_id, pack_id, status, architecture_displacement and the objectives of one run"""
Transfer = Callable[[Sequence[str]], float]
"""dependence_transfer of some runs"""

COLUMNS = ("pack_id", "status", "architecture_displacement")


@dataclass(frozen=True)
class Objective:
    """One or two columns of `runs`, all to be large; the second may be `dependence_transfer`."""

    names: tuple[str, ...]
    penalty: float = 0.0
    transfer: Transfer | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read of `runs`."""
        return (*COLUMNS, *(name for name in self.names if name != TRANSFER))

    def judge(self, rows: Sequence[Row]) -> tuple[Judged, tuple[float, ...]]:
        """The first objective, and all of them (NaN where a trial has none)."""
        first = self._of(self.names[0], rows)
        others = [self._other(name, rows) for name in self.names[1:]]
        return first, (first.value, *others)

    def _of(self, name: str, rows: Sequence[Row]) -> Judged:
        return judged(
            [value_of(row, name) for row in rows],
            [_number(row["architecture_displacement"]) for row in rows],
            [row["status"] == "diverged" for row in rows],
            self.penalty,
        )

    def _other(self, name: str, rows: Sequence[Row]) -> float:
        if name != TRANSFER:
            return self._of(name, rows).value
        assert self.transfer is not None
        sound = [row["run_id"] for row in rows if row["status"] != "diverged"]
        return self.transfer(sound)

    def by_seed(self, rows: Mapping[int, Row], seeds: int) -> Array:
        """(seeds,) values of the first objective; NaN where there is none."""
        found = np.full(seeds, np.nan)
        for seed, row in rows.items():
            found[seed] = value_of(row, self.names[0])
        return found


def value_of(row: Row, name: str) -> float:
    """NaN of a run that diverged."""
    return math.nan if row["status"] == "diverged" else _number(row[name])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
