"""YAML read safely: no objects, no doubled keys, no file that grows when its aliases unfold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from study.errors import StudyError, first_line

LARGEST_FILE = 1_000_000  # bytes; a study file has a few thousand
LARGEST_CONTENT = 200_000  # values, with every alias unfolded


class _Loader(yaml.SafeLoader):
    """PyYAML reads `1e-3` as a text (YAML 1.1); this one reads it as the number it is."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in _Loader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse_value(text: str) -> Any:
    """One value as it would stand in a file (`--set a.b=VALUE`); `ValueError` if it is no YAML."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        _check(node)
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("no valid YAML value") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises `StudyError` with one line, with the line number where there is one.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise StudyError(f"{path}: larger than {LARGEST_FILE:,} bytes; not a study file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not a text file in UTF-8") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        _check(node)
        content = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise StudyError(f"{path}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise StudyError(f"{path}: {first_line(error)}") from None
    except RecursionError:
        raise StudyError(f"{path}: nested too deeply") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: holds no mapping; a study file begins with `name: ...`")
    return content


def _check(root: yaml.Node | None) -> None:
    """Refuse doubled keys, and content that only fits into the file because of aliases."""
    sizes: dict[int, int] = {}
    unfinished: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in unfinished:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias inside its own anchor", node.start_mark
            )
        if id(node) not in sizes:
            unfinished.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _refuse_doubled_keys(node)
                total = 1 + sum(size(key) + size(value) for key, value in node.value)
            elif isinstance(node, yaml.SequenceNode):
                total = 1 + sum(size(item) for item in node.value)
            else:
                total = 1
            if total > LARGEST_CONTENT:
                raise yaml.constructor.ConstructorError(
                    None, None, "too large once its aliases unfold", node.start_mark
                )
            unfinished.discard(id(node))
            sizes[id(node)] = total
        return sizes[id(node)]

    if root is not None:
        size(root)


def _refuse_doubled_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen and key.value != "<<" and isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key.value} is given twice", key.start_mark
            )
        if isinstance(key, yaml.ScalarNode):
            seen.add(key.value)
