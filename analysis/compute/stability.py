"""How stable one setting is: every quantity of `report/tables/stability.csv`, cell by cell.

The unit of replication is the seed: runs whose three seeds are equal. A study that crosses its
seeds has others too; they belong to `variance`, and `replicates` says how many were left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.compute.summary import TRANSITION_MOVED
from analysis.data import genotypes
from analysis.data.samples import SEEDS, LinkSample, Sample
from analysis.statistics.agreement import (
    chosen_operations,
    edge_agreement,
    operation_agreement,
    probability_divergence,
)
from analysis.statistics.divergence import DRAWS
from analysis.statistics.matrices import (
    LinkStability,
    attention_agreement,
    dependence_stability,
    displacement,
    dobrushin_coefficient,
    learned,
    link_specificity,
    transition_divergence,
)
from analysis.statistics.metrics import Array
from analysis.statistics.quantities import Quantity, missing, of_rate, of_runs, of_runs_iqm

ALL = "all"
"""In place of the cell kind for quantities of a whole run."""

PER_RUN = (
    "architecture_displacement",
    "transition_displacement",
    "dependence_strength",
    "skip_connections",
    "inner_edges_kept",
    "valid_accuracy",
    "derived_accuracy",
    "benchmark_test",
)
WITH_IQM = ("valid_accuracy", "derived_accuracy", "benchmark_test")

COUNTS = ("skip_connections", "inner_edges_kept")

LINK_QUANTITIES = (
    "transition_divergence",
    "dependence_stability",
    "learned_dependence_stability",
    "link_specificity",
    "attention_agreement",
    "dobrushin_coefficient",
)
HEADLINE = "learned_dependence_stability"


@dataclass(frozen=True)
class LinkResult:
    """One link: its matrices, mean divergence (bits) and both of its stabilities.

    index: the link's place within `dependence` and `learned`, which are of its whole cell.
    """

    sample: LinkSample
    divergence: float
    dependence: LinkStability | None
    learned: LinkStability | None
    index: int


@dataclass(frozen=True)
class SettingStability:
    """All quantities of one setting, by cell kind (`all` for those of a whole run) and name.

    seeds: (n, 3), the runs in the order of every per-seed array and pair matrix.
    """

    setting: str
    model: str
    seeds: NDArray[np.int64]
    quantities: Mapping[tuple[str, str], Quantity]
    links: tuple[LinkResult, ...]
    sample: Sample

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.seeds)

    def get(self, cell: str, name: str) -> Quantity:
        """One quantity; a missing one where the setting does not have it."""
        return self.quantities.get((cell, name)) or missing("not of this setting")


def replicates(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """One setting's runs that replicate each other, and a remark on those left out.

    Those with three equal seeds; where only one of the three seeds varies over the runs, all of
    them, since then no two share the one that varies; where none has equal seeds, the first ones
    of which no two share a varying seed. Diverged runs are among them.
    """
    runs = runs.sort_values([*SEEDS, "run_id"], ignore_index=True)
    equal = runs[list(SEEDS)].nunique(axis=1) == 1
    if equal.all():
        return runs, ""
    levels = runs[list(SEEDS)].nunique()
    varying = levels[levels > 1].index.tolist()
    if len(varying) <= 1:
        return runs, f"only {varying[0]} varies over these runs" if varying else ""
    if equal.any():
        note = f"crossed seeds: the {int(equal.sum())} of {len(runs)} runs with three equal seeds"
        return runs[equal].reset_index(drop=True), note
    chosen: list[int] = []
    taken: set[tuple[str, int]] = set()
    for index, row in enumerate(runs[varying].to_numpy(int).tolist()):
        seeds = set(zip(varying, row, strict=True))
        if taken.isdisjoint(seeds):
            chosen.append(index)
            taken |= seeds
    note = f"crossed seeds: {len(chosen)} of {len(runs)} runs, no two of which share a seed"
    return runs.iloc[chosen].reset_index(drop=True), note


def stability(
    runs: pd.DataFrame,
    last: Sample,
    start: Sample | None,
    settling: Array | None,
    note: str = "",
) -> SettingStability:
    """All quantities of one setting.

    runs: its replicates that did not diverge. last, start: their architectures at the last
    epoch, and at epoch -1 (None where there is none). settling: per run its settling epoch,
    None where the other epochs were not read. note: a remark for every quantity.
    """
    of_runs_frame = runs.set_index("run_id").loc[list(last.run_ids)] if last.n else runs
    if start is not None and start.run_ids != last.run_ids:
        start = start.of_runs(last.run_ids)
    found = _of_whole_runs(runs, settling)
    links: list[LinkResult] = []
    for cell in last.cells:
        of_cell = of_edges(of_runs_frame, last, cell)
        of_cell["edge_agreement"] = kept_edges(of_runs_frame, last, cell)
        by_link, per_link = of_links(of_runs_frame, last, start, cell)
        found |= {(cell, name): q for name, q in (of_cell | by_link).items()}
        links += per_link
    if last.left_out:
        short = f"{len(last.left_out)} runs left out: rows missing or not finite"
        note = "; ".join(filter(None, [note, short]))
    if note:
        found = {key: _noted(q, note) for key, q in found.items()}
    first = runs.iloc[0]
    seeds = runs[list(SEEDS)].to_numpy(int)
    return SettingStability(
        str(first["setting"]), str(first["model"]), seeds, found, tuple(links), last
    )


def _noted(quantity: Quantity, note: str) -> Quantity:
    return replace(quantity, note="; ".join(filter(None, [quantity.note, note])))


def _of_whole_runs(runs: pd.DataFrame, settling: Array | None) -> dict[tuple[str, str], Quantity]:
    found = {
        name: of_runs(runs[name].to_numpy(float), unit=float(name in COUNTS)) for name in PER_RUN
    }
    for name in WITH_IQM:
        found[f"{name}_iqm"] = of_runs_iqm(runs[name].to_numpy(float))
    parsed = [genotypes.parse(text) for text in runs["genotype"]]
    found["collapse_rate"] = of_rate([genotypes.is_collapsed(g) for g in parsed])
    found["settling_epoch"] = (
        missing("the epochs between were not read", len(runs))
        if settling is None
        else of_runs(settling, unit=1.0)
    )
    absent = "no run has it"
    return {
        (ALL, name): q if q.known else missing(q.note or absent, 0) for name, q in found.items()
    }


def cannot_be_chosen(runs: pd.DataFrame) -> tuple[str, ...]:
    """Operations that no genotype keeps: `none` in cells of the DARTS family."""
    return () if str(runs["genotype"].iloc[0]).startswith("|") else ("none",)


def choices_of(sample: Sample, cell: str, exclude: tuple[str, ...]) -> NDArray[np.int64]:
    """(n, edges) chosen operations of one cell kind."""
    each = [
        chosen_operations(e.probabilities, e.operations, exclude) for e in sample.edges_of(cell)
    ]
    return np.stack(each, axis=1)


def of_edges(
    runs: pd.DataFrame, sample: Sample, cell: str, draws: int = DRAWS, apart: bool = True
) -> dict[str, Quantity]:
    """Agreement of one cell kind's edges; of inner and outer ones `apart` too."""
    edges = sample.edges_of(cell)
    lists = [e.operations for e in edges]
    choices = choices_of(sample, cell, cannot_be_chosen(runs))
    inner = np.array([e.inner for e in edges])
    found: dict[str, Quantity] = {}
    parts = {"": inner | True} | ({"_inner": inner, "_outer": ~inner} if apart else {})
    for suffix, keep in parts.items():
        chosen = np.flatnonzero(keep)
        part = [lists[i] for i in chosen]
        probabilities = [edges[i].probabilities for i in chosen]
        found[f"operation_agreement{suffix}"] = operation_agreement(choices[:, chosen], part, draws)
        found[f"probability_divergence{suffix}"] = probability_divergence(
            probabilities, part, draws
        )
    return found


