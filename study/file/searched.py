"""One setting that `tune` searches: a range or choices, as a study file says them."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from itnas.data import DataSettings
from study.file.identity import SECTIONS
from study.file.messages import shown

OF_DATA = ("crop", "flip", "cutout")
"""keys of `data` that change neither the images nor their split"""
TUNABLE = {
    f.name: section
    for section, cls in SECTIONS.items()
    for f in fields(cls)
    if section != "data" or f.name in OF_DATA
}
"""names that may be tuned, to their sections; no name is in two of them"""

MOST_CHOICES = 100
LARGEST = 2**31
SEARCHED = "{low, high}, with log and step where wanted, {choices}, or [low, high] for a log range"


@dataclass(frozen=True)
class Parameter:
    """What is searched of one setting: a range, or `choices`."""

    section: str
    name: str
    kind: Literal["integer", "number", "choice"]
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def key(self) -> str:
        """`search.architecture_lr`."""
        return f"{self.section}.{self.name}"

    @property
    def ends(self) -> tuple[Any, ...]:
        """The choices, or both ends of the range."""
        return self.choices or (self.low, self.high)

    def plain(self) -> dict[str, Any]:
        """As a study file says it."""
        if self.choices:
            return {"choices": list(self.choices)}
        found: dict[str, Any] = {"low": self.low, "high": self.high}
        return (
            found
            | ({"log": True} if self.log else {})
            | ({} if self.step is None else {"step": self.step})
        )

    def nearest(self, value: Any) -> Any:
        """The value that is searched and is nearest to a setting's; the first choice, where a value
        is not among them.
        """
        if self.choices:
            same = (c for c in self.choices if c == value and type(c) is type(value))
            return next(same, self.choices[0])
        found = min(max(value, self.low), self.high)
        if self.step is not None:
            steps = round((found - self.low) / self.step)
            found = (
                self.low + min(steps, math.floor((self.high - self.low) / self.step)) * self.step
            )
        return int(found) if self.kind == "integer" else float(found)


def parameter_of(key: str, value: Any, own: list[str]) -> Parameter:
    """What a key of `tune` says; `ValueError` with one line."""
    section, dot, name = key.rpartition(".")
    name = name if dot else key
    if TUNABLE.get(name) not in ((section,) if dot else SECTIONS):
        if section == "data" or (not dot and name in {f.name for f in fields(DataSettings)}):
            raise ValueError(
                "cannot be tuned: of data, only " + ", ".join(OF_DATA) + " leave the images and "
                "their split as they are"
            )
        names = [*own, *TUNABLE]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(
            f"unknown key; {hint}allowed: {', '.join(own)}, and any key of search or dependence"
        )
    section = TUNABLE[name]
    kind = _kind(section, name)
    if isinstance(value, list):
        if len(value) != 2 or kind == "choice":
            raise ValueError(f"{shown(value)} is not allowed; {_allowed(kind)}")
        value = {"low": value[0], "high": value[1], "log": True}
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is not allowed; {_allowed(kind)}")
    if "choices" in value:
        return Parameter(section, name, "choice", choices=_choices(section, name, value))
    if kind == "choice":
        raise ValueError(f"{shown(value)} is not allowed; {_allowed(kind)}")
    return _range(section, name, kind, value)


def _allowed(kind: str) -> str:
    return "{choices: [...]}" if kind == "choice" else SEARCHED


def _kind(section: str, name: str) -> Literal["integer", "number", "choice"]:
    hint = get_type_hints(SECTIONS[section])[name]
    options = {hint, *get_args(hint)}
    if float in options:
        return "number"
    return "integer" if int in options else "choice"


def _choices(section: str, name: str, value: dict[str, Any]) -> tuple[Any, ...]:
    choices = value["choices"]
    if set(value) != {"choices"} or not isinstance(choices, list):
        raise ValueError(f"{shown(value)} is not allowed; {{choices: [...]}} alone, a list")
    for choice in choices:
        _check(section, name, "choices", choice)
    different = [c for n, c in enumerate(choices) if c not in choices[:n]]
    if not 2 <= len(different) == len(choices) <= MOST_CHOICES:
        raise ValueError(
            f"choices: {shown(choices)} is not allowed; 2 to {MOST_CHOICES} values, each once"
        )
    return tuple(choices)


def _range(section: str, name: str, kind: Any, value: dict[str, Any]) -> Parameter:
    unknown = [key for key in value if key not in ("low", "high", "log", "step")]
    if unknown:
        raise ValueError(f"{shown(unknown[0])}: unknown key; {SEARCHED}")
    for end in ("low", "high"):
        if end not in value:
            raise ValueError(f"{end}: is missing; {SEARCHED}")
        number = value[end]
        wanted = int if kind == "integer" else (int, float)
        sound = isinstance(number, wanted) and not isinstance(number, bool)
        if not sound or not -LARGEST < number < LARGEST:
            raise ValueError(f"{end}: {shown(number)} is not allowed; a finite {kind} below 2^31")
    low, high, log, step = value["low"], value["high"], value.get("log", False), value.get("step")
    if not low < high:
        raise ValueError(f"low: {shown(low)} is not allowed; below high ({shown(high)})")
    if not isinstance(log, bool):
        raise ValueError(f"log: {shown(log)} is not allowed; true or false")
    if log and low <= 0:
        raise ValueError(f"low: {shown(low)} is not allowed; above 0 on a log scale")
    if step is not None:
        whole = not isinstance(step, bool) and isinstance(step, int)
        if not (whole or (kind == "number" and isinstance(step, float))) or not (
            0 < step <= high - low
        ):
            raise ValueError(
                f"step: {shown(step)} is not allowed; above 0 and at most high - low"
                + (", an integer" if kind == "integer" else "")
            )
        if log:
            raise ValueError("step: is not allowed on a log scale")
    for end in ("low", "high"):
        _check(section, name, end, value[end])
    if kind == "number":
        low, high, step = float(low), float(high), None if step is None else float(step)
    return Parameter(section, name, kind, low, high, log, step)


def _check(section: str, name: str, end: str, value: Any) -> None:
    """Whether the setting itself takes a value."""
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        raise ValueError(f"{end}: {shown(value)} is not allowed; too large")
    try:
        SECTIONS[section](**{name: value})
    except (ValueError, TypeError) as error:
        told = (str(error).splitlines() or ["?"])[0].removeprefix(f"{name}: ")
        raise ValueError(f"{end}: {told}") from None
