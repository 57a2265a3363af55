"""What a tuning tried, and what of its lead is luck: tables of trials, seeds and confirmation.

`tune/tuning.json` says what `tune` decided: which runs are a trial's, what it raced out against,
what was confirmed. Every number is of `runs`, and one number of a trial's runs is always `judged`.
A tuning without that file (an older one, or another program's) is told by its runs' tune_trial
alone: mean derived_accuracy, no race.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.importance import importance_table
from analysis.compute.setting import Tables, cells_of
from analysis.compute.settings import RATES, replicates
from analysis.contract import SCHEMAS
from analysis.data.results import Results
from analysis.data.samples import SEEDS, read_samples, seed_label
from analysis.errors import ResultsError, first_line
from analysis.quantities import HEADLINE
from analysis.statistics.inference import difference, missing, standard_error
from analysis.statistics.metrics import NAN
from analysis.statistics.seeds import Paired, Values
from analysis.statistics.transfer import pooled
from analysis.statistics.trials import Judged, by_merit, front, judged, lead, shrunken

FILE, VERSION = "tune/tuning.json", 1
OF_TUNING = {"objective", "penalty", "race", "sampler", "parameters", "trials", "confirmation"}
OF_TRIAL = {"trial", "state", "parameters", "run_ids", "against", "raced_out"}
OF_PARAMETER = ("low", "high", "log", "step", "choices", "default", "auto")


def tuning_tables(results: Results) -> Tables:
    """The tables of a tuning study, as docs/analysis.md lists them; of any other, no trials.

    Raises ResultsError, one line, where tuning.json is not what `tune` writes.
    """
    told = read(results)
    ids_of = {t["trial"]: t["run_ids"] for t in told["trials"]}
    seeds = _complete(results.runs, ids_of, told["objective"][0])
    if seeds.empty:
        return {"tuning": pd.DataFrame()}
    values = seeds.pivot_table("value", "trial", "seed", sort=False, dropna=False)
    trials = _trials(results, told, seeds, values := values.reindex([*ids_of]))
    good = trials[trials["feasible"]].dropna(axis=1, how="all")
    numeric = [n for n, of in told["parameters"].items() if of["choices"] is None and n in good]
    parameters = pd.DataFrame([
        {"parameter": name, **{k: of[k] for k in OF_PARAMETER},
         "choices": None if of["choices"] is None else json.dumps([*map(str, of["choices"])]),
         "default": None if of["default"] is None else str(of["default"]),
         "paired": name in numeric and len(numeric) > 1}
        for name, of in told["parameters"].items()
    ])  # fmt: skip
    summary = _summary(told, trials, values) | {"searches": seeds["run_id"].nunique()}
    return {
        "tuning": trials, "tuning_summary": pd.DataFrame([summary]),
        "tuning_seeds": seeds[["trial", "seed", "run_id", "value"]],
        "tuning_parameters": parameters,
        "tuning_importance": importance_table(good, parameters),
        **_confirmation(results.runs, told, summary["incumbent"]),
    }  # fmt: skip


def read(results: Results) -> dict[str, Any]:
    """What `tune` says that it decided, or as much of it as the runs' tune_trial says."""
    text = results.text(FILE)
    if text is None:
        return _of_runs(results.runs)
    try:
        told = json.loads(text)
        if told["schema_version"] != VERSION:
            raise ValueError(f"schema_version {told['schema_version']}, known is {VERSION}")
        parts = [(told, OF_TUNING), *((t, OF_TRIAL) for t in told["trials"])]
        parts += [(of, {*OF_PARAMETER}) for of in told["parameters"].values()]
        first, *second = told["objective"]
        known = {*SCHEMAS["runs"].names, *(HEADLINE for _ in second)}
        wrong = [name for part, names in parts for name in sorted(names - part.keys())]
        wrong += sorted({first, *second} - known)
        if wrong:
            raise ValueError(f"{wrong[0]} is missing or unknown")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"{first_line(error)} (`tune` writes it anew; without it, runs are all there is)"
        raise ResultsError(f"{results.location}/{FILE} cannot be used: {why}") from error
    return told


