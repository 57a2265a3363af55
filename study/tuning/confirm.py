"""The confirmation: on seeds that no trial has seen, is the incumbent better than the default?

The best of many noisy means is mostly luck; what chose it cannot say how good it is. So the
incumbent, the two next and the default run again, on the same fresh seeds, and the answer is the
incumbent's paired difference to the default with its 95% interval (Student's t over seeds). The
other two are shown beside it and decide nothing. With two objectives up to three points of the
front stand in for the incumbent and the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.statistics.inference import Quantity, difference, missing
from analysis.statistics.seeds import Values as OfSeeds
from analysis.statistics.trials import front
from itnas.settings import Seeds
from study.file.grid import Expansion, StudySetting
from study.tuning import BESIDE
from study.tuning.objective import Objective, Row, value_of
from study.tuning.plan import TuningPlan
from study.tuning.space import Values
from study.tuning.trials import Trials


@dataclass(frozen=True)
class Candidate:
    """A setting that is confirmed. number: of its trial; None: the default, not searched."""

    number: int | None
    values: Values
    setting: StudySetting

    @property
    def name(self) -> str:
        """As sentences say it."""
        return "the default" if self.number is None else f"trial {self.number}"


@dataclass
class Confirmation:
    """Who is confirmed on which seeds, the default last."""

    plan: TuningPlan
    objective: Objective
    candidates: list[Candidate]
    seeds: tuple[Seeds, ...]
    leads: bool
    """whether the default itself is the incumbent"""
    rows: dict[str, Row] = field(default_factory=dict)
    """complete runs by run_id"""

    @property
    def expansion(self) -> Expansion:
        """As runs of the study."""
        settings = [one.setting for one in self.candidates]
        runs = [run for one in settings for run in self.plan.runs(one, self.seeds)]
        return Expansion(settings, runs, [])

    def run_ids(self, one: Candidate) -> list[str]:
        """Of a candidate, in the seeds' order."""
        return [one.setting.run_id(seed) for seed in self.seeds]

    @property
    def missing(self) -> int:
        """Runs that are not complete."""
        return sum(run.run_id not in self.rows for run in self.expansion.runs)

    def values(self, one: Candidate) -> np.ndarray:
        """(seeds,) of the first objective; NaN where there is none."""
        name = self.objective.names[0]
        rows = (self.rows.get(run_id) for run_id in self.run_ids(one))
        return np.array([math.nan if row is None else value_of(row, name) for row in rows])

    def diverged(self, one: Candidate) -> int:
        """How many of its runs did."""
        rows = (self.rows.get(run_id) for run_id in self.run_ids(one))
        return sum(row is not None and row["status"] == "diverged" for row in rows)

    def difference(self, one: Candidate) -> Quantity:
        """A candidate less the default, over the seeds that both have a value of."""
        own, default = self.values(one), self.values(self.candidates[-1])
        both = np.isfinite(own) & np.isfinite(default)
        if both.sum() < 2:
            return missing("fewer than two seeds", int(both.sum()))
        return difference(OfSeeds(own[both]), OfSeeds(default[both]))

    @property
    def better(self) -> bool:
        """Whether the incumbent is better than the default, all of its runs being sound."""
        if self.leads or self.missing or len(self.candidates) < 2:
            return False
        one = self.candidates[0]
        return self.difference(one).low > 0 and not self.diverged(one)

    @property
    def answer(self) -> str:
        """One sentence, for best.yaml and the report."""
        if self.missing:
            return f"not confirmed: {self.missing} runs of the confirmation are not complete"
        if self.leads:
            return "no better than the default: the default itself has the largest shrunken mean"
        if len(self.candidates) < 2:
            return "no better than the default: no trial is feasible"
        one = self.candidates[0]
        told, worse = self._told(one), self.difference(one).high < 0
        if self.better:
            return f"{one.name} is better than the default: {told}"
        if self.diverged(one):
            return f"no better than the default: of {one.name}, runs diverged; {told}"
        how = "worse" if worse else "no better"
        return f"{how} than the default: {one.name} differs by {told.partition(' ')[2]}"

    def _told(self, one: Candidate) -> str:
        q = self.difference(one)
        name = self.objective.names[0]
        if not q.known:
            return f"{name} unknown ({q.note})"
        if math.isnan(q.low):
            return f"{name} {q.estimate:+.4f} (no interval: {q.note}), n={q.n} paired fresh seeds"
        return (
            f"{name} {q.estimate:+.4f}, 95% interval [{q.low:+.4f}, {q.high:+.4f}], "
            f"n={q.n} paired fresh seeds"
        )

    def lines(self) -> list[str]:
        """Of every candidate but the default, what was found."""
        return [
            "; ".join((f"{one.name}: {self._told(one)}", *self._second(one)))
            for one in self.candidates[:-1]
        ]

    def _second(self, one: Candidate) -> list[str]:
        """The second objective, beside the default's, without an interval."""
        found = []
        for place, name in enumerate(self.objective.names[1:], 1):
            own, default = (
                self.objective.judge([self.rows[run_id] for run_id in self.run_ids(of)])[1][place]
                for of in (one, self.candidates[-1])
            )
            found.append(f"{name} {own:.4f} (default {default:.4f})")
        return found


def confirmation(
    plan: TuningPlan, trials: Trials, count: int, rows: Mapping[str, Row]
) -> Confirmation:
    """Who is to be confirmed on `count` fresh seeds, by the trials that are finished."""
    default = plan.default
    chosen = _points(trials) if len(trials.objective.names) > 1 else _leaders(trials)
    found: dict[str, Candidate] = {}
    own: int | None = None
    for number in chosen:
        values = trials.finished[number].values
        one = plan.setting(values, number)
        if one.setting_id == default.setting_id:
            own = number if own is None else own
        else:
            found.setdefault(one.setting_id, Candidate(number, values, one))
    if own is None and plan.searches_default and 0 in trials.finished:
        own = 0
    last = default if own is None else plan.setting(trials.finished[own].values, own)
    values = {} if own is None else trials.finished[own].values
    leads = bool(chosen) and chosen[0] == own
    others = list(found.values())[: BESIDE if leads else BESIDE + 1]
    candidates = [*others, Candidate(own, values, last)]
    return Confirmation(plan, trials.objective, candidates, plan.fresh(count), leads, dict(rows))


def _leaders(trials: Trials) -> list[int]:
    """The incumbent, then the others by merit."""
    incumbent = trials.incumbent
    others = [number for number, _ in trials.ranked() if number != incumbent]
    return ([] if incumbent is None else [incumbent]) + others


def _points(trials: Trials) -> list[int]:
    """Of the front: the largest first objective, the largest second, the one between them."""
    sound = list(trials.sound.values())
    told = np.array([t.told for t in sound]).reshape(len(sound), -1)
    if not len(sound):
        return []
    points = np.flatnonzero(front(told))
    span = np.ptp(told[points], axis=0)
    scaled = (told[points] - told[points].min(axis=0)) / np.where(span > 0, span, 1.0)
    ends = [points[scaled[:, 0].argmax()], points[scaled[:, 1].argmax()]]
    between = points[np.argsort(-scaled.min(axis=1), kind="stable")]
    chosen: Sequence[int] = list(dict.fromkeys([*ends, *between]))[: BESIDE + 1]
    return [sound[i].number for i in chosen]
