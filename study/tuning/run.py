"""`tune`: Optuna suggests the architecture rates, a fixed set of seeds judges them (design, 6).

One trial is one suggestion; its runs are one pack, written to the same tables as any other with
`tune_trial`. What is maximised is the mean derived accuracy on the holdout part.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from itnas.settings import Seeds
from study.errors import StudyError
from study.file.grid import Run, StudySetting, effectless, expand
from study.file.schema import RATES, StudyFile, Tune, load_study
from study.file.seeds import compact
from study.launch import Notify, check_device, read_data, running
from study.scheduling.progress import Progress
from study.store.benchmark import read_benchmark
from study.store.door import Storage
from study.store.folder import check_folder, study_folder, write_description
from study.store.lock import Heartbeat, refuse_if_running
from study.store.registry import Pack, Registry, pack_id_of, pack_run
from study.store.shards import read_runs

BEST = "tune/best.yaml"


@dataclass
class TuneOutcome:
    """What a tuning came to."""

    folder: Storage
    trials: int
    """finished trials, those of earlier calls included"""
    trials_new: int
    best: dict[str, Any] | None = None
    """number, objective and rates of the best trial"""
    failed: dict[str, str] = field(default_factory=dict)
    """the last line of each failed trial's error, by pack"""
    missing: int = 0
    """trials asked for and not finished"""


@dataclass(frozen=True)
class Suggested:
    """A trial's configuration (rates and `tune_trial`) to its pack."""

    base: StudySetting
    seeds: tuple[Seeds, ...]

    def setting(self, config: dict[str, Any]) -> StudySetting:
        """The base setting with the suggested rates."""
        rates = {name: config[name] for name in RATES if name in config}
        search = replace(self.base.setting.search, **rates)
        normal = self.base.normal | {f"search.{name}": rate for name, rate in rates.items()}
        name = f"{self.base.name} trial={config['tune_trial']}"
        return StudySetting(replace(self.base.setting, search=search), normal, name)

    def runs(self, config: dict[str, Any]) -> list[Run]:
        """The runs of the trial."""
        one = self.setting(config)
        return [Run(one.run_id(seeds), one, seeds) for seeds in self.seeds]

    def __call__(self, config: dict[str, Any]) -> tuple[Pack, int]:
        """The trial's pack and number."""
        runs = self.runs(config)
        pack_id = pack_id_of([run.run_id for run in runs])
        members = tuple(pack_run(run, run.setting.name) for run in runs)
        return Pack(pack_id, members), config["tune_trial"]


def run_tuning(
    file: StudyFile,
    storage: str,
    trials: int,
    address: str | None = None,
    notify: Notify = print,
) -> TuneOutcome:
    """Tune until `trials` trials are finished, earlier ones counted; then write `best.yaml`.

    Raises `StudyError` for what can be refused before anything runs, `KeyboardInterrupt` on
    SIGINT and SIGTERM.
    """
    folder = study_folder(storage, file.name)
    if not folder.is_local:
        raise StudyError(f"--storage {storage}: tune needs a local folder (for its SQLite file)")
    check_folder(folder, "tune")
    refuse_if_running(folder)
    check_device(file, local=address is None)
    tuning = _ranges(file)
    lookup = read_benchmark(file.benchmark) if file.benchmark else None
    data = read_data(file)
    settings = expand(file, data).settings
    if len(settings) != 1:
        raise StudyError(f"grid: {len(settings)} settings; tune searches rates for exactly one")
    _check_effect(settings[0], tuning)
    plan = Suggested(settings[0], tuple(file.seed_list()))
    registry = Registry.read(folder)
    _check_same(registry, plan, folder)
    write_description(folder, file, "tune")
    from study.tuning.suggest import Suggestions  # Optuna and Ray, once nothing is left to refuse

    suggestions = Suggestions(folder, file.name, tuning, len(plan.seeds))
    finished = suggestions.finished()
    outcome = TuneOutcome(folder, finished, 0)
    if finished < trials:
        progress = Progress(
            trials * len(plan.seeds),
            finished * len(plan.seeds),
            (trials - finished) * len(plan.seeds) * settings[0].setting.search.epochs,
        )

        def announce(config: dict[str, Any]) -> None:
            runs = plan.runs(config)
            registry.packs[pack_id_of([run.run_id for run in runs])] = [r.run_id for r in runs]
            for run in runs:
                registry.register(run)
            registry.write(folder)

        def next_round() -> tuple[dict[str, Any], dict[str, Any]] | None:
            left = trials - suggestions.finished() - len(progress.failed)
            return ({}, suggestions.options(left, announce, file.resources)) if left > 0 else None

        with Heartbeat(folder, progress) as heartbeat:
            _forget_unfinished(registry, folder)
            registry.write(folder)
            with running(file, folder, address, data, lookup, heartbeat, notify) as start:
                start(plan, lambda c: (plan(c)[0].pack_id, len(plan.seeds)), next_round)
        outcome.trials = suggestions.finished()
        outcome.trials_new = outcome.trials - finished
        outcome.failed = progress.failed
        outcome.missing = trials - outcome.trials
    if outcome.trials:
        number, objective, rates = suggestions.best()
        outcome.best = {"number": number, "objective": objective, **rates}
        _write_best(folder, file, rates, plan.seeds)
    return outcome


