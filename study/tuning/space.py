"""What is searched, as Optuna's distributions and as settings of this project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from itnas.data import DataSettings
from itnas.settings import Setting
from study.file.identity import effectless
from study.file.searched import Parameter
from study.file.tune import DECIDING

Values = dict[str, Any]
"""of a trial's parameters that have an effect, by bare name"""


@dataclass(frozen=True)
class Space:
    """Parameters, and the default setting that they change."""

    parameters: tuple[Parameter, ...]
    base: Setting
    """plain: `auto` not resolved, what has no effect at its default"""
    data: DataSettings

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """By name."""
        return {one.name: _distribution(one) for one in self.parameters}

    @cached_property
    def in_order(self) -> tuple[Parameter, ...]:
        """Those first on which it hangs whether others have an effect."""
        deciding = [p for name in DECIDING for p in self.parameters if p.name == name]
        return (*deciding, *(p for p in self.parameters if p.name not in DECIDING))

    @property
    def only_numbers(self) -> bool:
        """Whether nothing is a choice, so that nothing hangs on a choice either."""
        return not any(one.choices for one in self.parameters)

    def suggest(self, trial: optuna.Trial) -> Values:
        """A trial's values, asked for one after another; one without effect is not asked for."""
        return self._filled(lambda one: _ask(trial, one.name, self.distributions[one.name]))

    def read(self, known: Mapping[str, Any]) -> Values | None:
        """Values that a trial has; None where it has not been given all of them."""
        try:
            return self._filled(lambda one: known[one.name])
        except KeyError:
            return None

    def _filled(self, value: Callable[[Parameter], Any]) -> Values:
        """A value of every parameter that has an effect under those before it."""
        values: Values = {}
        for one in self.in_order:
            if self._has_effect(one, values):
                values[one.name] = value(one)
        return values

    def _has_effect(self, one: Parameter, values: Values) -> bool:
        return one.key not in effectless(self.setting(values).dependence)

    def setting(self, values: Values) -> Setting:
        """The default setting with a trial's values; `ValueError` where they do not go together."""
        changed: dict[str, dict[str, Any]] = {"search": {}, "dependence": {}, "data": {}}
        for one in self.parameters:
            if one.name in values:
                changed[one.section][one.name] = values[one.name]
        return replace(
            self.base,
            search=replace(self.base.search, **changed["search"]),
            dependence=replace(self.base.dependence, **changed["dependence"]),
        )

    def data_changes(self, values: Values) -> dict[str, Any]:
        """What a trial changes of `data`."""
        own = (p.name for p in self.parameters if p.section == "data")
        return {name: values[name] for name in own if name in values}

    def default(self, resolved: Setting) -> Values:
        """The default setting's values, `auto` by what it came to in `resolved`."""
        return self._filled(lambda one: self._default_of(one, resolved))

    def _default_of(self, one: Parameter, resolved: Setting) -> Any:
        if not self.is_auto(one) or "auto" in one.choices:
            return self._own(one)
        if one.section == "data":
            return self.data.flips
        return getattr(getattr(resolved, one.section), one.name)

    def is_auto(self, one: Parameter) -> bool:
        """Whether the default setting has `auto` there."""
        return bool(self._own(one) == "auto")

    def _own(self, one: Parameter) -> Any:
        part = self.data if one.section == "data" else getattr(self.base, one.section)
        return getattr(part, one.name)

    def nearest(self, values: Values) -> Values:
        """The values that are searched and are nearest to the default setting's."""
        return self._filled(lambda one: one.nearest(values.get(one.name, one.ends[0])))


def _ask(trial: optuna.Trial, name: str, of: BaseDistribution) -> Any:
    if isinstance(of, CategoricalDistribution):
        return trial.suggest_categorical(name, of.choices)
    if isinstance(of, IntDistribution):
        return trial.suggest_int(name, of.low, of.high, step=of.step, log=of.log)
    assert isinstance(of, FloatDistribution)
    return trial.suggest_float(name, of.low, of.high, step=of.step, log=of.log)


def _distribution(one: Parameter) -> BaseDistribution:
    if one.choices:
        return CategoricalDistribution(one.choices)
    if one.kind == "integer":
        step = 1 if one.step is None else int(one.step)
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=step)
    return FloatDistribution(one.low, one.high, log=one.log, step=one.step)
