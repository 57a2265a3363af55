"""What a tuning leaves: `tune/tuning.json`, of which the report is made, and `tune/best.yaml`."""

from __future__ import annotations

import json
from typing import Any

from optuna.trial import TrialState

from study.file.schema import load_study
from study.file.yaml_file import dump
from study.store.door import Storage
from study.tuning.confirm import Candidate, Confirmation
from study.tuning.plan import TuningPlan
from study.tuning.trials import Trials

BEST = "tune/best.yaml"
TUNING = "tune/tuning.json"


def record(
    plan: TuningPlan, trials: Trials, sampler: str, confirmed: Confirmation | None = None
) -> dict[str, Any]:
    """The content of `tune/tuning.json`: everything that was decided; numbers are in `runs`."""
    defaults = plan.default_values
    return {
        "schema_version": 1,
        "objective": list(trials.objective.names),
        "penalty": trials.objective.penalty,
        "seeds": [list(vars(seed).values()) for seed in plan.seeds],
        "race": vars(plan.race),
        "sampler": sampler,
        "parameters": {
            one.name: {
                "low": None if one.choices else one.low,
                "high": None if one.choices else one.high,
                "log": one.log,
                "step": one.step,
                "choices": list(one.choices) or None,
                "default": defaults.get(one.name),
                "auto": plan.space.is_auto(one),
            }
            for one in plan.space.parameters
        },
        "trials": _plain(trials),
        "confirmation": None if confirmed is None or not confirmed.seeds else {
            "seeds": [list(vars(seed).values()) for seed in confirmed.seeds],
            "settings": [
                {"trial": one.number, "run_ids": confirmed.run_ids(one)}
                for one in confirmed.candidates
            ],
            "default": len(confirmed.candidates) - 1,
            "answer": confirmed.answer,
        },
    }  # fmt: skip


def _plain(trials: Trials) -> list[dict[str, Any]]:
    """What is told of each trial."""
    found: dict[int, dict[str, Any]] = {}
    for number, one in trials.finished.items():
        found[number] = {
            "trial": number, "state": "complete", "parameters": one.values,
            "run_ids": one.run_ids, "against": one.against, "raced_out": one.raced_out,
        }  # fmt: skip
    for number, values, stage in trials.open:
        known = trials.rows(values)
        found[number] = {
            "trial": number, "state": "running", "parameters": values,
            "run_ids": [known[seed]["run_id"] for seed in range(stage) if seed in known],
            "against": None, "raced_out": False,
        }  # fmt: skip
    for trial in trials.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        found[trial.number] = {
            "trial": trial.number, "state": "failed", "parameters": dict(trial.params),
            "run_ids": [], "against": None, "raced_out": False,
        }  # fmt: skip
    return [found[number] for number in sorted(found)]


def write_record(folder: Storage, content: dict[str, Any]) -> None:
    """Replace `tune/tuning.json`."""
    folder.write(TUNING, json.dumps(content, indent=1) + "\n")


def chosen(confirmed: Confirmation) -> Candidate | None:
    """The setting of best.yaml: the incumbent where it was found better than the default or was not
    confirmed, else the default; None where there is neither.
    """
    first, default = confirmed.candidates[0], confirmed.candidates[-1]
    if confirmed.leads:
        return default
    if first is default:
        return default if default.number is not None else None
    unknown = not confirmed.seeds or bool(confirmed.missing)
    pareto = len(confirmed.objective.names) > 1
    worse = not unknown and confirmed.difference(first).high < 0
    if unknown or confirmed.better or (pareto and not worse):
        return first
    return default


def best_file(plan: TuningPlan, trials: Trials, confirmed: Confirmation) -> str | None:
    """`tune/best.yaml`: a study file with the setting that was found and seeds fresh again."""
    one = chosen(confirmed)
    if one is None:
        return None
    file = plan.file
    content = file.resolved()
    content.pop("tune")
    content["name"] = f"{file.name}-best"[:100]
    entries = [dict(entry) for entry in content["grid"].get("dependence", [{}])]
    for parameter in plan.space.parameters:
        if parameter.name not in one.values:
            continue
        value = one.values[parameter.name]
        if parameter.section == "dependence":
            for entry in entries:
                entry[parameter.name] = value
        else:
            content[parameter.section][parameter.name] = value
    if entries != [{}]:
        content["grid"] = {**content["grid"], "dependence": entries}
    content["seeds"] = plan.fresh_seeds_text(len(confirmed.seeds))
    return "".join(f"# {line}\n" for line in _comment(plan, trials, confirmed, one)) + dump(content)


def _comment(
    plan: TuningPlan, trials: Trials, confirmed: Confirmation, one: Candidate
) -> list[str]:
    sound = trials.sound.values()
    raced = sum(t.raced_out for t in sound)
    name = ", ".join(trials.objective.names)
    lines = [
        f"What `tune` found in study {plan.file.name}: {one.name}.",
        f"{len(trials.finished)} trials by {name}: {len(sound)} feasible, {raced} of them raced "
        f"out before they had all {plan.race.all} seeds.",
    ]
    if confirmed.seeds:
        lines.append(f"{confirmed.answer[0].upper()}{confirmed.answer[1:]}.")
        if not confirmed.missing:
            lines += [f"  {line}" for line in confirmed.lines()]
    else:
        lines.append("Not confirmed on fresh seeds: its lead may be luck.")
    lines.append("Seeds are fresh again: on those that chose it, it would look better than it is.")
    return lines


def check_best(folder: Storage) -> None:
    """Read it as `launch` will."""
    if folder.is_local:
        load_study(folder.path(BEST))
