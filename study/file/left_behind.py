"""Complete runs that a study file no longer asks for: how many, and what to set to keep them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from study.file.grid import Expansion, StudySetting
from study.file.identity import NormalForm
from study.file.schema import RATES, StudyFile
from study.file.seeds import compact

if TYPE_CHECKING:
    from itnas.data import ImageData

_GONE = object()


def left_behind(
    file: StudyFile,
    data: ImageData,
    expansion: Expansion,
    known: Mapping[str, NormalForm],
    runs: Mapping[str, tuple[str, list[int]]],
) -> list[str]:
    """A line for every way in which complete runs differ from those that the file asks for.

    `known`: normal forms by the names of settings; `runs`: of every complete run its setting's name
    and its seeds (weights, data, architecture).
    """
    asked = {run.run_id for run in expansion.runs}
    by_name: dict[str, list[list[int]]] = {}
    for run_id, (name, seeds) in runs.items():
        if run_id not in asked and name in known:
            by_name.setdefault(name, []).append(seeds)
    ids = {tuple(sorted(one.normal.items(), key=str)): one for one in expansion.settings}
    lines: Counter[str] = Counter()
    for name, left in by_name.items():
        normal = known[name]
        if tuple(sorted(normal.items(), key=str)) in ids:
            lines[_seeds_line(left)] += len(left)
        else:
            nearest = min(expansion.settings, key=lambda one: len(_differing(normal, one.normal)))
            lines[_setting_line(file, data, normal, nearest)] += len(left)
    return [
        f"{count} complete runs are left behind: {text}" for text, count in lines.items() if count
    ]


def _differing(old: NormalForm, new: NormalForm) -> list[str]:
    return [k for k in sorted(old.keys() | new.keys()) if old.get(k, _GONE) != new.get(k, _GONE)]


def _seeds_line(seeds: list[list[int]]) -> str:
    if all(len(set(one)) == 1 for one in seeds):
        numbers = sorted({one[0] for one in seeds})
        return f"they have seeds {compact(numbers)}; keep them by adding these to `seeds`"
    return "they have seeds that `seeds` no longer holds; keep them by adding these"


def _setting_line(file: StudyFile, data: ImageData, old: NormalForm, nearest: StudySetting) -> str:
    new = nearest.normal
    keys = _differing(old, new)
    followers = {f"search.{rate}" for rate in RATES if _follows(file, data, old, rate)}
    if set(keys) - followers:
        keys = [key for key in keys if key not in followers]
    dependence = [key for key in keys if key.startswith("dependence.")]
    if dependence:
        had = ", ".join(
            f"{key.partition('.')[2]}: {_spell(old[key])}" for key in dependence if key in old
        )
        text = f"no entry of grid.dependence has {{{had}}} any more"
        others = [key for key in keys if key not in dependence]
        return text + (f" ({_had(others, old, new)})" if others else "") + "; put it back"
    if "data.content" in keys:
        return "they were made of other images (data.source, resolution, color or subset)"
    return f"they had {_had(keys, old, new)}; {_remedy(file, keys, old)}"


def _follows(file: StudyFile, data: ImageData, old: NormalForm, rate: str) -> bool:
    """Whether an old rate is what `auto` comes to under the old epochs and batch size."""
    name = f"search.{rate}"
    if name in file.grid or getattr(file.search, rate) != "auto":
        return False
    try:
        steps = data.steps_per_epoch(old["search.batch_size"]) * old["search.epochs"]
    except (KeyError, ValueError):
        return False
    return bool(old.get(name) == 6.0 / steps)


def _had(keys: list[str], old: NormalForm, new: NormalForm) -> str:
    parts = []
    for key in keys:
        if key not in old:
            parts.append(f"no {key} (the file says {_spell(new[key])})")
        elif key not in new:
            parts.append(f"{key} {_spell(old[key])}, which is not known any more")
        else:
            parts.append(f"{key} {_spell(old[key])} (the file says {_spell(new[key])})")
    return ", ".join(parts)


def _remedy(file: StudyFile, keys: list[str], old: NormalForm) -> str:
    """What brings the runs back."""
    words = []
    for key in keys:
        if key not in old:
            words.append(f"leave {key} out")
        elif key in file.grid:
            words.append(f"add {_spell(old[key])} to grid.{key}")
        else:
            words.append(f"--set {key}={_spell(old[key])}")
    return f"keep them by {' '.join(words)}"


def _spell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)
