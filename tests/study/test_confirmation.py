"""What fresh seeds say, in every way it can go, and what becomes of it: the answer, best.yaml."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from scipy import stats

from itnas.settings import Seeds
from study.file import load_study
from study.file.seeds import parse_seeds
from study.opening import read_data
from study.tuning.confirm import confirmation
from study.tuning.objective import Objective
from study.tuning.plan import plan_tuning
from study.tuning.record import best_file, chosen
from study.tuning.samplers import make_sampler
from study.tuning.trials import Trials
from tests.study.searches import drive

pytestmark = pytest.mark.usefixtures("quiet")

SEEDS = 4
FRESH = 6
NOISE = np.array([0.01, -0.02, 0.03, 0.0, -0.01, 0.02])
"""of fresh seeds, about the mean of a difference"""
RATES = (0.1, 0.02, 0.3, 0.2)
"""architecture_lr of trials 1 to 4; of trial 0, the default: 0.05"""
TUNE = {"architecture_lr": [0.01, 0.5], "seeds": {"start": SEEDS, "all": SEEDS}}
GRID = {"dependence": [{"model": "transition"}]}


def row(name, seed, **told):
    return {
        "run_id": f"{name}-{seed}", "pack_id": name, "status": "complete",
        "architecture_displacement": 0.5, **told,
    }  # fmt: skip


class Case:
    """A tuning of trial 0, the default, and four others; accuracies of all by number."""

    def __init__(self, write_study, accuracies, base=None, names=("derived_accuracy",), **second):
        objective = names[0] if len(names) == 1 else list(names)
        search = {"epochs": 1, "batch_size": 64, "channels": 4, "cells": 1}
        path = write_study(
            tune={**TUNE, "objective": objective}, grid=GRID, seeds=f"0..{SEEDS - 1}",
            search={**search, "architecture_lr": base or 0.05},
        )  # fmt: skip
        self.file = load_study(path)
        self.plan = plan_tuning(self.file, read_data(self.file))
        self.names, self.second = names, second
        study = optuna.create_study(directions=["maximize"] * len(names))
        self.trials = Trials(
            study, self.plan.space, Objective(names), self.plan.race, self.rows,
            lambda n: make_sampler("random", n, 1), self.plan.first_values,
        )  # fmt: skip
        self.known = {}
        study.enqueue_trial(self.plan.first_values)
        for rate in RATES:
            study.enqueue_trial({"architecture_lr": rate})
        self.numbers = {(0.05 if base is None else 0.5): 0} | dict(
            zip(RATES, range(1, 5), strict=True)
        )
        self.accuracies = accuracies
        drive(self.trials, self, len(RATES) + 1)

    def search(self, values, seed):
        """Write a row."""
        number = self.numbers[values["architecture_lr"]]
        mean = self.accuracies[number]
        told = {"derived_accuracy": mean + 0.01 * (seed % 2)}
        told |= {name: of[number] for name, of in self.second.items()}
        status = "complete" if np.isfinite(mean) else "diverged"
        self.rows(values)[seed] = row(f"t{number}", seed, **told) | {"status": status}

    def rows(self, values):
        return self.known.setdefault(values["architecture_lr"], {})

    def confirmed(self, count=FRESH, **differences):
        """differences: of fresh seeds to the default, by tN of a trial; NaN: diverged, None: no
        run yet."""
        before = confirmation(self.plan, self.trials, count, {})
        rows = {}
        for one in before.candidates:
            own = differences.get(f"t{one.number}", np.zeros(count))
            for seed, (run, difference) in enumerate(zip(before.run_ids(one), own, strict=True)):
                if difference is None:
                    continue
                told = {"derived_accuracy": 0.4 + 0.1 * (seed % 3) + difference}
                told |= dict.fromkeys(self.second, 0.1)
                rows[run] = row("f", seed, **told)
                if np.isnan(difference):
                    rows[run]["status"] = "diverged"
        return confirmation(self.plan, self.trials, count, rows)


def interval(differences):
    """By scipy, of the paired test."""
    return stats.ttest_1samp(differences, 0).confidence_interval(0.95)


@pytest.fixture
def case(write_study):
    """Trial 3 leads, 1 and 4 come next."""
    return Case(write_study, (0.5, 0.6, 0.4, 0.7, 0.55))


def numbers(confirmed):
    return [one.number for one in confirmed.candidates]


def best(case, confirmed, tmp_path):
    """What best.yaml says: comment and study file."""
    text = best_file(case.plan, case.trials, confirmed)
    path = tmp_path / "best.yaml"
    path.write_text(text)
    file = load_study(path)  # as `launch` takes it
    comment = [line for line in text.splitlines() if line.startswith("#")]
    return "\n".join(comment), file


def test_the_incumbent_the_two_next_and_the_default_run_on_seeds_that_no_trial_saw(case):
    confirmed = case.confirmed()
    assert numbers(confirmed) == [3, 1, 4, 0]
    assert confirmed.seeds == tuple(Seeds.all(SEEDS + n) for n in range(FRESH))
    runs = confirmed.expansion.runs
    assert len({run.run_id for run in runs}) == len(runs) == 4 * FRESH
    assert {run.seeds for run in runs}.isdisjoint(case.plan.seeds)


def test_better_is_an_interval_above_0(case, tmp_path):
    differences = 0.04 + NOISE
    low, high = interval(differences)
    assert low > 0
    confirmed = case.confirmed(t3=differences, t1=-differences)
    assert confirmed.better
    assert confirmed.answer == (
        f"trial 3 is better than the default: derived_accuracy {differences.mean():+.4f}, "
        f"95% interval [{low:+.4f}, {high:+.4f}], n=6 paired fresh seeds"
    )
    comment, file = best(case, confirmed, tmp_path)
    assert "Trial 3 is better than the default" in comment
    assert f"trial 1: derived_accuracy {-differences.mean():+.4f}" in comment
    assert file.search.architecture_lr == pytest.approx(0.3)
    fresh = {seed.weights for seed in parse_seeds(file.seeds)}
    assert len(fresh) == SEEDS
    assert fresh.isdisjoint(range(SEEDS + FRESH))


def test_an_interval_that_holds_0_is_no_better_and_the_default_stays(case, tmp_path):
    differences = 0.01 + NOISE
    low, high = interval(differences)
    assert low < 0 < differences.mean()
    confirmed = case.confirmed(t3=differences, t1=0.2 + NOISE)  # the next ones decide nothing
    assert not confirmed.better
    assert confirmed.answer == (
        f"no better than the default: trial 3 differs by {differences.mean():+.4f}, "
        f"95% interval [{low:+.4f}, {high:+.4f}], n=6 paired fresh seeds"
    )
    comment, file = best(case, confirmed, tmp_path)
    assert "No better than the default" in comment
    assert file.search.architecture_lr == pytest.approx(0.05)


def test_worse_is_said(case):
    confirmed = case.confirmed(t3=-0.05 + NOISE)
    assert confirmed.answer.startswith("worse than the default: trial 3 differs by -0.0")
    assert chosen(confirmed).number == 0


def test_a_run_that_diverged_is_no_success(case):
    differences = 0.05 + NOISE
    differences[2] = np.nan
    confirmed = case.confirmed(t3=differences)
    assert confirmed.difference(confirmed.candidates[0]).low > 0
    assert not confirmed.better
    assert confirmed.answer.startswith("no better than the default: of trial 3, runs diverged; ")
    assert "n=5 paired fresh seeds" in confirmed.answer
    assert chosen(confirmed).number == 0


def test_nothing_is_said_before_all_runs_are_there(case, tmp_path):
    confirmed = case.confirmed(t3=[*(0.05 + NOISE)[:-1], None])
    assert confirmed.missing == 1
    assert not confirmed.better
    assert confirmed.answer == "not confirmed: 1 runs of the confirmation are not complete"
    comment, file = best(case, confirmed, tmp_path)
    assert "better" not in comment.replace("it would look better than it is", "")
    assert file.search.architecture_lr == pytest.approx(0.3)


def test_without_fresh_seeds_the_lead_is_not_confirmed(case, tmp_path):
    confirmed = case.confirmed(count=0)
    comment, file = best(case, confirmed, tmp_path)
    assert "Not confirmed on fresh seeds: its lead may be luck." in comment
    assert file.search.architecture_lr == pytest.approx(0.3)


def test_where_the_default_leads_it_is_the_answer(write_study, tmp_path):
    case = Case(write_study, (0.8, 0.6, 0.4, 0.7, 0.55))
    confirmed = case.confirmed(t3=0.2 + NOISE)
    assert numbers(confirmed) == [3, 1, 0]
    assert not confirmed.better
    assert confirmed.answer.startswith("no better than the default: the default itself has the")
    assert best(case, confirmed, tmp_path)[1].search.architecture_lr == pytest.approx(0.05)


def test_a_default_outside_the_ranges_is_confirmed_as_it_is(write_study, tmp_path):
    case = Case(write_study, (0.5, 0.6, 0.4, 0.7, 0.55), base=0.9)  # trial 0: the nearest, 0.5
    confirmed = case.confirmed()
    assert numbers(confirmed) == [3, 1, 4, None]
    assert confirmed.candidates[-1].setting.setting.search.architecture_lr == 0.9
    assert chosen(confirmed).number is None
    assert best(case, confirmed, tmp_path)[1].search.architecture_lr == pytest.approx(0.9)


def test_where_no_trial_is_feasible_there_is_no_winner(write_study):
    case = Case(write_study, [np.nan] * 5)
    confirmed = case.confirmed()
    assert numbers(confirmed) == [0]
    assert confirmed.answer == "no better than the default: no trial is feasible"
    assert not confirmed.better


def test_of_a_front_three_points_at_most(write_study):
    names = ("derived_accuracy", "valid_accuracy")
    case = Case(write_study, (0.5, 0.6, 0.65, 0.7, 0.55), names=names,
                valid_accuracy=(0.9, 0.6, 0.55, 0.3, 0.7))  # fmt: skip
    told = {n: t.told for n, t in case.trials.finished.items()}
    assert told[3] == pytest.approx((0.705, 0.3))
    confirmed = case.confirmed()
    # all five are on the front; the default's is the largest second, so it stands at the end
    assert numbers(confirmed)[-1] == 0
    assert numbers(confirmed)[0] == 3
    assert len(confirmed.candidates) <= 4
    assert set(numbers(confirmed)) <= set(told)
    assert all("valid_accuracy 0.1000 (default 0.1000)" in line for line in confirmed.lines())
