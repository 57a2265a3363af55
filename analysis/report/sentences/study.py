"""Sentences on the study: what is here of it, and what it cannot say."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.report import text
from analysis.report.sentences.shared import Frames, few, held_back, holding


def coverage(tables: Frames, here: int, planned: int | None, crossed: str = "") -> list[str]:
    """How much of the study is there, and what is missing from it.

    here: runs that the folder holds. planned: how many were planned, None where nothing says so.
    """
    settings, missing = tables["settings"], here < (planned or 0)
    whole = ", all that were planned" if planned == here else ""
    span = " to ".join(map(str, sorted({settings["runs"].min(), settings["runs"].max()})))
    of = f"{len(settings)} settings, {span} runs each" if len(settings) > 1 else "1 setting"
    left_out = []
    for column, word in (
        ("diverged", "diverged (counted, and left out of every mean and figure)"),
        ("stopped_early", "stopped early (the last epoch reached counts)"),
    ):
        having = settings[settings[column] > 0]
        named = text.listed("“" + having["setting"] + "” (" + having[f"{column}_runs"] + ")")
        left_out.append((len(having), f"{text.runs(int(having[column].sum()))} {word}: {named}."))
    return holding(
        (missing, f"The study is incomplete: {here} of {planned} planned runs are here. "
         "What follows may change with the rest."),
        (not missing, f"{text.runs(here)} {'is' if here == 1 else 'are'} here{whole}."),
        (settings["runs"].sum() == here, f"They are of {of}."),
        *left_out,
        (crossed, f"The three seeds are not always equal ({crossed}): quantities of a setting are "
         "over these runs alone, so that no two share a seed; the variance decomposition is over "
         "all."),
    )  # fmt: skip


def backends(names: pd.Series) -> list[str]:
    """That the runs' backends differ, where they do; nothing is said of older runs, of no name."""
    counts = names.value_counts().sort_index()
    told = text.listed(f"{name} ({text.runs(count)})" for name, count in counts.items())
    return holding(
        (len(counts) > 1, f"This study mixes backends: {told}. Their numbers agree within "
         "rounding, not bit by bit, and a long search can part on that."),
    )  # fmt: skip


def mixtures(launches: Sequence[Mapping[str, Any]], runs: pd.DataFrame) -> list[str]:
    """What not all runs were computed with: versions and commits of the launches, GPUs, devices.

    launches: those of study.yaml, in order (started, software, git_commit); a run is of the last
    one that had started when it did.
    """
    times = [str(one.get("started", "")) for one in launches]
    known = pd.to_datetime(times, utc=True, errors="coerce", format="ISO8601")
    began = list(known.fillna(pd.Timestamp(0, tz="UTC")))
    before = [bisect.bisect_right(began, time) for time in runs["started"] if began]
    of_runs = [launches[max(n - 1, 0)] for n in before]
    columns: dict[str, list[Any]] = {"git commit": [one.get("git_commit") for one in of_runs]}
    for name in dict.fromkeys(name for one in of_runs for name in one.get("software") or {}):
        columns[name] = [(one.get("software") or {}).get(name) for one in of_runs]
    columns |= {name: runs[name].to_list() for name in ("gpu", "device")}
    counted = {name: pd.Series(values, dtype=object).dropna().astype(str).value_counts(sort=False)
               for name, values in columns.items()}  # fmt: skip
    mixed = [
        f"{name} {' and '.join(f'{str(v)[:20]} ({text.runs(n)})' for v, n in counts.items())}"
        for name, counts in counted.items() if len(counts) > 1
    ]  # fmt: skip
    return holding(
        (mixed, f"Not all runs were computed with the same: {'; '.join(mixed)}. What that changes "
         "is in the spread over seeds, and between settings where one was computed apart."),
    )  # fmt: skip


def limits(tables: Frames, here: int, planned: int | None, crossed: str = "") -> list[str]:
    """What the page cannot say of this very study; see `coverage` for the arguments."""
    settings, held, few_runs = tables["settings"], held_back(tables), few(tables)
    missing = max(0, (planned or 0) - here)
    frozen = (settings["model"] != "independent") & settings["trainable"].eq(False)
    return holding(
        (planned is None, "The folder does not say how many runs were planned, so whether it is "
         "complete cannot be said here."),
        (missing, f"{missing} of {planned} planned runs are missing."),
        (crossed, "Crossed seeds: quantities of a setting use a part of the runs only."),
        (held, held),
        (settings["diverged"].any(), "Diverged runs are in no mean: means over the remaining runs "
         "of a setting leave out where it fails."),
        (few_runs, "Some settings have fewer than ten runs: their intervals are wide and lean on "
         f"assumptions that so few seeds cannot show. {few_runs}"),
        (frozen.any(), "Settings with frozen matrices are controls: their T cannot move."),
    )  # fmt: skip
