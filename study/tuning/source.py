"""Trials' seeds as packs: a `Source` for the queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from study.file.grid import Run
from study.scheduling.progress import Progress
from study.store.registry import Pack
from study.tuning.objective import Row
from study.tuning.plan import TuningPlan
from study.tuning.space import Values
from study.tuning.trials import Ask, Trials

ReadPack = Callable[[str], Sequence[Mapping[str, Any]]]
"""complete rows of one pack"""


class KnownRuns:
    """Rows of the complete runs, by run_id, for whoever asks by a trial's values."""

    def __init__(self, plan: TuningPlan, rows: Sequence[Row]) -> None:
        self.plan = plan
        self.rows: dict[str, Row] = {}
        self.add(rows)

    def add(self, rows: Iterable[Row]) -> None:
        """More rows, or the same ones read again."""
        self.rows |= {row["run_id"]: row for row in rows}

    def __call__(self, values: Values) -> dict[int, Row]:
        """Those of a trial, by place of their seed."""
        return {
            seed: self.rows[run_id]
            for seed, run_id in enumerate(self.plan.run_ids(values))
            if run_id in self.rows
        }


class TuningSource:
    """See above. Runs that two trials share are run once: the later trial waits for them.

    After the last trial `confirm` is asked once for the packs of the confirmation.
    """

    def __init__(
        self, trials: Trials, known: KnownRuns, read: ReadPack, progress: Progress,
        announce: Callable[[list[Run]], Pack], confirm: Callable[[], list[Pack]],
    ) -> None:  # fmt: skip
        """`announce` writes runs down before they begin, and makes a pack of them."""
        self.trials, self.known, self.plan = trials, known, known.plan
        self._read, self._progress = read, progress
        self._announce, self._confirm = announce, confirm
        self._of: dict[str, int] = {}
        """trial of every pack that is out"""
        self._out: dict[str, str] = {}
        """pack of every run that is out"""
        self._held: list[Ask] = []
        """what waits for runs that another trial has out"""
        self._confirming: deque[Pack] | None = None
        self._promised = self.most_left()

    def next(self) -> Pack | None:
        """The seeds that some trial wants now, or a pack of the confirmation."""
        pack = self._next_of_trials()
        self._settle()
        if pack is not None or not self.trials.exhausted:
            return pack
        if self._confirming is None:
            self._confirming = deque(self._confirm())
        return self._confirming.popleft() if self._confirming else None

    def _next_of_trials(self) -> Pack | None:
        while (ask := self.trials.next()) is not None:
            one = self.plan.setting(ask.values, ask.number)
            runs = self.plan.runs(one, tuple(self.plan.seeds[seed] for seed in ask.seeds))
            if any(run.run_id in self._out for run in runs):
                self._held.append(ask)
                continue
            self._settle()
            pack = replace(self._announce(runs), tune_trial=ask.number)
            self._of[pack.pack_id] = ask.number
            self._out |= dict.fromkeys((run.run_id for run in runs), pack.pack_id)
            self._promised = self.most_left()
            return pack
        return None

    @property
    def exhausted(self) -> bool:
        """Enough trials are finished or have failed, and the confirmation has been given."""
        return self.trials.exhausted and self._confirming is not None and not self._confirming

    def ended(self, pack: Pack, complete: bool) -> None:
        """Its trial goes on, ends, or fails with it; so do those that waited for its runs."""
        self._out = {run: name for run, name in self._out.items() if name != pack.pack_id}
        number = self._of.pop(pack.pack_id, None)
        if complete:
            self.known.add(self._read(pack.pack_id))
        if number is not None:
            if complete:
                self.trials.went_on(number)
            else:
                self.trials.failed_for_good(number)
            held, self._held = self._held, []
            for ask in held:
                self.trials.went_on(ask.number)
        self._settle()

    def _settle(self) -> None:
        """Tell the progress of runs that will not be needed."""
        now = self.most_left()
        runs, packs = (before - left for before, left in zip(self._promised, now, strict=True))
        if runs > 0:
            self._progress.fewer(runs, runs * self.plan.default.setting.search.epochs, packs)
        self._promised = now

    def most_left(self) -> tuple[int, int]:
        """Runs that trials may still want and that are not out, at most, in how many packs."""
        race, trials = self.trials.race, self.trials
        runs, packs = (trials.to_begin * n for n in (race.all, race.packs(0)))
        for _, values, _ in trials.open:
            known = self.known(values)
            has = [seed in known or self.plan.run_ids(values)[seed] in self._out
                   for seed in range(race.all)]  # fmt: skip
            runs += has.count(False)
            packs += race.packs(has.index(False)) if not all(has) else 0
        return runs, packs
