"""From a study file with `tune:` to runs: a trial's values as a setting, its seeds as runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from itnas.data import ImageData
from itnas.settings import EngineSettings, Seeds, Setting
from study.errors import StudyError
from study.file.grid import Run, StudySetting, study_setting
from study.file.identity import data_identity
from study.file.schema import StudyFile
from study.file.seeds import PARTS, compact
from study.file.tune import TrialSeeds, Tune, seeds_of_trials
from study.tuning.racing import Race
from study.tuning.space import Space, Values

MOST_CORNERS = 256
"""combinations of choices and ends of ranges that are tried before anything runs"""


@dataclass(frozen=True)
class TuningPlan:
    """What a tuning is of. Nothing here changes while it goes on."""

    file: StudyFile
    tune: Tune
    data: ImageData
    space: Space
    seeds: tuple[Seeds, ...]
    """all seeds that a trial may have, in order"""
    spent: TrialSeeds

    @cached_property
    def race(self) -> Race:
        """How seeds are spent."""
        return Race(self.spent.start or self.spent.all, self.spent.all, self.spent.chance)

    @cached_property
    def default(self) -> StudySetting:
        """The study file's own setting."""
        return self._settings({})

    @cached_property
    def default_values(self) -> Values:
        """Of the parameters, in the default setting."""
        return self.space.default(self.default.setting)

    @cached_property
    def first_values(self) -> Values:
        """Of trial 0: the default setting's, or the nearest that are searched."""
        return self.space.nearest(self.default_values)

    @property
    def searches_default(self) -> bool:
        """Whether the default setting is among those that are searched."""
        return self.setting(self.first_values).setting_id == self.default.setting_id

    def notices(self) -> list[str]:
        """What a user should know before it begins: where trial 0 is not the default."""
        if self.searches_default:
            return []
        default, first = self.default_values, self.first_values
        told = ", ".join(
            f"{name} {value}" + (f" instead of {default[name]}" if name in default else "")
            for name, value in first.items()
            if value != default.get(name)
        )
        return [f"tune: the default setting is not among those that are searched; trial 0: {told}"]

    def setting(self, values: Values, number: int | None = None) -> StudySetting:
        """The setting of a trial. `ValueError` where values do not go together."""
        key = repr(sorted(values.items()))
        if key not in self._known:
            self._known[key] = self._settings(values)
        one = self._known[key]
        return one if number is None else replace(one, name=f"{self.default.name} trial={number}")

    @cached_property
    def _known(self) -> dict[str, StudySetting]:
        return {}

    def _settings(self, values: Values) -> StudySetting:
        changes = self.space.data_changes(values)
        data = self.data
        if changes:
            data = replace(data, settings=replace(data.settings, **changes))
        identity = data_identity(data, self._content)
        swept = [key for key in self.file.grid if key != "dependence"]
        setting = self.space.setting(values)
        one = study_setting(setting, data, identity, self._engine, swept)
        return replace(one, data=tuple(sorted(changes.items())))

    @cached_property
    def _content(self) -> str:
        return self.data.content_hash()

    @cached_property
    def _engine(self) -> EngineSettings:
        return self.file.engine_settings()

    def runs(self, one: StudySetting, seeds: Sequence[Seeds]) -> list[Run]:
        """Runs of a setting."""
        return [Run(one.run_id(seed), one, seed) for seed in seeds]

    def run_ids(self, values: Values) -> list[str]:
        """Of a trial's values with all seeds, in their order."""
        key = repr(sorted(values.items()))
        if key not in self._ids:
            self._ids[key] = [run.run_id for run in self.runs(self.setting(values), self.seeds)]
        return self._ids[key]

    @cached_property
    def _ids(self) -> dict[str, list[str]]:
        return {}

    def fresh(self, count: int, after: int = 0) -> tuple[Seeds, ...]:
        """Seeds that no trial sees; `after`: of which so many are left out."""
        first = 1 + max(max(vars(one).values()) for one in self.seeds) + after
        return tuple(Seeds.all(first + n) for n in range(count))

    def fresh_seeds_text(self, after: int) -> Any:
        """As many seeds as a trial has, as a study file says them; fresh ones, as above."""
        first = self.fresh(1, after)[0].weights
        if all(len(set(vars(s).values())) == 1 for s in self.seeds):
            return compact(list(range(first, first + len(self.seeds))))
        return {
            part: compact(list(range(first, first + len({getattr(s, part) for s in self.seeds}))))
            for part in PARTS
        }

    def identity(self, folder: str) -> dict[str, Any]:
        """What trials must have in common to be compared; written into Optuna's study."""
        judged = {"tune.objective": list(self.tune.objectives), "tune.aggregate": self.tune.penalty}
        if self.file.benchmark is not None and "benchmark_valid" in self.tune.objectives:
            judged["benchmark"] = self.file.benchmark.model_dump()
        searched = {f"tune.{p.name}": p.plain() for p in self.space.parameters}
        spent = {
            "seeds": [list(vars(seed).values()) for seed in self.seeds],
            "tune.seeds.start": self.race.start,
            "tune.seeds.chance": self.race.chance,
        }
        return {
            "folder": folder if self.tune.storage is not None else "",
            "setting": self.default.normal,
            "searched": searched,
            "judged": judged,
            "spent": spent,
        }

    def check(self) -> None:
        """Try the ends of all ranges and all choices, as far as they are not too many.

        `StudyError` where some do not go together, such as a batch that is larger than the data.
        """
        names = [one.name for one in self.space.parameters]
        corners = itertools.product(*(one.ends for one in self.space.parameters))
        for corner in itertools.islice(corners, MOST_CORNERS):
            values = self.space.read(dict(zip(names, corner, strict=True))) or {}
            try:
                self.setting(values)
            except ValueError as error:
                told = ", ".join(f"{name}: {value}" for name, value in values.items())
                raise StudyError(f"tune: {{{told}}} cannot be run: {error}") from None


def plan_tuning(file: StudyFile, data: ImageData) -> TuningPlan:
    """What a study file tunes. `StudyError` where it tunes nothing, or more than one setting."""
    tune = file.tune
    if tune is None or not tune.parameters:
        raise StudyError(
            "tune: nothing is searched; give a range to a key of search or dependence, such as "
            "architecture_lr: [0.003, 0.3]"
        )
    points = file.grid_points()
    if len(points) != 1:
        raise StudyError(f"grid: {len(points)} settings; tune searches around exactly one")
    dependence, search = points[0].settings
    base = Setting(file.space, search, dependence)
    space = Space(tuple(tune.parameters.values()), base, file.data)
    try:
        seeds, spent = seeds_of_trials(tune, file.seeds)
        plan = TuningPlan(file, tune, data, space, tuple(seeds), spent)
        _ = plan.default
    except ValueError as error:
        raise StudyError(*dict.fromkeys(str(error).splitlines())) from None
    plan.check()
    return plan
