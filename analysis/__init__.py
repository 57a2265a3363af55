"""Analysis of study folders: load, compute, draw.

    import analysis
    results = analysis.load("results/nb201-seeds")     # or s3://bucket/nb201-seeds
    results.runs                                       # one row per run, a DataFrame
    results.links(epoch="last")                        # read on demand, filtered by Arrow
    analysis.write_report("results/nb201-seeds")       # tables, figures, report.html

Three layers, each knowing only the one before it: `results` reads files; `metrics`,
`genotypes`, `summary`, `trajectories`, `transitions` and `tuning` compute, frames and arrays
in, small result objects out; `figures`, `heatmaps` and `cell_drawing` draw result objects.
`report` joins the three. Nothing here imports torch, Ray, itnas or study: a results folder
written by another program is as good as one of ours.

Importing the package is cheap: what `load` and `write_report` need is imported at their call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.errors import ResultsError

if TYPE_CHECKING:
    from analysis.report import write_report
    from analysis.results import Results, load

__all__ = ["Results", "ResultsError", "load", "write_report"]

_HOMES = {"Results": "analysis.results", "load": "analysis.results"} | {
    "write_report": "analysis.report"
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
