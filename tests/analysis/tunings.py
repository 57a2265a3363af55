"""Folders of tunings with a known truth: what `tune` leaves, and runs to go with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tests.analysis.synthetic import Setting, Study, _run, softmax, write_shards

RATES = ("architecture_lr", "transition_lr", "attention_lr")
RATE: Mapping[str, Any] = {"low": 0.003, "high": 0.3, "log": True, "step": None, "choices": None,
                           "default": 0.03, "auto": True}  # fmt: skip
INIT: Mapping[str, Any] = {"low": None, "high": None, "log": False, "step": None,
                           "choices": ["identity", "uniform", "random"], "default": "identity",
                           "auto": False}  # fmt: skip
STRENGTH: Mapping[str, Any] = {"low": 0.5, "high": 4.0, "log": False, "step": 0.5, "choices": None,
                               "default": 2.0, "auto": False}  # fmt: skip


@dataclass
class Trial:
    """values: of the objective by seed; displacement and status: of all of its runs."""

    parameters: Mapping[str, Any]
    values: Sequence[float]
    displacement: float = 0.4
    diverged: Sequence[int] = ()
    state: str = "complete"
    raced_out: bool = False
    against: int | None = None
    like: int | None = None  # a trial whose runs these are, too
    more: Mapping[str, Sequence[float]] = field(default_factory=dict)  # other columns by seed


def write_tuning(
    folder: Path, trials: Sequence[Trial], parameters: Mapping[str, Any] | None = None, *,
    objective: Sequence[str] = ("derived_accuracy",), penalty: float = 0.0,
    confirmed: Sequence[tuple[int | None, Sequence[float]]] | None = None, default: int = 0,
    planned: int | None = None, noise: float = 0.3, rows: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """Write runs and tune/tuning.json; what stands in the latter.

    confirmed: (trial, values on fresh seeds) of each setting; planned: how many seeds each was to
    have (None: those there are). rows: how much of rows all seeds learn alike, the more the later
    a trial is.
    """
    parameters = parameters or dict.fromkeys(RATES, RATE)
    every = max([*(len(t.values) for t in trials), 1])
    told: dict[str, Any] = {
        "schema_version": 1, "objective": list(objective), "penalty": penalty,
        "seeds": [[k] * 3 for k in range(every)], "race": {"start": 2, "all": every, "chance": 0.2},
        "sampler": "gp", "parameters": parameters, "trials": [], "confirmation": None,
    }  # fmt: skip

    def write(name: str, number: int | None, trial: Trial, first: int = 0) -> list[str]:
        rates = tuple(trial.parameters.get(r, 0.03) for r in RATES)
        setting = Setting("transition", trial=number, rates=rates)
        study = Study(settings=[setting], epochs=2, noise=noise)
        ids = []
        for k, value in enumerate(trial.values):
            made = _run(study, setting, first + k)
            run_id = f"{name}-{first + k}"
            for row in chain(*made.values()):
                row["run_id"] = run_id
            for row in made["links"]:
                logits = np.log(row["matrix"]).reshape(row["rows"], -1)
                place = np.arange(logits.size).reshape(logits.shape)
                share = rows * (1 + (number or 0)) * (row["epoch"] + 1)
                row["matrix"] = softmax(logits + share * np.cos(place**2)).ravel().tolist()
            bad = k in trial.diverged
            made["runs"][0] |= {
                "pack_id": run_id, "status": "diverged" if bad else "complete",
                "architecture_displacement": trial.displacement, "benchmark_valid": 80.0 + k,
                objective[0]: float("nan") if bad else value,
                **{name: of[k] for name, of in trial.more.items()},
            }  # fmt: skip
            write_shards(folder, made, run_id)
            ids.append(run_id)
        return ids

    for number, t in enumerate(trials):
        ids = told["trials"][t.like]["run_ids"] if t.like is not None else None
        told["trials"].append({
            "trial": number, "state": t.state, "parameters": dict(t.parameters),
            "run_ids": write(f"t{number}", number, t) if ids is None else ids,
            "against": t.against, "raced_out": t.raced_out,
        })  # fmt: skip
    if confirmed is not None:
        settings = []
        for k, (number, values) in enumerate(confirmed):
            of = Trial({}, values) if number is None else Trial(trials[number].parameters, values)
            ids = write(f"c{k}", None, of, first=100)
            ids += [f"c{k}-{100 + i}" for i in range(len(ids), planned or 0)]
            settings.append({"trial": number, "run_ids": ids})
        told["confirmation"] = {
            "seeds": [[100 + k] * 3 for k in range(planned or len(confirmed[0][1]))],
            "settings": settings, "default": default, "answer": "no better than the default",
        }  # fmt: skip
    (folder / "tune").mkdir(exist_ok=True)
    (folder / "tune" / "tuning.json").write_text(json.dumps(told))
    return told


def raced(
    n: int = 30, seeds: int = 8, spread: float = 0.02, noise: float = 0.02, seed: int = 0,
    parameters: Mapping[str, Any] | None = None, infeasible: int = 2,
) -> list[Trial]:  # fmt: skip
    """Trials with a quadratic in log architecture_lr as truth, raced with 2, 4 and 8 seeds.

    A trial ends where its mean is under the incumbent's on the same seeds. Trial 0 is the default.
    """
    rng = np.random.default_rng(seed)
    common, trials, best = rng.normal(0, noise, seeds), [], None
    for k in range(n):
        at = {r: 0.03 if k == 0 else float(np.exp(rng.uniform(*np.log([0.003, 0.3]))))
              for r in RATES}  # fmt: skip
        if parameters and "init" in parameters:
            at["init"] = "identity" if k == 0 else str(rng.choice(INIT["choices"]))
            if at["init"] != "uniform":
                at["init_strength"] = 2.0 if k == 0 else 0.5 * float(rng.integers(1, 9))
        away = np.log10(at["architecture_lr"] / 0.05)
        truth = 0.7 - spread * 2 * away**2 + 0.2 * spread * np.log10(at["transition_lr"] / 0.03)
        values = truth + common + rng.normal(0, noise, seeds)
        if k and k <= infeasible:
            trials.append(Trial(at, values[:2] - 0.2, displacement=0.1 + 0.4 * (k == 2),
                                diverged=[1] * (k == 2)))  # fmt: skip
            continue
        had, against = seeds, best
        if best is not None:
            for had in (2, 4, seeds):
                if values[:had].mean() < np.mean(trials[best].values[:had]) + 0.2 * noise:
                    break
        trials.append(Trial(at, values[:had], raced_out=had < seeds, against=against))
        if had == seeds and (best is None or values.mean() > np.mean(trials[best].values)):
            best = k
    return trials
