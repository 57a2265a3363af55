"""What a study costs and how many seeds it takes, against hand counts, scipy and a real launch."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from scipy import stats

from study.errors import StudyError
from study.file import load_study
from study.file.grid import expand
from study.file.schema import Resources
from study.opening import read_data
from study.planning.costs import Kind, durations, shape_of
from study.planning.power import paired_seeds
from tests.study.cli import refused, run, run_here


def power(ratio, n):
    """Of a two-sided paired t-test at 5%, by the noncentral t distribution."""
    edge, away = stats.t.ppf(0.975, n - 1), ratio * n**0.5
    return stats.nct.sf(edge, n - 1, away) + stats.nct.cdf(-edge, n - 1, away)


@pytest.mark.parametrize("ratio", [0.3, 0.5, 1.0, 1.7, 6.0, 40.0])
def test_seeds_for_a_paired_difference(ratio):
    found = paired_seeds(0.2 * ratio, 0.2)["seeds"]
    assert power(ratio, found) >= 0.8
    assert found == 3 or power(ratio, found - 1) < 0.8


def test_ten_seeds_for_a_difference_as_large_as_its_spread(write_study, tmp_path):
    words = ("plan", str(write_study()), "--storage", str(tmp_path), "--json")
    result = run_here(*words, "--difference", "0.2", "--spread", "0.2")
    assert json.loads(result.stdout)["paired"] == {"difference": 0.2, "spread": 0.2, "seeds": 10}
    assert "belong together" in refused(*words, "--difference", "0.2")
    with pytest.raises(StudyError):
        paired_seeds(None, 1.0)
    assert refused(*words, "--difference", "-1", "--spread", "1")


@pytest.fixture
def runs(write_study):
    """Eight runs of two settings: packs of two, 100 steps each."""
    file = load_study(write_study(seeds="0..3"))
    return expand(file, read_data(file)).runs


def hours(runs, *kinds, pack=2, **resources):
    steps = {run.setting.setting_id: 100 for run in runs}
    shapes = {shape_of(run.setting.setting) for run in runs}
    made = [Kind(f"k{n}", slots, dict.fromkeys(shapes, s)) for n, (slots, s) in enumerate(kinds)]
    return durations(made, runs, steps, pack, Resources(**resources))


def test_hours_by_hand(runs):
    """Eight runs of 100 steps of 36 s, an hour each."""
    alone = hours(runs, (1, 36.0), cpu=2)
    assert alone["hours_here"] == pytest.approx(8)
    assert alone["processor_hours"] == pytest.approx(16)
    assert alone["gpu_hours"] == 0
    two = hours(runs, (2, 36.0), gpu=0.5)
    assert (two["hours_here"], two["gpu_hours"]) == pytest.approx((4, 4))
    many = hours(runs, (100, 36.0))  # four packs: no more than four places are of use
    assert (many["hours_here"], many["processor_hours"]) == pytest.approx((2, 8))
    mixed = hours(runs, (1, 36.0), (1, 12.0))  # one run and three runs an hour
    assert mixed["hours_here"] == pytest.approx(2)
    assert mixed["processor_hours"] == pytest.approx(4)
    assert hours(runs, (4, 12.0), (4, 36.0), pack=8)["hours_here"] == pytest.approx(8 / 3)
    assert hours(runs)["gpu_hours"] is None
    assert hours([], (1, 36.0))["hours_here"] == 0


def test_every_shape_and_model_is_measured(runs):
    one = runs[0].setting.setting
    wider = replace(one, search=replace(one.search, channels=8))
    assert len({shape_of(one), shape_of(wider), shape_of(runs[-1].setting.setting)}) == 3


@pytest.mark.slow
def test_bytes_are_those_of_a_launch(write_study, tmp_path):
    """Of a study that is launched; the bytes of a checkpoint in `test_trials`."""
    study = str(write_study(search={"epochs": 3, "batch_size": 32, "channels": 4, "cells": 1}))
    words = (study, "--storage", str(tmp_path / "out"))
    plan = json.loads(run_here("plan", *words, "--json").stdout)
    assert run("launch", *words).returncode == 0
    files = (tmp_path / "out" / "tiny").glob("*/*.parquet")
    assert plan["result_bytes"] == pytest.approx(sum(f.stat().st_size for f in files), rel=0.15)
    again = json.loads(run_here("plan", *words, "--json").stdout)
    assert (again["packs_left"], again["result_bytes"], again["hours_here"]) == (0, 0, 0)
    more = json.loads(run_here("plan", *words, "--json", "--set",
                               "grid.dependence=[{model: placebo}]").stdout)  # fmt: skip
    assert more["new_settings"] == ["placebo"]
    assert "4 complete runs are left behind" in more["left_behind"][0]


def test_a_tuning_tells_its_trials(write_study, tmp_path):
    study = str(write_study(tune={"architecture_lr": [0.01, 0.1]},
                            grid={"dependence": [{"model": "transition"}]}))  # fmt: skip
    words = ("plan", study, "--storage", str(tmp_path), "--json", "--trials", "12")
    plan = json.loads(run_here(*words).stdout)
    tuning = plan["tuning"]
    assert (tuning["trials"], tuning["searches_a_trial"], tuning["confirmation"]) == (12, 2, 32)
    assert tuning["processor_hours"] == pytest.approx((12 + 32 / 2) * plan["processor_hours"])
