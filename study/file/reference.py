"""Every setting of a study file with its default and meaning, gathered from where it is defined."""

from __future__ import annotations

import textwrap
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from itnas.data import DataSettings
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings
from study.file.models import documented, registry_of
from study.file.schema import Benchmark, Resources, StudyFile, Tune, Waits


def settings_reference() -> str:
    """Plain text, a line per setting, for `--help`."""
    sections: list[tuple[str, type]] = [
        ("study file", StudyFile),
        ("data", DataSettings),
        ("search", SearchSettings),
        ("grid.dependence, a list of", DependenceSettings),
        ("resources", Resources),
        ("engine", EngineSettings),
        ("benchmark", Benchmark),
        ("waits", Waits),
        ("tune", Tune),
    ]
    lines = ["settings of a study file (design and documented examples: study/examples/)"]
    for title, cls in sections:
        lines.append(f"\n{title}")
        for name, text in documented(cls).items():
            default = _default(cls, name)
            notes = [f"default {default}"] if default is not None else []
            choices = _choices(get_type_hints(cls, include_extras=True)[name])
            if len(choices) > 1:
                notes.append("one of " + ", ".join(map(str, choices)))
            if notes:
                text = f"{text} [{'; '.join(notes)}]"
            first = f"  {name:<26}"
            lines.append(textwrap.fill(text, 98, initial_indent=first, subsequent_indent=" " * 28))
    return "\n".join(lines) + "\n"


def _choices(annotation: Any) -> tuple[Any, ...]:
    known = registry_of(annotation)
    if known is not None:
        return tuple(known.registry)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _default(cls: type, name: str) -> str | None:
    model_fields: dict[str, Any] = getattr(cls, "model_fields", {})
    if name in model_fields:
        value = model_fields[name].default
    elif hasattr(cls, "__dataclass_fields__"):
        value = next(f.default for f in fields(cls) if f.name == name)
    else:
        return None
    plain = isinstance(value, (bool, int, float, str))
    return str(value).lower() if plain else None