def kept_edges(runs: pd.DataFrame, sample: Sample, cell: str) -> Quantity:
    """Agreement of the genotypes' kept edges of one cell kind."""
    kept = []
    for text in runs["genotype"]:
        parsed = genotypes.parse(text).get(cell)
        of_run = () if parsed is None else parsed.edges
        kept.append(frozenset((e.source, e.target, e.operation) for e in of_run))
    candidates = {(e.source, e.target): e.operations for e in sample.edges_of(cell)}
    unknown = {item for items in kept for item in items if item[:2] not in candidates}
    if unknown:
        return missing(f"genotypes keep an edge that is not in edges/: {min(unknown)}", sample.n)
    return edge_agreement(kept, candidates)


def kept_at(sample: Sample, cell: str, exclude: tuple[str, ...]) -> Quantity:
    """Agreement of the edges that would be kept at a sample's epoch, without a chance value.

    The published rules: in cells of the DARTS family (where `none` is excluded) a node keeps the
    two in-edges whose best operation has the largest probability; else every edge is kept.
    """
    edges = sample.edges_of(cell)
    best, weight = [], []
    for e in edges:
        p = np.where([o in exclude for o in e.operations], -1.0, e.probabilities)
        best.append([e.operations[k] for k in p.argmax(axis=1)])
        weight.append(p.max(axis=1))
    kept = []
    for run in range(sample.n):
        order = sorted(range(len(edges)), key=lambda i: (-weight[i][run], edges[i].source))
        of_run: list[tuple[int, int, str]] = []
        for i in order:
            e = edges[i]
            full = bool(exclude) and sum(target == e.target for _, target, _ in of_run) == 2
            if not full:
                of_run.append((e.source, e.target, best[i][run]))
        kept.append(frozenset(of_run))
    candidates = {(e.source, e.target): e.operations for e in edges}
    return edge_agreement(kept, candidates, draws=0)


