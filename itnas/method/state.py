"""A pack's state as tensors and plain values: copies of a moment, whose they are, what fits.

What is read here may come from anywhere (another pack, another release, a damaged file), so every
check is made before a pack takes over anything, and says in one line what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor

from itnas.method.records import CellRecord, EpochRecord
from itnas.method.spaces import CellKind
from itnas.settings import Seeds, Setting


def identity(settings: Sequence[Setting], seeds: Sequence[Seeds]) -> list[dict[str, Any]]:
    """What tells runs apart, as plain values: by run its setting, under dotted names, and seeds.

    Resolved settings. One that was added after the first release and declares `before`, the value
    that computes what was computed without it, is named where it has another value only: states of
    earlier releases stay of use.
    """
    return [
        {"setting": _dotted(setting), "seeds": asdict(seed)}
        for setting, seed in zip(settings, seeds, strict=True)
    ]


def _dotted(setting: Setting) -> dict[str, Any]:
    values: dict[str, Any] = {"space": setting.space}
    for section in ("search", "dependence"):
        part = getattr(setting, section)
        for f in fields(part):
            value = getattr(part, f.name)
            if "before" not in f.metadata or value != f.metadata["before"]:
                values[f"{section}.{f.name}"] = value
    return values


# -- tensors --------------------------------------------------------------------------------


def copied(tree: Any, device: torch.device | str = "cpu") -> Any:
    """Nested dictionaries and lists with every tensor copied to the device, sharing no memory."""
    if isinstance(tree, Tensor):
        return tree.detach().to(device, copy=True)
    if isinstance(tree, dict):
        return {key: copied(value, device) for key, value in tree.items()}
    if isinstance(tree, list):
        return [copied(value, device) for value in tree]
    return tree


def stacked(steps: Sequence[Tensor], like: Tensor) -> Tensor:
    """(steps, K) of what every step gave, (K,) each; also of no step, with the type of `like`."""
    return torch.stack(list(steps)) if steps else like.new_empty(0, len(like))


# -- histories ------------------------------------------------------------------------------


def history_state(history: Sequence[EpochRecord]) -> dict[str, Any]:
    """A run's history: metrics by epoch, and all numbers of a cell kind, (epochs, numbers) float64.

    As tensors, because a state is written and read every epoch, and nested lists of a hundred
    thousand numbers (DARTS, 50 epochs) take seconds where a tensor takes milliseconds.
    """
    return {
        "metrics": [dict(record.metrics) for record in history],
        "cells": {
            kind: torch.tensor([_numbers(r.cells[kind]) for r in history], dtype=torch.float64)
            for kind in history[0].cells
        },
    }


def history_from(state: dict[str, Any], start: EpochRecord) -> list[EpochRecord]:
    """The inverse of `history_state`; `start` is the run's own initialisation, for the shapes."""
    cells: dict[CellKind, list[CellRecord]] = {
        kind: [_like(start.cells[kind], iter(row)) for row in numbers.tolist()]
        for kind, numbers in state["cells"].items()
    }
    return [
        EpochRecord(n - 1, {kind: records[n] for kind, records in cells.items()}, dict(metrics))
        for n, metrics in enumerate(state["metrics"])
    ]


def _numbers(cell: CellRecord) -> list[float]:
    """Probabilities, attention and matrices, one after another."""
    rows = chain.from_iterable(cell.matrices)
    return [*chain(*cell.probabilities), *cell.attention, *chain.from_iterable(rows)]


def _like(cell: CellRecord, numbers: Iterator[float]) -> CellRecord:
    """A record of the same shapes with other numbers."""

    def refilled(values: list[Any]) -> list[Any]:
        return [refilled(v) if isinstance(v, list) else next(numbers) for v in values]

    return CellRecord(*(refilled(values) for values in vars(cell).values()))


# -- checks ---------------------------------------------------------------------------------


