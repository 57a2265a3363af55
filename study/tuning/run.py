"""`tune`: Optuna suggests settings, a race spends the seeds, fresh seeds confirm (design, 6).

Its runs are ordinary runs in the study's tables, those of trials with `tune_trial`. What is known
of a trial lies in Optuna's database; whatever was running when the driver was killed goes on from
there and from its packs' checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from study.errors import StudyError, first_line
from study.file.grid import Run
from study.file.schema import StudyFile
from study.file.tune import TRANSFER
from study.opening import Launching, OpenStudy, open_study
from study.scheduling.progress import Progress
from study.store import checkpoints
from study.store.door import Storage
from study.store.folder import study_folder, write_description
from study.store.registry import Pack, Registry, pack_size
from study.store.shards import read_runs
from study.tuning import CONFIRM, MOST_CONFIRMED
from study.tuning.confirm import Confirmation, confirmation
from study.tuning.plan import TuningPlan, plan_tuning
from study.tuning.record import BEST, best_file, check_best, chosen, record, write_record

Found = TypeVar("Found")


@dataclass
class TuneOutcome:
    """What a tuning came to."""

    folder: Storage
    trials: int
    """finished trials, those of earlier calls included"""
    trials_new: int
    runs_new: int
    raced_out: int
    """feasible trials that ended before they had all seeds"""
    infeasible: int
    objectives: tuple[str, ...]
    incumbent: int | None
    """number of the trial that leads by its shrunken mean"""
    merit: float | None
    """that mean"""
    best: tuple[int, float] | None
    """the trial with the largest value, and that value: what luck adds is seen beside the merit"""
    found: tuple[str, dict[str, Any]] | None
    """the setting of best.yaml, and its values"""
    answer: str | None
    """of the confirmation"""
    failed: dict[str, str]
    """the last line of each failed pack's error"""
    missing: int
    """trials asked for and not finished, and runs of the confirmation"""


def run_tuning(
    file: StudyFile, storage: str, trials: int, how: Launching | None = None, confirm: int = CONFIRM
) -> TuneOutcome:
    """Tune until `trials` trials are finished, earlier ones counted; confirm; write `best.yaml`.

    confirm: fresh seeds of the confirmation, 0 for none. Raises as `launch` does.
    """
    from study.tuning.database import find_study, place_of, refuse_other

    folder = study_folder(storage, file.name)
    place = place_of(file.tune.storage if file.tune else None, folder)
    study = open_study(file, storage, "tune", how or Launching())
    tuning = _Tuning(study, plan_tuning(file, study.data), place, trials, confirm)
    known = find_study(place, file.name)
    if known is not None:
        refuse_other(known, folder, tuning.identity)
        if tuning.nothing_to_do(known):
            return tuning.outcome()
    for line in tuning.plan.notices():
        study.how.notify(line)
    tuning.run()
    return tuning.outcome()


