"""Racing: its rule against closed forms, who wins, and simulated tunings with a known optimum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from analysis.statistics.trials import by_merit, lead, residual_variance, shrunken
from study.tuning.racing import Race
from tests.benchmarks.racing import WORLDS, Way, World, interval, outcome, outcomes

NAN = math.nan


def seen(values, n, every=8):
    """The first n of a trial's values."""
    return np.where(np.arange(every) < n, values, NAN)


def field(seed=0, trials=12, every=8):
    """(trials, every): values of trials that have had all seeds."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(trials, 1)) + rng.normal(size=every) + rng.normal(size=(trials, every))


@pytest.mark.parametrize(
    ("start", "every", "stages"),
    [(2, 8, [2, 4, 8]), (3, 8, [3, 6, 8]), (1, 8, [1, 2, 4, 8]), (8, 8, [8]), (5, 6, [5, 6])],
)
def test_stages_double(start, every, stages):
    race, found = Race(start, every, 0.1), [0]
    while found[-1] < every:
        found.append(race.stage(found[-1]))
    assert found[1:] == stages


def test_the_chance_is_that_of_students_t():
    y = field()
    incumbent = y[3]
    variance, freedom = residual_variance(y)
    for n in (2, 4):
        for shift in (-3.0, -1.0, 0.0, 1.0):
            own = seen(incumbent + shift + np.linspace(-1, 1, 8), n)
            mean = np.nanmean(own - incumbent)
            error = math.sqrt(2 * variance * (1 / n - 1 / 8))
            chance = stats.t(freedom).cdf(mean / error)
            assert Race(2, 8, chance - 1e-9).may_win(own, incumbent, y)
            assert not Race(2, 8, chance + 1e-9).may_win(own, incumbent, y)


def test_a_closed_form():
    """Of two trials and two seeds: s^2 = (difference of the differences)^2 / 4, one degree."""
    y = np.array([[1.0, 2.0], [0.0, 3.0]])
    assert residual_variance(y) == (pytest.approx(1.0), 1)
    incumbent, own = np.array([5.0, 5.0, 5.0, 5.0]), np.array([4.0, 4.0, NAN, NAN])
    t = -1 / math.sqrt(2 * (1 / 2 - 1 / 4))
    chance = 0.5 + math.atan(t) / math.pi  # Cauchy's
    assert Race(2, 4, chance - 1e-9).may_win(own, incumbent, y)
    assert not Race(2, 4, chance + 1e-9).may_win(own, incumbent, y)


def test_all_seeds_nothing_in_common_and_nothing_known():
    y = field()
    race = Race(2, 8, 1.0)
    assert race.may_win(y[0] - 100, y[3], y)  # there is nothing to extend it by
    assert race.may_win(np.full(8, NAN), y[3], y)
    assert not race.may_win(seen(y[0] - 100, 2), y[3], y)
    assert race.may_win(seen(y[0] - 100, 2), y[3], seen(y[3], 2)[None])


@given(st.integers(1, 7), st.floats(-1e3, 1e3), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_chance_of_nothing_goes_on_and_a_better_trial_is_never_stopped(n, shift, seed):
    y = field(seed)
    own = seen(y[0] + shift, n)
    assert Race(1, 8, 0.0).may_win(own, y[3], y)
    chances = [0.0, 0.05, 0.2, 0.5, 0.9, 1.0]
    goes_on = [Race(1, 8, c).may_win(own, y[3], y) for c in chances]
    assert goes_on == sorted(goes_on, reverse=True)
    higher = [Race(1, 8, c).may_win(own + 1.0, y[3], y) for c in chances]
    assert all(a <= b for a, b in zip(goes_on, higher, strict=True))
    # neither unit nor what seeds have in common matters
    moved = np.arange(8.0)
    assert goes_on == [
        Race(1, 8, c).may_win(3 * own + moved, 3 * y[3] + moved, 3 * y + moved) for c in chances
    ]


def test_without_noise_a_trial_goes_on_unless_it_is_worse():
    y = np.add.outer([0.0, 1.0, 2.0], np.arange(8.0))
    race = Race(2, 8, 0.5)
    assert race.may_win(seen(y[2], 2), y[2], y)
    assert not race.may_win(seen(y[2] - 1e-3, 2), y[2], y)


def test_a_lucky_trial_of_two_seeds_does_not_win():
    rng = np.random.default_rng(0)
    y = np.linspace(0, 1, 10)[:, None] + rng.normal(size=(10, 8))
    lucky = seen(np.full(8, y[9].mean() + 0.3), 2)
    values = dict(enumerate(np.vstack([y, lucky])))
    assert np.nanmean(values[10]) > max(v.mean() for v in y)
    merits = dict(by_merit(values, {}))
    assert by_merit(values, {})[0][0] == 9
    assert merits[10] < merits[9]
    # with all seeds it does
    values[10] = np.full(8, y[9].mean() + 0.3)
    assert by_merit(values, {})[0][0] == 10


def test_merit_less_a_penalty_and_without_trials():
    values = {4: np.array([1.0, 1.2]), 7: np.array([2.0, 2.2]), 9: np.array([NAN, NAN])}
    assert [n for n, _ in by_merit(values, {})] == [7, 4]
    assert [n for n, _ in by_merit(values, {4: 0.0, 7: 5.0, 9: 0.0}, 1.0)] == [4, 7]
    assert by_merit({}, {}) == []


def test_one_seed_for_each_trial_is_not_drawn_into_one():
    values = {n: np.array([x]) for n, x in enumerate((1.0, 3.0, 2.0))}
    assert [n for n, _ in by_merit(values, {})] == [1, 2, 0]
    found = shrunken([[1.0], [3.0], [2.0]])
    assert found.means == pytest.approx([1, 3, 2], abs=1e-5)
    assert np.isnan(found.errors).all()


def test_shrunken_means_of_whole_trials_are_those_of_the_analysis_of_variance():
    """Balanced, REML is Henderson's: between = (MSA - MSE) / n, means shrink by 1 - MSE / MSA."""
    y = field(2, trials=20)
    of_trial = 8 * y.mean(axis=1).var(ddof=1)
    variance, freedom = residual_variance(y)
    assert freedom == 19 * 7
    found = shrunken(y)
    assert found.within**2 == pytest.approx(variance, rel=1e-3)
    assert found.between**2 == pytest.approx((of_trial - variance) / 8, rel=1e-3)
    kept = 1 - variance / of_trial
    assert found.means == pytest.approx(y.mean() + kept * (y.mean(axis=1) - y.mean()), abs=1e-3)


