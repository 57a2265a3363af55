"""Result objects as frames: what `report/tables/*.csv` holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute import comparisons, seeds_needed, stability
from analysis.compute import variance as variance_of_study
from analysis.compute.profiles import Profile
from analysis.compute.similarity import Similarity
from analysis.compute.stability import SettingStability
from analysis.compute.study import Computed
from analysis.compute.summary import QUANTITIES, SettingSummary
from analysis.compute.trajectories import Curve, OperationCurves
from analysis.compute.transitions import Transitions
from analysis.compute.tuning import Tuning
from analysis.contract import COLUMNS
from analysis.statistics.metrics import Estimate, interquartile_mean


def study(computed: Computed) -> dict[str, pd.DataFrame]:
    """Every table of a report, by name."""
    groups = (computed.curves, computed.over_epochs)
    found = {
        "settings": settings(computed.summaries),
        "stability": stability.table(computed.stabilities),
        "links": stability.links_table(computed.stabilities),
        "comparisons": comparisons.table(computed.comparisons),
        "variance": variance_of_study.table(computed.variance),
        "seeds_needed": seeds_needed.table(computed.widths),
        "seeds_for_width": seeds_needed.targets_table(computed.widths),
        "reliability": seeds_needed.reliability_table(computed.reliabilities),
        "trajectories": curves(c for group in groups for cs in group.values() for c in cs),
        "genotypes": genotype_counts(computed.summaries),
        "operation_choices": operation_choices(computed.stabilities, computed.never_kept),
        "similarity": similarities(computed.similarity),
        "profiles": profiles(computed.profiles),
        "operation_probabilities": operation_probabilities(computed.operations.values()),
        "transition_matrices": transition_matrices(computed.transitions.values()),
        "data_dictionary": data_dictionary(),
    }
    if computed.tuning is not None:
        found["tuning"] = trials(computed.tuning)
    return found


def settings(summaries: Iterable[SettingSummary]) -> pd.DataFrame:
    """One row per setting: counts, every quantity's mean, interval, sd, n and IQM."""
    rows = []
    for s in summaries:
        row: dict[str, Any] = {"setting": s.setting, "model": s.model, "trainable": s.trainable}
        row |= {"runs": s.runs, "n": s.n, "diverged": len(s.diverged), "crossed": s.crossed}
        row |= {"distinct_genotypes": len(s.genotypes)}
        row |= {"collapsed": s.collapsed.successes, "collapse_rate": s.collapsed.rate}
        row |= {"collapse_rate_low": s.collapsed.low, "collapse_rate_high": s.collapsed.high}
        for quantity in QUANTITIES:
            row |= _flat(quantity, s.estimates[quantity])
        row["remarks"] = "; ".join(s.remarks)
        rows.append(row)
    return pd.DataFrame(rows)


def _flat(name: str, e: Estimate) -> dict[str, Any]:
    numbers = {"mean": e.mean, "low": e.low, "high": e.high, "sd": e.sd, "n": e.n}
    named = {f"{name}_{key}": value for key, value in numbers.items()}
    return named | {f"{name}_iqm": interquartile_mean(e.values)}


def genotype_counts(summaries: Iterable[SettingSummary]) -> pd.DataFrame:
    """One row per setting and distinct genotype (`whole`) or cell (`normal`, `reduce`)."""
    rows = [
        (
            s.setting,
            part,
            c.text,
            len(c.run_ids),
            s.n,
            ", ".join(s.run_labels[r] for r in c.run_ids),
        )
        for s in summaries
        for part, counts in [("whole", s.genotypes), *s.cells.items()]
        for c in counts
    ]
    return pd.DataFrame(rows, columns=["setting", "part", "genotype", "count", "n", "runs"])


