"""A study's tables: everything that is computed for its report, before anything is drawn.

Settings are computed one by one, in large studies on all cores: only a few settings' matrices
have to be in memory as they were read. What is computed is tables, the same frames that a report
writes: figures, sentences and pages are made of them alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.compute import (
    across,
    comparisons,
    seeds_needed,
    settings,
    trajectories,
    variance,
    verdict,
)
from analysis.compute.setting import SettingResult, Tables, compute_setting
from analysis.contract import COLUMNS
from analysis.data.benchmark import test_accuracies
from analysis.data.results import Results
from analysis.quantities import DEFINITIONS, OVER_EPOCHS
from analysis.workers import mapped

MANY_RUNS = 100
"""Runs from which on it pays to start processes for the settings."""


OF_SETTINGS = (
    "stability", "without_collapsed", "seed_values", "links", "transfer", "transition_matrices",
    "seeds_needed", "operation_choices", "operation_probabilities",
)  # fmt: skip
"""Tables that a study without any usable run has no rows of."""


@dataclass(frozen=True)
class Study:
    """tables: by name, as docs/analysis.md lists them; study["stability"] is one of them.

    crossed: a remark where only some runs are replicates, else empty. best_trial: of a tuning
    study, the trial whose runs everything else is about.
    """

    tables: Tables
    crossed: str = ""
    best_trial: int | None = None

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]


def compute_study(results: Results, with_trajectories: bool = True) -> Study:
    """All numbers of the report.

    with_trajectories: whether epochs other than the first and last are read. In a tuning study
    every trial is a setting of its own; then the settings in question are those of the best
    trial, since a mean over different rates describes no setting.
    """
    runs = results.runs
    trials = settings.tuning_table(runs)
    chosen = settings.best_trial(trials) if len(trials) else None
    if len(trials):
        number = int(trials["trial"].iloc[-1]) if chosen is None else chosen
        runs = runs[runs["tune_trial"] == number]
    models = runs.groupby("setting")["model"].first()
    order = settings.in_order(dict(zip(models.index, models, strict=True)), results.settings)
    groups = {name: settings.replicates(runs[runs["setting"] == name]) for name in order}
    replicated = {name: group for name, (group, _) in groups.items()}
    good = runs[runs["status"] != "diverged"]
    about = settings.settings_table(replicated)
    names = about.loc[about["n"] > 0, "setting"].tolist()

    benchmark = test_accuracies(results.study)

    def one(name: str) -> SettingResult:
        group, note = groups[name]
        of_setting = good[good["setting"] == name]
        chosen = group[group["status"] != "diverged"]
        return compute_setting(results, of_setting, chosen, note, with_trajectories, benchmark)

    parallel = results.is_local and len(good) >= MANY_RUNS
    items = mapped(one, names, parallel)
    tables: Tables = {"settings": about}
    for name in dict.fromkeys(name for item in items for name in item.tables):
        tables[name] = _joined(item.tables.get(name) for item in items)
    replicates = pd.concat([g[g["status"] != "diverged"] for g in replicated.values()])
    tables.setdefault("trajectories", pd.DataFrame(columns=["setting", *trajectories.COLUMNS]))
    if with_trajectories:
        epochs = results.epochs(OVER_EPOCHS, run_ids=replicates["run_id"])
        epochs["setting"] = epochs["run_id"].map(replicates.set_index("run_id")["setting"])
        of_runs = trajectories.of_runs(epochs, order)
        tables["trajectories"] = _joined([of_runs, tables["trajectories"]])
    has_benchmark = (about["benchmark_test_n"] > 0).any()
    compared = comparisons.comparisons_table(items, replicates)
    needed = seeds_needed.for_differences(compared)
    tables["seeds_needed"] = _joined([tables.get("seeds_needed"), needed])
    tables |= {
        "verdict": verdict.verdict_table(tables.get("verdict", pd.DataFrame()), about),
        "comparisons": compared,
        "variance": variance.variance_table(good, {i.setting: i.sample for i in items}),
        "genotypes": settings.genotypes_table(replicated),
        "similarity": across.similarity(items),
        "profiles": across.profiles(
            items, "benchmark_test" if has_benchmark else "derived_accuracy"
        ),
        "tuning": trials,
        "data_dictionary": _data_dictionary(),
    }
    for name in OF_SETTINGS:
        tables.setdefault(name, pd.DataFrame())
    crossed = "; ".join(sorted({note for _, note in groups.values() if note}))
    return Study(tables, crossed, chosen)


def _joined(frames: Iterable[pd.DataFrame | None]) -> pd.DataFrame:
    """The frames one after another; without any row, the columns that they would have."""
    every = [f for f in frames if f is not None]
    known = [f for f in every if len(f)]
    if known:
        return pd.concat(known, ignore_index=True)
    return every[0] if every else pd.DataFrame()


def _data_dictionary() -> pd.DataFrame:
    """Every column of the results contract, and every quantity of the table `stability`."""
    rows = [
        (table, c.name, str(c.type), c.nullable, c.meaning)
        for table, columns in COLUMNS.items()
        for c in columns
    ]
    rows += [("stability", d.name, "double", True, d.meaning) for d in DEFINITIONS.values()]
    return pd.DataFrame(rows, columns=["table", "column", "type", "may_be_null", "meaning"])
