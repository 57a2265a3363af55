"""One setting: its samples are read once, every quantity of it is computed, and it gives tables.

The unit of replication is the seed: runs whose three seeds are equal. A study that crosses its
seeds has others too; they belong to `variance`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute import seeds_needed, trajectories, transfer, verdict
from analysis.compute.cell import Cell, of_cell
from analysis.data import genotypes
from analysis.data.benchmark import Accuracies
from analysis.data.results import Results
from analysis.data.samples import SEEDS, EdgeSample, Sample, read_samples, seed_label
from analysis.quantities import ALL, DEFINITIONS, PER_RUN, WITH_IQM, of_run
from analysis.statistics.agreement import TIED
from analysis.statistics.divergence import DRAWS
from analysis.statistics.inference import Quantity, interquartile, missing, rate, said
from analysis.statistics.metrics import NAN

Tables = dict[str, pd.DataFrame]

STABILITY = (
    "cell", "quantity", "estimate", "low", "high", "null_mean", "p_value", "seeds", "note",
)  # fmt: skip

HEADINGS = {"stability": STABILITY, "transfer": transfer.COLUMNS}
"""Columns of tables that have them even where every run diverged, beside the setting."""

NODES = ("predecessor_source", "predecessor_target", "source", "target")

MOST_COMPARED = 60
"""Runs of all settings whose similarity is shown; see `across.similarity`."""


@dataclass(frozen=True)
class SettingResult:
    """What is computed of one setting.

    quantities: by (cell kind, name); `all` in place of the kind for those of single runs.
    places: cell kind to three seeds to their place in its quantities' statistics. edges, first:
    of the first runs, for similarity, and their labels. sample: of all runs, where seeds are
    crossed.
    """

    setting: str
    quantities: Mapping[tuple[str, str], Quantity]
    places: Mapping[str, Mapping[tuple[int, ...], int]]
    tables: Tables
    edges: tuple[EdgeSample, ...]
    first: tuple[str, ...]
    sample: Sample | None

    def get(self, cell: str, name: str) -> Quantity:
        """One quantity; a missing one where the setting does not have it."""
        return self.quantities.get((cell, name)) or missing("not of this setting")


def compute_setting(
    results: Results, runs: pd.DataFrame, chosen: pd.DataFrame, note: str,
    with_trajectories: bool, benchmark: Accuracies,
) -> SettingResult:  # fmt: skip
    """Every quantity of one setting.

    runs: all of its runs that did not diverge. chosen: those of them that replicate each other;
    note: a remark for every quantity on how they were chosen.
    """
    setting = str(chosen["setting"].iloc[0])
    crossed = len(runs) > len(chosen)
    final = int(chosen["epochs_completed"].max()) - 1
    shown = trajectories.thinned(final, trajectories.MOST_POINTS) if with_trajectories else [-1]
    every = range(-1, final + 1) if with_trajectories else shown
    samples = read_samples(results, runs if crossed else chosen, [*every, "last"], [*shown, "last"])
    whole, ids = samples["last"], list(chosen["run_id"])
    if crossed:
        samples = {at: s.of_runs(ids) for at, s in samples.items()}
    last, start = samples["last"], samples[-1]
    by_epoch = {e: s for e, s in samples.items() if isinstance(e, int) and s.n}
    parsed = [genotypes.parse(text) for text in chosen["genotype"]]
    chosen = chosen.assign(collapsed=[genotypes.is_collapsed(g) for g in parsed])
    if with_trajectories:
        chosen["settling_epoch"] = trajectories.settling_epochs(chosen, by_epoch)
    cells = cells_of(chosen, last, start)
    found = _quantities(chosen, cells)
    others, without = chosen[~chosen["collapsed"]], {}
    if 0 < len(others) < len(chosen):  # collapsed seeds predict no others here
        few = cells_of(others, last.of_runs(list(others["run_id"])), start, draws=0)
        without = {key: q for key, q in _quantities(others, few).items() if q.known}
    if last.left_out:
        note = said(note, f"{len(last.left_out)} runs left out: rows missing or not finite")
    if note:
        found = {k: replace(q, note=said(q.note, note)) for k, q in found.items()}
    seeds = dict(zip(ids, chosen[list(SEEDS)].itertuples(index=False, name=None), strict=True))
    members = {ALL: ids} | {c.kind: list(last.run_ids) for c in cells}
    places = {k: {seeds[run]: i for i, run in enumerate(of)} for k, of in members.items()}
    tables: Tables = {
        "stability": _stability(found),
        "without_collapsed": _stability(without),
        "seed_values": _seed_values(found, members, chosen),
        "links": _links(cells),
        "transition_matrices": matrices_table(last, start),
        "seeds_needed": seeds_needed.for_widths(found),
        "operation_choices": _operation_choices(cells),
        "transfer": transfer.transfer_table(cells, benchmark),
        "verdict": verdict.evidence(cells),
    }
    if with_trajectories:
        traced = {e: by_epoch[e] for e in shown if e in by_epoch}
        tables["trajectories"] = trajectories.of_settings(chosen, traced)
        thin = {e: by_epoch[e] for e in trajectories.thinned(final) if e in by_epoch}
        tables["operation_probabilities"] = trajectories.operation_probabilities(thin)
    for frame in tables.values():
        frame.insert(0, "setting", setting)
    first = last.of_runs(last.run_ids[:MOST_COMPARED])
    labels = tuple(seed_label(seeds[run]) for run in first.run_ids)
    sample = whole if crossed else None
    return SettingResult(setting, found, places, tables, first.edges, labels, sample)


def cells_of(runs: pd.DataFrame, last: Sample, start: Sample, draws: int = DRAWS) -> list[Cell]:
    """A setting's cell kinds; runs: its rows of `runs`, of whom both are samples."""
    kinds = last.cells if last.n else ()
    return [Cell(runs, last, start if start.n else None, kind, draws) for kind in kinds]


