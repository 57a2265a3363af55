"""Frames as `report/tables` holds them, made up: what figures are drawn from."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

NB201 = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
DARTS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5",
         "dil_conv_3x3", "dil_conv_5x5")  # fmt: skip
THREE = (("independent", "independent"), ("placebo", "placebo"), ("transition", "transition"))
RUN = ("valid_accuracy", "derived_accuracy", "architecture_displacement", "dependence_strength",
       "transition_displacement")  # fmt: skip
MATRICES = ("dependence_stability", "learned_dependence_stability", "link_specificity",
            "attention_agreement", "transition_divergence")  # fmt: skip
CELL = ("operation_agreement", "edge_agreement", "probability_divergence", *MATRICES)
TRANSFER = ("dependence_transfer", "column_transfer", "learned_effect", "flow_effect",
            "choice_transfer")  # fmt: skip
_EDGES = (("sep_conv_3x3", 0), ("skip_connect", 1), ("sep_conv_5x5", 0), ("max_pool_3x3", 2),
          ("dil_conv_3x3", 1), ("skip_connect", 3), ("sep_conv_3x3", 2),
          ("avg_pool_3x3", 4))  # fmt: skip
GENOTYPE = str(list(_EDGES))


def nb201_code(rng: np.random.Generator) -> str:
    """A genotype of NAS-Bench-201 at random."""
    nodes = ("|".join(f"{rng.choice(NB201)}~{i}" for i in range(t)) for t in (1, 2, 3))
    return "+".join(f"|{node}|" for node in nodes)


def make(
    settings: tuple[tuple[str, str], ...] = THREE,
    seeds: int = 4,
    darts: bool = False,
    operations: tuple[str, ...] | None = None,
    epochs: int = 6,
    benchmark: bool = False,
) -> dict[str, pd.DataFrame]:
    """All tables of a study; settings: names and models. Some seeds collapsed, the last of each."""
    rng = np.random.default_rng(0)
    cells = ("normal", "reduce") if darts else ("normal",)
    operations = operations or (DARTS if darts else NB201)
    first, nodes = (2, 6) if darts else (1, 4)
    edges = [(i, j) for j in range(first, nodes) for i in range(j)]
    links = [(q, e) for e in edges for q in edges if q[1] == e[0]]
    names = [name for name, _ in settings]
    collapsed = {name: {f"seed {seeds - 1}"} if seeds > 2 else set() for name in names}
    labels = [f"seed {k}" for k in range(seeds)]
    quantities = [*RUN, *(["benchmark_test"] if benchmark else [])]
    out: dict[str, list[dict]] = {
        name: []
        for name in ("settings", "stability", "without_collapsed", "seed_values", "transfer",
                     "verdict", "links", "comparisons", "trajectories", "operation_probabilities",
                     "operation_choices", "transition_matrices", "genotypes", "similarity",
                     "profiles", "seeds_needed")
    }  # fmt: skip

    def quantity(setting: str, cell: str, name: str, values: np.ndarray, null: float) -> None:
        key = {"setting": setting, "cell": cell, "quantity": name}
        for table, some in (("stability", values), ("without_collapsed", values[:-1])):
            if len(some) and (table == "stability" or collapsed[setting]):
                half = 2.5 * np.std(some) / np.sqrt(len(some)) if len(some) > 1 else np.nan
                mean = float(np.mean(some))
                out[table].append({**key, "estimate": mean, "low": mean - half, "high": mean + half,
                                   "null_mean": null, "p_value": 0.1, "seeds": len(some),
                                   "note": ""})  # fmt: skip
        for seed, value in zip(labels, values, strict=True):
            out["seed_values"].append({**key, "run_id": f"{setting}/{seed}", "seed": seed,
                                       "value": float(value),
                                       "collapsed": seed in collapsed[setting]})  # fmt: skip

    for name, model in settings:
        matrices = model != "independent"
        out["settings"].append({"setting": name, "model": model, "n": seeds, "runs": seeds})
        for q in quantities:
            if matrices or q != "transition_displacement":
                factor = 100 if q == "benchmark_test" else 1
                quantity(name, "all", q, factor * rng.uniform(0.3, 0.95, seeds), np.nan)
        for cell in cells:
            for q in CELL if matrices else CELL[:3]:
                null = 0.15 if q == "edge_agreement" else np.nan if "divergence" in q else 0.0
                quantity(name, cell, q, rng.normal(0.3, 0.25, seeds), null)
            for q in TRANSFER if matrices else ():
                quantity(name, cell, q, rng.normal(0.3, 0.2, seeds), np.nan)
            for seed in labels if matrices else ():
                start = rng.uniform(0.1, 0.3)
                full = start * rng.uniform(0.5, 0.8)
                out["transfer"].append({
                    "setting": name, "cell": cell, "run_id": f"{name}/{seed}", "seed": seed,
                    "d_start": start, "d_columns": (start + full) / 2, "d_full": full,
                })  # fmt: skip
            for epoch in range(-1, epochs):
                for q in CELL if matrices else CELL[:3]:
                    x = 0.1 * epoch + rng.normal(0, 0.02)
                    out["trajectories"].append({
                        "setting": name, "cell": cell, "quantity": q, "epoch": epoch,
                        "estimate": x, "low": x - 0.1, "high": x + 0.1, "seeds": seeds,
                        "null_mean": 0.15 if q == "edge_agreement" else np.nan,
                    })  # fmt: skip
            for (i, j), operation in itertools.product(edges, operations):
                key = {"setting": name, "cell": cell, "source": i, "target": j,
                       "inner": i >= first, "operation": operation}  # fmt: skip
                share = rng.uniform() if operation != "none" or not darts else 0.0
                out["operation_choices"].append(key | {"share": share, "seeds": seeds})
                for epoch in range(-1, epochs):
                    mean = 1 / len(operations) + 0.02 * epoch * rng.normal()
                    out["operation_probabilities"].append(
                        key | {"epoch": epoch, "mean": mean, "sd": 0.05, "n": seeds}
                    )
            for index, ((a, b), (i, j)) in enumerate(links if matrices else ()):
                key = {"setting": name, "cell": cell, "predecessor_source": a,
                       "predecessor_target": b, "source": i, "target": j}  # fmt: skip
                end = rng.dirichlet(np.ones(len(operations)), len(operations))
                for (r, row), (c, column) in itertools.product(
                    enumerate(operations), enumerate(operations)
                ):
                    out["transition_matrices"].append(key | {
                        "row": row, "column": column, "mean": end[r, c], "sd": 0.2 * rng.uniform(),
                        "start_mean": 0.6 if r == c else 0.4 / (len(operations) - 1), "n": seeds,
                        "attention_weight_mean": 0.5,
                    })  # fmt: skip
                low = -0.1 if index % 2 else 0.1
                out["links"].append(key | {
                    "seeds": seeds, "dependence_stability": 0.1 * (index % 10),
                    "dependence_stability_low": low, "dependence_stability_high": 0.8,
                    "dependence_stability_p_holm": 0.01 if index % 3 else 0.2,
                    "learned_dependence_stability": 0.1, "learned_dependence_stability_low": -0.2,
                    "learned_dependence_stability_high": 0.3,
                    "learned_dependence_stability_p_holm": 0.03 if index == 1 else 0.5,
                })  # fmt: skip
        for q in ("train_accuracy", "valid_accuracy", "derived_accuracy", "train_loss",
                  "valid_loss", "architecture_entropy", "architecture_displacement",
                  "dependence_strength"):  # fmt: skip
            for epoch in range(epochs):
                x = 0.5 + 0.08 * epoch + rng.normal(0, 0.03)
                out["trajectories"].append({
                    "setting": name, "cell": "all", "quantity": q, "epoch": epoch, "estimate": x,
                    "low": x - 0.1, "high": x + 0.1, "null_mean": np.nan, "seeds": seeds,
                })  # fmt: skip
        darts_code = (f"Genotype(normal={GENOTYPE}, normal_concat=range(2, 6), "
                      f"reduce={GENOTYPE}, reduce_concat=range(2, 6))")  # fmt: skip
        counts = [2, *[1] * (seeds - 2)] if seeds > 2 else [1] * seeds
        for part in ("whole", *cells):
            for k, count in enumerate(counts):
                out["genotypes"].append({
                    "setting": name, "part": part, "genotype": f"g{k}", "count": count, "n": seeds,
                    "code": darts_code if darts else nb201_code(rng), "runs": "seed 0",
                })  # fmt: skip
        out["profiles"] += [
            {"setting": name, "quantity": "derived_accuracy", "threshold": t, "share": 1 - t,
             "low": max(0.0, 0.8 - t), "high": min(1.0, 1.2 - t), "runs": seeds}
            for t in np.linspace(0, 1, 21)
        ]  # fmt: skip
        for q in ("dependence_transfer", "operation_agreement", "derived_accuracy"):
            cell = "all" if q == "derived_accuracy" else "normal"
            goals = [("width", 0.1, ""), ("width", 0.2, ""), ("width", 0.4, "")]
            goals += [("difference", 0.3, "to placebo")] * (model == "transition")
            for goal, target, note in goals:
                seeds_for = 2 / target
                known = target > 0.1
                out["seeds_needed"].append({
                    "setting": name, "cell": cell, "quantity": q, "goal": goal, "target": target,
                    "seeds_low": seeds_for / 2, "seeds": seeds_for if known else np.nan,
                    "seeds_high": 4 * seeds_for if known else np.nan, "seeds_here": seeds,
                    "width_here": 0.4, "note": note,
                })  # fmt: skip
    controls = {kind: other for other, kind in reversed(settings) if kind != "transition"}
    for (name, model), (kind, other) in itertools.product(settings, controls.items()):
        if model == "transition":
            for cell, q in itertools.product(
                cells, ("dependence_stability", "dependence_transfer")
            ):
                out["comparisons"].append({
                    "setting": name, "reference": other, "kind": kind, "cell": cell, "quantity": q,
                    "difference": rng.normal(0, 0.1), "low": -0.2, "high": 0.3, "p_value": 0.2,
                    "p_holm": 0.4, "seeds": seeds, "note": "",
                })  # fmt: skip
    runs = [(name, seed) for name in names for seed in labels]
    out["similarity"] = [
        {"setting": a, "seed": s, "other_setting": b, "other_seed": t,
         "similarity": 0.9 - 0.2 * (a != b) - 0.1 * rng.uniform()}
        for (a, s), (b, t) in itertools.combinations(runs, 2)
    ]  # fmt: skip
    primary = next((name for name, model in settings if model == "transition"), None)
    out["verdict"] = [
        {"setting": name, "verdict": "cannot tell", "primary": name == primary, "cell": "pooled",
         "dependence_transfer": 0.1, "low": -0.1, "high": 0.3}
        for name, model in settings if model == "transition"
    ]  # fmt: skip
    out |= _tuning(rng)
    return {name: pd.DataFrame(found) for name, found in out.items()}


def _tuning(rng: np.random.Generator) -> dict[str, list[dict]]:
    """Twelve trials of four seeds: 1 is infeasible, most raced out, 2 is the incumbent."""
    best = 2
    of_seeds = {0: 4, 1: 2, best: 4, 7: 4}
    trials, seeds = [], []
    for k in range(12):
        n, x = of_seeds.get(k, 2), 0.9 if k == best else 0.6 + 0.02 * (k % 5)
        values = x + 0.05 * rng.normal(size=n)
        trials.append({
            "trial": k, "state": "complete", "objective": np.nan if k == 1 else values.mean(),
            "valid_accuracy": 1 - x, "mean": values.mean(), "n": n, "diverged": int(k == 1),
            "standard_error": values.std(ddof=1) / n**0.5, "displacement": 0.4,
            "feasible": k != 1, "raced_out": k not in of_seeds, "against": best if k > best else 0,
            "architecture_lr": 0.003 * 10 ** (2 * k / 11), "transition_lr": 0.01,
            "init_strength": 0.5 * (1 + 5 * k % 8) if k % 3 else np.nan,
            "init": ("identity", "uniform", "random")[k % 3], "shrunken": x, "shrunken_error": 0.02,
            "best_so_far": 0.9 if k >= best else 0.6, "front": k in (best, 0),
            "incumbent": best if k >= best else 0, "incumbent_merit": 0.85 if k >= best else 0.6,
        })  # fmt: skip
        seeds += [{"trial": k, "seed": f"seed {i}", "run_id": f"t{k}-{i}", "value": v}
                  for i, v in enumerate(values)]  # fmt: skip
    rate = {"low": 0.003, "high": 0.3, "log": True, "step": np.nan, "choices": None,
            "default": "0.03", "auto": True, "paired": True}  # fmt: skip
    parameters = {
        "architecture_lr": rate, "transition_lr": rate | {"auto": False},
        "init_strength": rate | {"low": 0.5, "high": 4.0, "log": False, "default": "2.0"},
        "init": {"choices": '["identity", "uniform", "random"]', "default": "identity",
                 "log": False, "auto": False, "paired": False},
    }  # fmt: skip
    settings = ((best, "incumbent", 0.1), (7, "next", 0.0), (0, "default", np.nan))
    fresh = [{"trial": trial, "role": role, "seed": f"seed {100 + i}", "value": 0.7,
              "difference": (x or 0) + 0.03 * rng.normal()}
             for trial, role, x in settings for i in range(4)]  # fmt: skip
    return {
        "tuning": trials,
        "tuning_seeds": seeds,
        "tuning_summary": [{"objective": "derived_accuracy", "second": "valid_accuracy",
                            "penalty": 0.0, "incumbent": best, "default": 0, "all": 4}],
        "tuning_parameters": [{"parameter": name, **p} for name, p in parameters.items()],
        "tuning_importance": [
            {"parameter": name, "importance": x, "low": x / 2, "high": min(2 * x, 1), "trials": 25,
             "quantile": 0.2, "note": note}
            for name, x, note in (("architecture_lr", 0.7, ""), ("transition_lr", 0.3, ""),
                                  ("init_strength", np.nan, "too few trials (12 of 20)"))
        ],
        "tuning_confirmation": [
            {"trial": trial, "role": role, "n": 4, "mean": 0.7, "difference": x, "low": x - 0.05,
             "high": x + 0.05, "p_value": 0.1, "pairs": 4, "planned": 4, "diverged": 0}
            for trial, role, x in settings
        ],
        "tuning_confirmation_seeds": fresh,
    }  # fmt: skip
