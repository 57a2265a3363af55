"""A study's tables: everything that is computed for its report, before anything is drawn.

Settings are computed one by one, in large studies on all cores: only a few settings' matrices
have to be in memory. Figures, sentences and pages are made of these tables alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.compute import comparisons, seeds_needed, settings, trajectories, variance, verdict
from analysis.compute.setting import HEADINGS, MOST_COMPARED, SettingResult, Tables, compute_setting
from analysis.compute.tuning import tuning_tables
from analysis.contract import COLUMNS
from analysis.data.benchmark import test_accuracies
from analysis.data.results import Results
from analysis.quantities import ALL, DEFINITIONS, OVER_EPOCHS
from analysis.statistics.divergence import matched_divergences
from analysis.statistics.inference import rate
from analysis.statistics.metrics import Array
from analysis.workers import mapped

MANY_RUNS = 100
"""Runs from which on it pays to start processes for the settings."""

OF_SETTINGS = (
    "stability", "without_collapsed", "seed_values", "links", "transition_matrices",
    "seeds_needed", "operation_choices", "transfer", "verdict", "trajectories",
    "operation_probabilities",
)  # fmt: skip
"""Tables that have every setting's rows, one after another."""


@dataclass(frozen=True)
class Study:
    """tables: by name, as docs/analysis.md lists them; study["stability"] is one of them.

    crossed: a remark where only some runs are replicates, else empty. best_trial: of a tuning
    study the incumbent, whose runs everything else is about; None where no trial is feasible.
    """

    tables: Tables
    crossed: str = ""
    best_trial: int | None = None

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]


def compute_study(results: Results, with_trajectories: bool = True) -> Study:
    """All numbers of the report.

    with_trajectories: whether epochs other than the first and last are read. In a tuning study
    every trial is a setting of its own; then the settings in question are those of the incumbent,
    since a mean over different rates describes no setting.
    """
    runs = results.runs
    tuned, best = tuning_tables(results), None
    if len(tuned["tuning"]):
        best, seeds = tuned["tuning"]["incumbent"].iloc[-1], tuned["tuning_seeds"]
        best = None if pd.isna(best) else int(best)
        of_trial = seeds["trial"] == (seeds["trial"].iloc[-1] if best is None else best)
        runs = runs[runs["run_id"].isin(seeds.loc[of_trial, "run_id"])]
    models = runs.groupby("setting")["model"].first()
    order = settings.in_order(dict(zip(models.index, models, strict=True)), results.settings)
    groups = {name: settings.replicates(runs[runs["setting"] == name]) for name in order}
    replicated = {name: group for name, (group, _) in groups.items()}
    about = settings.settings_table(replicated)
    good = runs[runs["status"] != "diverged"]
    chosen = {name: group[group["status"] != "diverged"] for name, group in replicated.items()}
    benchmark = test_accuracies(results.study)

    def one(name: str) -> SettingResult:
        of_setting, note = good[good["setting"] == name], groups[name][1]
        return compute_setting(
            results, of_setting, chosen[name], note, with_trajectories, benchmark
        )

    names = about.loc[about["n"] > 0, "setting"]
    items = mapped(one, names, results.is_local and len(good) >= MANY_RUNS)
    tables: Tables = {"settings": about} | {
        name: _joined((i.tables[name] for i in items if name in i.tables), HEADINGS.get(name, ()))
        for name in OF_SETTINGS
    }
    replicates = pd.concat(chosen.values())
    if with_trajectories:
        epochs = results.epochs(OVER_EPOCHS, run_ids=replicates["run_id"])
        epochs["setting"] = epochs["run_id"].map(replicates.set_index("run_id")["setting"])
        of_runs = trajectories.of_runs(epochs, order)
        tables["trajectories"] = _joined([of_runs, tables["trajectories"]])
    else:
        tables["trajectories"] = pd.DataFrame(columns=["setting", *trajectories.COLUMNS])
    compared = comparisons.comparisons_table(items, replicates)
    needed = seeds_needed.for_differences(compared)
    has_benchmark = (about["benchmark_test_n"] > 0).any()
    tables |= {
        "seeds_needed": _joined([tables["seeds_needed"], needed]),
        "verdict": verdict.verdict_table(tables["verdict"], about),
        "comparisons": compared,
        "variance": variance.variance_table(good, {i.setting: i.sample for i in items}),
        "genotypes": settings.genotypes_table(replicated),
        "similarity": similarity(items),
        "profiles": profiles(items, "benchmark_test" if has_benchmark else "derived_accuracy"),
        **tuned,
        "data_dictionary": _data_dictionary(),
    }
    crossed = "; ".join(sorted({note for _, note in groups.values() if note}))
    return Study(tables, crossed, best)


