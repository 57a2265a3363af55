"""What makes two runs the same one: a setting in normal form, and its hash (design, 1 and 5).

The normal form of a setting leaves out what has no effect under its model. It is the same in every
release that computes the same: settings that were added after the first release (`FIRST`) are in it
only where their value is not the one that computes what was computed before they existed. That
value stands with the field, `field(default=..., metadata={"before": ...})`, so that a later change
of the default makes other runs, and none of the old ones anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any

from itnas.data import DataSettings, ImageData
from itnas.method.models import MODELS
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting

NormalForm = dict[str, Any]
"""dotted names (`search.epochs`, `dependence.model`, `data.holdout`, ...) to plain values"""

FIRST = frozenset({
    "space", "engine.precision",
    "data.content", "data.holdout", "data.crop", "data.flip", "data.cutout",
    "search.method", "search.order", "search.epochs", "search.batch_size", "search.channels",
    "search.cells", "search.architecture_lr", "search.transition_lr", "search.attention_lr",
    "search.architecture_weight_decay", "search.transition_weight_decay", "search.weights_lr",
    "search.weights_lr_min", "search.momentum", "search.nesterov", "search.weight_decay",
    "search.gradient_clip",
    "dependence.model", "dependence.sharing", "dependence.attention", "dependence.init",
    "dependence.init_strength", "dependence.trainable", "dependence.own_weight",
    "dependence.temperature", "dependence.stop_gradient",
})  # fmt: skip
"""Settings of the first release: always part of the hash."""

SECTIONS: dict[str, type[Any]] = {
    "data": DataSettings,
    "search": SearchSettings,
    "dependence": DependenceSettings,
}
"""Where settings of the hash stand, besides `space` and `engine.precision`."""

CONTENT = frozenset({"data.source", "data.resolution", "data.color", "data.subset"})
"""Settings that decide which images there are: the hash has the images themselves."""


def short_hash(value: Any) -> str:
    """12 hexadecimal digits of a canonical JSON text; equal values, equal hash."""
    return _hash(_canonical(value))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def seeded_hashes(normal: NormalForm) -> Callable[[Seeds], str]:
    """The `short_hash` of a normal form together with some `seeds`, for many of them."""
    mark = '"seeds":['
    first, _, last = _canonical({**normal, "seeds": []}).partition(mark)

    def of(seeds: Seeds) -> str:
        numbers = ",".join(map(str, vars(seeds).values()))
        return _hash(f"{first}{mark}{numbers}{last}")

    return of


def before(setting: Field[Any]) -> Any:
    """The value of a later setting that computes what was computed before it existed."""
    return setting.metadata.get("before", setting.default)


def value_in(normal: NormalForm, key: str) -> Any:
    """A setting's value in a normal form of any release.

    None where it is without effect, or is a setting of another release.
    """
    section, _, name = key.partition(".")
    if key in normal or key in FIRST | CONTENT or section not in SECTIONS:
        return normal.get(key)
    return next((before(f) for f in fields(SECTIONS[section]) if f.name == name), None)


def data_identity(data: ImageData, content: str | None = None) -> dict[str, Any]:
    """What of the data is part of a run's identity: content, split and augmentation.

    content: `data.content_hash()`, where it is known.
    """
    settings = data.settings
    first = {
        "content": content or data.content_hash(),
        "holdout": settings.holdout,
        "crop": settings.crop,
        "flip": settings.flips,
        "cutout": settings.cutout,
    }
    return first | _later("data", settings)


def effectless(dependence: DependenceSettings) -> set[str]:
    """Dotted names of settings that change nothing under this model (design, 1)."""
    names = set(MODELS[dependence.model].without_effect)
    if dependence.init == "uniform":
        names.add("dependence.init_strength")
    if not dependence.trainable:
        names.add("search.transition_lr")
    if dependence.attention == "uniform":
        names.add("search.attention_lr")
    if names >= {"search.transition_lr", "search.attention_lr"}:
        names.add("search.transition_weight_decay")
    return names


def normal_form(setting: Setting, data: Mapping[str, Any], engine: EngineSettings) -> NormalForm:
    """A resolved setting as plain values under dotted names, without what has no effect."""
    values: NormalForm = {"space": setting.space, "engine.precision": engine.precision}
    values |= {f"data.{name}": value for name, value in data.items()}
    values |= _section("search", setting.search) | _section("dependence", setting.dependence)
    return {k: v for k, v in values.items() if k not in effectless(setting.dependence)}


def dependence_form(dependence: DependenceSettings) -> NormalForm:
    """The part of a normal form that is the dependence's."""
    values = _section("dependence", dependence)
    return {k: v for k, v in values.items() if k not in effectless(dependence)}


def _section(section: str, part: Any) -> NormalForm:
    """Settings of a section: those of the first release, and later ones that compute something."""
    first = {
        f.name: _plain(f, getattr(part, f.name))
        for f in fields(part)
        if f"{section}.{f.name}" in FIRST
    }
    return {f"{section}.{name}": v for name, v in (first | _later(section, part)).items()}


def _later(section: str, part: Any) -> dict[str, Any]:
    """Settings that were added after the first release and compute something new."""
    return {
        f.name: _plain(f, getattr(part, f.name))
        for f in fields(part)
        if f"{section}.{f.name}" not in FIRST | CONTENT and getattr(part, f.name) != before(f)
    }


def _plain(f: Field[Any], value: Any) -> Any:
    """1 and 1.0 are one rate."""
    return float(value) if "float" in str(f.type) else value
