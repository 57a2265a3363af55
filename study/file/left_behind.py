"""Complete runs that a study file no longer asks for: how many, and what to set to keep them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from itnas.method.spaces import get_space
from itnas.settings import DependenceSettings
from study.file.grid import Expansion
from study.file.identity import SECTIONS, NormalForm, data_identity, dependence_form, value_in
from study.file.schema import RATES, StudyFile
from study.file.seeds import spell_seeds

if TYPE_CHECKING:
    from itnas.data import ImageData

Triple = tuple[int, ...]
"""a run's seeds: weights, data, architecture"""


class _Difference(NamedTuple):
    """One thing in which a setting is not among those of the file."""

    kind: Literal["value", "swept", "entry", "images", "gone"]
    """a key has another value; a list of the grid lacks one; `grid.dependence` lacks an entry; the
    images are others; the key is of another release
    """
    key: str
    had: str
    says: str = ""
    """the file, of a value"""


@dataclass
class _Group:
    """Runs that are left behind in one way."""

    differences: list[_Difference] = field(default_factory=list)
    seeds: list[Triple] = field(default_factory=list)


def left_behind(
    file: StudyFile,
    data: ImageData,
    expansion: Expansion,
    known: Mapping[str, NormalForm],
    runs: Mapping[str, tuple[str, Sequence[int]]],
) -> list[str]:
    """A line for every way in which complete runs differ from those that the file asks for.

    `known`: normal forms by the names of settings; `runs`: of every complete run its setting's name
    and its seeds (weights, data, architecture).
    """
    asked = {run.run_id for run in expansion.runs}
    seeds = dict.fromkeys(tuple(vars(one).values()) for one in file.seed_list())
    comparison = _Comparison(file, data)
    found: dict[str, list[_Difference]] = {}
    groups: dict[Any, _Group] = {}
    for run_id, (name, given) in runs.items():
        if run_id in asked or name not in known:
            continue
        if name not in found:
            found[name] = comparison.differences(known[name])
        ways = tuple((d.kind, d.key, d.had if d.kind == "value" else "") for d in found[name])
        group = groups.setdefault((ways, tuple(given) in seeds), _Group())
        group.differences += [one for one in found[name] if one not in group.differences]
        group.seeds.append(tuple(given))
    return [
        _line(group, None if as_asked else list(seeds)) for (_, as_asked), group in groups.items()
    ]


class _Comparison:
    """A study file, to be compared with settings in normal form."""

    def __init__(self, file: StudyFile, data: ImageData) -> None:
        self.file, self.data = file, data
        self.given: NormalForm = {
            "space": file.space,
            "engine.precision": file.engine_settings().precision,
            **{f"data.{name}": value for name, value in data_identity(data).items()},
        }
        self.swept = [key for key in file.grid if key.startswith("dependence.")]

    def differences(self, old: NormalForm) -> list[_Difference]:
        """What would have to be otherwise for the grid to hold a setting."""
        known = {f"{name}.{f.name}" for name, cls in SECTIONS.items() for f in fields(cls)}
        known |= {"space", "engine.precision", "data.content"}
        gone = sorted(old.keys() - known)
        found = [_Difference("gone", key, _spell(old[key])) for key in gone]
        other_images = old.get("data.content") != self.given["data.content"]
        if other_images:
            found.append(_Difference("images", "", ""))
        for key in sorted(key for key in known if value_in(old, key) is not None):
            if key in self.given or key.startswith("data."):
                follows = other_images and key == "data.flip" and self.file.data.flip == "auto"
                if key != "data.content" and not follows:
                    found += self._judged(key, old, [value_in(self.given, key)])
            elif key.startswith("search."):
                name = key.partition(".")[2]
                found += self._judged(key, old, [getattr(self.file.search, name)])
        return found + self._dependence(old)

    def _judged(self, key: str, old: NormalForm, given: list[Any]) -> list[_Difference]:
        """Whether a value is not among those of the grid, or not the one that is `given`."""
        had = value_in(old, key)
        allowed = self.file.grid.get(key, given)
        if any(self._is(had, value, key, old) for value in allowed):
            return []
        if key in self.file.grid:
            return [_Difference("swept", key, _spell(had))]
        auto = key.partition(".")[2] in RATES and self._is_auto(had, old)
        return [_Difference("value", key, "auto" if auto else _spell(had), _spell(given[0]))]

    def _is(self, had: Any, value: Any, key: str, old: NormalForm) -> bool:
        """Whether a value of the file is an old one once all else is as it was."""
        if value != "auto":
            return bool(had == value)
        if key == "search.cells":
            try:
                return bool(had == get_space(old["space"]).default_cells)
            except ValueError:
                return False
        return key.partition(".")[2] in RATES and self._is_auto(had, old)

    def _is_auto(self, rate: float, old: NormalForm) -> bool:
        """Whether a rate is 6 / architecture steps of the old run."""
        epochs = old["search.epochs"]
        if old.get("data.content") == self.given["data.content"]:
            split = replace(self.data.settings, holdout=old["data.holdout"])
            try:
                per_epoch = replace(self.data, settings=split).steps_per_epoch(
                    old["search.batch_size"]
                )
            except ValueError:
                return False
            return rate == 6.0 / (per_epoch * epochs)
        if rate < 1e-12:
            return False
        steps = round(6.0 / rate)  # how many images there were is not known
        return steps > 0 and steps % epochs == 0 and rate == 6.0 / steps

    def _dependence(self, old: NormalForm) -> list[_Difference]:
        """Values that lists of the grid lack, and an entry that `grid.dependence` lacks."""
        names = {f"dependence.{f.name}": f.name for f in fields(SECTIONS["dependence"])}
        had = {key: value for key, value in old.items() if key in names}
        found: list[_Difference] = []
        swept: NormalForm = {}
        for key in self.swept:
            value = value_in(old, key)
            if value is None:  # without effect
                value = self.file.grid[key][0]
            else:
                found += self._judged(key, old, [])
            swept[names[key]] = value
        for entry in self.file.grid.get("dependence", [{}]):
            try:
                settings = DependenceSettings(**{**entry, **swept})
            except (TypeError, ValueError):
                continue
            if dependence_form(settings) == had:
                return found
        return [*found, _Difference("entry", "dependence", self._entry(old))]

    def _entry(self, old: NormalForm) -> str:
        """The entry of `grid.dependence` that gives an old setting."""
        default = DependenceSettings()
        values = {
            f.name: value_in(old, f"dependence.{f.name}")
            for f in fields(default)
            if f"dependence.{f.name}" not in self.swept
        }
        words = [
            f"{name}: {_spell(value)}"
            for name, value in values.items()
            if name == "model" or value not in (None, getattr(default, name))
        ]
        return f"{{{', '.join(words)}}}"