def test_a_lead_is_drawn_in_among_those_with_all_seeds():
    y = field(4, trials=6)
    bad = seen(y[0] - 50, 2)
    values = dict(enumerate([*y, bad, bad - 7]))
    best = by_merit(values, {})[0][0]
    plain = float((y[best] - y[0]).mean())
    means = shrunken(y).means
    assert lead(values, best, 0) == pytest.approx(means[best] - means[0])
    assert 0 < lead(values, best, 0) < plain
    merits = dict(by_merit(values, {}))
    assert merits[best] - merits[0] > 0.98 * plain  # bad ones make all leads look sure
    assert lead(values, best, 6) > 40
    assert lead({3: y[3]}, 3, 3) == 0


def raced(seed):
    """(trials, 8) after a race, with a gap, and a trial without any run."""
    y = field(seed, trials=15)
    y[4:9, 2:] = y[9:12, 4:] = y[1, 3] = y[12] = NAN
    return y


@pytest.mark.parametrize("seed", range(3))
def test_variances_after_a_race_are_those_of_whole_matrices(seed):
    y = raced(seed)
    trial, of_seed = np.nonzero(np.isfinite(y))
    z, x = np.eye(len(y))[trial], np.eye(8)[of_seed]
    values = y[trial, of_seed]
    both = np.hstack([z, x])
    rest = values - both @ np.linalg.pinv(both) @ values
    freedom = len(values) - np.linalg.matrix_rank(both)
    assert residual_variance(y) == (pytest.approx(rest @ rest / freedom), freedom)

    def reml(log):
        inverse = np.linalg.inv(np.eye(len(values)) + np.exp(log) * z @ z.T)
        normal = x.T @ inverse @ x
        seeds = np.linalg.solve(normal, x.T @ inverse @ values)
        off = values - x @ seeds
        square, left = off @ inverse @ off, len(values) - 8
        size = np.linalg.slogdet(normal)[1] - np.linalg.slogdet(inverse)[1]
        return left * np.log(square) + size, square / left, seeds, inverse @ off

    best = optimize.minimize_scalar(lambda log: reml(log)[0], bounds=(-8, 8)).x
    _, variance, seeds, off = reml(best)
    found = shrunken(y)
    assert found.within**2 == pytest.approx(variance, rel=1e-3)
    assert found.between**2 == pytest.approx(variance * np.exp(best), rel=1e-3)
    assert found.freedom == freedom
    means = seeds.mean() + np.exp(best) * z.T @ off
    means[12] = NAN
    np.testing.assert_allclose(found.means, means, atol=1e-3)


# -- simulated tunings ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_worlds_are_what_they_say(name):
    world = World(name, 5)
    at = dict(zip(("architecture_lr", "transition_lr", "attention_lr"),
                  1e-3 * 1e3 ** world.optimum, strict=True))  # fmt: skip
    assert world.place(at) == pytest.approx(world.optimum)
    assert world.true(at) == pytest.approx(0)
    rng = np.random.default_rng(0)
    random = [dict(zip(at, 1e-3 * 1e3 ** rng.uniform(size=3), strict=True)) for _ in range(300)]
    true = np.array([world.true(v) for v in random])
    assert (true <= 0).all()
    if name in ("kind", "heavy", "uneven"):
        assert np.sort(true)[-75:].std() == pytest.approx(1, abs=0.25)
    assert world.search(at, 3) == world.search(at, 3) != world.search(at, 4)
    bad = {**at, "architecture_lr": min(1.0, at["architecture_lr"] * 5)}
    for values in (at, bad):
        off = [world.search(values, s) - World(name, 5, 0.0).search(at, s) for s in range(400)]
        assert np.mean(off) == pytest.approx(world.true(values), abs=4 * np.std(off) / 20)


def test_a_tuning_spends_no_more_than_it_may(quiet):
    for text in ("2:8:0.3", "8:8:0/random", "best of 3"):
        found = outcome(World("kind", 1), Way.of(text, "tpe"), 40)
        assert 32 <= found.searches <= 40
        assert found.regret >= 0


@pytest.mark.slow
def test_racing_finds_better_settings_than_flat_averaging(quiet):
    worlds = [World("kind", n) for n in range(40)]
    race, flat = (outcomes(worlds, Way.of(w, "tpe"), 160)["regret"] for w in ("2:8:0.1", "8:8:0"))
    assert interval(race - flat)[2] < 0
