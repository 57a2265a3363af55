"""What one setting did over its seeds, as numbers with their n (design, sections 1 and 5).

A setting's runs are its replicates. Diverged runs are counted and named, and left out of
every mean, since their numbers may be NaN. Remarks are attached to a setting so that no text
can forget them: that it hardly moved (then no conclusion is drawn from it), or that all its
seeds derived one genotype.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data import genotypes
from analysis.data.genotypes import CellCount, Genotype
from analysis.data.samples import SEEDS
from analysis.statistics import metrics
from analysis.statistics.metrics import Estimate, Rate

ARCHITECTURE_MOVED = 0.2
"""Mean architecture_displacement under which a setting hardly moved."""

TRANSITION_MOVED = 0.02
"""Mean transition_displacement under which trainable matrices hardly moved."""

QUANTITIES = (
    "valid_accuracy",
    "derived_accuracy",
    "benchmark_valid",
    "benchmark_test",
    "architecture_displacement",
    "transition_displacement",
    "dependence_strength",
    "skip_connections",
    "parameterless_operations",
    "inner_edges_kept",
    "tied_edges",
    "train_loss",
    "valid_loss",
    "seconds",
    "seconds_per_step",
)
"""The per-run columns that are averaged over seeds."""

_MODEL_ORDER = {"independent": 0, "placebo": 1, "transition": 2}


@dataclass(frozen=True)
class SettingSummary:
    """One setting. `runs` counts all, `estimates` are over those that did not diverge."""

    setting: str
    model: str
    trainable: bool | None
    runs: int
    diverged: tuple[str, ...]
    stopped_early: tuple[str, ...]
    crossed: bool
    estimates: Mapping[str, Estimate]
    genotypes: tuple[CellCount, ...]
    cells: Mapping[str, tuple[CellCount, ...]]
    collapsed: Rate
    run_labels: Mapping[str, str]

    @property
    def n(self) -> int:
        """Runs that did not diverge: the n of means and rates."""
        return self.runs - len(self.diverged)

    @property
    def has_benchmark(self) -> bool:
        """Whether any run has a tabular test accuracy."""
        return self.estimates["benchmark_test"].n > 0

    @property
    def reservations(self) -> tuple[str, ...]:
        """Why no conclusion is to be drawn from this setting; empty where nothing speaks so."""
        if self.n == 0:
            return ("every run diverged",)
        reasons = []
        moved = self.estimates["architecture_displacement"].mean
        if not moved >= ARCHITECTURE_MOVED:
            reasons.append(
                f"hardly moved: mean architecture displacement {moved:.3f}, "
                f"under {ARCHITECTURE_MOVED:g}"
            )
        matrices = self.estimates["transition_displacement"]
        if self.trainable and matrices.n and matrices.mean < TRANSITION_MOVED:
            reasons.append(
                f"transition matrices hardly moved: mean displacement {matrices.mean:.3f}, "
                f"under {TRANSITION_MOVED:g}"
            )
        return tuple(reasons)

    @property
    def one_genotype(self) -> bool:
        """Whether several runs all derived the same genotype."""
        return self.n >= 2 and len(self.genotypes) == 1

    @property
    def remarks(self) -> tuple[str, ...]:
        """The reservations, and what else a reader must know beside this setting's name."""
        one = (f"one genotype only over {self.n} runs",) if self.one_genotype else ()
        single = ("one run only",) if self.n == 1 else ()
        return self.reservations + one + single


def run_labels(runs: pd.DataFrame) -> dict[str, str]:
    """run_id to a readable name, `seed 3`, or `seeds 3/0/1` (weights/data/architecture)."""
    labels = {}
    for run_id, *seeds in runs[["run_id", *SEEDS]].itertuples(index=False):
        one = len(set(seeds)) == 1
        labels[run_id] = f"seed {seeds[0]}" if one else "seeds " + "/".join(map(str, seeds))
    return labels


def is_crossed(runs: pd.DataFrame) -> bool:
    """Whether some run's three seeds differ: then runs that share a seed are not independent."""
    return bool(runs[list(SEEDS)].nunique(axis=1).gt(1).any())


def summarise(runs: pd.DataFrame) -> tuple[SettingSummary, ...]:
    """Summaries of all settings in a `runs` frame: independent, placebo, transition, by name.

    Raises ResultsError where the genotype of a run that did not diverge cannot be read.
    """
    summaries = [_summarise_one(str(name), group) for name, group in runs.groupby("setting")]
    order = _MODEL_ORDER
    return tuple(sorted(summaries, key=lambda s: (order.get(s.model, len(order)), s.setting)))


def _summarise_one(setting: str, group: pd.DataFrame) -> SettingSummary:
    labels = run_labels(group)
    good = group[group["status"] != "diverged"]
    parsed: dict[str, Genotype] = {
        run_id: genotypes.parse(text)
        for run_id, text in zip(good["run_id"], good["genotype"], strict=True)
    }
    kinds = sorted({kind for genotype in parsed.values() for kind in genotype})
    trainable = group["trainable"].iloc[0]

    def named(status: str) -> tuple[str, ...]:
        return tuple(labels[r] for r in group.loc[group["status"] == status, "run_id"])

    return SettingSummary(
        setting=setting,
        model=str(group["model"].iloc[0]),
        trainable=None if pd.isna(trainable) else bool(trainable),
        runs=len(group),
        diverged=named("diverged"),
        stopped_early=named("stopped_early"),
        crossed=is_crossed(group),
        estimates={q: metrics.estimate(good[q].to_numpy(float)) for q in QUANTITIES},
        genotypes=genotypes.count(parsed),
        cells={kind: genotypes.count(parsed, kind) for kind in kinds},
        collapsed=metrics.proportion(
            sum(map(genotypes.is_collapsed, parsed.values())), len(parsed)
        ),
        run_labels=labels,
    )


def pooled_sd(estimates: list[Estimate]) -> float:
    """Pooled standard deviation over seeds of several settings; NaN where none has two."""
    freedom = np.array([e.n - 1 for e in estimates if e.n > 1], dtype=float)
    variances = np.array([e.sd**2 for e in estimates if e.n > 1])
    return float(np.sqrt((freedom * variances).sum() / freedom.sum())) if freedom.size else np.nan
