"""The registry of quantities: what tables, figures, page and data dictionary say of each.

A quantity is written down once, here: its name in tables, its label, its unit, what is possible,
what it means and how it is computed. Of a single run it is a column of `runs` (or, over epochs
alone, of `epochs`); of a whole setting it is a function of one of its cell kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from analysis.compute.transfer import quantity_of
from analysis.data.genotypes import function_of, parse
from analysis.statistics import agreement, matrices
from analysis.statistics.inference import missing, of_runs
from analysis.statistics.transfer import LEAST_SEEDS

if TYPE_CHECKING:
    from analysis.compute.cell import Cell
    from analysis.statistics.inference import Quantity
    from analysis.statistics.metrics import Array

ALL = "all"
"""In place of the cell kind for quantities of a whole run."""

HEADLINE = "dependence_transfer"

Limits = tuple[float, float]
SHARE: Limits = (0.0, 1.0)
UP_TO_ONE: Limits = (-float("inf"), 1.0)
POSITIVE: Limits = (0.0, float("inf"))
PARTS = ("inner", "outer")


class Definition(NamedTuple):
    """One quantity.

    level: `run`, `epoch` (a run's, but only over epochs) or `setting`. limits: what is possible,
    (low, high). uses: where it stands, see `used`. compute: of a setting's cell, None where a
    column has it. widths: interval widths worth asking seeds for, in its unit. least: seeds from
    which on there is an interval.
    """

    level: Literal["run", "epoch", "setting"]
    name: str
    label: str
    unit: str
    limits: Limits
    meaning: str
    uses: str = ""
    compute: Callable[[Cell], Quantity] | None = None
    needs_links: bool = False
    widths: tuple[float, ...] = (0.4, 0.2, 0.1, 0.05)
    least: int = 2


_run = partial(Definition, "run")
_edges = partial(Definition, "setting")
_links = partial(Definition, "setting", needs_links=True)


def _transfer(name: str, *about: Any, **more: Any) -> Definition:
    return _links(name, *about, **more)._replace(compute=lambda cell: quantity_of(cell, name))


def _of(statistic: Callable[..., Quantity], part: str = "") -> Callable[[Cell], Quantity]:
    """An agreement of choices, or a divergence of probabilities, over a part of the edges."""

    def compute(cell: Cell) -> Quantity:
        chosen = cell.part(part)
        lists = [cell.lists[i] for i in chosen]
        if statistic is agreement.operation_agreement:
            return statistic(cell.choices[:, chosen], lists, cell.draws)
        return statistic([cell.edges[i].probabilities for i in chosen], lists, cell.draws)

    return compute


def _function_agreement(cell: Cell) -> Quantity:
    if cell.never_kept:
        return missing("of NAS-Bench-201's cells alone", cell.n)
    texts = cell.genotypes
    return agreement.function_agreement([function_of(parse(t)[cell.kind]) for t in texts], texts)


_KAPPA = (
    "Fleiss' kappa: seeds are raters, edges subjects, chosen operations categories; 0 is chance"
)
_BITS = "mean pairwise Jensen-Shannon divergence of edge probabilities; 0 is the same in every seed"

_ALL = (
    # of single runs: columns of `runs`
    _run("valid_accuracy", "relaxed accuracy on holdout", "0..1", SHARE,
         "accuracy of the supernet with all operations mixed, on held-out data",
         "mean iqm epochs seeds"),
    _run("derived_accuracy", "derived accuracy on holdout", "0..1", SHARE,
         "accuracy of the genotype's single path in the supernet, on held-out data",
         "mean iqm epochs seeds told compared"),
    _run("benchmark_valid", "benchmark validation accuracy", "%", (0.0, 100.0),
         "tabular validation accuracy of the genotype", widths=(4.0, 2.0, 1.0, 0.5)),
    _run("benchmark_test", "benchmark test accuracy", "%", (0.0, 100.0),
         "tabular test accuracy of the genotype", "mean iqm seeds told compared",
         widths=(4.0, 2.0, 1.0, 0.5)),
    _run("architecture_displacement", "architecture displacement", "0..1", SHARE,
         "mean total variation distance of edge probabilities from their start", "mean epochs"),
    _run("transition_displacement", "transition displacement", "0..1", SHARE,
         "mean total variation distance of the matrices' rows from their start", "mean epochs"),
    _run("dependence_strength", "dependence strength", "0..1", SHARE,
         "normalised mutual information along links; 0 by definition where nothing can flow",
         "mean epochs seeds"),
    _run("skip_connections", "skip connections", "edges", POSITIVE,
         "kept edges of all cell kinds that are skip_connect", "mean", widths=(2.0, 1.0, 0.5)),
    _run("parameterless_operations", "parameterless operations", "edges", POSITIVE,
         "kept edges that are skip, a pool, none or noise", widths=(2.0, 1.0, 0.5)),
    _run("inner_edges_kept", "inner edges kept", "edges", POSITIVE,
         "inner edges in the genotype", "mean", widths=(2.0, 1.0, 0.5)),
    _run("tied_edges", "tied edges", "edges", POSITIVE,
         "edges whose two best operations are equal", widths=(2.0, 1.0, 0.5)),
    _run("train_loss", "training loss", "nats", POSITIVE, "last epoch's mean cross-entropy",
         "epochs"),
    _run("valid_loss", "relaxed loss on holdout", "nats", POSITIVE, "of the supernet", "epochs"),
    _run("seconds", "duration", "s", POSITIVE, "of the run"),
    _run("seconds_per_step", "duration of a step", "s", POSITIVE, "mean over the run"),
    _run("collapse_rate", "collapsed runs", "0..1", SHARE,
         "share of runs whose normal cell has mostly parameterless operations"),
    _run("settling_epoch", "settling epoch", "epochs", POSITIVE,
         "the epoch after which no edge's best operation changes", widths=(10.0, 5.0, 2.0)),
    Definition("epoch", "train_accuracy", "training accuracy", "0..1", SHARE,
               "mean over the epoch", "epochs"),
    Definition("epoch", "architecture_entropy", "architecture entropy", "nats", POSITIVE,
               "mean entropy of the edges' probabilities", "epochs"),
    # of a setting: its edges
    _edges("operation_agreement", "operation agreement (Fleiss' kappa)", "", UP_TO_ONE, _KAPPA,
           "epochs page seeds told compared", _of(agreement.operation_agreement)),
    *(_edges(f"operation_agreement_{part}", f"operation agreement of {part} edges", "", UP_TO_ONE,
             _KAPPA, compute=_of(agreement.operation_agreement, part)) for part in PARTS),
    _edges("edge_agreement", "edge agreement (Jaccard)", "", SHARE,
           "mean Jaccard index of two seeds' kept (edge, operation) sets; its chance value keeps "
           "as many edges per node at random", "epochs page seeds compared",
           lambda cell: agreement.edge_agreement(cell.kept, cell.candidates)),
    _edges("operation_rank_agreement", "rank agreement of operations (Kendall's tau)", "",
           UP_TO_ONE, "mean over edges and pairs of seeds of Kendall's tau-b of the operations' "
           "probabilities; 0 is chance", "epochs", lambda cell: agreement.operation_rank_agreement(
               [e.probabilities for e in cell.edges])),
    _edges("function_agreement", "cells that are one function", "0..1", SHARE,
           "share of pairs of seeds whose cells compute the same (skips and nones resolved)",
           compute=_function_agreement),
    _edges("probability_divergence", "probability divergence", "bits", SHARE, _BITS,
           "epochs page seeds", _of(agreement.probability_divergence)),
    *(_edges(f"probability_divergence_{part}", f"probability divergence of {part} edges", "bits",
             SHARE, _BITS, compute=_of(agreement.probability_divergence, part)) for part in PARTS),
    # of a setting: what other seeds know of this one's flows
    _transfer(HEADLINE, "dependence transfer", "", UP_TO_ONE,
              "(D(columns) - D(full)) / D(start): what the rows of other seeds' matrices add to "
              "all that their columns, the start and the optimiser tell of a seed's flow",
              "page seeds told", least=LEAST_SEEDS),
    _transfer("column_transfer", "column transfer", "", UP_TO_ONE,
              "1 - D(columns) / D(start): what other seeds learned wherever one comes from",
              "page seeds", least=LEAST_SEEDS),
    _transfer("learned_effect", "learned effect", "bits", SHARE,
              "D(start): divergence of the flow from what the start alone would give"),
    _transfer("flow_effect", "flow effect", "bits", SHARE,
              "divergence to the flow with every matrix replaced by the mean of its rows"),
    _transfer("choice_transfer", "choice transfer", "0..1", SHARE,
              "share of inner edges whose operation is the same under other seeds' tables"),
    _transfer("dependence_transfer_own", "dependence transfer of a placebo's own p", "",
              UP_TO_ONE, "what an optimiser builds into rows that nothing flows through",
              least=LEAST_SEEDS),
    # of a setting: its links
    _links("transition_divergence", "transition divergence", "bits", SHARE,
           "mean divergence of two seeds' matrices, rows weighted by the predecessor's "
           "probabilities", "epochs seeds", lambda cell: cell.divergence[0]),
    _links("dependence_stability", "dependence stability", "", UP_TO_ONE,
           "1 - mean divergence of two seeds' matrices / its mean with rows permuted; 0 is "
           "chance, 1 is the same matrix in every seed", "epochs page seeds",
           lambda cell: cell.dependence[0]),
    _links("learned_dependence_stability", "learned dependence stability", "", UP_TO_ONE,
           "the same of each matrix divided by its own start", "epochs page seeds",
           lambda cell: cell.learned_dependence[0]),
    _links("link_specificity", "link specificity", "", UP_TO_ONE,
           "1 - mean divergence / its mean with links permuted within each seed",
           "epochs page seeds", lambda cell: matrices.link_specificity(
               cell.matrices, cell.link_lists, cell.shared, cell.draws)),
    _links("attention_agreement", "attention agreement", "", UP_TO_ONE,
           "1 - mean divergence of attention / its mean with predecessors permuted",
           "epochs page seeds",
           lambda cell: matrices.attention_agreement(cell.attention, cell.draws)),
    _links("dobrushin_coefficient", "Dobrushin coefficient", "0..1", SHARE,
           "mean over links of the largest total variation between two rows: how much of a "
           "difference between predecessors can come through", "epochs page",
           lambda cell: matrices.dobrushin_coefficient(cell.matrices)),
)  # fmt: skip

DEFINITIONS: Mapping[str, Definition] = {d.name: d for d in _ALL}


def used(use: str) -> tuple[str, ...]:
    """Quantities by where they stand, in the registry's order.

    use: `mean` (of a whole run in the table `stability`), `iqm` (with an interquartile mean there),
    `epochs` (followed over epochs), `page` (a column of the page's table of stability),
    `compared` (the page counts comparisons in it), `seeds` (in `seeds_needed`), `told` (the page
    says of it how many seeds it takes).
    """
    return tuple(d.name for d in _ALL if use in d.uses.split())


SUMMARISED = tuple(
    d.name for d in _ALL if d.level == "run" and d.name not in ("collapse_rate", "settling_epoch")
)
"""Columns of `runs` that the table `settings` has means of."""

WITH_IQM = used("iqm")

PER_RUN = tuple(sorted(used("mean"), key=WITH_IQM.__contains__))
"""Quantities of single runs in the table `stability`, as means over seeds; accuracies last."""

OVER_EPOCHS = tuple(q for q in used("epochs") if DEFINITIONS[q].level != "setting")
"""Columns of `epochs` that are followed."""


def of_run(name: str, values: Array) -> Quantity:
    """The mean over seeds of a quantity of single runs; its interval is within what is possible."""
    of = DEFINITIONS[name]
    return of_runs(values, of.limits, float(of.unit == "edges"))


def label_of(name: str, unit: bool = True) -> str:
    """A quantity's label, with its unit in brackets where it has one."""
    known = DEFINITIONS.get(name)
    if known is None:
        return name.replace("_", " ")
    return f"{known.label} ({known.unit})" if unit and known.unit else known.label


def of_cells(links: bool, traced: bool = False) -> list[Definition]:
    """Those computed cell by cell, of `links` or of edges; traced: if followed over epochs."""
    known = used("epochs") if traced else DEFINITIONS
    return [d for d in _ALL if d.compute and d.needs_links == links and d.name in known]
