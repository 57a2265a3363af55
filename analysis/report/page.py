"""The page: tables and finished pictures to one self-contained HTML text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.compute.study import Study
from analysis.data.results import Results
from analysis.report import html, sentences, text


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
    tables, file = study.tables, results.study or {}
    coverage = sentences.Coverage(len(results.runs), results.planned_runs)
    return environment.get_template("report.html.j2").render(
        html=html, say=sentences, tables=tables, results=results, study=study, details=details,
        coverage=coverage, here=sentences.coverage(tables, coverage, study.crossed),
        pictures={picture.name: picture for picture in pictures if picture.setting is None},
        of_settings=[picture for picture in pictures if picture.setting is not None],
        excerpts={name: html.table(frame, name, 8) for name, frame in tables.items()},
        about={str(r["setting"]): r for r in tables["settings"].to_dict("records")},
        design=_design(results), cite=_cite(results),
        software=text.plain(file.get("software") or {}), command=file.get("command", "launch"),
        file=json.dumps(file, indent=2, default=str, ensure_ascii=False) if file else None,
    )  # fmt: skip


def _design(results: Results) -> list[tuple[str, str]]:
    """Facts of the study's design, from its study file where it has one, else from its runs."""
    runs, study = results.runs, results.study or {}
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
        "Last run finished": _finished(runs, "%Y-%m-%d %H:%M UTC"),
        "Git commit": study.get("git_commit"),
    }
    known = {name: value for name, value in facts.items() if value not in (None, "", {}, [])}
    return [(name, text.plain(value)) for name, value in known.items()]


def _finished(runs: pd.DataFrame, form: str) -> str:
    last = runs["finished"].max()
    return "" if pd.isna(last) else format(last, form)


def _cite(results: Results) -> str:
    runs = results.runs
    tuning = "a tuning study of " if runs["tune_trial"].notna().any() else ""
    return (
        f"“{results.name}”{_finished(runs, ' (%Y)')}: {tuning}{len(runs)} searches, "
        f"{runs['setting'].nunique()} settings, space {text.each(runs['space'])}; "
        "analysed with itnas-study, a reconstruction of ITNAS."
    )
