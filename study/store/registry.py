"""Packs and names, written down once and reused by every relaunch: `packs.json` (design, 4)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from itnas.data import ImageData
from itnas.settings import DIFFERING, Seeds, Setting
from study.errors import StudyError
from study.file.grid import Expansion, Run, StudySetting, distinguish
from study.file.identity import NormalForm
from study.file.schema import RATES, StudyFile
from study.store.door import Storage

REGISTRY = "packs.json"
AUTO_PACK = 4
"""`pack: auto` on the CPU: enough to spread a study over the processors of one machine"""
LARGEST_PACK = 64
"""`pack: auto` on a GPU, whatever would fit"""
ASSUMED_GPU_MEMORY = 16
"""GiB, where this machine has no GPU and the study file does not say"""
MEMORY_SHARE = 0.85
"""of a GPU's memory, for what the estimate does not see"""


@dataclass(frozen=True)
class PackRun:
    """One run as its trial sees it."""

    run_id: str
    name: str
    """of its setting"""
    setting: Setting
    seeds: Seeds
    columns: dict[str, Any] = field(hash=False)
    """the setting's columns of the `runs` table; null where without effect"""
    data: tuple[tuple[str, Any], ...] = ()
    """keys of `data` that are otherwise than in the study file; equal in a pack"""


@dataclass(frozen=True, repr=False)
class Pack:
    """Runs trained together in one process."""

    pack_id: str
    runs: tuple[PackRun, ...]
    tune_trial: int | None = None
    """under `tune`, the number of its trial"""

    def __repr__(self) -> str:
        """Short: it stands in the configuration of its trial, where loggers show it."""
        return f"pack {self.pack_id}"


def pack_id_of(run_ids: list[str]) -> str:
    """Hash of the sorted run_ids: 12 hexadecimal digits."""
    return hashlib.blake2b(" ".join(sorted(run_ids)).encode(), digest_size=6).hexdigest()


def setting_columns(one: StudySetting) -> dict[str, Any]:
    """The columns of `runs` that come from a setting, null where it has no effect."""
    dependence = (
        *("model", "sharing", "attention", "init", "init_strength", "trainable", "own_weight"),
        *("temperature", "stop_gradient"),
    )
    columns = {name: one.normal.get(f"dependence.{name}") for name in dependence}
    columns["stop_gradient"] = bool(columns["stop_gradient"])  # never null in the contract
    columns |= {name: one.normal.get(f"search.{name}") for name in RATES}
    return {"space": one.normal["space"], **columns, "epochs": one.normal["search.epochs"]}


def pack_run(run: Run, name: str) -> PackRun:
    """A run of an expansion, ready to be trained under the name of its setting."""
    one = run.setting
    return PackRun(run.run_id, name, one.setting, run.seeds, setting_columns(one), one.data)