def shared_matrices(links: tuple[LinkSample, ...], sharing: object) -> list[int] | None:
    """A number per link, equal where links have one matrix; None where each has its own.

    What `sharing` says is believed only where the numbers agree; where it says nothing, links
    whose matrices are equal in every seed share one.
    """
    if sharing == "link" or not links:
        return None
    numbers: list[int] = []
    for index, link in enumerate(links):
        number = index
        for earlier in range(index):
            other = links[earlier]
            may = sharing != "edge" or other.nodes[2:] == link.nodes[2:]
            if may and np.array_equal(other.matrices, link.matrices):
                number = numbers[earlier]
                break
        numbers.append(number)
    return numbers if len(set(numbers)) < len(numbers) else None


def of_links(
    runs: pd.DataFrame, last: Sample, start: Sample | None, cell: str, draws: int = DRAWS
) -> tuple[dict[str, Quantity], list[LinkResult]]:
    """Stabilities of one cell kind's transition matrices, together and link by link."""
    links = last.links_of(cell)
    if not links:
        model = str(runs["model"].iloc[0])
        none = f"no transition matrices under {model}"
        if model != "independent":
            none = "no rows of links"
        return {name: missing(none, last.n) for name in LINK_QUANTITIES}, []
    matrices = [link.matrices for link in links]
    predecessors = [link.predecessor.probabilities for link in links]
    lists = [(link.predecessor.operations, link.edge.operations) for link in links]
    shared = shared_matrices(links, runs["sharing"].iloc[0])
    divergence, of_each = transition_divergence(matrices, predecessors)
    found = {"transition_divergence": divergence}
    found["dependence_stability"], dependence = dependence_stability(matrices, shared, draws)
    found[HEADLINE], of_learned = _learned(runs, links, start, shared, draws)
    found["link_specificity"] = link_specificity(matrices, lists, shared, draws)
    found["attention_agreement"] = attention_agreement(_attention(links), draws)
    found["dobrushin_coefficient"] = dobrushin_coefficient(matrices)
    per_link = [
        LinkResult(link, float(of_each[i]), dependence, of_learned, i)
        for i, link in enumerate(links)
    ]
    return found, per_link


