"""The report: load, compute and draw joined into tables, figures and one page.

`write_report` writes `report.html`, self-contained (figures embedded, no script, no request),
beside `figures/*` (each as PNG and as SVG) and `tables/*` (each as CSV and as Parquet) with the
numbers behind every figure.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis import (
    comparisons,
    gallery,
    seeds_needed,
    stability,
    tables,
    variance_of_study,
)
from analysis.compute import Computed, compute_study
from analysis.output import Output
from analysis.page import render
from analysis.palette import known_style
from analysis.results import load


def write_report(
    path: str | Path,
    out: str | Path | None = None,
    style: str = "paper",
    trajectories: bool = True,
) -> Path | str:
    """Analyse a study folder and write its report; gives the page's place.

    path: a study folder, local or URI. out: where to write, `path`/report where None; the
    result is a Path for a local folder and a URI otherwise. style: of the figures, `paper` or
    `slides`, whose texts and lines are larger. trajectories: whether to read the epochs between
    the first and the last; without them large studies are read much faster. Raises
    ResultsError, one line, where the style is unknown, the folder cannot be analysed or the
    report cannot be written.
    """
    known_style(style)
    results = load(path)
    output = Output(out if out is not None else f"{str(path).rstrip('/')}/report")
    computed = compute_study(results, trajectories)
    for name, frame in frames(computed).items():
        output.write_table(name, frame)
    shown = gallery.Gallery(output, style)
    pictures = gallery.study_pictures(shown, computed)
    html = render(results, computed, pictures, gallery.details(shown, computed))
    output.write("report.html", html.encode())
    return output.path("report.html")


def frames(computed: Computed) -> dict[str, pd.DataFrame]:
    """Every table of a report, by name."""
    curves = [
        c for group in (computed.curves, computed.over_epochs) for cs in group.values() for c in cs
    ]
    found = {
        "settings": tables.settings(computed.summaries),
        "stability": stability.table(computed.stabilities),
        "links": stability.links_table(computed.stabilities),
        "comparisons": comparisons.table(computed.comparisons),
        "variance": variance_of_study.table(computed.variance),
        "seeds_needed": seeds_needed.table(computed.widths),
        "seeds_for_width": seeds_needed.targets_table(computed.widths),
        "reliability": seeds_needed.reliability_table(computed.reliabilities),
        "trajectories": tables.curves(curves),
        "genotypes": tables.genotype_counts(computed.summaries),
        "operation_probabilities": tables.operation_probabilities(computed.operations.values()),
        "transition_matrices": tables.transition_matrices(computed.transitions.values()),
        "data_dictionary": tables.data_dictionary(),
    }
    if computed.tuning is not None:
        found["tuning"] = tables.trials(computed.tuning)
    return found