def _joined(frames: Iterable[pd.DataFrame], columns: Sequence[str] = ()) -> pd.DataFrame:
    """The frames one after another; without any row, the columns that they would have."""
    every = [f for f in frames if len(f.columns)]
    known = [f for f in every if len(f)] or every[:1]
    if not known:
        return pd.DataFrame(columns=["setting", *columns] if columns else [])
    return pd.concat(known, ignore_index=True)


def similarity(items: Sequence[SettingResult], most: int = MOST_COMPARED) -> pd.DataFrame:
    """Similarity of every two of at most `most` runs, the first seeds of every setting.

    1 minus the mean over edges of the divergence (bits) of their probabilities, each pair once.
    Every setting gives the same number of runs, as far as it has them; of more than `most`
    settings only the first ones give any, and settings whose edges differ from the first's none.
    """
    columns = ["setting", "seed", "other_setting", "other_seed", "similarity"]
    shapes = [[(e.cell, e.source, e.target, e.operations) for e in item.edges] for item in items]
    shape = next(filter(None, shapes), None)
    items = [item for item, own in zip(items, shapes, strict=True) if own == shape][:most]
    sizes = [len(item.first) for item in items]
    fits = (k for k in range(max(sizes, default=0), 1, -1) if sum(min(k, n) for n in sizes) <= most)
    each = next(fits, 1)
    runs = [(item.setting, seed) for item in items for seed in item.first[:each]]
    if len(runs) < 3:
        return pd.DataFrame(columns=columns)
    edges = range(len(items[0].edges))
    found: Array = np.zeros((len(runs), len(runs)))
    for index in edges:
        p = np.concatenate([item.edges[index].probabilities[:each] for item in items])
        found += matched_divergences(p) / len(edges)
    pairs = zip(*np.triu_indices(len(runs), 1), strict=True)
    rows = [(*runs[a], *runs[b], 1 - found[a, b]) for a, b in pairs]
    return pd.DataFrame(rows, columns=columns)


def profiles(items: Sequence[SettingResult], quantity: str) -> pd.DataFrame:
    """Performance profiles of all settings that have the quantity, on one grid of thresholds.

    After Agarwal et al. (2021): the share of runs above each score, with Clopper and Pearson's
    exact 95% interval at each threshold by itself, not of the whole curve at once.
    """
    known = {}
    for item in items:
        statistic = item.get(ALL, quantity).statistic
        x = np.zeros(0) if statistic is None else statistic.pseudo_values()
        if np.isfinite(x).any():
            known[item.setting] = x[np.isfinite(x)]
    if not known:
        return pd.DataFrame()
    every = np.concatenate(list(known.values()))
    margin = 0.02 * float(np.ptp(every)) or 0.01
    rows = []
    for setting, x in known.items():
        rates = [rate(np.arange(x.size) < above) for above in range(x.size + 1)]
        for at in np.linspace(every.min() - margin, every.max() + margin, 101):
            q = rates[(x > at).sum()]
            rows.append((setting, quantity, at, q.estimate, q.low, q.high, q.n))
    columns = ["setting", "quantity", "threshold", "share", "low", "high", "runs"]
    return pd.DataFrame(rows, columns=columns)


def _data_dictionary() -> pd.DataFrame:
    """Every column of the results contract, and every quantity of the table `stability`."""
    rows = [
        (table, c.name, str(c.type), c.nullable, c.meaning)
        for table, columns in COLUMNS.items()
        for c in columns
    ]
    rows += [("stability", d.name, "double", True, d.meaning) for d in DEFINITIONS.values()]
    return pd.DataFrame(rows, columns=["table", "column", "type", "may_be_null", "meaning"])
