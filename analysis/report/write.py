"""The report: load, compute and draw joined into tables, figures and one page.

`write_report` writes `report.html`, self-contained (figures embedded, no script, no request),
beside `figures/*` (each as PNG and as SVG) and `tables/*` (each as CSV and as Parquet) with the
numbers behind every figure.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis import figures
from analysis.compute.study import MANY_RUNS, Study, compute_study
from analysis.data.results import load
from analysis.figures.layout import png, svg
from analysis.report.output import Output, Slugs, beside
from analysis.report.page import Picture, render
from analysis.workers import mapped

IN_DETAIL = 24
"""Settings whose edges and matrices are drawn one by one; the tables hold all of them."""

FEW_IN_DETAIL = 1
"""The same from MANY_RUNS runs on, unless more are asked for."""


def write_report(
    path: str | Path, out: str | Path | None = None, style: str = "paper",
    trajectories: bool = True, details: int | None = None,
) -> Path | str:  # fmt: skip
    """Analyse a study folder and write its report; gives the page's place.

    path: a study folder, local or URI. out: where to write, `path`/report where None; the
    result is a Path for a local folder and a URI otherwise. style: of the figures, `paper` or
    `slides`, whose texts and lines are larger. trajectories: whether to read the epochs between
    the first and the last; without them large studies are read much faster. details: how many
    settings to draw one by one (None: all of a small study, a few of a large one). Raises
    ResultsError, one line, where the style is unknown, the folder cannot be analysed or the
    report cannot be written.
    """
    figures.known_style(style)
    results = load(path)
    output = Output(out if out is not None else beside(path, "report"))
    study = compute_study(results, trajectories)
    for name, frame in study.tables.items():
        output.write_table(name, frame)
    slugs = Slugs()
    drawn = {name: slugs(name) for name in in_detail(study.tables["settings"], details)}
    pictures = _pictures(output, style, study, drawn)
    output.write("report.html", render(results, study, pictures, drawn).encode())
    return beside(output.location, "report.html")


def _pictures(
    output: Output, style: str, study: Study, details: Mapping[str, str]
) -> list[Picture]:
    """Draw and write every figure of the study, and of the settings in `details` to file names."""

    def take(of: tuple[str, str | None, str | None]) -> Picture:
        name, setting, cell = of
        file = "-".join(filter(None, [name, setting and details[setting], cell]))
        figure, known = figures.draw(study.tables, *of, style), figures.FIGURES[name]
        content = png(figure)
        output.write(f"figures/{file}.png", content)
        output.write(f"figures/{file}.svg", svg(figure))
        uri = "data:image/png;base64," + base64.b64encode(content).decode()
        given = {"setting": setting, "cell": cell}
        options = "".join(f", {k}={v!r}" for k, v in given.items() if v is not None)
        call = f'analysis.figure(analysis.read_tables("{output.location}"), "{name}"{options})'
        width = round(figure.get_figwidth() * 96)
        return Picture(file, setting, uri, width, known.title, known.tables, call)

    asked = [of for of in figures.names(study.tables) if of[1] is None or of[1] in details]
    return mapped(take, asked, output.is_local)


def in_detail(settings: pd.DataFrame, details: int | None) -> Sequence[str]:
    """The settings to be drawn one by one, in the study's order.

    Where not all are, first the first of each model, a learned dependence before its controls.
    """
    usable = settings[settings["n"] > 0]
    if details is None:
        details = FEW_IN_DETAIL if usable["runs"].sum() >= MANY_RUNS else IN_DETAIL
    rank = usable["model"].map({"transition": 0, "placebo": 1, "independent": 2}).fillna(3)
    again = usable.groupby("model").cumcount()
    first = usable.assign(rank=rank, again=again).sort_values(["again", "rank"], kind="stable")
    taken = set(first["setting"].head(max(0, details)))
    return [name for name in usable["setting"] if name in taken]
