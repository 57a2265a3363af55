"""Trials: Optuna suggests, a race spends the seeds, Optuna is told. Knows neither Ray nor files.

A trial is asked for seeds, first `start` of them, until it has all or can hardly win (`racing`);
all of it before Optuna is told, since a finished trial cannot change. One that raced out is told
with its mean. What is decided of a trial follows from its rows and from the trials finished before
it, so that a tuning that was killed goes on as if nothing had happened: with one worker the same
suggestions come in the same order.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from analysis.statistics.metrics import Array
from analysis.statistics.trials import by_merit
from study.tuning.objective import Objective, Row
from study.tuning.racing import Race
from study.tuning.space import Space, Values


@dataclass(frozen=True)
class Ask:
    """Seeds of a trial that are to be run."""

    number: int
    values: Values
    seeds: tuple[int, ...]
    """places in the list of all seeds"""


@dataclass
class Finished:
    """A trial that Optuna has been told."""

    number: int
    values: Values
    by_seed: Array
    """(all,), NaN where there is no run"""
    error: float
    """standard error of its mean"""
    told: tuple[float, ...]
    feasible: bool
    run_ids: list[str]
    against: int | None
    raced_out: bool

    @property
    def whole(self) -> bool:
        """Whether it has had all seeds."""
        return len(self.run_ids) == len(self.by_seed)


@dataclass
class _Open:
    number: int
    values: Values
    stage: int
    """seeds it is to have now"""
    against: int | None = None


@dataclass
class Trials:
    """See above.

    rows: complete runs of a trial's values by place of their seed; sampler: of a trial's number;
    default: the values of trial 0.
    """

    study: optuna.Study
    space: Space
    objective: Objective
    race: Race
    rows: Callable[[Values], Mapping[int, Row]]
    sampler: Callable[[int], optuna.samplers.BaseSampler]
    default: Values
    changed: Callable[[], None] = lambda: None
    """called when a trial has begun or ended"""
    finished: dict[int, Finished] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)
    """numbers of trials that failed under this driver"""
    _open: dict[int, _Open] = field(default_factory=dict)
    _ready: deque[Ask] = field(default_factory=deque)
    _left: deque[FrozenTrial] = field(default_factory=deque)
    _wanted: int = 0
    _incumbent: tuple[int, int | None] = (-1, None)
    """number of finished trials it was found of, and it"""

    def read(self) -> None:
        """What earlier drivers finished, and left; changes nothing."""
        self._left.clear()
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.COMPLETE:
                self.finished[trial.number] = self._known(trial)
            elif trial.state == TrialState.RUNNING:
                self._left.append(trial)

    def begin(self, wanted: int) -> None:
        """Take up what an earlier driver left; then give trials until `wanted` are finished."""
        self._wanted = wanted
        self.read()
        if not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(self.default)
        while self._left and len(self.finished) + len(self._left) > wanted:
            self.study.tell(self._left.pop().number, state=TrialState.FAIL)

    def _known(self, trial: FrozenTrial) -> Finished:
        told = trial.user_attrs
        by_seed = np.full(self.race.all, np.nan)
        for seed, value in enumerate(told["values"]):
            by_seed[seed] = np.nan if value is None else value
        error = told["standard_error"]
        return Finished(
            number=trial.number,
            values=dict(trial.params),
            by_seed=by_seed,
            error=math.nan if error is None else error,
            told=tuple(trial.values),
            feasible=max(trial.constraints.values(), default=0.0) <= 0,
            run_ids=told["run_ids"],
            against=told["against"],
            raced_out=told["raced_out"],
        )

    # -- what is asked, and how it went -------------------------------------------------------

    @property
    def exhausted(self) -> bool:
        """Whether enough trials are finished or have failed."""
        return len(self.finished) + len(self.failed) >= self._wanted and not self._open

    def next(self) -> Ask | None:
        """Seeds to be run now: of a trial that goes on, else of one that was left, else of a new
        one. None where there is nothing to run now.
        """
        while not self._ready:
            if not self.to_begin:
                return None
            self._begin(self._left.popleft() if self._left else None)
        return self._ready.popleft()

    def _begin(self, left: FrozenTrial | None) -> None:
        values = None if left is None else self.space.read(left.params)
        if left is None or values is None:
            number, values = self._suggest(left)
        else:
            number = left.number
        self._open[number] = _Open(number, values, self.race.start)
        self.changed()
        self.went_on(number)

    def _suggest(self, left: FrozenTrial | None) -> tuple[int, Values]:
        """Number and values of a new trial, or of one whose driver was killed on the way to them.

        Every trial has a sampler of its own: suggestions are the same, killed or not.
        """
        self.study.sampler = self.sampler(self._next_number() if left is None else left.number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if left is None:
                trial = self.study.ask()
            else:
                trial = optuna.Trial(self.study, left._trial_id)
                _draw_again(self.study, trial, left)
            return trial.number, self.space.suggest(trial)

    def _next_number(self) -> int:
        """Of the trial that Optuna gives next: the default, which waits, or a new one."""
        known = self.study.get_trials(deepcopy=False)
        waiting = (trial.number for trial in known if trial.state == TrialState.WAITING)
        return min(waiting, default=len(known))

    def went_on(self, number: int) -> None:
        """Something has become complete of a trial: ask for more seeds of it, or tell Optuna."""
        one = self._open[number]
        while True:
            known = self.rows(one.values)
            missing = tuple(seed for seed in range(one.stage) if seed not in known)
            if missing:
                self._ready.append(Ask(number, one.values, missing))
                return
            rows = {seed: known[seed] for seed in range(one.stage)}
            if one.stage == self.race.all or not self._goes_on(one, rows):
                self._tell(one, rows)
                return
            one.stage = self.race.stage(one.stage)

    def _goes_on(self, one: _Open, rows: Mapping[int, Row]) -> bool:
        judged, _ = self.objective.judge(list(rows.values()))
        if not judged.feasible:
            return False
        incumbent = self.incumbent
        one.against = incumbent
        if incumbent is None:
            return True
        own = self.objective.by_seed(rows, self.race.all)
        every = [t.by_seed for t in self.sound.values()]
        return self.race.may_win(own, self.finished[incumbent].by_seed, np.array([*every, own]))

    def failed_for_good(self, number: int) -> None:
        """A run of a trial failed for good, so the trial has no value."""
        del self._open[number]
        self._ready = deque(ask for ask in self._ready if ask.number != number)
        self._fail(number)

    def _fail(self, number: int) -> None:
        self.failed.append(number)
        self.study.tell(number, state=TrialState.FAIL)
        self.changed()

    def _tell(self, one: _Open, rows: Mapping[int, Row]) -> None:
        del self._open[one.number]
        judged, values = self.objective.judge(list(rows.values()))
        if not judged.n and not judged.diverged:  # a benchmark without these cells
            self._fail(one.number)
            return
        by_seed = self.objective.by_seed(rows, self.race.all)
        raced_out = one.stage < self.race.all and judged.feasible
        error = judged.standard_error
        found = Finished(one.number, one.values, by_seed, error, self._finite(values),
                         judged.feasible and not np.isnan(values).any(),
                         [row["run_id"] for row in rows.values()], one.against,
                         raced_out)  # fmt: skip
        frozen = self.study.get_trials(deepcopy=False)[one.number]
        trial = _reopened(self.study, frozen)
        plain = [None if math.isnan(v) else v for v in by_seed[: one.stage]]
        trial.set_user_attr("values", plain)
        trial.set_user_attr("standard_error", None if math.isnan(error) else error)
        trial.set_user_attr("run_ids", found.run_ids)
        trial.set_user_attr("pack_ids", list(dict.fromkeys(r["pack_id"] for r in rows.values())))
        trial.set_user_attr("against", one.against)
        trial.set_user_attr("raced_out", raced_out)
        constraints = judged.constraints
        if len(values) > 1:
            constraints["unknown"] = float(np.isnan(values[1:]).sum())
        for name, value in constraints.items():
            if name not in frozen.constraints:
                trial.set_constraint(name, value)
        self.study.tell(one.number, list(found.told))
        self.finished[one.number] = found
        self.changed()

    def _finite(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """What Optuna can be told: of an infeasible trial without a value the lowest there is."""
        return tuple(
            min((t.told[i] for t in self.finished.values()), default=0.0) if math.isnan(v) else v
            for i, v in enumerate(values)
        )

    @property
    def to_begin(self) -> int:
        """Trials that are wanted and have not begun."""
        begun = len(self.finished) + len(self.failed) + len(self._open)
        return max(self._wanted - begun, 0)

    # -- what came of it ----------------------------------------------------------------------

    @property
    def open(self) -> list[tuple[int, Values, int]]:
        """Trials that are not finished: number, values, and seeds that they are to have now."""
        return [(one.number, one.values, one.stage) for one in self._open.values()]

    @property
    def left(self) -> list[tuple[int, Values]]:
        """Trials that an earlier driver left and that have not begun again; those that were killed
        while they were suggested have no values yet.
        """
        return [(trial.number, self.space.read(trial.params) or {}) for trial in self._left]

    @property
    def sound(self) -> dict[int, Finished]:
        """Finished trials that are feasible."""
        return {n: t for n, t in self.finished.items() if t.feasible}

    @property
    def incumbent(self) -> int | None:
        """Of the feasible trials with all seeds the one of the largest merit."""
        if self._incumbent[0] != len(self.finished):
            ranked = self.ranked(whole=True)
            self._incumbent = len(self.finished), ranked[0][0] if ranked else None
        return self._incumbent[1]

    def ranked(self, whole: bool = False) -> list[tuple[int, float]]:
        """Feasible trials and their merits, the best first; `whole`: of those with all seeds.

        Shrinking takes all feasible trials into account.
        """
        sound = self.sound
        ranked = by_merit(
            {n: t.by_seed for n, t in sound.items()},
            {n: t.error for n, t in sound.items()},
            self.objective.penalty,
        )
        return [(n, merit) for n, merit in ranked if not whole or sound[n].whole]


def _draw_again(study: optuna.Study, trial: optuna.Trial, left: FrozenTrial) -> None:
    """What a trial was given before its driver was killed is drawn again, and forgotten, so that
    what the sampler draws next is what it would have drawn.
    """
    fixed = left.system_attrs.get("fixed_params", {})
    for name, of in left.distributions.items():
        if name not in fixed and not of.single() and name not in trial.relative_params:
            study.sampler.sample_independent(study, left, name, of)


def _reopened(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """A running trial as one that can be written to, without asking the sampler for anything."""
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.Trial(study, frozen._trial_id)
