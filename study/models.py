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
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, create_model

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class Strict(BaseModel):
    """A model that refuses unknown keys and does not turn one type into another."""

    model_config = STRICT


@cache
def model_of(cls: type, **defaults: Any) -> type[BaseModel]:
    """A strict pydantic model with the fields of a settings dataclass, some defaults changed."""
    hints = get_type_hints(cls)
    types: dict[str, Any] = {
        f.name: (hints[f.name], defaults.get(f.name, f.default)) for f in fields(cls)
    }
    return create_model(cls.__name__, __config__=STRICT, **types)


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
