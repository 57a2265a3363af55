"""Variance components against statsmodels' analysis of variance, by hand and by simulation."""

import time

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.compute import variance as of_study
from analysis.statistics import variance
from tests.analysis.studies import variance_worlds as worlds
from tests.analysis.studies.variance_worlds import (
    MIXED,
    NAMES,
    SOURCES,
    World,
    crossing,
    study,
)

Array = NDArray[np.float64]
Labels = dict[str, NDArray[np.int64]]


def draw(rng: np.random.Generator, *sizes: int, missing: float = 0.0) -> tuple[Array, Labels]:
    return study(rng, sizes, World(MIXED, missing=missing))


def expected_mean_squares(y: Array, labels: Labels) -> dict[str, float]:
    """Components of a full cross, not held at 0, from statsmodels' Type I table."""
    used = [name for name, x in labels.items() if len(np.unique(x)) > 1]
    formula = "y ~ " + " * ".join(f"C({name})" for name in used)
    with np.errstate(divide="ignore"):  # a full factorial leaves no residual of its own
        table = anova_lm(ols(formula, pd.DataFrame(labels).assign(y=y)).fit(), typ=1)
    squares = {
        frozenset(name.replace("C(", "").replace(")", "").split(":")): row.sum_sq / row.df
        for name, row in table.iterrows()
        if name != "Residual"
    }
    found = {}
    for terms in squares:
        each = np.prod([len(np.unique(labels[name])) for name in used if name not in terms])
        signed = [(-1) ** len(t - terms) * x for t, x in squares.items() if t >= terms]
        found[terms] = sum(signed) / each
    named = {s: found.get(frozenset(s.split(":")), np.nan) for s in SOURCES[:-1]}
    return named | {"residual": sum(found.values()) - np.nansum(list(named.values()))}


