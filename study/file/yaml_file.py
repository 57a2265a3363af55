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
    """PyYAML (YAML 1.1) reads `1e-3` as a text and `1:19` as 79; here they are what they look like.

    A date is a text.
    """


_NUMBERS = {
    "int": r"^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$",
    "float": r"^[-+]?((\d[\d_]*)?\.\d+|\d[\d_]*\.?)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$"
    r"|^\.(nan|NaN|NAN)$",
}
_REPLACED = {f"tag:yaml.org,2002:{name}" for name in (*_NUMBERS, "timestamp")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _REPLACED]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(_pattern), list("-+.0123456789")
    )


def _load(text: str) -> Any:
    """YAML's content. YAMLError with a line where there is one."""
    node = yaml.compose(text, Loader=_Loader)
    _check(node)
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, UnicodeError):
            raise
        raise yaml.YAMLError(f"a value does not fit its tag ({error})") from None


def parse_value(text: str) -> Any:
    """One value as it would stand in a file (`--set a.b=VALUE`); `ValueError` if it is no YAML."""
    try:
        return _load(text)
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
        content = _load(text)
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
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a key is a list or a mapping", key.start_mark
            )
        if key.value in seen and key.value != "<<":
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key.value} is given twice", key.start_mark
            )
        seen.add(key.value)