def operation_choices(items: Iterable[SettingStability], exclude: tuple[str, ...]) -> pd.DataFrame:
    """One row per setting, edge and operation: the share of seeds that choose it (ties: none)."""
    rows = [
        (item.setting, e.cell, e.source, e.target, e.inner, name, float((chosen == k).mean()), n)
        for item in items
        if (n := item.sample.n)
        for cell in item.sample.cells
        for e, chosen in zip(
            item.sample.edges_of(cell),
            stability.choices_of(item.sample, cell, exclude).T,
            strict=True,
        )
        for k, name in enumerate(e.operations)
    ]
    columns = ["setting", "cell", "source", "target", "inner", "operation", "share", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def similarities(item: Similarity | None) -> pd.DataFrame:
    """One row per pair of runs, each pair once."""
    columns = ["setting", "seed", "other_setting", "other_seed", "similarity"]
    if item is None:
        return pd.DataFrame(columns=columns)
    a, b = np.triu_indices(len(item.matrix), 1)
    settings, seeds = np.array(item.settings, object), np.array(item.seeds, object)
    values = (settings[a], seeds[a], settings[b], seeds[b], item.matrix[a, b])
    return pd.DataFrame(dict(zip(columns, values, strict=True)))


def profiles(items: Iterable[Profile]) -> pd.DataFrame:
    """One row per setting and threshold: the share of runs above it, with its interval."""
    parts = [
        pd.DataFrame(
            {"setting": p.setting, "quantity": p.quantity, "threshold": p.thresholds}
            | {"share": p.share, "low": p.low, "high": p.high, "runs": p.n}
        )
        for p in items
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def curves(items: Iterable[Curve]) -> pd.DataFrame:
    """The `trajectories` table: one row per setting, cell, quantity and epoch."""
    columns = ["setting", "cell", "quantity", "epoch", "estimate", "low", "high", "seeds"]
    parts = [
        pd.DataFrame(
            {"setting": c.setting, "cell": c.cell, "quantity": c.quantity, "epoch": c.epochs}
            | {"estimate": c.mean, "low": c.low, "high": c.high, "seeds": c.n}
        )
        for c in items
        if c.epochs.size
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def operation_probabilities(items: Iterable[OperationCurves]) -> pd.DataFrame:
    """One row per setting, edge, epoch and operation: mean and sd over n seeds."""
    parts = []
    for item in items:
        for e in item.edges:
            k, t = len(e.operations), e.epochs.size
            values = {"epoch": np.repeat(e.epochs, k), "operation": list(e.operations) * t}
            values |= {"mean": e.mean.ravel(), "sd": e.sd.ravel(), "n": np.repeat(e.n, k)}
            keys = {"setting": item.setting, "cell": e.cell, "source": e.source}
            parts.append(pd.DataFrame(keys | {"target": e.target, "inner": e.inner} | values))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def transition_matrices(items: Iterable[Transitions]) -> pd.DataFrame:
    """One row per setting, link and matrix entry: mean and sd over n seeds."""
    parts = []
    for item in items:
        for link in item.links:
            k, m = len(link.row_operations), len(link.column_operations)
            keys: dict[str, Any] = {"setting": item.setting, "cell": link.cell}
            keys |= dict(
                zip(("predecessor_source", "predecessor_target"), link.predecessor, strict=True)
            )
            keys |= dict(zip(("source", "target"), link.edge, strict=True))
            values: dict[str, Any] = {
                "row": np.repeat(link.row_operations, m),
                "column": list(link.column_operations) * k,
                "mean": link.matrix.mean.ravel(),
                "sd": link.matrix.sd.ravel(),
            }
            rest = {"n": link.matrix.n, "attention_weight_mean": link.attention.mean}
            parts.append(pd.DataFrame(keys | values | rest))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def trials(item: Tuning) -> pd.DataFrame:
    """One row per tuning trial."""
    return pd.DataFrame(
        {"trial": t.number, "objective": t.objective, "best_so_far": t.best_so_far}
        | {"n": t.n, "diverged": t.diverged}
        | dict(t.rates)
        for t in item.trials
    )


def data_dictionary() -> pd.DataFrame:
    """Every column of the results contract: its table, type, whether it may be null, meaning."""
    rows = [
        (t, c.name, str(c.type), c.nullable, c.meaning) for t, cs in COLUMNS.items() for c in cs
    ]
    return pd.DataFrame(rows, columns=["table", "column", "type", "may_be_null", "meaning"])
