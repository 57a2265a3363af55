"""The report's figures: drawn, written as PNG and SVG, and given to the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.figure import Figure

from analysis import captions, figures, profiles, stability_figures, tuning_figures
from analysis.cell_drawing import cell_figure, edge_reproducibility
from analysis.compute import ACCURACIES, DYNAMICS, LOSSES, Computed
from analysis.heatmaps import marks_of, transition_heatmaps
from analysis.output import Output, Slugs
from analysis.page import Detail, Picture
from analysis.palette import arranged, png, svg
from analysis.samples import CELL_ORDER
from analysis.similarity import seed_similarity
from analysis.stability import HEADLINE
from analysis.trajectories import Curve, EdgeCurve, OperationCurves
from analysis.transitions import Link, Transitions

IN_DETAIL = 24
"""Settings whose edges and matrices are drawn one by one; the tables hold all of them."""

MOST_RUNS_IN_DETAIL = 2000
"""Beyond these, fewer settings are drawn one by one: a page of a hundred settings is not read."""

FEW_IN_DETAIL = 3


class Gallery:
    """Takes figures, writes them as PNG and SVG, and gives the PNG to the page embedded."""

    def __init__(self, output: Output, style: str) -> None:
        self._output = output
        self._style = style

    def take(self, name: str, figure: Figure, texts: tuple[str, str], dpi: int = 144) -> Picture:
        """texts: alternative text and caption."""
        zoom = arranged(figure, self._style)
        content = png(figure, dpi, zoom)
        self._output.write(f"figures/{name}.png", content)
        self._output.write(f"figures/{name}.svg", svg(figure, zoom))
        uri = "data:image/png;base64," + base64.b64encode(content).decode()
        return Picture(name, uri, round(figure.get_figwidth() * 96 * zoom), *texts)


def study_pictures(gallery: Gallery, computed: Computed) -> dict[str, Picture]:
    """The figures that show all settings together, by name; some studies lack some of them."""
    summaries, curves, items = computed.summaries, computed.curves, computed.stabilities
    drawn: dict[str, Figure] = {
        "accuracy": figures.accuracy_by_setting(summaries),
        "displacement": figures.displacement_by_setting(summaries),
        "genotype_counts": figures.genotype_counts(summaries),
    }
    if items:
        drawn["stability"] = stability_figures.stability_by_setting(items)
        accuracy = "benchmark_test" if any(s.has_benchmark for s in summaries) else ACCURACIES[2]
        drawn["profiles"] = stability_figures.performance_profiles(
            profiles.profiles(items, accuracy)
        )
        drawn["accuracy_stability"] = stability_figures.accuracy_against_stability(
            items, accuracy=accuracy
        )
        for cell in items[0].sample.cells:
            exclude = computed.never_kept
            drawn[f"frequencies_{cell}"] = stability_figures.operation_frequencies(
                items, cell, exclude
            )
    for name, quantity in (("headline", HEADLINE), ("controls", "dependence_stability")):
        if any(c.quantity == quantity and c.difference.n for c in computed.comparisons):
            drawn[name] = stability_figures.differences_to_controls(computed.comparisons, quantity)
    if computed.widths:
        drawn["seeds_needed"] = stability_figures.seeds_needed(computed.widths)
    similarity = seed_similarity(items)
    if similarity is not None:
        drawn["similarity"] = stability_figures.similarity_clustermap(similarity)
    if computed.over_epochs:
        drawn["stability_over_epochs"] = stability_figures.stability_over_epochs(
            computed.over_epochs
        )
    if curves:
        drawn["accuracy_over_epochs"] = figures.curves_by_setting(
            _by_setting(curves, ACCURACIES), "accuracy (0..1)"
        )
        drawn["loss_over_epochs"] = figures.curves_by_setting(
            _by_setting(curves, LOSSES), "cross-entropy (nats)"
        )
        drawn["dynamics"] = figures.curves_together({q: curves[q] for q in DYNAMICS})
    if computed.tuning is not None:
        drawn["tuning_history"] = tuning_figures.history(computed.tuning)
        drawn["tuning_rates"] = tuning_figures.rates(computed.tuning)
    return {
        name: gallery.take(name, figure, captions.study(name, computed))
        for name, figure in drawn.items()
    }


def details(gallery: Gallery, computed: Computed) -> list[Detail]:
    """The figures of every setting on its own: its cells, edges and links."""
    slug = Slugs()
    summaries = computed.summaries
    items = {item.setting: item for item in computed.stabilities}
    first = next((s.setting for s in summaries if s.model == "transition"), None)
    large = sum(s.runs for s in summaries) > MOST_RUNS_IN_DETAIL
    found = []
    for s in [s for s in summaries if s.n][: FEW_IN_DETAIL if large else IN_DETAIL]:
        anchor = slug(s.setting)
        item = items.get(s.setting)
        detail = Detail(s, anchor, opened=len(summaries) <= 2 or s.setting == first)
        for kind, counts in s.cells.items():
            title, alt, caption = captions.cell(s, kind)
            found_again = edge_reproducibility(item, kind) if item else None
            figure = cell_figure(counts[0].cells[kind], title, found_again)
            detail.cells.append(gallery.take(f"cell-{anchor}-{kind}", figure, (alt, caption)))
        curves = computed.operations.get(s.setting, OperationCurves(s.setting, ()))
        for kind in _kinds(curves.edges):
            figure = figures.operation_probabilities(curves, kind)
            texts = captions.operations(s, kind)
            name = f"operations-{anchor}-{kind}"
            detail.operations.append(gallery.take(name, figure, texts, dpi=100))
        matrices = computed.transitions.get(s.setting, Transitions(s.setting, ()))
        for kind in _kinds(matrices.links):
            marks = marks_of(item, kind) if item else None
            figure = transition_heatmaps(matrices, kind, marks)
            texts = captions.transitions(s, kind)
            name = f"transitions-{anchor}-{kind}"
            detail.transitions.append(gallery.take(name, figure, texts, dpi=100))
        found.append(detail)
    return found


def _by_setting(
    curves: Mapping[str, Sequence[Curve]], quantities: Sequence[str]
) -> dict[str, list[Curve]]:
    """Curves grouped by quantity to the same grouped by setting."""
    per_setting = zip(*(curves[q] for q in quantities), strict=True)
    return {group[0].setting: list(group) for group in per_setting}


def _kinds(items: Iterable[EdgeCurve | Link]) -> list[str]:
    """The cell kinds that occur, the normal cell first."""
    return sorted({item.cell for item in items}, key=lambda kind: CELL_ORDER.get(kind, 2))
