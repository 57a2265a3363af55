"""Figures as functions of the report's tables: one registry, one call that draws.

    tables = analysis.read_tables("results/nb201/report")
    figure = figures.draw(tables, "stability")
    figure = figures.draw(tables, "transitions", setting="transition", cell="normal")

A figure knows nothing but the tables (docs/analysis.md), so any of them is made again from the
files. It belongs to no pyplot state and needs no closing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis.errors import ResultsError
from analysis.figures import cells, curves, heatmaps, runs, settings
from analysis.figures.layout import STYLES, Study, Tables, drawing, known_style, rows

__all__ = ["FIGURES", "STYLES", "Definition", "Tables", "draw", "known_style", "names"]


class Definition(NamedTuple):
    """One figure: its name, what draws it, its title and the tables it is drawn from.

    per: "study", "cell" (one a cell kind) or "setting" (one a setting and cell kind); data: the
    rows without which there is nothing to draw, with columns for what `per` asks for.
    """

    name: str
    draw: Callable[..., Figure]
    title: str
    tables: tuple[str, ...]
    data: Callable[[Tables], pd.DataFrame]
    per: str = "study"

    def each(self, tables: Tables) -> list[tuple[str | None, str | None]]:
        """The (setting, cell) of every such figure that these tables allow; None: of all."""
        found = self.data(tables)
        if self.per == "study" or found.empty:
            return [] if found.empty else [(None, None)]
        kinds = sorted(found["cell"].unique())
        if self.per == "cell":
            return [(None, kind) for kind in kinds]
        present = set(zip(found["setting"], found["cell"], strict=True))
        return [(s, c) for s in Study(tables).looks for c in kinds if (s, c) in present]

    def available(self, tables: Tables) -> bool:
        """Whether the tables hold what it is drawn from."""
        return bool(self.each(tables))


def _data(table: str, *known: str, **where: Any) -> Callable[[Tables], pd.DataFrame]:
    """Rows of a table in which these columns are known."""
    return lambda tables: rows(tables, table, "setting", "cell", *known, **where).dropna(
        subset=list(known)
    )


def _quantities(*names: str, table: str = "stability") -> Callable[[Tables], pd.DataFrame]:
    return _data(table, "estimate", quantity=names)


def _of_cells(table: str) -> Callable[[Tables], pd.DataFrame]:
    return lambda tables: (found := _data(table, "estimate")(tables))[
        ~found["quantity"].isin(settings.TRANSFER) & (found["cell"] != "all")
    ]


_SEEDS = ("stability", "seed_values", "without_collapsed")
FIGURES = {
    figure.name: figure
    for figure in (
        Definition(
            "ladder", curves.ladder,
            "How much of a seed's flow the other seeds foretell: start, columns, full",
            ("transfer", "seed_values"), _data("transfer", "d_start", "d_columns", "d_full"),
        ),
        Definition(
            "matrices", heatmaps.matrices, "Mean transition matrices at the end, and their start",
            ("transition_matrices", "verdict"), _data("transition_matrices", "mean"),
        ),
        Definition(
            "accuracy", settings.accuracy, "Accuracy at the last epoch, every seed a point",
            _SEEDS, _quantities("valid_accuracy", "derived_accuracy", "benchmark_test"),
        ),
        Definition(
            "displacement", settings.displacement, "How far architecture and matrices moved",
            _SEEDS, _quantities(*settings.MOVED),
        ),
        Definition(
            "genotype_counts", runs.genotype_counts, "Distinct genotypes of each setting",
            ("genotypes",), _data("genotypes", "count", part="whole"),
        ),
        Definition(
            "transfer", settings.transfer, "What other seeds learned, and how far it foretells",
            _SEEDS, _quantities(*settings.TRANSFER),
        ),
        Definition(
            "stability", settings.stability, "Agreement and stability over seeds", _SEEDS,
            _of_cells("stability"),
        ),
        Definition(
            "controls", settings.controls, "Differences to the controls, paired by seed",
            ("comparisons",), _data("comparisons", "difference", quantity=settings.CONTROLLED),
        ),
        Definition(
            "accuracy_stability", runs.accuracy_stability, "Accuracy against stability",
            ("stability", "seed_values"), lambda tables: _of_cells("stability")(tables),
        ),
        Definition(
            "stability_over_epochs", curves.stability_over_epochs, "Stability over epochs",
            ("trajectories",), _of_cells("trajectories"),
        ),
        Definition(
            "seeds_needed", settings.seeds_needed, "About how many seeds would be needed",
            ("seeds_needed",), _data("seeds_needed", "target", note=""),
        ),
        Definition(
            "similarity", runs.similarity, "Similarity of every two runs, clustered",
            ("similarity",), _data("similarity", "similarity"),
        ),
        Definition(
            "profiles", runs.profiles, "Share of runs above each accuracy", ("profiles",),
            _data("profiles", "share"),
        ),
        Definition(
            "accuracy_over_epochs", curves.accuracy_over_epochs, "Accuracy over epochs",
            ("trajectories",), _quantities(*curves.ACCURACIES, table="trajectories"),
        ),
        Definition(
            "loss_over_epochs", curves.loss_over_epochs, "Cross-entropy over epochs",
            ("trajectories",), _quantities(*curves.LOSSES, table="trajectories"),
        ),
        Definition(
            "dynamics", curves.dynamics, "How the architecture forms", ("trajectories",),
            _quantities(*curves.DYNAMICS, table="trajectories"),
        ),
        Definition(
            "frequencies", runs.frequencies, "Operations that the seeds choose, edge by edge",
            ("operation_choices",), _data("operation_choices", "share"), "cell",
        ),
        Definition(
            "tuning_history", runs.tuning_history, "Objective of every trial", ("tuning",),
            _data("tuning", "trial"),
        ),
        Definition(
            "tuning_rates", runs.tuning_rates, "Objective against each learning rate",
            ("tuning",), _data("tuning", "trial"),
        ),
        Definition(
            "operations", curves.operations, "Probabilities of operations over epochs",
            ("operation_probabilities",), _data("operation_probabilities", "mean"), "setting",
        ),
        Definition(
            "transitions", heatmaps.transitions, "Transition matrices at the last epoch",
            ("transition_matrices", "links"), _data("transition_matrices", "mean"), "setting",
        ),
        Definition(
            "cell", cells.cell, "The most frequent cell", ("genotypes", "links"),
            lambda tables: _data("genotypes", "code", part=("normal", "reduce"))(tables).assign(
                cell=lambda frame: frame["part"]
            ),
            "setting",
        ),
    )
}  # fmt: skip
"""Name to figure, those of the first screen first."""


def names(tables: Tables) -> list[tuple[str, str | None, str | None]]:
    """(name, setting, cell) of every figure that these tables allow, as `draw` takes them."""
    return [(name, *of) for name, figure in FIGURES.items() for of in figure.each(tables)]


def draw(
    tables: Tables,
    name: str,
    setting: str | None = None,
    cell: str | None = None,
    style: str = "paper",
) -> Figure:
    """One figure of these tables. setting and cell: of which, else the first there is.

    Raises ResultsError, one line, where name, style, setting or cell are unknown or the tables
    hold nothing of it.
    """
    if name not in FIGURES:
        raise ResultsError(f"no figure {name!r}: there are {', '.join(FIGURES)}")
    figure = FIGURES[name]
    every = figure.each(tables)
    found = [of for of in every if setting in (None, of[0]) and cell in (None, of[1])]
    if not found:
        of = "; ".join(" ".join(filter(None, pair)) for pair in every)
        known = f"there are {of}" if of else f"nothing in table {figure.tables[0]!r}"
        raise ResultsError(
            f"no figure {name!r} of {setting or 'all settings'}, {cell or 'all cells'}: {known}"
        )
    arguments = [x for x in found[0] if x is not None]
    with drawing(style):
        return partial(figure.draw, tables)(*arguments)
