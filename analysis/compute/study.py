"""Everything a report needs of a study, loaded and computed; nothing is drawn here.

Settings are computed one by one, in large studies on all cores: only a few settings' matrices
have to be in memory as they were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.compute import comparisons, seeds_needed, stability, summary, trajectories
from analysis.compute.comparisons import Comparison
from analysis.compute.profiles import Profile, profiles
from analysis.compute.seeds_needed import Reliability, WidthCurve
from analysis.compute.similarity import Similarity, seed_similarity
from analysis.compute.stability import SettingStability
from analysis.compute.summary import SettingSummary
from analysis.compute.trajectories import Curve, OperationCurves, quantity_curve, thinned
from analysis.compute.transitions import Transitions, mean_transitions
from analysis.compute.tuning import Tuning, tuning
from analysis.compute.variance import StudyVariance, study_variance
from analysis.data.results import Results
from analysis.data.samples import At, Sample, read_samples
from analysis.workers import mapped

MANY_RUNS = 100
"""Runs from which on it pays to start processes for the settings."""

ACCURACIES = ("train_accuracy", "valid_accuracy", "derived_accuracy")
LOSSES = ("train_loss", "valid_loss")
DYNAMICS = (
    "architecture_entropy",
    "architecture_displacement",
    "transition_displacement",
    "dependence_strength",
)


@dataclass(frozen=True)
class Computed:
    """Everything that is computed of a study for its report, before anything is drawn.

    curves: quantity to one curve per setting, of single runs. over_epochs: quantity to curves
    of whole settings, one per setting and cell kind. Both are empty without trajectories.
    """

    summaries: tuple[SettingSummary, ...]
    stabilities: tuple[SettingStability, ...]
    comparisons: tuple[Comparison, ...]
    variance: StudyVariance
    widths: tuple[WidthCurve, ...]
    reliabilities: tuple[Reliability, ...]
    curves: dict[str, list[Curve]]
    over_epochs: dict[str, list[Curve]]
    operations: dict[str, OperationCurves]
    transitions: dict[str, Transitions]
    similarity: Similarity | None
    profiles: tuple[Profile, ...]
    tuning: Tuning | None
    crossed: str  # a remark where only runs with equal seeds are replicates, else empty
    never_kept: tuple[str, ...]  # operations that no genotype can keep


@dataclass(frozen=True)
class _Setting:
    """What is computed of one setting."""

    stability: SettingStability
    widths: tuple[WidthCurve, ...]
    reliabilities: tuple[Reliability, ...]
    over_epochs: tuple[Curve, ...]
    operations: OperationCurves
    transitions: Transitions


def compute_study(results: Results, with_trajectories: bool = True) -> Computed:
    """All numbers of the report.

    with_trajectories: whether epochs other than the first and last are read. In a tuning study
    every trial is a setting of its own; then the settings in question are those of the best
    trial, since a mean over different rates describes no setting.
    """
    runs = results.runs
    tuned = tuning(runs)
    if tuned is not None:
        chosen = tuned.best or tuned.trials[-1]
        runs = runs[runs["run_id"].isin(chosen.run_ids)]
    groups = {str(name): stability.replicates(group) for name, group in runs.groupby("setting")}
    crossed = sorted({note for _, note in groups.values() if note})
    replicated = pd.concat([group for group, _ in groups.values()], ignore_index=True)
    good = replicated[replicated["status"] != "diverged"]
    summaries = summary.summarise(replicated)
    names = [s.setting for s in summaries if s.n]

    def one(name: str) -> _Setting:
        group = good[good["setting"] == name]
        return _compute_setting(results, group, groups[name][1], with_trajectories)

    parallel = results.is_local and len(good) >= MANY_RUNS
    found = dict(zip(names, mapped(one, names, parallel), strict=True))
    items = tuple(found[name].stability for name in names)
    accuracy = "benchmark_test" if any(s.has_benchmark for s in summaries) else "derived_accuracy"
    return Computed(
        summaries,
        items,
        comparisons.compare(items, good),
        study_variance(results, runs[runs["status"] != "diverged"]),
        tuple(w for f in found.values() for w in f.widths),
        tuple(r for f in found.values() for r in f.reliabilities),
        _curves(results, good, [s.setting for s in summaries]) if with_trajectories else {},
        _by_quantity(c for f in found.values() for c in f.over_epochs),
        {name: f.operations for name, f in found.items() if f.operations.edges},
        {name: f.transitions for name, f in found.items() if f.transitions.links},
        seed_similarity(items),
        profiles(items, accuracy),
        tuned,
        "; ".join(crossed),
        stability.cannot_be_chosen(good) if len(good) else (),
    )


def _compute_setting(
    results: Results, runs: pd.DataFrame, note: str, with_trajectories: bool
) -> _Setting:
    setting = str(runs["setting"].iloc[0])
    final = int(runs["epochs_completed"].max()) - 1
    shown = thinned(final, trajectories.MOST_POINTS) if with_trajectories else [-1]
    some = read_samples(results, runs, [*shown, "last"])
    last, start = some["last"], some[-1]
    of_edges: Mapping[int, Sample] = {}
    over_epochs: tuple[Curve, ...] = ()
    settling = None
    if with_trajectories:
        every = _of_epochs(read_samples(results, runs, range(-1, final + 1), links=False))
        settling = trajectories.settling_epochs(runs, every)
        of_edges = {e: s for e, s in every.items() if e in thinned(final)}
        over_epochs = trajectories.stability_curves(runs, _of_epochs(some), setting)
    item = stability.stability(runs, last, start if start.n else None, settling, note)
    learned = {
        cell: stability.learned_matrices(
            runs.set_index("run_id").loc[list(last.run_ids)],
            last.links_of(cell),
            start.of_runs(last.run_ids) if start.n else None,
        )
        for cell in last.cells
        if last.links_of(cell)
    }
    return _Setting(
        item,
        seeds_needed.width_curves(item),
        seeds_needed.reliabilities(item, learned),
        over_epochs,
        trajectories.operation_curves(of_edges, setting),
        mean_transitions(last, setting),
    )


def _of_epochs(samples: Mapping[At, Sample]) -> dict[int, Sample]:
    return {e: s for e, s in samples.items() if isinstance(e, int) and s.n}


def _curves(results: Results, runs: pd.DataFrame, settings: list[str]) -> dict[str, list[Curve]]:
    """Per-run quantities over epochs: quantity to one curve per setting."""
    quantities = (*ACCURACIES, *LOSSES, *DYNAMICS)
    epochs = results.epochs(quantities, run_ids=runs["run_id"])
    epochs["setting"] = epochs["run_id"].map(runs.set_index("run_id")["setting"])
    by_setting = dict(list(epochs.groupby("setting")))
    nothing = epochs.iloc[:0]
    return {
        q: [quantity_curve(by_setting.get(s, nothing), s, q) for s in settings] for q in quantities
    }


def _by_quantity(curves: Iterable[Curve]) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.quantity, []).append(curve)
    return found