def _ranges(file: StudyFile) -> Tune:
    if file.tune is None or not file.tune.ranges:
        rates = ", ".join(RATES)
        raise StudyError(f"tune: no rate has a range; give [low, high] to one of {rates}")
    return file.tune


def _check_effect(one: StudySetting, tuning: Tune) -> None:
    without = effectless(one.setting.dependence)
    for name in tuning.ranges:
        if f"search.{name}" in without:
            raise StudyError(f"tune.{name}: has no effect under this setting ({one.name})")


def _check_same(registry: Registry, plan: Suggested, folder: Storage) -> None:
    """Trials of one study must be comparable: the same setting but for its rates, and seeds."""

    def core(normal: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in normal.items() if k.removeprefix("search.") not in RATES}

    seeds = {tuple(run["seeds"]) for run in registry.runs.values()}
    own = {tuple(vars(s).values()) for s in plan.seeds}
    for known in registry.settings.values():
        differing = [
            key
            for key, value in core(plan.base.normal).items()
            if known["setting"].get(key, value) != value
        ]
        if differing or seeds != own:
            what = ", ".join(differing) or "seeds"
            raise StudyError(
                f"{folder}: earlier trials had other {what}; give the study file another name"
            )


def _forget_unfinished(registry: Registry, folder: Storage) -> None:
    complete = {row["run_id"] for row in read_runs(folder, [])}
    registry.packs = {p: ids for p, ids in registry.packs.items() if complete.issuperset(ids)}
    registry.runs = {r: run for r, run in registry.runs.items() if r in complete}
    names = {run["setting"] for run in registry.runs.values()}
    registry.settings = {s: e for s, e in registry.settings.items() if e["name"] in names}


def _write_best(
    folder: Storage, file: StudyFile, rates: dict[str, float], seeds: tuple[Seeds, ...]
) -> None:
    """A study file with the best rates and fresh seeds, checked by reading it."""
    content = file.resolved()
    content.pop("tune")
    content["name"] = f"{file.name}-best"
    content["search"] |= rates
    content["grid"] = {
        key: value for key, value in file.grid.items() if key.removeprefix("search.") not in rates
    }
    content["seeds"] = _fresh(seeds)
    text = (
        f"# The best rates that `tune` found in study {file.name}.\n"
        "# The seeds are fresh: the rates were chosen because they did well on the old ones, so\n"
        "# on those they would look better than they are.\n"
    ) + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    folder.write(BEST, text)
    load_study(folder.path(BEST))


def _fresh(seeds: tuple[Seeds, ...]) -> Any:
    """As many seeds as before, starting after the largest; crossed ones part by part."""
    first = max(max(vars(s).values()) for s in seeds) + 1
    if all(len(set(vars(s).values())) == 1 for s in seeds):
        return compact(list(range(first, first + len(seeds))))
    parts = ("weights", "data", "architecture")
    return {
        part: compact(list(range(first, first + len({getattr(s, part) for s in seeds}))))
        for part in parts
    }
