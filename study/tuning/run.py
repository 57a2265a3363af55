"""`tune`: Optuna suggests the architecture rates, a fixed set of seeds judges them (design, 6).

One trial is one suggestion; its runs are one pack, written to the same tables as any other with
`tune_trial`. What is maximised is the mean derived accuracy on the holdout part.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from itnas.settings import Seeds
from study.errors import StudyError
from study.file.grid import Run, StudySetting
from study.file.identity import effectless
from study.file.schema import RATES, StudyFile, Tune, load_study
from study.file.seeds import compact
from study.file.yaml_file import dump
from study.opening import Launching, open_study
from study.scheduling.progress import Progress
from study.store import checkpoints
from study.store.door import Storage
from study.store.folder import clear_leftovers, study_folder, write_description
from study.store.registry import Pack, Registry, pack_id_of, pack_run

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
    """The rates of a trial, and its number, to its pack."""

    base: StudySetting
    seeds: tuple[Seeds, ...]

    def runs(self, rates: dict[str, Any], number: int) -> list[Run]:
        """The runs of the trial: the base setting with the suggested rates, all seeds."""
        search = replace(self.base.setting.search, **rates)
        normal = self.base.normal | {f"search.{name}": rate for name, rate in rates.items()}
        setting = replace(self.base.setting, search=search)
        one = StudySetting(setting, normal, f"{self.base.name} trial={number}")
        return [Run(one.run_id(seeds), one, seeds) for seeds in self.seeds]

    def __call__(self, rates: dict[str, float], number: int) -> Pack:
        """The trial's pack."""
        runs = self.runs(rates, number)
        members = tuple(pack_run(run, run.setting.name) for run in runs)
        return Pack(pack_id_of([run.run_id for run in runs]), members, number)


def run_tuning(
    file: StudyFile, storage: str, trials: int, how: Launching | None = None
) -> TuneOutcome:
    """Tune until `trials` trials are finished, earlier ones counted; then write `best.yaml`.

    Raises as `launch` does.
    """
    if not study_folder(storage, file.name).is_local:
        raise StudyError(f"--storage {storage}: tune needs a local folder (for its SQLite file)")
    tuning = _ranges(file)
    study = open_study(file, storage, "tune", how or Launching())
    folder, settings = study.folder, study.expansion.settings
    if len(settings) != 1:
        raise StudyError(f"grid: {len(settings)} settings; tune searches rates for exactly one")
    _check_effect(settings[0], tuning)
    plan = Suggested(settings[0], tuple(file.seed_list()))
    _check_same(Registry.read(folder), plan, folder)
    finished = finished_trials(folder, file.name)
    outcome = TuneOutcome(folder, finished, 0)
    if finished < trials:
        progress = Progress(0, 0, 0)
        with study.training(progress) as train:
            from study.cluster.nodes import slots
            from study.tuning.suggest import Suggestions

            registry = Registry.read(folder)
            write_description(folder, file, "tune")
            suggestions = Suggestions(folder, file.name, tuning)

            def announce(pack: Pack) -> None:
                assert pack.tune_trial is not None
                rates = {name: getattr(pack.runs[0].setting.search, name) for name in tuning.ranges}
                for run in plan.runs(rates, pack.tune_trial):
                    registry.register(run)
                registry.packs[pack.pack_id] = [run.run_id for run in pack.runs]
                registry.write(folder)

            suggestions.begin(trials, plan, announce)
            going_on = {plan(t.params, t.number).pack_id for t in suggestions.unfinished()}
            registry.forget_unfinished(study.complete().run_ids, going_on)
            registry.write(folder)
            clear_leftovers(folder)
            checkpoints.clear_all_but(folder, going_on)
            done, each = suggestions.finished(), len(plan.seeds)
            epochs = (trials - done) * each * settings[0].setting.search.epochs
            progress.expect(trials * each, done * each, epochs, trials - done)
            # no more at once than fit, as TPE learns from finished ones
            train(suggestions, max(slots(file.resources), 1))
            outcome.trials = suggestions.finished()
        outcome.trials_new = outcome.trials - finished
        outcome.failed = progress.failed
        outcome.missing = trials - outcome.trials
    if outcome.trials:
        from study.tuning.suggest import Suggestions

        number, objective, rates = Suggestions(folder, file.name, tuning).best()
        outcome.best = {"number": number, "objective": objective, **rates}
        _write_best(folder, file, rates, plan.seeds)
    return outcome


def finished_trials(folder: Storage, name: str) -> int:
    """Trials with an objective so far; makes nothing."""
    from study.tuning.suggest import DATABASE, count_finished

    return count_finished(folder, name) if folder.exists(DATABASE) else 0


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
    ) + dump(content)
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