def learned_matrices(
    runs: pd.DataFrame, links: tuple[LinkSample, ...], start: Sample | None
) -> list[Array] | str:
    """What was learned, per link (n, R, C), or the reason why nothing can be said of it."""
    trainable = runs["trainable"].iloc[0]
    if not pd.isna(trainable) and not trainable:
        return "the matrices are frozen"
    starts = {} if start is None else {(k.cell, *k.nodes): k.matrices for k in start.links}
    found = [starts.get((link.cell, *link.nodes)) for link in links]
    if any(s is None or s.shape != k.matrices.shape for s, k in zip(found, links, strict=True)):
        return "no epoch -1: what the matrices started from is not known"
    begun = [s for s in found if s is not None]
    moved = runs["transition_displacement"].to_numpy(float)
    if not np.isfinite(moved).all():
        moved = displacement([link.matrices for link in links], begun)
    if moved.mean() < TRANSITION_MOVED:
        return f"transition_displacement {moved.mean():.3f}, under {TRANSITION_MOVED:g}"
    return learned([link.matrices for link in links], begun)


def _learned(
    runs: pd.DataFrame,
    links: tuple[LinkSample, ...],
    start: Sample | None,
    shared: list[int] | None,
    draws: int,
) -> tuple[Quantity, LinkStability | None]:
    matrices = learned_matrices(runs, links, start)
    if isinstance(matrices, str):
        return missing(matrices, len(runs)), None
    return dependence_stability(matrices, shared, draws)


def _attention(links: tuple[LinkSample, ...]) -> list[Array]:
    """(n, predecessors) of every inner edge."""
    edges: dict[tuple[int, int], list[Array]] = {}
    for link in links:
        edges.setdefault(link.nodes[2:], []).append(link.attention)
    return [np.stack(columns, axis=1) for columns in edges.values()]


def table(items: tuple[SettingStability, ...]) -> pd.DataFrame:
    """The `stability` table: one row per setting, cell and quantity."""
    rows = [
        (s.setting, cell, name, *q.interval[:3], q.null_mean, q.p_value, q.interval.n, q.note)
        for s in items
        for (cell, name), q in s.quantities.items()
    ]
    columns = ["setting", "cell", "quantity", "estimate", "low", "high", "null_mean", "p_value"]
    return pd.DataFrame(rows, columns=[*columns, "seeds", "note"])


def links_table(items: tuple[SettingStability, ...]) -> pd.DataFrame:
    """The `links` table: one row per setting and link, p-values Holm-corrected over its links."""
    rows = []
    for s in items:
        for link in s.links:
            names = ("predecessor_source", "predecessor_target", "source", "target")
            n = len(link.sample.attention)
            row: dict[str, object] = {"setting": s.setting, "cell": link.sample.cell}
            row |= dict(zip(names, link.sample.nodes, strict=True)) | {"seeds": n}
            row["transition_divergence"] = link.divergence
            row["attention_weight"] = float(link.sample.attention.mean())
            for name, found in (
                ("dependence_stability", link.dependence),
                (HEADLINE, link.learned),
            ):
                interval = found.intervals[link.index] if found else (np.nan,) * 3
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), interval[:3], strict=True))
                row[f"{name}_p"] = found.p_values[link.index] if found else np.nan
                row[f"{name}_p_holm"] = found.corrected[link.index] if found else np.nan
            rows.append(row)
    return pd.DataFrame(rows)
