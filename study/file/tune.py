"""`tune:` of a study file: what is searched, by what it is judged, and how seeds are spent."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_serializer, model_validator

from itnas.settings import DependenceSettings, Seeds
from study.file.identity import effectless
from study.file.messages import shown
from study.file.models import Strict
from study.file.searched import Parameter, parameter_of
from study.file.seeds import parse_seeds

ACCURACIES = ("derived_accuracy", "valid_accuracy", "benchmark_valid")
TRANSFER = "dependence_transfer"
TRANSFER_SEEDS = 8
"""seeds that a trial has at least where its transfer is an objective"""
DECIDING = ("model", "attention", "init", "trainable")
"""keys of `dependence` on which it hangs whether others have an effect"""
DEFAULT_SEEDS = 8
"""of a trial, where the study file lists no seeds"""


class TrialSeeds(Strict):
    """Seeds of a trial. The rule of the race is in study/tuning/racing.py."""

    start: Annotated[int, Field(ge=1)] | None = None
    """how many a trial begins with; left out: 2"""
    all: Annotated[int, Field(ge=1, le=1000)] = DEFAULT_SEEDS
    """how many it has at most: it is extended by doubling while it may still win"""
    chance: float = Field(default=0.1, ge=0, le=1)
    """of winning against the incumbent, from which on a trial is extended; 0: always"""

    @model_validator(mode="after")
    def _ordered(self) -> TrialSeeds:
        if self.start is not None and self.start > self.all:
            raise ValueError(f"start: {self.start} is not allowed; at most all ({self.all})")
        return self


class Tune(Strict):
    """What `tune` searches, besides NAME: any key of `search` or `dependence`, or `data.crop`,
    `data.flip` and `data.cutout`.
    """

    parameters: dict[str, Parameter] = Field(default_factory=dict)
    objective: Any = "derived_accuracy"
    """what is maximised, of the holdout part: derived_accuracy, valid_accuracy or benchmark_valid;
    a list of two: a Pareto front, whose second may be dependence_transfer"""
    aggregate: str = "mean"
    """of a trial's seeds: mean, or mean - K * standard error"""
    seeds: TrialSeeds | None = None
    """{start: 2, all: 8}: seeds of a trial, the first ones of the study's; left out: all of those
    are listed there"""
    sampler: Literal["auto", "tpe", "gp", "random"] = "auto"
    """auto: Gaussian process where only numbers are searched, up to 250 trials; else TPE"""
    seed: int = Field(default=0, ge=0)
    """seed of the sampler"""
    startup_trials: int = Field(default=10, ge=1)
    """random suggestions before the sampler's model takes over"""
    storage: str | None = None
    """Optuna's database: a URL that it takes, or journal:PATH; ${NAME} is the environment's, for
    passwords; left out: SQLite in the folder"""

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, raw: Any) -> Any:
        """Names of settings become `parameters`."""
        if not isinstance(raw, dict) or any(isinstance(v, Parameter) for v in raw.values()):
            return raw
        own = cls.model_fields.keys() - {"parameters"}
        given = {key: value for key, value in raw.items() if key in own}
        found: dict[str, Parameter] = {}
        wrong: list[str] = []
        for key, value in raw.items():
            if key in own:
                continue
            try:
                one = parameter_of(str(key), value, [*own])
                if one.name in found:
                    raise ValueError("given twice")
                found[one.name] = one
            except ValueError as error:
                wrong.append(f"{key}: {error}")
        if wrong:
            raise ValueError("\n".join(wrong))
        return given | {"parameters": found}

    @model_serializer(mode="plain")
    def _plain(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in type(self).model_fields}
        found = {name: one.plain() for name, one in own.pop("parameters").items()}
        if self.seeds is not None:
            own["seeds"] = self.seeds.model_dump(exclude_none=True)
        return found | {name: value for name, value in own.items() if value is not None}

    @field_validator("objective")
    @classmethod
    def _objective(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 2:
            first, second = value
            known = first in ACCURACIES and second in (*ACCURACIES, TRANSFER) and first != second
        else:
            known = value in ACCURACIES
        if not known:
            raise ValueError(
                f"{shown(value)} is not allowed; one of {', '.join(ACCURACIES)}, or a list of two "
                f"of them, of which the second may be {TRANSFER}"
            )
        return value

    @field_validator("aggregate")
    @classmethod
    def _aggregate(cls, value: str) -> str:
        if _penalty(value) is None:
            raise ValueError(
                f"{shown(value)} is not allowed; mean, or mean - K * standard error, K above 0"
            )
        return value

    @field_validator("storage")
    @classmethod
    def _storage(cls, value: str | None) -> str | None:
        if value is not None and "://" not in value and not re.match(r"journal:.|\$\{\w", value):
            raise ValueError(f"{shown(value)} is not allowed; a URL such as sqlite:///FILE or "
                             "postgresql://..., or journal:PATH")  # fmt: skip
        return value

    @property
    def objectives(self) -> tuple[str, ...]:
        """One or two."""
        return (self.objective,) if isinstance(self.objective, str) else tuple(self.objective)

    @property
    def penalty(self) -> float:
        """Standard errors that are taken from a trial's mean."""
        return _penalty(self.aggregate) or 0.0


def _penalty(text: str) -> float | None:
    """K of `mean - K * standard error`; 0 of `mean`; None of anything else."""
    number = r"([0-9]+\.?[0-9]*|\.[0-9]+)"
    found = re.fullmatch(rf"\s*mean\s*(-\s*(?:{number}\s*\*\s*)?standard error\s*)?", text)
    if found is None:
        return None
    value = 1.0 if found[1] and not found[2] else float(found[2] or 0)
    return value if math.isfinite(value) and (value > 0 or not found[1]) else None


def seeds_of_trials(tune: Tune, seeds: Any) -> tuple[list[Seeds], TrialSeeds]:
    """All seeds a trial may have, in order, and how they are spent, `start` filled in.

    The first ones of the study's `seeds`; where those are too few, the numbers after them.
    `ValueError` with one line where crossed seeds are too few.
    """
    given = parse_seeds(seeds)
    spent = tune.seeds or TrialSeeds(all=len(given) if len(given) > 1 else DEFAULT_SEEDS)
    if len(given) < spent.all:
        if any(len(set(vars(s).values())) > 1 for s in given):
            raise ValueError(
                f"seeds.all: {spent.all} is not allowed; at most the {len(given)} crossed ones of "
                "`seeds`"
            )
        first = max(s.weights for s in given) + 1
        given += [Seeds.all(first + n) for n in range(spent.all - len(given))]
    start = spent.all if len(tune.objectives) > 1 else spent.start or min(2, spent.all)
    return given[: spent.all], spent.model_copy(update={"start": start})


def dependences(tune: Tune, base: DependenceSettings) -> Iterator[DependenceSettings]:
    """Every combination of choices that decide what has an effect."""
    searched = [tune.parameters[name] for name in DECIDING if name in tune.parameters]
    for values in itertools.product(*(p.choices for p in searched)):
        names = (p.name for p in searched)
        yield replace(base, **dict(zip(names, values, strict=True)))


def problems_of(tune: Tune, seeds: Any, grid: Mapping[str, list[Any]], bases: Any,
                benchmark: bool) -> Iterator[str]:  # fmt: skip
    """What does not fit the rest of the file, one line each, with keys below `tune`.

    bases: `DependenceSettings` of every combination of the grid.
    """
    entries = grid.get("dependence", [])
    for name, one in tune.parameters.items():
        among = [n for n, e in enumerate(entries) if isinstance(e, dict) and name in e]
        if one.key in grid:
            yield f"{name}: is also under grid.{one.key}; one of the two"
        elif one.section == "dependence" and among:
            yield f"{name}: is also under grid.dependence[{among[0]}]; one of the two"
    try:
        every, spent = seeds_of_trials(tune, seeds)
    except ValueError as error:
        yield str(error)
        return
    if tune.penalty and (spent.start or 0) < 2:
        yield f"aggregate: {tune.aggregate} needs seeds.start of at least 2"
    if "benchmark_valid" in tune.objectives and not benchmark:
        yield "objective: benchmark_valid needs `benchmark`"
    possible = [d for base in bases for d in dependences(tune, base)]
    if TRANSFER in tune.objectives:
        if len(every) < TRANSFER_SEEDS:
            yield f"objective: {TRANSFER} needs at least {TRANSFER_SEEDS} seeds, not {len(every)}"
        if any(d.model == "independent" for d in possible):
            yield f"objective: {TRANSFER} needs a model with matrices, not independent"
        elif not all(d.trainable for d in possible):
            yield f"objective: {TRANSFER} needs matrices that learn, not trainable: false"
    for name, one in tune.parameters.items():
        if possible and all(one.key in effectless(d) for d in possible):
            yield f"{name}: has no effect under this setting"
