"""Figures as functions of the report's tables: one registry, one call that draws.

    tables = analysis.read_tables("results/nb201/report")
    figure = figures.draw(tables, "stability")
    figure = figures.draw(tables, "transitions", setting="transition", cell="normal")

A figure knows nothing but the tables (docs/analysis.md), so any of them is made again from the
files. It belongs to no pyplot state and needs no closing.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import getdoc, signature
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.errors import ResultsError
from analysis.figures import cells, curves, heatmaps, runs, settings, tuning
from analysis.figures.layout import STYLES, drawing, known_style
from analysis.figures.study import Study, Tables, rows

__all__ = ["FIGURES", "STYLES", "Definition", "Tables", "draw", "known_style", "names"]


class Definition:
    """One figure: what draws it, its tables, the first being the one that it shows.

    tables and known: names, with spaces between. known: columns that a row of the first table
    must have a value in; where: what it must have in others.
    """

    def __init__(self, draw: Callable[..., Figure], tables: str, known: str, **where: Any) -> None:
        self.draw, self.tables, self.known, self.where = draw, tables.split(), known.split(), where
        self.title = (getdoc(draw) or "").split("\n")[0].rstrip(".")

    def each(self, tables: Tables) -> list[tuple[str | None, str | None]]:
        """The (setting, cell) of every such figure that these tables allow; None: of all."""
        found = rows(tables, self.tables[0], "setting", *self.known, **self.where)
        found = found.dropna(subset=self.known)
        asked = signature(self.draw).parameters
        if "cell" not in asked or found.empty:
            return [(None, None)] * (not found.empty)
        column = "part" if "part" in found.columns else "cell"
        kinds = sorted(found[column].unique())
        if "setting" not in asked:
            return [(None, kind) for kind in kinds]
        present = pd.MultiIndex.from_frame(found[["setting", column]])
        return [(s, c) for s in Study(tables).looks for c in kinds if (s, c) in present]


_OF_SEEDS, _CELLS = "stability seed_values without_collapsed", ("normal", "reduce")
_TUNING = "tuning tuning_summary"
_CONFIRMED = "tuning_confirmation tuning_confirmation_seeds tuning_summary"
_ALL = (
    Definition(curves.ladder, "transfer seed_values verdict", "d_start d_columns d_full"),
    Definition(heatmaps.matrices, "transition_matrices verdict", "mean"),
    Definition(settings.accuracy, _OF_SEEDS, "estimate", quantity=settings.ACCURACIES),
    Definition(settings.displacement, _OF_SEEDS, "estimate", quantity=settings.MOVED),
    Definition(runs.genotype_counts, "genotypes", "count", part="whole"),
    Definition(settings.transfer, _OF_SEEDS, "estimate", quantity=settings.TRANSFER),
    Definition(settings.stability, _OF_SEEDS, "estimate", quantity=settings.STABILITIES),
    Definition(settings.controls, "comparisons", "difference", quantity=settings.CONTROLLED),
    Definition(runs.accuracy_stability, "stability seed_values", "estimate", cell=_CELLS,
               quantity=runs.AGREEMENTS),
    Definition(curves.stability_over_epochs, "trajectories", "estimate", cell=_CELLS),
    Definition(settings.seeds_needed, "seeds_needed", "target"),
    Definition(runs.similarity, "similarity", "similarity"),
    Definition(runs.profiles, "profiles", "share"),
    Definition(curves.accuracy_over_epochs, "trajectories", "estimate", quantity=curves.ACCURACIES),
    Definition(curves.loss_over_epochs, "trajectories", "estimate", quantity=curves.LOSSES),
    Definition(curves.dynamics, "trajectories", "estimate", quantity=curves.DYNAMICS),
    Definition(heatmaps.frequencies, "operation_choices", "share"),
    Definition(tuning.tuning_history, "tuning tuning_seeds tuning_summary", "objective"),
    Definition(tuning.tuning_rates, f"{_TUNING} tuning_parameters", "objective", feasible=True),
    Definition(tuning.tuning_contour, f"tuning_parameters {_TUNING}", "parameter", paired=True),
    Definition(tuning.tuning_importance, "tuning_importance", "importance"),
    Definition(tuning.tuning_front, _TUNING, "front", feasible=True),
    Definition(tuning.tuning_confirmation, _CONFIRMED, "difference"),
    Definition(curves.operations, "operation_probabilities", "mean"),
    Definition(heatmaps.transitions, "transition_matrices links", "mean"),
    Definition(cells.cell, "genotypes links", "code", part=_CELLS),
)  # fmt: skip
FIGURES = {figure.draw.__name__: figure for figure in _ALL}
"""Name to figure, those of the first screen first."""


def names(tables: Tables) -> list[tuple[str, str | None, str | None]]:
    """(name, setting, cell) of every figure that these tables allow, as `draw` takes them."""
    return [(name, *of) for name, figure in FIGURES.items() for of in figure.each(tables)]


def draw(
    tables: Tables, name: str, setting: str | None = None, cell: str | None = None,
    style: str = "paper",
) -> Figure:  # fmt: skip
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
        of = ", ".join(" ".join(filter(None, pair)) for pair in every)
        what = f"there are {of or 'only those of the study'}" if every else "no rows of it"
        asked = " ".join(filter(None, (setting, cell)))
        raise ResultsError(f"no figure {name!r} {asked} in table {figure.tables[0]}: {what}")
    with drawing(style):
        return figure.draw(tables, *filter(None, found[0]))
