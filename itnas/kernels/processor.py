"""Which processor this is: what a library that was built for it depends on, and what it supports.

Reads Linux's /proc/cpuinfo; elsewhere nothing is known, and the engine takes torch's operations.
"""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
IDENTIFYING = frozenset({
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),  # x86
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),  # Arm
    "Features",
})  # fmt: skip
LEVELS = {
    "x86-64-v2": "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3",
    "x86-64-v3": "avx avx2 bmi1 bmi2 f16c fma abm movbe",  # abm: lzcnt
    "x86-64-v4": "avx512f avx512bw avx512cd avx512dq avx512vl",
}
"""Portable targets of the compiler, what each needs beyond the one before it (x86-64 psABI)"""


def identifying_lines() -> list[str]:
    """What tells this processor from others, of all its cores, sorted; [] where nothing does."""
    return sorted({f"{name}: {value}" for name, value in _pairs() if name in IDENTIFYING})


def targets() -> list[str]:
    """Portable targets of this kind of machine, the most capable first."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return list(reversed(LEVELS)) if x86 else []


def supported_targets() -> list[str]:
    """The portable targets whose instructions this processor has, the most capable first."""
    cores = [set(value.split()) for name, value in _pairs() if name == "flags"]
    flags = set.intersection(*cores) if cores else set()
    found: list[str] = []
    for target in reversed(targets()):
        if not flags.issuperset(LEVELS[target].split()):
            break
        found.append(target)
    return found[::-1]


def _pairs() -> list[tuple[str, str]]:
    """Names and values of /proc/cpuinfo."""
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        return []
    split = (line.partition(":") for line in lines)
    return [(name.strip(), value.strip()) for name, _, value in split]
