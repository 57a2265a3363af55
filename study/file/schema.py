"""The study file: what it may say, how it is read, and `--set` (design, 7)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from itnas.data import DataSettings
from itnas.engine.graphs import check_graphs
from itnas.method.spaces import get_space
from itnas.settings import EngineSettings, SearchSettings, Seeds, SpaceName
from study.errors import StudyError
from study.file.grid_point import GridPoint
from study.file.messages import problems
from study.file.models import Strict, model_of, named, validated
from study.file.seeds import count_seeds, parse_seeds
from study.file.tune import Tune, problems_of
from study.file.yaml_file import parse_value, read_mapping

PROVENANCE = ("software", "git_commit", "command", "launches")
"""keys of a written `study.yaml` that say where it comes from; ignored when it is read again"""

RATES = ("architecture_lr", "transition_lr", "attention_lr")
"""whose `auto` is worked out of the run's length; names as in `SearchSettings`"""

MOST_SETTINGS, MOST_RUNS = 2_000, 100_000
MOST_LINES = 20
"""told of a file with many problems"""


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
GiB = Annotated[float, Field(ge=0.001, le=1e6)]


class Resources(Strict):
    """What Ray reserves for one pack."""

    cpu: float = Field(default=1, gt=0)
    """processors of one pack; also its number of threads (at least one)"""
    gpu: float = Field(default=0, ge=0)
    """GPUs of one pack; 0.25 lets four packs share one"""
    gpu_type: Name | None = None
    """only on nodes with this GPU, by Ray's name for it, such as A100 or H100; left out: any"""
    memory: GiB | None = None
    """GiB of a node's main memory that Ray sets aside for a pack; left out: none"""
    gpu_memory: GiB | Literal["auto"] = "auto"
    """GiB of one GPU, for `pack: auto`; auto: the smallest of those that packs may run on"""

    @field_validator("cpu")
    @classmethod
    def _share(cls, value: float) -> float:
        if 0 < value < 0.01:
            raise ValueError(f"{value:g} is not allowed; at least 0.01")
        return value

    @field_validator("gpu")
    @classmethod
    def _whole(cls, value: float) -> float:
        if 0 < value < 0.01 or (value > 1 and value != int(value)):
            raise ValueError(f"{value:g} is not allowed; 0, a share from 0.01, or a whole number")
        return value

    @model_validator(mode="after")
    def _of_a_gpu(self) -> Resources:
        if self.gpu_type is not None and not self.gpu:
            raise ValueError(f"gpu_type: {self.gpu_type} is asked for with gpu: 0")
        return self

    @property
    def bundle(self) -> dict[str, float]:
        """What one pack asks of Ray, under Ray's names; memory in bytes."""
        found = {"CPU": self.cpu}
        if self.gpu:
            found["GPU"] = self.gpu
        if self.gpu_type is not None:
            found[f"accelerator_type:{self.gpu_type}"] = 0.001
        if self.memory is not None:
            found["memory"] = float(int(self.memory * 2**30))
        return found


class Benchmark(Strict):
    """Tabular accuracies of NAS-Bench-201 for derived genotypes."""

    table: str
    """a Parquet or CSV file (columns architecture, cifar10_valid, cifar10_test, ...), local or a
    URI, or the file or folder that the nats_bench package reads"""
    dataset: Literal["cifar10", "cifar100"] = "cifar10"
    """which accuracies are looked up"""


class Waits(Strict):
    """Seconds that a launch waits."""

    retry_seconds: float = Field(default=10, gt=0)
    """before a pack is tried again after trouble; doubled each time"""
    stale_seconds: float = Field(default=60, gt=0)
    """until a driver elsewhere whose beat stands still counts as dead"""
    head_seconds: float = Field(default=30, gt=0)
    """until a silent head of the cluster ends the launch"""
    stop_seconds: float = Field(default=60, gt=0)
    """for the packs' checkpoints, after Ctrl-C or SIGTERM"""


