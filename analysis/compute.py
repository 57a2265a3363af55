"""Everything a report needs of a study, loaded and computed; nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.results import Results
from analysis.summary import SettingSummary, summarise
from analysis.trajectories import (
    Curve,
    OperationCurves,
    operation_curves,
    quantity_curve,
    thinned,
)
from analysis.transitions import Transitions, mean_transitions
from analysis.tuning import Tuning, tuning

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
    """Everything that is computed of a study for its report, before anything is drawn."""

    summaries: tuple[SettingSummary, ...]
    curves: dict[str, list[Curve]]  # quantity to one curve per setting
    operations: dict[str, OperationCurves]
    transitions: dict[str, Transitions]
    tuning: Tuning | None
    trial_runs: int | None  # runs of the best trial, where the page is about that one


def compute(results: Results) -> Computed:
    """All numbers of the report. Edges and links are read one setting at a time.

    In a tuning study every trial is a setting of its own; then the settings in question are
    those of the best trial, since a mean over different rates describes no setting.
    """
    runs = results.runs
    tuned = tuning(runs)
    if tuned is not None:
        chosen = tuned.best or tuned.trials[-1]
        runs = runs[runs["run_id"].isin(chosen.run_ids)]
    summaries = summarise(runs)
    good = runs[runs["status"] != "diverged"]
    epochs = results.epochs([*ACCURACIES, *LOSSES, *DYNAMICS], run_ids=good["run_id"])
    epochs["setting"] = epochs["run_id"].map(good.set_index("run_id")["setting"])
    by_setting = dict(list(epochs.groupby("setting")))
    nothing = epochs.iloc[:0]
    curves = {
        q: [quantity_curve(by_setting.get(s.setting, nothing), s.setting, q) for s in summaries]
        for q in (*ACCURACIES, *LOSSES, *DYNAMICS)
    }
    operations: dict[str, OperationCurves] = {}
    transitions: dict[str, Transitions] = {}
    for name, group in good.groupby("setting"):
        shown = thinned(int(group["epochs_completed"].max()) - 1)
        columns = ["inner", "operations", "probabilities"]
        edges = results.edges(columns, epoch=shown, run_ids=group["run_id"])
        last = results.edges(["operations"], epoch="last", run_ids=group["run_id"])
        links = results.links(epoch="last", run_ids=group["run_id"])
        if len(edges):
            operations[str(name)] = operation_curves(edges, str(name))
        if len(links):
            transitions[str(name)] = mean_transitions(links, last, str(name))
    trial_runs = len(runs) if tuned is not None else None
    return Computed(summaries, curves, operations, transitions, tuned, trial_runs)