def _of_runs(runs: pd.DataFrame) -> dict[str, Any]:
    """Trials by tune_trial, of rates that span what they do, each with all of its seeds."""
    runs = runs.dropna(subset="tune_trial")
    groups = {int(own["tune_trial"].iloc[0]): own for _, own in runs.groupby("tune_trial")}
    rates = runs[[*RATES]].dropna(axis=1, how="all")
    most = max(map(len, groups.values()), default=0)
    usual = dict.fromkeys(OF_PARAMETER) | {"auto": False}
    return {
        "objective": ["derived_accuracy"], "penalty": 0.0, "sampler": None, "confirmation": None,
        "race": {"start": most, "all": most, "chance": NAN},
        "parameters": {r: usual | {"low": x.min(), "high": x.max(), "log": x.min() > 0}
                       for r, x in rates.items()},
        "trials": [
            {"trial": n, "state": "complete", "run_ids": own["run_id"], "against": None,
             "raced_out": False, "parameters": own[rates.columns].iloc[0].dropna().to_dict()}
            for n, own in groups.items()
        ],
    }  # fmt: skip


def _complete(
    runs: pd.DataFrame, ids_of: Mapping[int, Sequence[str]], quantity: str
) -> pd.DataFrame:
    """Those of every trial's runs that are complete: columns of `runs` beside trial, seed,
    diverged and value, NaN where a run diverged.
    """
    pairs = [(trial, run_id) for trial, run_ids in ids_of.items() for run_id in run_ids]
    found = pd.DataFrame(pairs, columns=["trial", "run_id"]).merge(runs, on="run_id")
    found["seed"] = [seed_label(s) for s in found[list(SEEDS)].itertuples(index=False)]
    found["diverged"] = found["status"] == "diverged"
    return found.assign(value=found[quantity].astype(float).where(~found["diverged"]))


def _judged(own: pd.DataFrame, quantity: str, penalty: float = 0.0) -> Judged:
    moved = own["architecture_displacement"]
    return judged(own[quantity].astype(float), moved, own["diverged"], penalty)


def _trials(
    results: Results, told: Mapping[str, Any], seeds: pd.DataFrame, values: pd.DataFrame
) -> pd.DataFrame:
    """One row per trial. objective: what Optuna was told, of a trial that has not ended nothing.

    shrunken is over all feasible trials, whatever their seeds. incumbent and incumbent_merit: who
    was the first of `by_merit`, and with what, over those with all seeds up to this trial.
    """
    (first, *second), penalty, rows = told["objective"], told["penalty"], []
    for t in told["trials"]:
        own, done = seeds[seeds["trial"] == t["trial"]], t["state"] == "complete"
        found, suggested = _judged(own, first, penalty), t["parameters"]
        row: dict[str, Any] = {
            "trial": t["trial"], "state": t["state"], "objective": found.value if done else NAN,
            "mean": _judged(own, first).value, "standard_error": found.standard_error,
            "n": found.n, "diverged": found.diverged,
            "displacement": own.loc[~own["diverged"], "architecture_displacement"].mean(),
            "feasible": done and found.feasible and bool(np.isfinite(found.value)),
            "raced_out": t["raced_out"], "against": t["against"],
            "full": len(own) >= told["race"]["all"], "runs": " ".join(own["run_id"]),
        }  # fmt: skip
        for q in second:
            of = transfer_of_runs(results, own["run_id"]) if q == HEADLINE else None
            row[q] = _judged(own, q, penalty).value if of is None else of
        for name, of in told["parameters"].items():
            if name in suggested:
                row[name] = suggested[name] if of["choices"] is None else str(suggested[name])
        rows.append(row)
    trials = pd.DataFrame(rows).astype({"against": "Int64"})
    runs, feasible, full = trials.pop("runs"), trials["feasible"], trials.pop("full")
    trials.insert(2, "best_so_far", trials["objective"].where(feasible).cummax().ffill())
    # Equal suggestions share their runs: they are one trial, and no evidence of what trials do.
    apart = feasible & ~runs.where(feasible).duplicated()
    fitted = shrunken(values[apart.to_numpy()])
    for name, numbers in (("shrunken", fitted.means), ("shrunken_error", fitted.errors)):
        trials[name] = runs.map(dict(zip(runs[apart], numbers, strict=True)))
    able = {n: values.loc[n].to_numpy(float) for n in trials["trial"][apart & full]}
    errors = dict(zip(trials["trial"], trials["standard_error"], strict=True))
    ahead = {
        n: by_merit({k: x for k, x in able.items() if k <= n}, errors, penalty)[0] for n in able
    }
    best = pd.DataFrame(ahead, index=["incumbent", "merit"]).T.reindex(trials["trial"]).ffill()
    trials["incumbent"] = best["incumbent"].astype("Int64").array
    trials["incumbent_merit"] = best["merit"].to_numpy(float)
    if second:
        trials["front"] = front(trials[["objective", *second]].where(feasible))
    return trials