def _quantities(runs: pd.DataFrame, cells: Iterable[Cell]) -> dict[tuple[str, str], Quantity]:
    """Of single runs, and of each of the cells."""
    found = {name: of_run(name, runs[name].to_numpy(float)) for name in PER_RUN}
    for name in WITH_IQM:
        found[f"{name}_iqm"] = interquartile(runs[name].to_numpy(float), DEFINITIONS[name].limits)
    found["collapse_rate"] = rate(runs["collapsed"])
    found["settling_epoch"] = missing("the epochs between were not read", len(runs))
    if "settling_epoch" in runs:
        found["settling_epoch"] = of_run("settling_epoch", runs["settling_epoch"].to_numpy())
    none = missing("no run has it")
    all_of = {(ALL, name): q if q.known or q.n else none for name, q in found.items()}
    return all_of | {(c.kind, name): q for c in cells for name, q in of_cell(c).items()}


def _stability(found: Mapping[tuple[str, str], Quantity]) -> pd.DataFrame:
    rows = [
        (cell, name, q.estimate, q.low, q.high, q.null_mean, q.p_value, q.n, q.note)
        for (cell, name), q in found.items()
    ]
    return pd.DataFrame(rows, columns=list(STABILITY))


def _seed_values(
    found: Mapping[tuple[str, str], Quantity], members: Mapping[str, list[str]], runs: pd.DataFrame
) -> pd.DataFrame:
    """One row per quantity and seed: a run's own value, or the jackknife's pseudo-value."""
    labels = map(seed_label, runs[list(SEEDS)].itertuples(index=False))
    told = dict(zip(runs["run_id"], zip(labels, runs["collapsed"], strict=True), strict=True))
    rows = [
        (cell, name, run_id, told[run_id][0], value, told[run_id][1])
        for (cell, name), q in found.items()
        if q.statistic is not None
        for run_id, value in zip(members[cell], q.statistic.pseudo_values(), strict=True)
    ]
    columns = ["cell", "quantity", "run_id", "seed", "value", "collapsed"]
    return pd.DataFrame(rows, columns=columns)


def _operation_choices(cells: Iterable[Cell]) -> pd.DataFrame:
    """One row per edge and operation: the share of seeds that choose it (ties: none)."""
    rows = [
        (cell.kind, e.source, e.target, e.inner, name, float((chosen == k).mean()), cell.n)
        for cell in cells
        for e, chosen in zip(cell.edges, cell.choices.T, strict=True)
        for k, name in [*enumerate(e.operations), (TIED, "tied")]
        if k != TIED or (chosen == TIED).any()
    ]
    columns = ["cell", "source", "target", "inner", "operation", "share", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def _links(cells: Iterable[Cell]) -> pd.DataFrame:
    """One row per link; p-values Holm-corrected over the distinct matrices of its cell kind."""
    rows = []
    for cell in cells:
        stabilities = {
            "dependence_stability": cell.dependence[1],
            "learned_dependence_stability": cell.learned_dependence[1],
        }
        for index, link in enumerate(cell.links):
            row: dict[str, Any] = {
                "cell": link.cell, **dict(zip(NODES, link.nodes, strict=True)), "seeds": cell.n,
                "transition_divergence": cell.divergence[1][index],
                "attention_weight": float(link.attention.mean()),
            }  # fmt: skip
            for name, found in stabilities.items():
                q = found.intervals[index] if found else missing("")
                row |= {name: q.estimate, f"{name}_low": q.low, f"{name}_high": q.high}
                row[f"{name}_p"] = found.p_values[index] if found else NAN
                row[f"{name}_p_holm"] = found.corrected[index] if found else NAN
            rows.append(row)
    return pd.DataFrame(rows)


def matrices_table(last: Sample, start: Sample) -> pd.DataFrame:
    """One row per link and matrix entry: mean and sd over n seeds, and the mean at epoch -1."""
    before = {(k.cell, *k.nodes): k.matrices for k in start.links}
    parts = []
    for link in last.links:
        rows, columns = link.predecessor.operations, link.edge.operations
        begun = before.get((link.cell, *link.nodes))
        known = begun is not None and begun.shape[1:] == link.matrices.shape[1:]
        sd = link.matrices.std(axis=0, ddof=1) if last.n > 1 else link.matrices[0] * NAN
        values = {
            "cell": link.cell, **dict(zip(NODES, link.nodes, strict=True)),
            "row": np.repeat(rows, len(columns)), "column": list(columns) * len(rows),
            "mean": link.matrices.mean(axis=0).ravel(), "sd": sd.ravel(),
            "start_mean": begun.mean(axis=0).ravel() if begun is not None and known else NAN,
            "n": last.n, "attention_weight_mean": float(link.attention.mean()),
        }  # fmt: skip
        parts.append(pd.DataFrame(values))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
