"""`seeds:` of a study file: which seeds are run (design, 4)."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

from itnas.settings import Seeds
from study.file.messages import shown

MOST_SEEDS = 100_000
PARTS = ("weights", "data", "architecture")
ALLOWED = (
    "a seed (3), a range with both ends (0..19), a list ([0, 1, 5..9]), or "
    "{weights: ..., data: ..., architecture: ...}, which are crossed"
)


def parse_seeds(value: Any) -> list[Seeds]:
    """Seeds in the order given, each once; `ValueError` with one line for anything else.

    A mapping crosses its three parts, the architecture seed varying fastest; a part that is
    left out is 0.
    """
    if isinstance(value, dict):
        parts = _crossed(value)
        return [Seeds(*combination) for combination in itertools.product(*parts)]
    return [Seeds.all(seed) for seed in _numbers(value)]


def count_seeds(value: Any) -> int:
    """How many seeds `parse_seeds` gives, without making them; refuses as it does."""
    if isinstance(value, dict):
        return math.prod(map(len, _crossed(value)))
    return len(_numbers(value))


def _crossed(value: dict[str, Any]) -> list[list[int]]:
    unknown = [key for key in value if key not in PARTS]
    if unknown or not value:
        raise ValueError(f"{shown(unknown[0] if unknown else value)} is not allowed; {ALLOWED}")
    parts = [_numbers(value.get(part, 0)) for part in PARTS]
    if math.prod(map(len, parts)) > MOST_SEEDS:
        raise ValueError(f"more than {MOST_SEEDS:,} combinations")
    return parts


def _numbers(value: Any) -> list[int]:
    items = value if isinstance(value, list) else [value]
    numbers: dict[int, None] = {}
    for item in items:
        numbers.update(dict.fromkeys(_range(item)))
        if len(numbers) > MOST_SEEDS:
            raise ValueError(f"more than {MOST_SEEDS:,} seeds")
    if not numbers:
        raise ValueError(f"{shown(value)} is not allowed; {ALLOWED}")
    return list(numbers)


def _range(item: Any) -> range:
    if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**31:
        return range(item, item + 1)
    text = item if isinstance(item, str) else ""
    if match := re.fullmatch(r"\s*([0-9]{1,10})\s*\.\.\s*([0-9]{1,10})\s*", text):
        first, last = int(match[1]), int(match[2])
        if first <= last < 2**31:
            return range(first, min(last, first + MOST_SEEDS) + 1)
    raise ValueError(f"{shown(item)} is not allowed; {ALLOWED}")


def spell_seeds(triples: list[tuple[int, ...]]) -> str:
    """`seeds:` as a file would hold it, for some seeds (weights, data, architecture).

    Where a run's three seeds differ, they are crossed, which may be more than those given.
    """
    columns = [sorted(set(column)) for column in zip(*triples, strict=True)]
    if all(len(set(triple)) == 1 for triple in triples):
        return _ranges(columns[0])
    parts = (f"{name}: {_ranges(column)}" for name, column in zip(PARTS, columns, strict=True))
    return f"{{{', '.join(parts)}}}"


def _ranges(numbers: list[int]) -> str:
    """Sorted numbers: `3`, `0..19` or `[0..4, 7]`."""
    texts: list[str] = []
    for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        last = f"..{members[-1]}" if len(members) > 1 else ""
        texts.append(f"{members[0]}{last}")
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def compact(numbers: list[int]) -> Any:
    """The shortest way to write some seeds: `3`, `0..19` or a list."""
    if len(numbers) == 1:
        return numbers[0]
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}..{numbers[-1]}"
    return numbers
