"""YAML read safely: texts, numbers, lists and mappings, each only what it looks like.

No objects, no doubled keys, no file that grows when its aliases unfold; and nothing of YAML 1.1
that surprises: `1e-3` is a number, while `1:19` (79 in base 60), `010` (8) and dates are texts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from study.errors import StudyError, first_line
from study.file.messages import shown

LARGEST_FILE = 250_000  # bytes; a study file has a few thousand, and 350 for every launch
LARGEST_CONTENT = 50_000  # values, with every alias unfolded
LARGEST_DEPTH = 100


class _Loader(yaml.SafeLoader):
    """Values of JSON's kinds alone; one that does not fit its tag is an error with its line."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """As PyYAML's, whose time grows with the square of the depth."""
        if self.flow_level >= LARGEST_DEPTH:
            raise yaml.scanner.ScannerError(None, None, "nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The node's value."""
        try:
            return super().construct_object(node, deep)
        except (LookupError, TypeError, ValueError):
            kind = node.tag.rpartition(":")[2]
            raise _problem(f"{shown(node.value)} is no {kind}", node) from None


def _integer(loader: _Loader, node: Any) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        raise ValueError
    return int(text)


def _real(loader: _Loader, node: Any) -> float:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_TAG = "tag:yaml.org,2002:"
_KEPT = ("null", "bool", "str", "seq", "map")
_NUMBERS = {
    "int": (r"[-+]?(0|[1-9][0-9_]*)", _integer),
    "float": (
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        _real,
    ),
}
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in _KEPT
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.removeprefix(_TAG) in (*_KEPT, "merge")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _constructor) in _NUMBERS.items():
    _Loader.add_constructor(_TAG + _name, _constructor)
    _Loader.add_implicit_resolver(
        _TAG + _name, re.compile(f"^({_pattern})$"), list("-+.0123456789")
    )


def parse_value(text: str) -> Any:
    """One value as it would stand in a file (`--set a.b=VALUE`).

    Raises `ValueError`, with one line, if it is no YAML.
    """
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        raise ValueError(str(error.problem or error.context)) from None
    except yaml.YAMLError as error:
        raise ValueError(first_line(error)) from None


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
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: holds no mapping; a study file begins with `name: ...`")
    return content


def _load(text: str) -> Any:
    """YAML's content. YAMLError with a line where there is one."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _check(node)
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def _problem(text: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def _check(root: yaml.Node | None) -> None:
    """Refuse odd and doubled keys, and content that only fits into the file because of aliases."""
    sizes: dict[int, int] = {}
    unfinished: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in unfinished:
            raise _problem("an alias inside its own anchor", node)
        if id(node) not in sizes:
            unfinished.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _check_keys(node)
                total = 1 + sum(size(key) + size(value) for key, value in node.value)
            elif isinstance(node, yaml.SequenceNode):
                total = 1 + sum(size(item) for item in node.value)
            else:
                total = 1
            if total > LARGEST_CONTENT:
                raise _problem("too large once its aliases unfold", node)
            unfinished.discard(id(node))
            sizes[id(node)] = total
        return sizes[id(node)]

    if root is not None:
        size(root)


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _problem("a key is a list or a mapping", key)
        if key.tag == f"{_TAG}merge":
            continue
        if key.tag != f"{_TAG}str":
            raise _problem(f"the key {shown(key.value)[1:-1]} is no text", key)
        if key.value in seen:
            raise _problem(f"the key {key.value} is given twice", key)
        seen.add(key.value)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for something else than a text."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def dump(content: dict[str, Any]) -> str:
    """A mapping as YAML that `read_mapping` reads as the same again, in its order."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