class StudyFile(Strict):
    """A validated study file. Defaults are filled in; paths are not yet resolved."""

    name: Name
    """name of the study and of its folder in the storage"""
    space: named(SpaceName)  # type: ignore[valid-type]
    """the search space"""
    data: validated(DataSettings) = DataSettings()  # type: ignore[valid-type]
    """the images"""
    search: validated(SearchSettings) = SearchSettings()  # type: ignore[valid-type]
    """the bilevel search; what all settings share"""
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    """what differs between settings: lists under `dependence` or dotted names, crossed"""
    seeds: Any = 0
    """the seeds of every setting: 3, 0..19, a list, or {weights:, data:, architecture:}"""
    pack: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """runs trained together in one process; auto: 4, or on a GPU as many as its memory holds"""
    pack_across_settings: bool = False
    """whether settings whose supernets have one shape may share a pack"""
    resources: Resources = Resources()
    """what one pack is given"""
    engine: model_of(EngineSettings, device="auto") = model_of(  # type: ignore[valid-type]
        EngineSettings, device="auto"
    )()
    """how a search is computed; device auto: cuda where resources.gpu > 0, else cpu"""
    benchmark: Benchmark | None = None
    """tabular accuracies, for nas-bench-201 only"""
    checkpoint_epochs: Annotated[int, Field(ge=1)] = 1
    """a checkpoint at every that many epochs' end"""
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 10
    """and inside an epoch, at the first step after so many minutes"""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """how often a pack is tried again after trouble around it (storage, memory, a lost worker)"""
    fail_fast: bool = False
    """end the launch at the first pack that fails for good"""
    logger: Literal["none", "tensorboard", "mlflow", "wandb"] = "none"
    """shows packs' metrics by epoch elsewhere, too (Ray Tune's callbacks)"""
    waits: Waits = Waits()
    """how long a launch waits for what"""
    tune: Tune | None = None
    """what `tune` searches, and how"""

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        count_seeds(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> StudyFile:
        """What can be judged without the data: grid, space, engine."""
        found = [*self._grid_problems(), *self._space_problems()]
        if self.tune is not None and not found:
            bases = [point.settings[0] for point in self.grid_points()]
            benchmark = self.benchmark is not None
            found += (
                f"tune.{line}"
                for line in problems_of(self.tune, self.seeds, self.grid, bases, benchmark)
            )
        try:
            engine = self.engine_settings()
            check_graphs(engine, get_space(self.space))
        except ValueError as error:
            found.append(f"engine.{error}")
        else:
            if engine.device.startswith("cuda") and not self.resources.gpu:
                found.append(
                    f"engine.device: {engine.device} needs resources.gpu above 0, else Ray gives "
                    "packs no GPU"
                )
        if found:
            raise ValueError("\n".join(found))
        return self

    def _space_problems(self) -> list[str]:
        space, cells = get_space(self.space), self.search.cells
        found = []
        if cells != "auto" and cells < space.minimum_cells:
            allowed = f"at least {space.minimum_cells} in {self.space}"
            found.append(f"search.cells: {cells} is not allowed; {allowed}")
        if self.benchmark is not None and self.space != "nas-bench-201":
            found.append(f"benchmark: only for space nas-bench-201, not {self.space}")
        return found

    def _grid_problems(self) -> list[str]:
        found: list[str] = []
        for key, values in self.grid.items():
            if not values:
                found.append(f"grid.{key}: [] is not allowed; at least one value")
            elif key != "dependence" and not key.startswith(("search.", "dependence.")):
                allowed = "dependence, search.NAME or dependence.NAME, each with a list"
                found.append(f"grid.{key}: unknown key; allowed: {allowed}")
        settings = math.prod(map(len, self.grid.values()))
        if settings > MOST_SETTINGS:
            found.append(f"grid: {settings:,} combinations; at most {MOST_SETTINGS:,}")
        elif (runs := settings * count_seeds(self.seeds)) > MOST_RUNS:
            found.append(f"seeds: {runs:,} runs with this grid; at most {MOST_RUNS:,}")
        if not found:
            points = self.grid_points()
            found += dict.fromkeys(line for point in points for line in point.problems)
        return found

    def grid_points(self) -> list[GridPoint]:
        """Every combination of the grid, the last key varying fastest."""
        points = [GridPoint({}, asdict(self.search), ())]
        for key, values in ({"dependence": [{}]} | self.grid).items():
            points = [
                point.extended(key, index, value)
                for point in points
                for index, value in enumerate(values)
            ]
        return points

    def seed_list(self) -> list[Seeds]:
        """The seeds of every setting, in order."""
        return parse_seeds(self.seeds)

    def engine_settings(self) -> EngineSettings:
        """The engine's settings with `device: auto` resolved."""
        values = dict(self.engine)
        if values["device"] == "auto":
            values["device"] = "cuda" if self.resources.gpu > 0 else "cpu"
        return EngineSettings(**values)

    def resolved(self) -> dict[str, Any]:
        """Plain values, defaults filled in, ready for YAML; reading them gives this again."""
        plain: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, (DataSettings, SearchSettings)):
                plain[name] = asdict(value)
            elif isinstance(value, BaseModel):
                dumped = value.model_dump(exclude_none=True)
                plain[name] = {k: list(v) if type(v) is tuple else v for k, v in dumped.items()}
            elif value is not None:
                plain[name] = value
        return plain


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyFile:
    """Read a study file, apply `--set` overrides (`"a.b=value"`), and validate it.

    Relative paths in `data.source` and `benchmark.table` are taken from the study file's folder
    if they exist there, otherwise from the current directory. Raises `StudyError` with a line
    per problem, naming the file (or the `--set`), the key and what it allows.
    """
    path = Path(path)
    raw = read_mapping(path)
    for key in PROVENANCE:
        raw.pop(key, None)
    places = {_apply(raw, text): _option(text) for text in overrides}
    try:
        file = StudyFile.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"{_origin(problem.path, places) or path}: {problem}"
            for problem in problems(error, raw, StudyFile)
        ]
        more = [f"{path}: {len(lines) - MOST_LINES} more problems"] if lines[MOST_LINES:] else []
        raise StudyError(*lines[:MOST_LINES], *more) from None
    return _with_absolute_paths(file, path.parent)


