"""pydantic models made from the settings dataclasses of `itnas`, so that nothing is typed twice.

A field's type and default come from the dataclass, its range from the dataclass's own
`__post_init__`, its documentation from the text below the field.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    create_model,
    field_validator,
)
from pydantic_core import PydanticKnownError

from itnas._checks import OneOf

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Strict(BaseModel):
    """A model that refuses unknown keys and does not turn one type into another."""

    model_config = STRICT

    @field_validator("*")
    @classmethod
    def _in_range(cls, value: Any) -> Any:
        """Whole numbers are stored in 32 bits (design, 5)."""
        if isinstance(value, int) and not -(2**31) <= value < 2**31:
            raise ValueError("too large; below 2^31")
        return value


@cache
def model_of(cls: type, **defaults: Any) -> type[BaseModel]:
    """A strict pydantic model with the fields of a settings dataclass, some defaults changed."""
    hints = get_type_hints(cls, include_extras=True)
    types: dict[str, Any] = {
        f.name: (named(hints[f.name]), defaults.get(f.name, f.default)) for f in fields(cls)
    }
    return create_model(cls.__name__, __base__=Strict, **types)


def registry_of(annotation: Any) -> OneOf | None:
    """The registry whose names an annotation of `itnas.settings` allows, if it is such a one."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((a for a in get_args(annotation) if isinstance(a, OneOf)), None)


def named(annotation: Any) -> Any:
    """An annotation of `itnas.settings` for pydantic: the names of a registry are refused as the
    values of a `Literal` are.
    """
    known = registry_of(annotation)
    if known is None:
        return annotation

    def check(value: Any) -> str:
        if isinstance(value, str) and value in known.registry:
            return value
        expected = ", ".join(f"'{name}'" for name in known.registry)
        raise PydanticKnownError("literal_error", {"expected": expected})

    return Annotated[str, BeforeValidator(check), known]


def validated(cls: type) -> Any:
    """An annotation that takes a mapping and gives an instance of the settings dataclass."""
    return Annotated[model_of(cls), AfterValidator(lambda model: cls(**dict(model)))]


@cache
def documented(cls: type) -> dict[str, str]:
    """What the source of a class says below each of its fields, on one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    found: dict[str, str] = {}
    for statement, text in itertools.pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[statement.target.id] = " ".join(str(text.value.value).split())
    return found
