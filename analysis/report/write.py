"""The report: load, compute and draw joined into tables, figures and one page.

`write_report` writes `report.html`, self-contained (figures embedded, no script, no request),
beside `figures/*` (each as PNG and as SVG) and `tables/*` (each as CSV and as Parquet) with the
numbers behind every figure.
"""

from __future__ import annotations

from pathlib import Path

from analysis.compute.study import compute_study
from analysis.data.results import load
from analysis.figures import gallery
from analysis.figures.rendering import known_style
from analysis.report import tables
from analysis.report.output import Output
from analysis.report.page import render


def write_report(
    path: str | Path,
    out: str | Path | None = None,
    style: str = "paper",
    trajectories: bool = True,
    details: int | None = None,
) -> Path | str:
    """Analyse a study folder and write its report; gives the page's place.

    path: a study folder, local or URI. out: where to write, `path`/report where None; the
    result is a Path for a local folder and a URI otherwise. style: of the figures, `paper` or
    `slides`, whose texts and lines are larger. trajectories: whether to read the epochs between
    the first and the last; without them large studies are read much faster. details: how many
    settings to draw one by one (None: all of a small study, a few of a large one). Raises
    ResultsError, one line, where the style is unknown, the folder cannot be analysed or the
    report cannot be written.
    """
    known_style(style)
    results = load(path)
    output = Output(out if out is not None else f"{str(path).rstrip('/')}/report")
    computed = compute_study(results, trajectories)
    for name, frame in tables.study(computed).items():
        output.write_table(name, frame)
    pictures, drawn = gallery.pictures(output, style, computed, details)
    html = render(results, computed, pictures, drawn)
    output.write("report.html", html.encode())
    return output.path("report.html")
