"""The report's figures: drawn, written as PNG and SVG, and given to the page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from matplotlib.figure import Figure

from analysis.compute.stability import HEADLINE
from analysis.compute.study import ACCURACIES, DYNAMICS, LOSSES, Computed
from analysis.compute.trajectories import Curve, OperationCurves
from analysis.compute.transitions import Transitions
from analysis.figures import runs as run_figures
from analysis.figures import settings as figures
from analysis.figures import stability as stability_figures
from analysis.figures import tuning as tuning_figures
from analysis.figures.cells import cell_figure, edge_reproducibility
from analysis.figures.heatmaps import marks_of, transition_heatmaps
from analysis.figures.panels import cell_kinds
from analysis.figures.rendering import arranged, png, svg
from analysis.report import captions
from analysis.report.output import Output, Slugs
from analysis.report.page import Detail, Picture
from analysis.workers import mapped

IN_DETAIL = 24
"""Settings whose edges and matrices are drawn one by one; the tables hold all of them."""

MANY_RUNS = 100
"""From so many runs on, FEW_IN_DETAIL settings are drawn one by one unless more are asked for."""

FEW_IN_DETAIL = 1


class Job(NamedTuple):
    """One figure to be drawn: its file's name, how, its alternative text and caption."""

    name: str
    draw: Callable[[], Figure]
    texts: tuple[str, str]
    dpi: int = 144


def pictures(
    output: Output, style: str, computed: Computed, details: int | None = None
) -> tuple[dict[str, Picture], list[Detail]]:
    """Draw and write every figure of a report: those of the study by name, those of settings.

    details: how many settings to draw one by one; None: all of a small study (up to IN_DETAIL).
    Where not all are, first the first of each model, a learned dependence before its controls.
    """
    of_study = _study_jobs(computed)
    of_settings = _detail_jobs(computed, details)
    jobs = of_study + [job for _, groups in of_settings for group in groups for job in group]

    def take(index: int) -> Picture:
        job = jobs[index]
        figure = job.draw()
        zoom = arranged(figure, style)
        content = png(figure, job.dpi, zoom)
        output.write(f"figures/{job.name}.png", content)
        output.write(f"figures/{job.name}.svg", svg(figure, zoom))
        uri = "data:image/png;base64," + base64.b64encode(content).decode()
        return Picture(job.name, uri, round(figure.get_figwidth() * 96 * zoom), *job.texts)

    taken = iter(mapped(take, range(len(jobs)), output.is_local))
    by_name = {job.name: next(taken) for job in of_study}
    found = []
    for detail, groups in of_settings:
        filled = [[next(taken) for _ in group] for group in groups]
        detail.cells, detail.operations, detail.transitions = filled
        found.append(detail)
    return by_name, found


