"""The report: load, compute and draw joined into tables, figures and one page.

`write_report` writes `report.html`, self-contained (figures embedded, no script, no request),
beside `figures/*` (each as PNG and as SVG) and `tables/*` (each as CSV and as Parquet) with the
numbers behind every figure.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader, StrictUndefined
from pandas.api.types import infer_dtype

from analysis import figures
from analysis.compute.cell import TRANSITION_MOVED
from analysis.compute.study import MANY_RUNS, Study, compute_study
from analysis.data.results import Folder, Results, load
from analysis.errors import ResultsError
from analysis.figures.layout import png, svg
from analysis.report import html, sentences, text
from analysis.statistics.trials import ARCHITECTURE_MOVED
from analysis.workers import mapped

IN_DETAIL, FEW_IN_DETAIL = 24, 1
"""Settings that are drawn one by one, and from MANY_RUNS runs on; the tables hold all of them."""


class Output(Folder):
    """A folder to write into; parents are made as needed."""

    def write(self, name: str, content: bytes) -> None:
        """Write one file; ResultsError, one line, where the place cannot be written."""
        place = f"{self.root}/{name}"
        with self.one_line(f"/{name} cannot be written"):
            self.filesystem.create_dir(place.rsplit("/", 1)[0], recursive=True)
            with self.filesystem.open_output_stream(place) as file:
                file.write(content)

    def write_table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a frame twice, without its index: tables/NAME.csv and tables/NAME.parquet.

        The CSV has numbers in full float32 precision, the Parquet file as they are; columns of
        mixed kinds, which Arrow has not, are texts there.
        """
        if not len(frame.columns):  # a file of nothing at all could not be read again
            frame = pd.DataFrame({"note": pd.Series(dtype=str)})
        text = frame.to_csv(index=False, float_format="%.9g", lineterminator="\n")
        self.write(f"tables/{name}.csv", text.encode())
        mixed = [c for c in frame if infer_dtype(frame[c], skipna=True).startswith("mixed")]
        texts = {str(c): frame[c].map(str, na_action="ignore") for c in mixed}
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(frame.assign(**texts), preserve_index=False), buffer)
        self.write(f"tables/{name}.parquet", buffer.getvalue())


class Picture(NamedTuple):
    """A figure as the page shows it: embedded, width in CSS pixels.

    setting: whose it is, None of one of the whole study. tables: names of those it is drawn from,
    the first one shown. call: what remakes it.
    """

    name: str
    setting: str | None
    uri: str
    width: int
    title: str
    tables: Sequence[str]
    call: str


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
    drawn = slugs(in_detail(study.tables["settings"], details))
    pictures = _pictures(output, style, study, drawn)
    output.write("report.html", render(results, study, pictures, drawn).encode())
    return beside(output.location, "report.html")


def read_tables(path: str | Path) -> dict[str, pd.DataFrame]:
    """The tables of a written report, by name; of which `analysis.figure` makes its figures.

    path: the report's folder, local or URI. Raises ResultsError where it holds none.
    """
    folder = Folder(path)
    files = folder.parquet("tables")
    if not files:
        raise ResultsError(f"{path}: holds no tables/*.parquet of a report")
    return {
        name.removesuffix(".parquet"): pq.read_table(file, filesystem=folder.filesystem).to_pandas()
        for name, file in files.items()
    }


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
    first = np.lexsort((rank, usable.groupby("model").cumcount()))[: max(0, details)]
    return usable["setting"].iloc[np.sort(first)].to_list()


def render(
    results: Results, study: Study, pictures: Sequence[Picture], details: Mapping[str, str]
) -> str:
    """The HTML text of the report.

    details: settings that are drawn one by one to the anchors of what is folded up of them. Which
    sentences and tables stand where is the template's to say.
    """
    # The template is ours, so an undefined name in it is a mistake to be seen at once.
    environment = Environment(
        loader=PackageLoader("analysis.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    tables, file, finished = study.tables, results.study or {}, results.runs["finished"].max()
    return environment.get_template("report.html.j2").render(
        html=html, say=sentences, tables=tables, results=results, study=study, details=details,
        runs=results.runs, moved=(ARCHITECTURE_MOVED, TRANSITION_MOVED),
        here=sentences.coverage(tables, len(results.runs), results.planned_runs, study.crossed),
        pictures={picture.name: picture for picture in pictures if picture.setting is None},
        of_settings=[picture for picture in pictures if picture.setting is not None],
        excerpts={name: html.table(frame, name, 8) for name, frame in tables.items()},
        about={str(r["setting"]): r for r in tables["settings"].to_dict("records")},
        design=_design(results), spaces=text.each(results.runs["space"]),
        year="" if pd.isna(finished) else f" ({finished:%Y})",
        software=text.plain(file.get("software") or {}), command=file.get("command", "launch"),
        file=json.dumps(file, indent=2, default=str, ensure_ascii=False) if file else None,
    )  # fmt: skip


def _design(results: Results) -> list[tuple[str, str]]:
    """Facts of the study's design, from its study file where it has one, else from its runs."""
    runs, study, last = results.runs, results.study or {}, results.runs["finished"].max()
    facts = {
        "Search space": text.each(runs["space"]),
        "Data": study.get("data"),
        "Search": study.get("search"),
        "Epochs": text.each(runs["epochs"].dropna().astype(int)),
        "Seeds": study.get("seeds"),
        "Runs here": len(runs),
        "Runs planned": results.planned_runs,
        "Benchmark table": study.get("benchmark"),
        "Devices": text.each(runs["device"].dropna()),
        "Computing time": f"{runs['seconds'].sum() / 3600:.2f} h, all runs added up",
        "Last run finished": "" if pd.isna(last) else f"{last:%Y-%m-%d %H:%M UTC}",
        "Git commit": study.get("git_commit"),
    }
    return [(k, text.plain(value)) for k, value in facts.items() if value not in (None, "", {}, [])]


def beside(path: str | Path, name: str) -> Path | str:
    """A name within a folder: a Path, or a URI, which keeps its query."""
    if "://" not in str(path):
        return Path(path) / name
    folder, mark, query = str(path).partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Names of settings to names of files: plain characters, unique whatever the names are."""
    found: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^a-z0-9]+", "-", name.lower())[:60].strip("-") or "setting"
        every = chain([base], (f"{base}-{k}" for k in count(2)))
        found[name] = next(slug for slug in every if slug not in found.values())
    return found
