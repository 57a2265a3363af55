"""pydantic's errors as this project's lines: `key.path: what is wrong; what is allowed`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

_KINDS = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list of two numbers",
    "none_required": "nothing",
}


class Problem(NamedTuple):
    """One thing that is wrong."""

    path: str
    """dotted keys, list positions in brackets; empty for the whole"""
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


def problems(error: ValidationError, raw: Any, model: type[BaseModel]) -> list[Problem]:
    """What a validation found, in the order of the file, one problem a key.

    A value that fits none of several types is one problem that lists them all.
    """
    allowed: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for details in error.errors(include_url=False):
        kind, location = details["type"], details["loc"]
        keys = _known(location, raw, missing=kind == "missing")
        path = _spell(keys)
        if kind == "value_error":
            for problem in _own_lines(path, str(details["ctx"]["error"])):
                texts.setdefault(problem.path, problem.text)
        elif kind == "missing":
            texts[path] = "is missing"
        elif kind == "extra_forbidden":
            texts[path] = _unknown(str(keys[-1]), _fields(model, keys[:-1]))
        else:
            allowed.setdefault(path, []).append(_allowed(details))
            texts[path] = f"{shown(details['input'])} is not allowed; " + " or ".join(
                dict.fromkeys(option for option in allowed[path] if option != "nothing")
            )
    return [Problem(path, text) for path, text in texts.items()]


def _own_lines(path: str, message: str) -> Iterator[Problem]:
    """Lines of our own checks: `field: text` below `path`, or a text about `path` itself."""
    for line in message.splitlines():
        name, colon, text = line.partition(": ")
        if colon and re.fullmatch(r"[\w.\[\]]+", name):
            yield Problem(f"{path}.{name}" if path else name, text)
        else:
            yield Problem(path, line)


def _known(location: tuple[int | str, ...], raw: Any, missing: bool) -> list[int | str]:
    """The part of an error's location that stands in the file; the rest are pydantic's tags."""
    keys: list[int | str] = []
    for part in location:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            break
        keys.append(part)
    return [*keys, location[-1]] if missing else keys


def _spell(keys: list[int | str]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _fields(model: Any, keys: list[int | str]) -> list[str]:
    """Names allowed at a place of the file."""
    for key in keys:
        field = getattr(model, "model_fields", {}).get(key)
        if field is None:
            return []
        options = (field.annotation, *get_args(field.annotation))
        model = next((o for o in options if hasattr(o, "model_fields")), None)
    return list(getattr(model, "model_fields", {}))


def _unknown(key: str, names: list[str]) -> str:
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown key; {hint}allowed: {', '.join(names)}"


def _allowed(details: Any) -> str:
    context = details.get("ctx", {})
    kind = details["type"]
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "").replace(" or ", ", ")
    if kind == "string_pattern_mismatch":
        return "letters, digits, _, . and -, beginning with a letter or digit, at most 100"
    for name, sign in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most")):
        if name in context:
            return f"{sign} {context[name]:g}"
    return _KINDS.get(kind, str(details["msg"]).lower())


def shown(value: Any) -> str:
    """A value of the file as a message tells it, cut where it is long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