def _summary(told: Mapping[str, Any], trials: pd.DataFrame, values: pd.DataFrame) -> dict[str, Any]:
    """What was asked, who is ahead, and by how much of the default on the same seeds."""
    of, incumbent = trials.set_index("trial"), trials["incumbent"].iloc[-1]
    best = None if pd.isna(incumbent) else int(incumbent)
    started = {name: p["default"] for name, p in told["parameters"].items()}
    started = {name: x for name, x in started.items() if x is not None}
    default = next((t["trial"] for t in told["trials"] if t["parameters"] == started), None)
    largest = of["objective"].where(of["feasible"]).dropna()
    found = {
        **dict(zip(("objective", "second"), (*told["objective"], None), strict=False)),
        "penalty": told["penalty"], "sampler": told["sampler"], **told["race"],
        "trials": len(trials), "raced_out": int(of["raced_out"].sum()),
        "infeasible": int((~of["feasible"] & of["state"].eq("complete")).sum()),
        "incumbent": best, "default": default if started else None,
        "largest": None if largest.empty else largest.idxmax(),
        "lead": NAN, "lead_error": NAN, "lead_n": 0, "shrunken_lead": NAN,
        "answer": (told["confirmation"] or {}).get("answer"),
    }  # fmt: skip
    if best is None or default is None or not started:
        return found
    paired = Paired(*(Values(values.loc[n].to_numpy(float)) for n in (best, default)))
    found |= {"lead": paired.estimate, "lead_error": standard_error(paired), "lead_n": paired.n}
    able = {n: values.loc[n].to_numpy(float) for n in of.index[of["feasible"]]}
    return found | ({"shrunken_lead": lead(able, best, default)} if default in able else {})


def _confirmation(runs: pd.DataFrame, told: Mapping[str, Any], best: int | None) -> Tables:
    """Settings on fresh seeds: what each has more than the default on the same, and every seed."""
    (quantity, *second), asked = told["objective"], told["confirmation"]
    if not asked:
        return {}
    ids_of = {k: setting["run_ids"] for k, setting in enumerate(asked["settings"])}
    own = _complete(runs, ids_of, quantity)
    values = own.pivot_table("value", "trial", "seed", sort=False, dropna=False).reindex([*ids_of])
    base, rows, parts = values.loc[asked["default"]], [], []
    for k, setting in enumerate(asked["settings"]):
        role = "front" if second else "incumbent" if setting["trial"] == best else "next"
        key = {"trial": setting["trial"], "role": "default" if k == asked["default"] else role}
        found, x = _judged(own[own["trial"] == k], quantity), values.loc[k]
        q = difference(Values(x), Values(base)) if key["role"] != "default" else missing("")
        rows.append(key | {
            "n": found.n, "mean": found.value, "difference": q.estimate, "low": q.low,
            "high": q.high, "p_value": q.p_value, "pairs": q.n, "planned": len(setting["run_ids"]),
            "diverged": found.diverged,
        })  # fmt: skip
        parts.append(pd.DataFrame(key | {"value": x, "difference": x - base}).reset_index())
    frames = pd.DataFrame(rows), pd.concat(parts, ignore_index=True)
    names = ("tuning_confirmation", "tuning_confirmation_seeds")
    return {k: of.astype({"trial": "Int64"}) for k, of in zip(names, frames, strict=True)}


def transfer_of_runs(results: Results, run_ids: Sequence[str]) -> float:
    """`dependence_transfer` over these runs of one setting, their cell kinds pooled, as the verdict
    on a setting has it; NaN where it has none. Diverged runs are left out.

    Only these runs' shards are opened, at their first and last epochs, and nothing is permuted.
    """
    runs = results.runs[results.runs["run_id"].isin(list(run_ids))]
    runs, _ = replicates(runs[runs["status"] != "diverged"])
    if runs.empty or runs["model"].iloc[0] != "transition":
        return NAN
    samples = read_samples(results, runs, ["last", -1])
    cells = [c for c in cells_of(runs, samples["last"], samples[-1], draws=0) if c.links]
    if not cells or any(c.why_nothing_learned for c in cells):
        return NAN
    return pooled([c.transfer for c in cells]).share(HEADLINE).estimate
