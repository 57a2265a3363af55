"""From a study file to runs: the grid crossed, equal settings merged, names given (design, 5).

Two settings of one normal form (see `identity`) are one, whatever else was written in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from itnas.method.parameters import check_dependence
from itnas.method.search import resolve
from itnas.method.spaces import get_space
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting
from study.errors import StudyError
from study.file.identity import (
    SECTIONS,
    NormalForm,
    data_identity,
    effectless,
    normal_form,
    seeded_hashes,
    short_hash,
    value_in,
)
from study.file.schema import StudyFile

if TYPE_CHECKING:
    from itnas.data import ImageData


@dataclass(frozen=True)
class StudySetting:
    """One setting of a study: everything about a search except its seeds."""

    setting: Setting
    """resolved; what has no effect is at its default"""
    normal: NormalForm = field(hash=False)
    """what identifies it"""
    name: str
    """short and readable: the model, and what differs from the defaults or is swept"""
    data: tuple[tuple[str, Any], ...] = ()
    """keys of `data` that are otherwise than in the study file (under `tune`)"""

    @property
    def setting_id(self) -> str:
        """Short hash of the normal form."""
        return short_hash(self.normal)

    def run_id(self, seeds: Seeds) -> str:
        """Short hash of the normal form and the seeds (design, 5)."""
        return self._seeded(seeds)

    @cached_property
    def _seeded(self) -> Callable[[Seeds], str]:
        return seeded_hashes(self.normal)


class Run(NamedTuple):
    """One search: one setting with one seed."""

    run_id: str
    setting: StudySetting
    seeds: Seeds


class Expansion(NamedTuple):
    """All runs of a study file."""

    settings: list[StudySetting]
    runs: list[Run]
    merged: list[str]
    """a notice for each combination that became equal to an earlier one"""

    @property
    def merged_runs(self) -> int:
        """Runs that are not made because they equal others."""
        return len(self.merged) * (len(self.runs) // max(len(self.settings), 1))


def expand(file: StudyFile, data: ImageData) -> Expansion:
    """Cross the grid, resolve every setting on this data, and merge equal ones.

    Raises `StudyError` for a combination that the space does not allow, such as a matrix shared
    by edges with unequal operations, and for data too small for a batch.
    """
    identity, engine = data_identity(data), file.engine_settings()
    found: dict[str, StudySetting] = {}
    merged: list[str] = []
    wrong: list[str] = []
    for point in file.grid_points():
        dependence, search = point.settings
        try:
            setting = Setting(file.space, search, dependence)
            one = study_setting(setting, data, identity, engine, point.swept)
        except ValueError as error:
            wrong.append(str(error))
            continue
        if one.setting_id in found:
            written = ", ".join((_spell(dependence), *_swept(search, point.swept)))
            merged.append(f"merged: {written} is the same as {found[one.setting_id].name}")
        found.setdefault(one.setting_id, one)
    if wrong:
        raise StudyError(*dict.fromkeys(wrong))
    seeds = file.seed_list()
    settings = list(found.values())
    runs = [Run(s.run_id(seed), s, seed) for s in settings for seed in seeds]
    return Expansion(settings, runs, merged)


def study_setting(
    setting: Setting, data: ImageData, identity: Mapping[str, Any], engine: EngineSettings,
    swept: Sequence[str] = (),
) -> StudySetting:  # fmt: skip
    """A setting resolved on this data, with its normal form and a name.

    `identity` is `data_identity(data)`, `swept` the dotted keys that belong in the name. Raises
    `ValueError` as `expand` tells.
    """
    check_dependence(get_space(setting.space), setting.dependence)
    plain = _without_effectless(setting)
    resolved = resolve(plain, data)
    normal = normal_form(resolved, identity, engine)
    return StudySetting(resolved, normal, _name(plain, normal, swept))


def _without_effectless(setting: Setting) -> Setting:
    """The setting with what has no effect at its default, so that equal settings are equal."""
    names = effectless(setting.dependence)

    def reset(part: Any, section: str) -> Any:
        defaults = _defaults(section).items()
        without = {k: v for k, v in defaults if f"{section}.{k}" in names}
        return replace(part, **without) if without else part

    return replace(
        setting,
        search=reset(setting.search, "search"),
        dependence=reset(setting.dependence, "dependence"),
    )


@cache
def _defaults(section: str) -> dict[str, Any]:
    """Plain values of `search` or `dependence` where nothing is said of them."""
    return asdict(SECTIONS[section]())


def _spell(dependence: DependenceSettings) -> str:
    default = _defaults("dependence")
    changed = {k: v for k, v in asdict(dependence).items() if k == "model" or v != default[k]}
    return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in changed.items()) + "}"


def _swept(search: SearchSettings, swept: Sequence[str]) -> list[str]:
    names = [key.removeprefix("search.") for key in swept if key.startswith("search.")]
    return [f"{name}: {_plain(getattr(search, name))}" for name in names]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _name(plain: Setting, normal: NormalForm, swept: Sequence[str]) -> str:
    """The model, then what of its dependence is not default, then what of the grid is not."""
    parts: list[str] = [plain.dependence.model]
    for section in ("dependence", "search"):
        default = _defaults(section)
        for key, value in vars(getattr(plain, section)).items():
            dotted = f"{section}.{key}"
            named = dotted in swept or section == "dependence"
            if named and key != "model" and dotted in normal and value != default[key]:
                parts.append(_assignment(dotted, value))
    return " ".join(parts)


def _assignment(key: str, value: Any) -> str:
    return f"{key.rpartition('.')[2]}={_plain(value)}"


def distinguish(name: str, normal: NormalForm, others: Sequence[NormalForm]) -> str:
    """A taken name made unique by the keys in which this setting differs from the others."""
    keys = dict.fromkeys((*normal, *(key for other in others for key in other)))
    values = {key: value_in(normal, key) for key in keys}
    differing = [
        key
        for key, value in values.items()
        if value is not None
        and _assignment(key, value) not in name.split()
        and any(value != value_in(other, key) for other in others)
    ]
    extra = (
        f"data={values[key][:6]}" if key == "data.content" else _assignment(key, values[key])
        for key in differing
    )
    return " ".join((name, *extra)) if differing else f"{name} {short_hash(normal)[:4]}"
