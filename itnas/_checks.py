"""Checks of settings dataclasses against their own annotations, without a dependency."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True, eq=False)
class OneOf:
    """`Annotated[str, OneOf(registry)]`: a field that takes the names in a registry, whenever
    they were added.
    """

    registry: Mapping[str, object]


def require(owner: object, name: str, condition: bool, allowed: str) -> None:
    """Raise the one-line `ValueError` of this project unless `condition` holds."""
    if not condition:
        raise ValueError(f"{name}: {getattr(owner, name)!r} is not allowed; {allowed}")


def check_choices(settings: object) -> None:
    """Check every field of a settings dataclass against its annotated type.

    A plain dataclass takes anything; this is what keeps a notebook user from a typo that would
    be found only hours later.
    """
    for name, allowed in _annotations(type(settings)).items():  # type: ignore[arg-type]
        value = getattr(settings, name)
        if any(_matches(value, option) for option in allowed):
            continue
        require(settings, name, False, "one of " + ", ".join(_spell(o) for o in allowed))


@cache
def _annotations(cls: Any) -> dict[str, tuple[Any, ...]]:
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: _options(hints[f.name]) for f in fields(cls)}


def _options(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) is Annotated:
        return tuple(a for a in annotation.__metadata__ if isinstance(a, OneOf))
    if get_args(annotation):  # a union
        return tuple(o for part in get_args(annotation) for o in _options(part))
    return (annotation,)


def _matches(value: object, option: Any) -> bool:
    if isinstance(option, OneOf):
        return isinstance(value, str) and value in option.registry
    if not isinstance(option, type):
        return type(value) is type(option) and value == option
    if option is float:  # an integer is a fine rate; nan and infinity are not
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)  # type: ignore[arg-type]
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, option)


def _spell(option: Any) -> str:
    if isinstance(option, OneOf):
        return ", ".join(option.registry)
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    return names.get(option, getattr(option, "__name__", str(option)))
