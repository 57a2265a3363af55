"""Analysis of study folders: load, compute, draw.

    import analysis
    results = analysis.load("results/nb201-seeds")     # or s3://bucket/nb201-seeds
    results.runs                                       # one row per run, a DataFrame
    results.links(epoch="last")                        # read on demand, filtered by Arrow
    analysis.write_report("results/nb201-seeds")       # tables, figures, report.html

Data flow one way: `data` reads files into frames and arrays; `statistics` are functions of arrays
to numbers; `compute` applies them to settings and gives tables; `figures`, sentences and the page
(`report`) are made of those tables alone. `quantities` is the one list of what is measured.
docs/analysis.md says what each is and shows a notebook. Nothing here imports torch, Ray, itnas or
study: a results folder written by another program is as good as one of ours.

Importing the package is cheap: what is named here is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.errors import ResultsError

if TYPE_CHECKING:
    from analysis.compute.study import Study, compute_study
    from analysis.data.results import Results, load
    from analysis.data.samples import Sample, read_samples
    from analysis.figures import draw as figure
    from analysis.report.write import read_tables, write_report

__all__ = [
    "Results", "ResultsError", "Sample", "Study", "compute_study", "figure", "load", "read_samples",
    "read_tables", "write_report",
]  # fmt: skip

_HOMES = {
    "Results": ("data.results", "Results"), "load": ("data.results", "load"),
    "Sample": ("data.samples", "Sample"), "read_samples": ("data.samples", "read_samples"),
    "Study": ("compute.study", "Study"), "compute_study": ("compute.study", "compute_study"),
    "figure": ("figures", "draw"), "read_tables": ("report.write", "read_tables"),
    "write_report": ("report.write", "write_report"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, own = _HOMES[name]
    return getattr(import_module(f"analysis.{module}"), own)