def _apply(raw: dict[str, Any], text: str) -> str:
    """Set one dotted key; returns the key."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise StudyError(f"{_option(text)}: expected a.b=value, such as search.epochs=10")
    if parts[0] == "grid":  # keys of the grid hold a dot themselves
        parts = ["grid", ".".join(parts[1:])] if len(parts) > 1 else parts
    target: Any = raw
    for depth, part in enumerate(parts[:-1]):
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            place = ".".join(parts[: depth + 1])
            raise StudyError(f"{_option(text)}: {place} holds a value, not keys of its own")
    try:
        target[parts[-1]] = parse_value(value)
    except ValueError as error:
        raise StudyError(f"{_option(text)}: the value is no valid YAML ({error})") from None
    return ".".join(parts)


def _option(text: str) -> str:
    return f"--set {text if len(text) <= 80 else text[:77] + '...'}"


def _origin(path: str, places: dict[str, str]) -> str | None:
    for key, place in places.items():
        if path == key or path.startswith((f"{key}.", f"{key}[")) or key.startswith(f"{path}."):
            return place
    return None


def _with_absolute_paths(file: StudyFile, folder: Path) -> StudyFile:
    changed: dict[str, Any] = {}
    kind, colon, place = file.data.source.partition(":")
    if colon and kind in ("parquet", "imagefolder"):
        values = {**asdict(file.data), "source": f"{kind}:{_absolute(place, folder)}"}
        changed["data"] = DataSettings(**values)
    if file.benchmark is not None:
        table = _absolute(file.benchmark.table, folder)
        changed["benchmark"] = file.benchmark.model_copy(update={"table": table})
    return file.model_copy(update=changed)


def _absolute(place: str, folder: Path) -> str:
    if "://" in place:
        return place
    there = os.path.expanduser(place)  # unlike Path's, this one and `exists` take any text
    beside = os.path.join(folder, there)
    return str(Path(beside if os.path.exists(beside) else there).absolute())
