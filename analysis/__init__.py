"""Analysis of study folders: load, compute, draw.

    import analysis
    results = analysis.load("results/nb201-seeds")     # or s3://bucket/nb201-seeds
    results.runs                                       # one row per run, a DataFrame
    results.links(epoch="last")                        # read on demand, filtered by Arrow
    analysis.write_report("results/nb201-seeds")       # tables, figures, report.html

Three layers, each knowing only the one before it. `results` and `samples` read files into frames
and arrays. `agreement`, `matrices`, `variance` and `inference` are functions of arrays to small
result objects; `stability`, `comparisons`, `seeds_needed`, `trajectories` and `summary` apply them
to settings, `compute` to a study. `figures`, `stability_figures`, `run_figures`, `heatmaps` and
`cell_drawing` draw result objects. `report` joins the three. docs/analysis.md says what is
measured and shows a notebook. Nothing here imports torch, Ray, itnas or study: a results folder
written by another program is as good as one of ours.

Importing the package is cheap: what is named here is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.errors import ResultsError

if TYPE_CHECKING:
    from analysis.compute.study import Computed, compute_study
    from analysis.data.results import Results, load
    from analysis.data.samples import Sample, read_samples
    from analysis.report.write import write_report

__all__ = [
    "Computed",
    "Results",
    "ResultsError",
    "Sample",
    "compute_study",
    "load",
    "read_samples",
    "write_report",
]

_HOMES = {
    "Computed": "analysis.compute.study",
    "Results": "analysis.data.results",
    "Sample": "analysis.data.samples",
    "compute_study": "analysis.compute.study",
    "load": "analysis.data.results",
    "read_samples": "analysis.data.samples",
    "write_report": "analysis.report.write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