@pytest.mark.parametrize("sizes", [(3, 4, 4, 3), (2, 5, 4, 3), (1, 4, 4, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_a_complete_crossing_is_analysis_of_variance(sizes: tuple[int, ...], seed: int) -> None:
    y, labels = draw(np.random.default_rng(seed), *sizes)
    want = expected_mean_squares(y, labels)
    got = variance.components(1e3 + y, labels)
    held = {name: max(x, 0.0) if x == x else x for name, x in want.items()}
    assert got.variances == pytest.approx(held, rel=1e-8, abs=1e-9, nan_ok=True)
    assert set(got.below) == {name for name, x in want.items() if x < 0}
    total = np.nansum(list(held.values()))
    shares = {name: x / total for name, x in held.items()}
    assert got.shares == pytest.approx(shares, rel=1e-8, abs=1e-9, nan_ok=True)
    distances = variance.components((y[:, None] - y) ** 2, labels)
    assert distances.variances == pytest.approx(held, rel=1e-8, abs=1e-9, nan_ok=True)
    assert distances.n == got.n == y.size
    assert np.isnan(list(distances.intervals.values())).all()


def test_distances_in_many_dimensions_add_up_over_them() -> None:
    rng = np.random.default_rng(9)
    columns, labels = [], crossing(3, 4, 4, 3)
    for size in (1.0, 3.0, 0.2):
        columns.append(10 * labels["seed_data"] + size * draw(rng, 3, 4, 4, 3)[0])
    x = np.stack(columns, axis=1)
    got = variance.components(((x[:, None] - x) ** 2).sum(-1), labels)
    wants = [expected_mean_squares(column, labels) for column in x.T]
    for name in SOURCES:
        want = sum(w[name] for w in wants)
        assert got.variances[name] == pytest.approx(max(want, 0.0), rel=1e-8)


def test_divergences_of_distributions_by_their_pairs() -> None:
    """Half the mean divergence of runs that share nothing, less that of those that share a seed."""
    rng = np.random.default_rng(1)
    labels = crossing(2, 4, 4, 3)
    logits = rng.normal(size=(96, 3)) + 2 * rng.normal(size=(4, 3))[labels["seed_weights"]]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    D = np.array([[jensenshannon(a, b, base=2) ** 2 for b in p] for a in p])
    codes = np.stack([labels[name] for name in NAMES], axis=1)
    same = codes[:, None] == codes

    def half(*shared: bool) -> float:
        return float(D[(same == np.array(shared)).all(axis=-1)].mean()) / 2

    got = variance.components(D, labels)
    nothing, weights = half(False, False, False, False), half(False, True, False, False)
    assert got.variances["seed_weights"] == pytest.approx(nothing - weights)
    both = half(True, False, False, False) - half(True, True, False, False)
    assert got.variances["setting:seed_weights"] == pytest.approx(
        max(both - (nothing - weights), 0.0), abs=1e-12
    )
    assert got.shares["seed_weights"] > 0.4


def test_components_are_unbiased_with_runs_missing() -> None:
    found = []
    for seed in range(400):
        y, labels = draw(np.random.default_rng(seed), 3, 4, 4, 3, missing=0.15)
        setting, *seeds = labels.values()
        found.append(variance._sources(variance._found(y, setting, np.array(seeds))))
    want = 3.75 * np.array(list(worlds.truth(World(MIXED), 3).values()))
    error = np.std(found, axis=0) / 400**0.5
    assert (np.abs(np.mean(found, axis=0) - want) < 4 * error).all()


@pytest.mark.parametrize("seed_name", NAMES[1:])
def test_a_pure_interaction_is_no_setting_and_no_seed(seed_name: str) -> None:
    labels = crossing(3, 4, 4, 3)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(50):
        effect = rng.normal(size=(3, 4))
        effect = effect - effect.mean(axis=0)
        effect -= effect.mean(axis=1, keepdims=True)
        # Centre within the levels there are, so that no margin is left by chance.
        of = effect[:, : len(np.unique(labels[seed_name]))]
        of = of - of.mean(axis=1, keepdims=True)
        y = of[labels["setting"], labels[seed_name]] + 1e-3 * rng.normal(size=144)
        shares.append(variance.components(y, labels, draws=0).shares)
    got = pd.DataFrame(shares).mean()
    assert got[f"setting:{seed_name}"] > 0.99
    drawn = [study(rng, (3, 4, 4, 3), World({(0, 2): 1.0, (0, 1, 2, 3): 0.1})) for _ in range(300)]
    setting, *_ = labels.values()
    seeds = np.array([labels[name] for name in NAMES[1:]])
    found = np.array([variance._sources(variance._found(y, setting, seeds)) for y, _ in drawn])
    assert np.abs(found.mean(axis=0)[:2]).max() < 0.06  # neither setting nor weights, on average


def test_seeds_that_act_together_are_the_residual() -> None:
    rng = np.random.default_rng(2)
    world = World({(1, 2): 1.0, (1, 2, 3): 1.0, (0, 1, 3): 1.0, (0, 1, 2, 3): 1.0})
    labels = crossing(3, 5, 5, 4)
    setting, *seeds = labels.values()
    found = np.array(
        [
            variance._sources(variance._found(study(rng, (3, 5, 5, 4), world)[0], setting, seeds))
            for seeds in [np.array(seeds)] * 200
        ]
    )
    error = found.std(axis=0) / 200**0.5
    assert (np.abs(found.mean(axis=0) - [0, 0, 0, 0, 0, 0, 0, 4]) < 4 * error).all()


def test_order_names_and_units_do_not_matter() -> None:
    rng = np.random.default_rng(7)
    y, labels = draw(rng, 3, 4, 4, 3, missing=0.1)
    base = variance.components(y, labels)
    order = rng.permutation(y.size)
    words = np.array(["q", "b", "zz", "a", "m"])
    for values, factors in (
        (y[order], {name: x[order] for name, x in labels.items()}),
        (y, {name: words[x] if name != "setting" else x for name, x in labels.items()}),
    ):
        got = variance.components(values, factors, draws=0)
        assert got.variances == pytest.approx(base.variances)
    scaled = variance.components(-3e6 * y, labels)
    assert scaled.shares == pytest.approx(base.shares)
    for name, bounds in scaled.intervals.items():
        assert bounds == pytest.approx(base.intervals[name], abs=1e-6)


def test_one_setting_has_no_setting_terms() -> None:
    y, labels = draw(np.random.default_rng(4), 1, 4, 4, 3)
    got = variance.components(y, labels)
    assert list(got.variances) == list(SOURCES)
    for name in SOURCES:
        known = "setting" not in name
        assert (
            np.isfinite([got.variances[name], got.shares[name], *got.intervals[name]]).all()
            == known
        )
    assert np.nansum(list(got.shares.values())) == pytest.approx(1)


def test_equal_values_have_no_variance_and_no_shares() -> None:
    labels = crossing(3, 4, 4, 3)
    for values in (np.full(144, 0.1), np.zeros((144, 144))):
        got = variance.components(values, labels)
        assert set(got.variances.values()) == {0.0}
        assert np.isnan(list(got.shares.values())).all()
        assert np.isnan(list(got.intervals.values())).all()


@pytest.mark.parametrize("name", NAMES)
def test_one_factor_can_have_all(name: str) -> None:
    labels = crossing(3, 4, 4, 3)
    got = variance.components(np.sqrt(1.0 + labels[name]), labels)
    assert got.shares[name] == pytest.approx(1)
    bounds = got.intervals[name]
    assert bounds[0] > 0.9
    assert bounds[1] == pytest.approx(1)
    assert np.isfinite(list(got.intervals.values())).all()


def test_what_does_not_fit_together_is_an_error() -> None:
    labels = crossing(1, 4, 4, 3)
    with pytest.raises(ValueError, match="not as many"):
        variance.components([1.0, 2.0], labels)
    with pytest.raises(ValueError, match="not finite"):
        variance.components(np.full(48, np.nan), labels)
    with pytest.raises(ValueError, match="not symmetric"):
        variance.components(np.triu(np.ones((48, 48)), 1), labels)


@pytest.mark.parametrize("sizes", [(3, 4, 4, 3), (1, 5, 5, 4)])
def test_intervals_hold_the_true_shares(sizes: tuple[int, ...]) -> None:
    covered, width = worlds.coverage(worlds.pivots, worlds.WORLDS["normal"], sizes, 150)
    known = np.isfinite(covered)
    assert covered[known].min() > 0.9 - 4 * (0.05 * 0.95 / 150) ** 0.5
    assert (width[known] < 0.95).all()  # else they say nothing


@pytest.mark.slow
@pytest.mark.parametrize("sizes", worlds.DESIGNS)
@pytest.mark.parametrize("world", worlds.WORLDS)
def test_intervals_hold_the_true_shares_at_length(world: str, sizes: tuple[int, ...]) -> None:
    covered, _ = worlds.coverage(worlds.pivots, worlds.WORLDS[world], sizes, 500)
    # One standard error of the simulation. Where two settings never vary, as docs/variance.md says.
    least = 0.86 if world == "one setting alone varies" else 0.9
    assert np.nanmin(covered) >= least - 0.015


def test_only_seeds_that_every_setting_has_are_used() -> None:
    labels = crossing(2, 5, 5, 4)
    few = (labels["setting"] == 0) | (labels["seed_weights"] < 4)
    labels = {name: x[few] for name, x in labels.items()}
    got = variance.in_every_setting(labels)
    assert got.tolist() == (labels["seed_weights"] < 4).tolist()
    assert variance.why_not_crossed(labels) is None
    apart = {name: np.tile(x, 2) for name, x in crossing(1, 5, 5, 4).items()}
    apart["setting"] = np.repeat([0, 1], 100)
    apart["seed_data"] = apart["seed_data"] + 3 * apart["setting"]
    assert str(variance.why_not_crossed(apart)).startswith(
        "Only 2 data seeds are crossed in setting 0 and in every setting; "
    )


def test_crossed_seeds_can_be_told_apart() -> None:
    for sizes in ((1, 5, 5, 4), (2, 4, 4, 3), (2, 3, 4, 4), (3, 4, 3, 5)):
        assert variance.why_not_crossed(crossing(*sizes)) is None
    labels = crossing(2, 5, 5, 4)
    del labels["setting"]
    assert variance.why_not_crossed(labels) is None
    kept = np.random.default_rng(0).permutation(200)[:180]
    holes = {name: column[kept] for name, column in crossing(2, 5, 5, 4).items()}
    assert variance.why_not_crossed(holes) is None


def test_why_not_crossed_says_what_is_missing() -> None:
    why = variance.why_not_crossed
    seed = np.tile(np.arange(20), 2)
    equal = dict(zip(NAMES, (np.repeat(["a", "b"], 20), seed, seed, seed), strict=True))
    assert why(equal) == (
        "The three seeds are always equal, so their shares cannot be told apart; "
        "a variance decomposition takes at least 4 x 4 x 3 crossed seeds."
    )
    pair = crossing(1, 5, 5, 4)
    pair["seed_data"] = pair["seed_weights"]
    assert str(why(pair)).startswith("The weights and data seeds are always equal")
    assert str(why(crossing(1, 5, 2, 4))).startswith("Only 2 data seeds are crossed; a variance")
    assert str(why(crossing(1, 5, 1, 4))).startswith("Only 1 data seed is crossed;")
    few = str(why(crossing(1, 4, 3, 3)))
    assert few.startswith("Only 3 data and 3 architecture seeds are crossed; ")
    assert why({name: column[:0] for name, column in pair.items()}) == (
        "There is no run, so there is no variance to attribute."
    )
    with pytest.raises(ValueError, match="three seeds"):
        why({"setting": [0], "seed_data": [0]})


def test_why_not_crossed_names_the_setting() -> None:
    why = variance.why_not_crossed
    labels = crossing(2, 5, 5, 4)
    labels["setting"] = np.array(["base", "other"])[labels["setting"]]
    thin = labels["setting"] == "base"
    thin |= np.random.default_rng(0).permutation(200) < 100
    thinned = {name: column[thin] for name, column in labels.items()}
    share = round(100 * (thin[100:].sum() / 100))
    assert why(thinned) == (
        f"Only {share}% of the 5 x 5 x 4 combinations of seeds in setting other have a run; "
        "a variance decomposition takes at least 80% of them."
    )
    short = (labels["setting"] == "base") | (labels["seed_architecture"] < 2)
    shortened = {name: column[short] for name, column in labels.items()}
    assert str(why(shortened)).startswith("Only 2 architecture seeds are crossed in setting other;")


def test_it_is_fast_enough() -> None:
    labels = crossing(100, 5, 5, 4)
    y = np.random.default_rng(0).normal(size=10_000)
    start = time.process_time()
    first = variance.components(y, labels)
    assert time.process_time() - start < 3
    assert variance.components(y, labels) == first


def test_fewer_runs_are_as_crossed_as_before() -> None:
    for sizes, want in (((5, 6, 6, 6), 500), ((3, 4, 4, 3), 144), ((20, 9, 4, 3), 960)):
        runs = pd.DataFrame(crossing(*sizes))
        kept = of_study._fewer(runs)
        assert len(kept) <= want
        assert len(kept) == kept.nunique().prod()  # still complete
        assert kept["setting"].nunique() == sizes[0]
        assert variance.why_not_crossed({name: kept[name] for name in NAMES}) is None