def _study_jobs(computed: Computed) -> list[Job]:
    """The figures that show all settings together; some studies lack some of them."""
    summaries, curves, items = computed.summaries, computed.curves, computed.stabilities
    drawn: dict[str, Callable[[], Figure]] = {
        "accuracy": lambda: figures.accuracy_by_setting(summaries),
        "displacement": lambda: figures.displacement_by_setting(summaries),
        "genotype_counts": lambda: figures.genotype_counts(summaries),
    }
    if items:
        accuracy = "benchmark_test" if any(s.has_benchmark for s in summaries) else ACCURACIES[2]
        drawn["stability"] = lambda: stability_figures.stability_by_setting(items)
        drawn["profiles"] = lambda: run_figures.performance_profiles(computed.profiles)
        drawn["accuracy_stability"] = lambda: stability_figures.accuracy_against_stability(
            items, accuracy=accuracy
        )
        for cell in items[0].sample.cells:
            drawn[f"frequencies_{cell}"] = partial(
                run_figures.operation_frequencies, items, cell, computed.never_kept
            )
    for name, quantity in (("headline", HEADLINE), ("controls", "dependence_stability")):
        if any(c.quantity == quantity and c.difference.n for c in computed.comparisons):
            drawn[name] = partial(
                stability_figures.differences_to_controls, computed.comparisons, quantity
            )
    if computed.widths:
        drawn["seeds_needed"] = lambda: run_figures.seeds_needed(computed.widths)
    similarity = computed.similarity
    if similarity is not None:
        drawn["similarity"] = lambda: run_figures.similarity_clustermap(similarity)
    if computed.over_epochs:
        drawn["stability_over_epochs"] = lambda: stability_figures.stability_over_epochs(
            computed.over_epochs
        )
    if curves:
        drawn["accuracy_over_epochs"] = lambda: figures.curves_by_setting(
            _by_setting(curves, ACCURACIES), "accuracy (0..1)"
        )
        drawn["loss_over_epochs"] = lambda: figures.curves_by_setting(
            _by_setting(curves, LOSSES), "cross-entropy (nats)"
        )
        drawn["dynamics"] = lambda: figures.curves_together({q: curves[q] for q in DYNAMICS})
    if computed.tuning is not None:
        tuned = computed.tuning
        drawn["tuning_history"] = lambda: tuning_figures.history(tuned)
        drawn["tuning_rates"] = lambda: tuning_figures.rates(tuned)
    return [Job(name, draw, captions.study(name, computed)) for name, draw in drawn.items()]


def _detail_jobs(
    computed: Computed, details: int | None
) -> list[tuple[Detail, tuple[list[Job], list[Job], list[Job]]]]:
    """The figures of settings on their own: their cells, edges and links."""
    slug = Slugs()
    summaries = [s for s in computed.summaries if s.n]
    items = {item.setting: item for item in computed.stabilities}
    first = next((s.setting for s in summaries if s.model == "transition"), None)
    if details is None:
        many = sum(s.runs for s in summaries) >= MANY_RUNS
        details = FEW_IN_DETAIL if many else IN_DETAIL
    order = ("transition", "placebo", "independent")
    of_model: dict[str, list[str]] = {model: [] for model in order}
    for s in summaries:
        of_model.setdefault(s.model, []).append(s.setting)
    ranked = sorted(
        (rank, index, name)
        for index, names in enumerate(of_model.values())
        for rank, name in enumerate(names)
    )
    chosen = {name for _, _, name in ranked[: max(0, details)]}
    found = []
    for s in summaries:
        if s.setting not in chosen:
            continue
        anchor = slug(s.setting)
        detail = Detail(s, anchor, opened=len(computed.summaries) <= 2 or s.setting == first)
        item = items[s.setting]
        cells, operations, transitions = [], [], []
        for kind, counts in s.cells.items():
            title, *texts = captions.cell(s, kind)
            again = edge_reproducibility(item, kind)
            draw = partial(cell_figure, counts[0].cells[kind], title, again)
            cells.append(Job(f"cell-{anchor}-{kind}", draw, (texts[0], texts[1])))
        curves = computed.operations.get(s.setting, OperationCurves(s.setting, ()))
        for kind in cell_kinds(e.cell for e in curves.edges):
            draw = partial(figures.operation_probabilities, curves, kind)
            name = f"operations-{anchor}-{kind}"
            operations.append(Job(name, draw, captions.operations(s, kind), 100))
        matrices = computed.transitions.get(s.setting, Transitions(s.setting, ()))
        for kind in cell_kinds(k.cell for k in matrices.links):
            draw = partial(transition_heatmaps, matrices, kind, marks_of(item, kind))
            name = f"transitions-{anchor}-{kind}"
            transitions.append(Job(name, draw, captions.transitions(s, kind), 100))
        found.append((detail, (cells, operations, transitions)))
    return found


def _by_setting(
    curves: Mapping[str, Sequence[Curve]], quantities: Sequence[str]
) -> dict[str, list[Curve]]:
    """Curves grouped by quantity to the same grouped by setting."""
    per_setting = zip(*(curves[q] for q in quantities), strict=True)
    return {group[0].setting: list(group) for group in per_setting}