class Registry:
    """What `packs.json` holds: names of settings, seeds of runs, and packs.

    Names and packs once given stay. A pack that was never completed and is no longer asked for
    as a whole is forgotten, so that `status` counts what the user last wanted.
    """

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        content = content or {}
        self.settings: dict[str, dict[str, Any]] = content.get("settings", {})
        """by setting_id: its name and its normal form"""
        self.runs: dict[str, dict[str, Any]] = content.get("runs", {})
        """by run_id: the name of its setting, and its seeds (weights, data, architecture)"""
        self.packs: dict[str, list[str]] = content.get("packs", {})
        """by pack_id: its run_ids"""
        self.size: int | None = content.get("pack")
        """runs in a new pack, as the last launch made them; None where that was not noted"""

    @classmethod
    def read(cls, storage: Storage) -> Registry:
        """The registry of a study folder; an empty one if it has none yet."""
        text = storage.read(REGISTRY)
        try:
            return cls(json.loads(text) if text else None)
        except ValueError:
            raise StudyError(f"{storage.path(REGISTRY)}: cannot be read as JSON") from None

    def write(self, storage: Storage) -> None:
        """Write it back as a whole."""
        content = {
            "pack": self.size,
            "settings": self.settings,
            "runs": self.runs,
            "packs": self.packs,
        }
        storage.write(REGISTRY, json.dumps(content, indent=1) + "\n")

    def include(
        self, expansion: Expansion, file: StudyFile, complete: set[str], size: int
    ) -> list[Pack]:
        """Name and pack what is new; returns the packs that are still to be trained, in order.

        `complete` holds the run_ids that are in `runs/`; `size` is the number of runs in a new
        pack (see `pack_size`).
        """
        self.size = size
        asked = {run.run_id: run for run in expansion.runs}
        self._forget(set(asked), complete)
        for one in expansion.settings:
            self.name(one)
        done = complete.union(*self.packs.values())
        new = [r for r in expansion.runs if r.run_id not in done]
        for run_ids in self._grouped(new, file, size):
            self.packs[pack_id_of(run_ids)] = run_ids
        for run in expansion.runs:
            self.register(run)
        return [
            self._pack(pack_id, [asked[run_id] for run_id in run_ids])
            for pack_id, run_ids in self.packs.items()
            if not complete.issuperset(run_ids)
        ]

    def add(self, runs: list[Run]) -> Pack:
        """Name and write down some runs as one pack."""
        for run in runs:
            self.register(run)
        run_ids = [run.run_id for run in runs]
        pack_id = pack_id_of(run_ids)
        self.packs[pack_id] = run_ids
        return self._pack(pack_id, runs)

    def _pack(self, pack_id: str, runs: list[Run]) -> Pack:
        return Pack(pack_id, tuple(pack_run(run, self.name(run.setting)) for run in runs))

    def complete_runs(
        self, complete: set[str]
    ) -> tuple[dict[str, NormalForm], dict[str, tuple[str, list[int]]]]:
        """Normal forms of settings by name, and of complete runs the setting's name and seeds."""
        known = {entry["name"]: entry["setting"] for entry in self.settings.values()}
        runs = {
            run_id: (run["setting"], run["seeds"])
            for run_id, run in self.runs.items()
            if run_id in complete
        }
        return known, runs

    def new_settings(self, expansion: Expansion) -> list[str]:
        """Names of the settings that this study has not had; [] for its first launch."""
        if not self.settings:
            return []
        return [one.name for one in expansion.settings if one.setting_id not in self.settings]

    def kept_packs(self, asked: list[str], complete: set[str], size: int) -> list[str]:
        """A line where packs that were made with another `pack` are still to be trained."""
        wanted = set(asked)
        kept = [
            len(run_ids)
            for run_ids in self.packs.values()
            if wanted.issuperset(run_ids) and not complete.issuperset(run_ids)
        ]
        if not kept or size == (self.size or max(kept)):
            return []
        return [
            f"pack: {size} is for new runs; {len(kept)} packs that are not complete stay as they "
            f"were made (of up to {max(kept)} runs)"
        ]

    def register(self, run: Run) -> None:
        """Write down a run's setting and seeds."""
        seeds = list(vars(run.seeds).values())
        self.runs[run.run_id] = {"setting": self.name(run.setting), "seeds": seeds}

    def name(self, one: StudySetting) -> str:
        """The setting's name in this study: the one it has, or a new one that is free."""
        known = self.settings.get(one.setting_id)
        if known is None:
            taken = {entry["name"]: entry["setting"] for entry in self.settings.values()}
            name = one.name
            if name in taken:
                name = distinguish(name, one.normal, [taken[name]])
            if name in taken:
                name = f"{name} {one.setting_id[:4]}"
            known = self.settings[one.setting_id] = {"name": name, "setting": one.normal}
        return known["name"]

    def _forget(self, asked: set[str], complete: set[str]) -> None:
        self.packs = {
            pack_id: run_ids
            for pack_id, run_ids in self.packs.items()
            if complete.issuperset(run_ids) or asked.issuperset(run_ids)
        }
        self._forget_runs(complete)

    def _forget_runs(self, complete: set[str]) -> None:
        kept = complete.union(*self.packs.values())
        self.runs = {run_id: run for run_id, run in self.runs.items() if run_id in kept}
        names = {run["setting"] for run in self.runs.values()}
        self.settings = {s: entry for s, entry in self.settings.items() if entry["name"] in names}

    def forget_unfinished(self, complete: set[str], but: set[str]) -> None:
        """Forget packs that are not complete, but for some that go on, and their runs."""
        self.packs = {
            pack_id: run_ids
            for pack_id, run_ids in self.packs.items()
            if pack_id in but or complete.issuperset(run_ids)
        }
        self._forget_runs(complete)

    @staticmethod
    def _grouped(runs: list[Run], file: StudyFile, size: int) -> list[list[str]]:
        """Consecutive runs of one setting, or of one shape of supernet, in packs."""
        groups: dict[Any, list[str]] = {}
        for run in runs:
            one = run.setting
            key = _shape(one) if file.pack_across_settings else one.setting_id
            groups.setdefault(key, []).append(run.run_id)
        return [ids[n : n + size] for ids in groups.values() for n in range(0, len(ids), size)]


def _shape(one: StudySetting) -> str:
    """What the settings of one pack must agree in."""
    own = {f"search.{name}" for name in DIFFERING}
    items = sorted(one.normal.items())
    return str([(k, v) for k, v in items if not k.startswith("dependence.") and k not in own])


def pack_size(
    file: StudyFile, expansion: Expansion, data: ImageData, gpu_bytes: float | None = None
) -> int:
    """How many runs a new pack has: `pack`, or what its `auto` comes to.

    On a GPU as many as its memory holds by the estimate, else `AUTO_PACK`. That memory is
    `resources.gpu_memory`, else `gpu_bytes` (what the nodes said), else this machine's GPU's.
    """
    if file.pack != "auto":
        return file.pack
    if not file.engine_settings().device.startswith("cuda"):
        return AUTO_PACK
    from itnas.engine.memory import peak_bytes

    share = min(file.resources.gpu, 1.0) * MEMORY_SHARE
    memory = (_asked_bytes(file) or gpu_bytes or _own_bytes()) * share - data.images.numel()
    precision = file.engine_settings().precision
    sizes = []
    for one in {_shape(one): one for one in expansion.settings}.values():
        given = one.setting, data.channels, data.resolution, data.classes
        # linear from two runs on; one run has views where more have copies
        two, three = (peak_bytes(*given, replicas, precision) for replicas in (2, 3))
        sizes.append(2 + (memory - two) // (three - two))
    return min(max(int(min(sizes)), 1), LARGEST_PACK)


def _asked_bytes(file: StudyFile) -> float | None:
    memory = file.resources.gpu_memory
    return None if memory == "auto" else memory * 2**30


def _own_bytes() -> float:
    """Memory of this machine's GPU."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return ASSUMED_GPU_MEMORY * 2**30
