"""The report: load, compute and draw joined into tables, figures and one page.

`write_report` writes `report.html`, self-contained (figures embedded, no script, no request),
beside `figures/*.png` and `tables/*.csv` with the numbers behind every figure.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis import captions, figures, tables, tuning_figures
from analysis.cell_drawing import cell_figure
from analysis.compute import ACCURACIES, DYNAMICS, LOSSES, Computed, compute
from analysis.heatmaps import transition_heatmaps
from analysis.output import Output, Slugs
from analysis.page import Detail, Picture, render
from analysis.palette import png
from analysis.results import load
from analysis.trajectories import CELL_ORDER, Curve, EdgeCurve, OperationCurves
from analysis.transitions import Link, Transitions

IN_DETAIL = 24
"""Settings whose edges and matrices are drawn one by one; the tables hold all of them."""


def write_report(path: str | Path, out: str | Path | None = None) -> Path | str:
    """Analyse a study folder and write its report; gives the page's place.

    path: a study folder, local or URI. out: where to write, `path`/report where None; the
    result is a Path for a local folder and a URI otherwise. Raises ResultsError, one line,
    where the folder cannot be analysed or the report cannot be written.
    """
    results = load(path)
    output = Output(out if out is not None else f"{str(path).rstrip('/')}/report")
    computed = compute(results)
    _write_tables(output, computed)
    gallery = _Gallery(output)
    pictures = _study_pictures(gallery, computed)
    html = render(results, computed, pictures, _details(gallery, computed))
    output.write("report.html", html.encode())
    return output.path("report.html")


def _write_tables(output: Output, computed: Computed) -> None:
    frames: dict[str, pd.DataFrame] = {
        "settings": tables.settings(computed.summaries),
        "genotypes": tables.genotype_counts(computed.summaries),
        "epochs": tables.curves(c for cs in computed.curves.values() for c in cs),
        "operation_probabilities": tables.operation_probabilities(computed.operations.values()),
        "transition_matrices": tables.transition_matrices(computed.transitions.values()),
        "data_dictionary": tables.data_dictionary(),
    }
    if computed.tuning is not None:
        frames["tuning"] = tables.trials(computed.tuning)
    for name, frame in frames.items():
        output.write_table(name, frame)


class _Gallery:
    """Takes figures, writes them as PNG and gives them to the page embedded."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def take(self, name: str, figure: Figure, texts: tuple[str, str], dpi: int = 144) -> Picture:
        """texts: alternative text and caption."""
        content = png(figure, dpi)
        self._output.write(f"figures/{name}.png", content)
        uri = "data:image/png;base64," + base64.b64encode(content).decode()
        return Picture(name, uri, round(figure.get_figwidth() * 96), *texts)


def _study_pictures(gallery: _Gallery, computed: Computed) -> dict[str, Picture]:
    """The figures that show all settings together, by name."""
    summaries, curves = computed.summaries, computed.curves
    drawn = {
        "accuracy": figures.accuracy_by_setting(summaries),
        "displacement": figures.displacement_by_setting(summaries),
        "genotype_counts": figures.genotype_counts(summaries),
        "accuracy_over_epochs": figures.curves_by_setting(
            _by_setting(curves, ACCURACIES), "accuracy (0..1)"
        ),
        "loss_over_epochs": figures.curves_by_setting(
            _by_setting(curves, LOSSES), "cross-entropy (nats)"
        ),
        "dynamics": figures.curves_together({q: curves[q] for q in DYNAMICS}),
    }
    if computed.tuning is not None:
        drawn["tuning_history"] = tuning_figures.history(computed.tuning)
        drawn["tuning_rates"] = tuning_figures.rates(computed.tuning)
    return {
        name: gallery.take(name, figure, captions.study(name, computed))
        for name, figure in drawn.items()
    }


def _details(gallery: _Gallery, computed: Computed) -> list[Detail]:
    """The figures of every setting on its own: its cells, edges and links."""
    slug = Slugs()
    summaries = computed.summaries
    first = next((s.setting for s in summaries if s.model == "transition"), None)
    details = []
    for s in [s for s in summaries if s.n][:IN_DETAIL]:
        anchor = slug(s.setting)
        detail = Detail(s, anchor, opened=len(summaries) <= 2 or s.setting == first)
        for kind, counts in s.cells.items():
            title, alt, caption = captions.cell(s, kind)
            figure = cell_figure(counts[0].cells[kind], title)
            detail.cells.append(gallery.take(f"cell-{anchor}-{kind}", figure, (alt, caption)))
        curves = computed.operations.get(s.setting, OperationCurves(s.setting, ()))
        for kind in _kinds(curves.edges):
            figure = figures.operation_probabilities(curves, kind)
            texts = captions.operations(s, kind)
            name = f"operations-{anchor}-{kind}"
            detail.operations.append(gallery.take(name, figure, texts, dpi=100))
        matrices = computed.transitions.get(s.setting, Transitions(s.setting, ()))
        for kind in _kinds(matrices.links):
            figure = transition_heatmaps(matrices, kind)
            texts = captions.transitions(s, kind)
            name = f"transitions-{anchor}-{kind}"
            detail.transitions.append(gallery.take(name, figure, texts, dpi=100))
        details.append(detail)
    return details


def _by_setting(
    curves: Mapping[str, Sequence[Curve]], quantities: Sequence[str]
) -> dict[str, list[Curve]]:
    """Curves grouped by quantity to the same grouped by setting."""
    per_setting = zip(*(curves[q] for q in quantities), strict=True)
    return {group[0].setting: list(group) for group in per_setting}


def _kinds(items: Iterable[EdgeCurve | Link]) -> list[str]:
    """The cell kinds that occur, the normal cell first."""
    return sorted({item.cell for item in items}, key=lambda kind: CELL_ORDER.get(kind, 2))