class _Tuning:
    """A tuning under one driver."""

    def __init__(
        self, study: OpenStudy, plan: TuningPlan, place: str, wanted: int, confirm: int
    ) -> None:
        from study.tuning.objective import Objective
        from study.tuning.samplers import sampler_name

        self.study, self.plan, self.place = study, plan, place
        self.wanted, self.confirm = wanted, confirm
        self.folder = study.folder
        tune = plan.tune
        transfer = self._transfer if TRANSFER in tune.objectives else None
        self.objective = Objective(tune.objectives, tune.penalty, transfer)
        self.sampler = sampler_name(tune.sampler, plan.space, wanted)
        self.identity = plan.identity(str(self.folder))
        self.progress = Progress(0, 0, 0)
        self.before, self.runs_before = 0, 0
        self._promised = 0
        """runs of the confirmation that the progress expects"""

    def _transfer(self, run_ids: Sequence[str]) -> float:
        import analysis
        from analysis.compute.tuning import transfer_of_runs

        return transfer_of_runs(analysis.load(str(self.folder)), run_ids)

    def _prepare(self, optuna_study: Any) -> None:
        """The trials, with the rows that are there."""
        from study.tuning.samplers import make_sampler
        from study.tuning.source import KnownRuns
        from study.tuning.trials import Trials

        tune = self.plan.tune
        self.known = KnownRuns(self.plan, self._rows())
        self.trials = Trials(
            optuna_study, self.plan.space, self.objective, self.plan.race, self.known,
            lambda number: make_sampler(self.sampler, tune.seed + number, tune.startup_trials),
            self.plan.first_values,
        )  # fmt: skip
        self.trials.read()
        self.before, self.runs_before = len(self.trials.finished), len(self.known.rows)

    def _patiently(self, step: Callable[[], Found]) -> Found:
        """A step that reads or writes the storage while packs train, tried again after trouble as
        packs are.
        """
        file, wait = self.study.file, self.study.file.waits.retry_seconds
        for _ in range(file.max_failures):
            try:
                return step()
            except (OSError, StudyError) as error:
                self.study.how.notify(f"{first_line(error)}; again in {wait:g} s")
                time.sleep(wait)
                wait *= 2
        return step()

    def _rows(self, packs: Sequence[str] | None = None) -> list[dict[str, Any]]:
        return read_runs(self.folder, self.objective.columns, packs).rows

    def _confirmation(self) -> Confirmation:
        return confirmation(self.plan, self.trials, self.confirm, self.known.rows)

    def nothing_to_do(self, optuna_study: Any) -> bool:
        """Whether all trials, the confirmation and best.yaml are there."""
        self._prepare(optuna_study)
        if self.trials.left or len(self.trials.finished) < self.wanted:
            return False
        confirmed = self._confirmation()
        text = best_file(self.plan, self.trials, confirmed)
        written = (self.folder.read(BEST) or b"").decode()
        return not confirmed.missing and written == (text or "")

    def run(self) -> None:
        """Train what is missing, with the study's lock."""
        from study.tuning.database import make_study
        from study.tuning.source import TuningSource

        folder, file = self.folder, self.study.file
        with self.study.training(self.progress) as train:
            from study.cluster.nodes import slots

            objectives = len(self.objective.names)
            self._prepare(make_study(self.place, file.name, objectives, self.identity))
            write_description(folder, file, "tune")
            self.registry = Registry.read(folder)
            self.trials.begin(self.wanted)
            self.trials.changed = self._record
            complete, going_on = self.study.complete(), self._going_on()
            self.study.tidy(complete, going_on)
            if self.study.lookup is not None:  # what has been filled in
                self.known.add(self._rows())
            self.registry.forget_unfinished(complete.run_ids, going_on)
            self.registry.write(folder)
            source = TuningSource(
                self.trials, self.known, self._read, self.progress,
                self._announce, self._packs,
            )  # fmt: skip
            self._expect(*source.most_left())
            train(source, max(slots(file.resources), 1))
            self._finish()

    def _going_on(self) -> set[str]:
        """Packs of trials and of the confirmation that an earlier driver left."""
        left = [set(self.plan.run_ids(values)) for _, values in self.trials.left]
        fresh = {tuple(vars(seed).values()) for seed in self.plan.fresh(self.confirm)}
        return {
            pack_id
            for pack_id, run_ids in self.registry.packs.items()
            if any(of_trial.issuperset(run_ids) for of_trial in left)
            or all(tuple(self.registry.runs[r]["seeds"]) in fresh for r in run_ids)
        }

    def _expect(self, runs: int, packs: int) -> None:
        """At most: every trial with all seeds, and the confirmation."""
        self._promised = self.confirm * MOST_CONFIRMED
        left = runs + self._promised
        self.progress.expect(
            self.runs_before + left,
            self.runs_before,
            left * self.plan.default.setting.search.epochs,
            packs + self._most_packs(),
        )

    def _most_packs(self) -> int:
        """Of the confirmation."""
        return MOST_CONFIRMED * -(-self.confirm // self._pack_size())

    def _pack_size(self) -> int:
        study = self.study
        return pack_size(study.file, study.expansion, study.data, study.gpu_bytes())

    def _read(self, pack_id: str) -> list[dict[str, Any]]:
        """Rows of a pack that is complete; another node may have written them a moment ago."""

        def read() -> list[dict[str, Any]]:
            found = self._rows([pack_id])
            if not found:
                raise StudyError(f"{self.folder}: rows of pack {pack_id} cannot be read")
            return found

        return self._patiently(read)

    def _announce(self, runs: list[Run]) -> Pack:
        """Write runs down before they begin."""
        pack = self.registry.add(runs)
        self._patiently(lambda: self.registry.write(self.folder))
        return pack

    def _packs(self) -> list[Pack]:
        """Of the confirmation, those that are not complete."""
        confirmed = self._confirmation()
        packs: list[Pack] = []
        if confirmed.missing:
            complete, size = set(self.known.rows), self._pack_size()
            packs = self.registry.include(confirmed.expansion, self.study.file, complete, size)
            self._patiently(lambda: self.registry.write(self.folder))
        runs = self._promised - sum(len(pack.runs) for pack in packs)
        epochs = self.plan.default.setting.search.epochs
        self.progress.fewer(runs, runs * epochs, self._most_packs() - len(packs))
        return packs

    def _record(self, confirmed: Confirmation | None = None) -> None:
        content = record(self.plan, self.trials, self.sampler, confirmed)
        self._patiently(lambda: write_record(self.folder, content))

    def _finish(self) -> None:
        """Write what was found; remove checkpoints of no use."""
        self.known.add(self._rows())
        confirmed = self._confirmation()
        self._record(confirmed)
        text = best_file(self.plan, self.trials, confirmed)
        if text is None:
            self.folder.delete(BEST)
        else:
            self.folder.write(BEST, text)
            check_best(self.folder)
        complete = self.known.rows.keys()
        left = {
            pack_id
            for pack_id, run_ids in self.registry.packs.items()
            if not complete >= set(run_ids)
        }
        checkpoints.clear_all_but(self.folder, left)

    def outcome(self) -> TuneOutcome:
        """What has come of it."""
        confirmed, trials = self._confirmation(), self.trials
        sound, ranked = trials.sound.values(), trials.ranked(whole=True)
        incumbent, merit = ranked[0] if ranked else (None, None)
        best = max(sound, key=lambda t: (t.told[0], -t.number), default=None)
        one = chosen(confirmed)
        return TuneOutcome(
            folder=self.folder,
            trials=len(trials.finished),
            trials_new=len(trials.finished) - self.before,
            runs_new=len(self.known.rows) - self.runs_before,
            raced_out=sum(t.raced_out for t in sound),
            infeasible=len(trials.finished) - len(sound),
            objectives=self.objective.names,
            incumbent=incumbent,
            merit=merit,
            best=None if best is None else (best.number, best.told[0]),
            found=None if one is None else (one.name, one.values),
            answer=confirmed.answer if confirmed.seeds else None,
            failed=self.progress.failed,
            missing=max(self.wanted - len(trials.finished), 0) + confirmed.missing,
        )
