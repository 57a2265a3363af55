"""Quantities and operation probabilities over epochs, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.compute.cell import Cell, cannot_be_chosen, choices_of, of_cell
from analysis.data.samples import Sample
from analysis.quantities import ALL, DEFINITIONS, OVER_EPOCHS
from analysis.statistics.metrics import Array, t_halfwidth

MOST_POINTS = 6
"""Epochs at which quantities of whole settings are computed; a curve needs no more."""

COLUMNS = ("cell", "quantity", "epoch", "estimate", "low", "high", "null_mean", "seeds")


def of_runs(epochs: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """Means over seeds of the columns of `epochs` with Student's intervals, epoch by epoch.

    epochs: rows with a column `setting`. Runs that stopped early leave the mean after their
    last epoch, as `seeds` shows.
    """
    long = epochs.melt(["setting", "epoch"], list(OVER_EPOCHS), "quantity", "value").dropna()
    values = long.groupby(["setting", "quantity", "epoch"])["value"]
    found = values.agg(["mean", "std", "count"]).reset_index()
    found = found.rename(columns={"mean": "estimate", "count": "seeds"})
    half = t_halfwidth(found["std"], found["seeds"])
    least, most = np.reshape([DEFINITIONS[q].limits for q in found["quantity"]], (-1, 2)).T
    found["low"] = np.clip(found["estimate"] - half, least, most)
    found["high"] = np.clip(found["estimate"] + half, least, most)
    found["cell"], found["null_mean"] = ALL, np.nan
    place = {name: i for i, name in enumerate(settings)}
    found = found.sort_values("setting", key=lambda s: s.map(place), kind="stable")
    return found[["setting", *COLUMNS]]


def of_settings(runs: pd.DataFrame, samples: Mapping[int, Sample]) -> pd.DataFrame:
    """The traced quantities of a whole setting at the epochs of `samples`, -1 among them.

    No permutations are drawn here: of the last epoch they are in `stability`.
    """
    rows = []
    for epoch, sample in sorted(samples.items()):
        start = samples.get(-1) if epoch >= 0 else None
        for kind in sample.cells:
            cell = Cell(runs, sample, start, kind, draws=0, at_end=False)
            rows += [
                (kind, name, epoch, q.estimate, q.low, q.high, q.null_mean, q.n)
                for name, q in of_cell(cell, traced=True).items()
                if q.known
            ]
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    return found.sort_values(["cell", "quantity", "epoch"], kind="stable", ignore_index=True)


def operation_probabilities(samples: Mapping[int, Sample]) -> pd.DataFrame:
    """One row per edge, epoch and operation: mean and sd over n seeds."""
    parts = []
    for epoch, sample in sorted(samples.items()):
        for e in sample.edges:
            p = e.probabilities
            values = {
                "cell": e.cell, "source": e.source, "target": e.target, "inner": e.inner,
                "epoch": epoch, "operation": e.operations, "mean": p.mean(axis=0),
                "sd": p.std(axis=0, ddof=1) if len(p) > 1 else np.nan, "n": len(p),
            }  # fmt: skip
            parts.append(pd.DataFrame(values))
    if not parts:
        return pd.DataFrame()
    order = ["cell", "target", "source", "epoch"]
    return pd.concat(parts).sort_values(order, kind="stable", ignore_index=True)


def settling_epochs(runs: pd.DataFrame, samples: Mapping[int, Sample]) -> Array:
    """(n,): the epoch after which no edge's best operation changes, run by run.

    samples: every epoch's architectures. It is the first epoch where nothing ever changes, and
    NaN for a run without epochs. A tie is an operation of its own here.
    """
    exclude = cannot_be_chosen(runs)
    last_change = dict.fromkeys(runs["run_id"], np.nan)
    before: dict[str, Array] = {}
    for epoch, sample in sorted(samples.items()):
        choices = np.concatenate([choices_of(sample, c, exclude) for c in sample.cells], axis=1)
        for run_id, now in zip(sample.run_ids, choices, strict=True):
            if run_id not in before or (before[run_id] != now).any():
                last_change[run_id] = float(epoch)
            before[run_id] = now
    return np.array(list(last_change.values()))


def thinned(last_epoch: int, most: int = 30) -> list[int]:
    """At most `most` epochs from -1 to the last, evenly spread, both ends included."""
    span = np.linspace(-1, last_epoch, min(most, last_epoch + 2))
    return np.unique(span.round().astype(int)).tolist()