def _line(group: _Group, seeds: list[Triple] | None) -> str:
    """`seeds` are those that the file asks for, where the runs have others."""
    had: list[str] = []
    options: list[str] = []
    lists: list[tuple[str, list[str]]] = []
    values = [d for d in group.differences if d.kind == "value"]
    if values:
        told = _and([f"{d.key} {d.had}" for d in values])
        had.append(f"{told}, the file says {_and([d.says for d in values])}")
        options += [f"{d.key}={d.had}" for d in values]
    for key in dict.fromkeys(d.key for d in group.differences if d.kind in ("swept", "entry")):
        lacking = [d.had for d in group.differences if d.key == key]
        name = "" if key == "dependence" else f"{key} "
        had.append(f"{name}{_and(lacking)}, which grid.{key} no longer has")
        lists.append((key, lacking))
    if any(d.kind == "images" for d in group.differences):
        had.append("other images")
    if seeds is not None:
        old = list(dict.fromkeys(group.seeds))
        had.append(f"seeds {spell_seeds(old)}, the file says {spell_seeds(seeds)}")
        options.append(f"seeds={_wanted(old, seeds)}")
    gone = [f"{d.key} {d.had}" for d in group.differences if d.kind == "gone"]
    if gone:
        had.append(f"{_and(gone)}, which this release does not know")
    count = len(group.seeds)
    runs = f"{count} complete runs are" if count > 1 else "1 complete run is"
    end = "no setting brings them back" if gone else _remedy(options, lists, "other images" in had)
    return f"{runs} left behind: they had {', and '.join(had)}; {end}"


def _remedy(options: list[str], lists: list[tuple[str, list[str]]], images: bool) -> str:
    words = [" ".join(f"--set {shlex.quote(option)}" for option in options)] if options else []
    words += [f"{_and(values)} in grid.{key}" for key, values in lists]
    words += ["the former images (data.source, resolution, color, subset)"] * images
    several = images or len(options) + sum(len(values) for _, values in lists) > 1
    return f"{_and(words)} {'keep' if several else 'keeps'} them"


def _wanted(old: list[Triple], seeds: list[Triple]) -> str:
    """Seeds that hold the old ones, and the present ones where both are crossed or neither is."""
    crossed = [any(len(set(triple)) > 1 for triple in triples) for triples in (old, seeds)]
    both = [*seeds, *old] if crossed[0] == crossed[1] or len(seeds) == 1 else old
    return spell_seeds(both)


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _spell(value: Any) -> str:
    """As it is written in a study file; a number to its last digit."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