def check(
    state: Any,
    own: dict[str, Any],
    sums: dict[str, Tensor],
    starts: Sequence[EpochRecord],
    epochs: int,
    steps: int,
) -> None:
    """ValueError, with one line, unless a pack can take this state.

    `own` is what must agree (see `_same`), `sums` what has a row for every step of an epoch, (n, K)
    each; `starts` are the runs' initialisations.
    """
    rest = ("epoch", "epoch_step", *sums, "diverged", "histories", "seconds")
    _keys(state, (*own, *rest), "")
    for name, value in own.items():
        _same(state[name], value, name)
    epoch = _count(state["epoch"], epochs, "epoch")
    step = _count(state["epoch_step"], steps, "epoch_step")
    for name, value in sums.items():
        _same(state[name], value.new_empty(step, len(starts)), name)
    _list(state["diverged"], bool, len(starts), "diverged")
    _list(state["seconds"], float, 3, "seconds")
    _list(state["histories"], dict, len(starts), "histories")
    for k, start in enumerate(starts):
        least = 0 if state["diverged"][k] else epoch
        _history(state["histories"][k], start, least, epoch, f"histories[{k}]")


def _refusal(why: str) -> ValueError:
    """The exception for a state that a pack cannot take, with one line."""
    return ValueError(f"this state is not one of this pack: {why}")


def _same(given: Any, own: Any, name: str) -> None:
    """ValueError unless two trees have the same keys, lengths and values, and tensors one shape and
    type; what the tensors hold may differ. `name` says where in the state they are.
    """
    if isinstance(own, dict):
        _keys(given, own.keys(), name)
        for key, value in own.items():
            _same(given[key], value, f"{name}.{key}" if name else str(key))
    elif isinstance(own, list):
        if not isinstance(given, list) or len(given) != len(own):
            raise _refusal(f"{name} is {_spell(given)} there, {_spell(own)} here")
        for n, value in enumerate(own):
            _same(given[n], value, f"{name}[{n}]")
    else:
        plain = isinstance(given, bool | int | float | str | None)
        same = _spell(given) == _spell(own) if isinstance(own, Tensor) else plain and given == own
        if not same:
            raise _refusal(f"{name} is {_spell(given)} there, {_spell(own)} here")


def _keys(given: Any, own: Any, name: str) -> None:
    """ValueError unless `given` is a dictionary with these keys."""
    place = name or "it"
    if not isinstance(given, dict):
        raise _refusal(f"{place} is {_spell(given)}, not a dictionary")
    missing = [key for key in own if key not in given]
    if missing:
        raise _refusal(f"{place} has no {_spell(missing[0])}")
    unknown = [key for key in given if key not in own]
    if unknown:
        raise _refusal(f"{place} has a {_spell(unknown[0])}, which is not known here")


def _count(given: Any, most: int, name: str) -> int:
    """ValueError unless `given` is a whole number from 0 to `most`."""
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= most:
        raise _refusal(f"{name} is {_spell(given)}, not 0 to {most}")
    return given


def _list(given: Any, kind: type, count: int, name: str) -> None:
    """ValueError unless `given` is a list of so many values of one type."""
    if not isinstance(given, list) or len(given) != count:
        raise _refusal(f"{name} is {_spell(given)}, not a list of {count}")
    for n, value in enumerate(given):
        if not isinstance(value, kind):
            raise _refusal(f"{name}[{n}] is {_spell(value)}, not a {kind.__name__}")


def _history(given: Any, start: EpochRecord, least: int, most: int, name: str) -> None:
    """ValueError unless `given` is a `history_state` of `least` to `most` epochs after `start`."""
    _keys(given, ("metrics", "cells"), name)
    metrics = given["metrics"]
    if not isinstance(metrics, list) or not least <= len(metrics) - 1 <= most:
        raise _refusal(f"{name}.metrics is {_spell(metrics)} where epoch {most} has been reached")
    for n, values in enumerate(metrics):
        sound = isinstance(values, dict) and all(
            isinstance(key, str) and isinstance(value, float | None)
            for key, value in values.items()
        )
        if not sound:
            raise _refusal(f"{name}.metrics[{n}] is {_spell(values)}, not metrics by name")
    own = history_state([start])["cells"]
    wanted = {kind: numbers.expand(len(metrics), -1) for kind, numbers in own.items()}
    _same(given["cells"], wanted, f"{name}.cells")


def _spell(value: Any) -> str:
    """A value in a few words, whatever it is."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, bool | int | float | str | None):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(cast(Any, value))}"
    return f"a {type(value).__name__}"
