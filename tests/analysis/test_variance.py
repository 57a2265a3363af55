"""Variance components against published numbers, ANOVA, statsmodels and dense algebra."""

import itertools
import time
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from statsmodels.regression.mixed_linear_model import MixedLM

from analysis.statistics import variance

Array = NDArray[np.float64]
Labels = dict[str, NDArray[np.int64]]

NAMES = ("setting", "seed_weights", "seed_data", "seed_architecture")

# Yield of dyestuff (grams of standard colour), six batches of five preparations: Davies &
# Goldsmith, Statistical Methods in Research and Production, 4th ed., 1972.
DYESTUFF = [
    [1545, 1440, 1440, 1520, 1580],
    [1540, 1555, 1490, 1560, 1495],
    [1595, 1550, 1605, 1510, 1560],
    [1445, 1440, 1595, 1465, 1545],
    [1595, 1630, 1515, 1635, 1625],
    [1520, 1455, 1450, 1480, 1445],
]


def crossing(*sizes: int) -> Labels:
    """Labels of a full cross, of the first factors in NAMES."""
    columns = np.array(list(itertools.product(*map(range, sizes)))).T
    return dict(zip(NAMES, columns, strict=False))


def draw(rng: np.random.Generator, labels: Labels, sds: ArrayLike, residual: float) -> Array:
    """Values with normal effects of these standard deviations."""
    n = len(next(iter(labels.values())))
    y = residual * rng.normal(size=n)
    for column, sd in zip(labels.values(), np.asarray(sds, dtype=float), strict=True):
        y += sd * rng.normal(size=column.max() + 1)[column]
    return y


def anova(y: Array, labels: Labels) -> dict[str, float]:
    """Expected mean squares of a full cross, not held at 0, from means along the axes."""
    sizes = [column.max() + 1 for column in labels.values()]
    cube = y.reshape([*sizes, -1])
    left, freedom = cube - cube.mean(), y.size - 1
    means = {}
    for axis, name in enumerate(labels):
        others = tuple(i for i in range(cube.ndim) if i != axis)
        effects = cube.mean(axis=others, keepdims=True) - cube.mean()
        left, freedom = left - effects, freedom - sizes[axis] + 1
        each = y.size / sizes[axis]
        means[name] = float((effects**2).sum()) * each / (sizes[axis] - 1), each
    noise = float((left**2).sum()) / freedom
    return {k: (mean - noise) / each for k, (mean, each) in means.items()} | {"residual": noise}


def restricted(y: Array, labels: Mapping[str, ArrayLike], variances: ArrayLike) -> float:
    """Restricted log likelihood by dense n x n algebra, up to a constant."""
    v = np.asarray(variances, dtype=float)
    V = v[-1] * np.eye(y.size)
    for column, component in zip(labels.values(), v, strict=False):
        column = np.asarray(column)
        V += component * (column[:, None] == column)
    sign, size = np.linalg.slogdet(V)
    if sign <= 0:
        return -np.inf
    inverse = np.linalg.inv(V)
    ones = inverse.sum()
    left = y - inverse.sum(0) @ y / ones
    return float(-0.5 * (size + np.log(ones) + left @ inverse @ left))


def close(
    got: Mapping[str, float], want: Mapping[str, float], rel: float, least: float = 0
) -> None:
    assert set(got) == set(want)
    assert got == pytest.approx(dict(want), rel=rel, abs=least, nan_ok=True)


def test_dyestuff_gives_the_published_reml_estimates() -> None:
    y = np.array(DYESTUFF, dtype=float).ravel()
    got = variance.components(y, {"batch": np.repeat(list("ABCDEF"), 5)})
    assert got.variances["batch"] == pytest.approx(1764.05, rel=1e-8)
    assert got.variances["residual"] == pytest.approx(2451.25, rel=1e-8)
    assert got.mean == pytest.approx(1527.5, rel=1e-12)
    assert got.shares["batch"] == pytest.approx(1764.05 / (1764.05 + 2451.25), rel=1e-8)
    assert (got.n, got.levels) == (30, {"batch": 6})
    low, high = got.intervals["batch"]
    assert 0 <= low < got.shares["batch"] < high < 1


def test_a_negative_anova_component_is_zero_and_its_sum_of_squares_residual() -> None:
    """As with lme4's Dyestuff2: batches that differ less than their preparations do."""
    rng = np.random.default_rng(0)
    cube = rng.normal(5, 2, (6, 5))
    cube -= 0.9 * (cube.mean(axis=1, keepdims=True) - cube.mean())
    labels = {"setting": np.repeat(np.arange(6), 5)}
    y = cube.ravel()
    assert anova(y, labels)["setting"] < 0
    got = variance.components(y, labels)
    close(got.variances, {"setting": 0.0, "residual": float(y.var(ddof=1))}, 1e-10)
    assert got.intervals["setting"][0] == 0
    assert got.intervals["residual"][1] == 1


def test_balanced_crossed_data_give_the_anova_estimates() -> None:
    labels = crossing(5, 5, 5, 4)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y = 100 + draw(rng, labels, [2.0, 0.7, 1.0, 0.5], 0.3)
        want = anova(y, labels)
        assert min(want.values()) > 0
        got = variance.components(y, labels, draws=0)
        close(got.variances, want, 1e-8)
        assert got.mean == pytest.approx(y.mean(), rel=1e-12)
        assert sum(got.shares.values()) == pytest.approx(1)
        close(variance.distance_components((y[:, None] - y) ** 2, labels).variances, want, 1e-8)


def test_one_replicate_of_two_factors_gives_the_anova_estimates() -> None:
    labels = crossing(4, 3)
    y = draw(np.random.default_rng(3), labels, [1.0, 2.0], 0.5)
    close(variance.components(y, labels, draws=0).variances, anova(y, labels), 1e-8)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("residual", [1e-3, 1e-5, 1e-7, 0.0])
def test_a_small_residual_beside_any_components(residual: float, scale: float) -> None:
    labels = crossing(5, 5, 5, 4)
    for sds in ([1.0, 0.5, 0.2, 0.1], [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]):
        y = scale * draw(np.random.default_rng(1), labels, sds, residual)
        got = variance.components(y, labels, draws=5)
        want = anova(y, labels)
        if residual > 1e-6 and min(want.values()) > 0:
            close(got.variances, want, 1e-6)
        total = sum(got.variances.values())
        held = {name: max(x, 0.0) for name, x in want.items()}
        close(got.variances, held, 1e-6, 1e-8 * total)  # what is held at 0 joins the residual
        assert np.isfinite(list(got.intervals.values())).all()
        if residual < 1e-6:
            assert got.variances["residual"] == 0


def test_unbalanced_data_against_statsmodels() -> None:
    rng = np.random.default_rng(5)
    labels = crossing(3, 4, 4, 3)
    kept = np.sort(rng.choice(144, 90, replace=False))
    labels = {name: column[kept] for name, column in labels.items()}
    y = 10 + draw(rng, labels, [1.0, 0.8, 0.6, 0.7], 0.5)
    got = variance.components(y, labels, draws=0)

    frame = pd.DataFrame(labels).assign(y=y, group=1)
    formula = {name: f"0 + C({name})" for name in labels}
    fit = MixedLM.from_formula("y ~ 1", frame, groups="group", vc_formula=formula).fit(reml=True)
    names = fit.model.exog_vc.names
    want = dict(zip(names, map(float, fit.vcomp), strict=True)) | {"residual": float(fit.scale)}
    close(got.variances, want, 1e-3)
    assert got.mean == pytest.approx(float(fit.fe_params.iloc[0]), rel=1e-5)
    ours = restricted(y, labels, list(got.variances.values()))
    theirs = restricted(y, labels, [want[name] for name in got.variances])
    assert ours >= theirs - 1e-10


def test_unbalanced_data_reach_the_highest_likelihood() -> None:
    """Against a search from several starts by dense algebra, boundary cases among them."""
    at_zero = 0
    for seed in [*range(12), 1013]:  # the last one has two maxima
        rng = np.random.default_rng(seed)
        labels = crossing(3, 3, 4)
        kept = np.sort(rng.choice(36, rng.integers(10, 30), replace=False))
        labels = {name: column[kept] for name, column in labels.items()}
        y = draw(rng, labels, rng.choice([0.0, 0.3, 1.0], 3), 1.0)
        got = variance.components(y, labels, draws=0)
        v = np.array(list(got.variances.values()))
        at_zero += int((v == 0).sum())
        best = -np.inf
        for start in rng.uniform(0, 1, (3, 4)) + 1e-3:
            found = optimize.minimize(
                lambda x, y=y, labels=labels: -restricted(y, labels, np.square(x)),
                np.sqrt(start),
                method="L-BFGS-B",
            )
            best = max(best, -float(found.fun))
        assert restricted(y, labels, v) >= best - 1e-7
        # No component to move, up or (above 0) down, that raises it.
        for i, h in itertools.product(range(4), (1e-4, -1e-4)):
            moved = v + h * v.sum() * np.eye(4)[i]
            if moved.min() >= 0:
                assert restricted(y, labels, moved) < restricted(y, labels, v)
    assert at_zero > 3


def test_mean_is_generalised_least_squares() -> None:
    y = np.array([1.0, 1.2, 0.9, 1.1, 1.0, 5.0, 3.0])
    label = np.array([0, 0, 0, 0, 0, 1, 2])
    got = variance.components(y, {"setting": label}, draws=0)
    v = got.variances
    V = v["residual"] * np.eye(7) + v["setting"] * (label[:, None] == label)
    weights = np.linalg.inv(V).sum(0)
    assert got.mean == pytest.approx(weights @ y / weights.sum(), rel=1e-10)
    assert got.mean > y.mean() + 0.5


def test_invariances() -> None:
    rng = np.random.default_rng(7)
    labels = crossing(3, 4, 4, 3)
    kept = np.sort(rng.choice(144, 110, replace=False))
    labels = {name: column[kept] for name, column in labels.items()}
    y = draw(rng, labels, [1.0, 0.8, 0.6, 0.7], 0.5)
    base = variance.components(y, labels, draws=0)
    distance = variance.distance_components((y[:, None] - y) ** 2, labels)

    order = rng.permutation(y.size)
    shuffled = {name: column[order] for name, column in labels.items()}
    words = np.array(["q", "b", "zz", "a", "m"])
    named = {name: words[column] for name, column in labels.items()}
    turned = dict(reversed(labels.items()))
    for values, factors in ((y[order], shuffled), (y, named), (y, turned), (y + 1e4, labels)):
        got = variance.components(values, factors, draws=0)
        close(got.variances, base.variances, 1e-7)
        gap = (values[:, None] - values) ** 2
        close(variance.distance_components(gap, factors).variances, distance.variances, 1e-7)
    scaled = variance.components(-3 * y, labels, draws=0)
    close(scaled.variances, {k: 9 * x for k, x in base.variances.items()}, 1e-9)
    assert scaled.mean == pytest.approx(-3 * base.mean)


def test_known_shares_are_recovered_and_intervals_mostly_hold_them() -> None:
    labels = crossing(5, 5, 5, 4)
    sds = np.array([1.0, 0.5, 0.7, 0.6])
    truth = [*(sds**2), 0.8**2]
    rng = np.random.default_rng(11)
    found, inside = [], []
    for i in range(300):
        got = variance.components(draw(rng, labels, sds, 0.8), labels, draws=60 if i < 40 else 0)
        found.append(list(got.variances.values()))
        if i < 40:
            shares = zip(got.intervals.values(), truth, strict=True)
            inside.append([low <= v / sum(truth) <= high for (low, high), v in shares])
    error = np.std(found, axis=0) / 300**0.5
    assert (np.abs(np.mean(found, axis=0) - truth) < 4 * error + 0.01).all()
    assert np.mean(inside) > 0.7


def test_values_that_are_not_finite_are_left_out() -> None:
    labels = crossing(4, 3, 3)
    y = draw(np.random.default_rng(2), labels, [1.0, 1.0, 1.0], 1.0)
    hole = np.isin(np.arange(36), [0, 7, 20])
    kept = {name: column[~hole] for name, column in labels.items()}
    want = variance.components(y[~hole], kept, draws=10)
    got = variance.components(np.where(hole, [np.nan, np.inf] * 18, y), labels, draws=10)
    assert got == want
    assert got.n == 33


def test_a_factor_of_one_level_is_dropped() -> None:
    labels = crossing(1, 4, 4, 3)
    y = draw(np.random.default_rng(4), labels, [0.0, 1.0, 1.0, 1.0], 1.0)
    got = variance.components(y, labels, draws=10)
    rest = {name: column for name, column in labels.items() if name != "setting"}
    want = variance.components(y, rest, draws=10)
    assert np.isnan([got.variances["setting"], got.shares["setting"]]).all()
    assert np.isnan(got.intervals["setting"]).all()
    assert {k: v for k, v in got.shares.items() if k != "setting"} == want.shares
    assert got.levels["setting"] == 1
    far = variance.distance_components((y[:, None] - y) ** 2, labels)
    assert np.isnan(far.shares["setting"])
    assert far.freedom == dict(zip([*NAMES, "residual"], (0, 3, 3, 2, 39), strict=True))
    assert list(got.variances) == list(far.variances) == [*NAMES, "residual"]


def test_no_factor_leaves_the_sample_variance() -> None:
    y = np.array([1.0, 2.0, 4.0])
    for factors in ({}, {"setting": np.zeros(3)}):
        got = variance.components(y, factors, draws=20)
        assert got.variances["residual"] == pytest.approx(y.var(ddof=1))
        assert got.intervals["residual"] == (1.0, 1.0)
        far = variance.distance_components((y[:, None] - y) ** 2, factors)
        assert far.variances["residual"] == pytest.approx(y.var(ddof=1))


def test_equal_values_have_no_variance_and_no_shares() -> None:
    labels = crossing(3, 4)
    got = variance.components(np.full(12, 0.1), labels)
    assert set(got.variances.values()) == {0.0}
    assert np.isnan(list(got.shares.values())).all()
    assert np.isnan(list(got.intervals.values())).all()
    far = variance.distance_components(np.zeros((12, 12)), labels)
    assert set(far.variances.values()) == {0.0}
    assert np.isnan([*far.shares.values(), *far.r2.values()]).all()


@pytest.mark.parametrize(
    ("y", "factors"),
    [
        ([], {"setting": []}),
        ([1.0], {"setting": [0]}),
        ([1.0, 2.0], {"setting": [0, 1]}),
        ([1.0, 2.0, 4.0, 3.0], {"setting": [0, 0, 1, 1], "seed_data": [5, 5, 6, 6]}),
        ([1.0, 2.0, 4.0, 3.0], {"setting": [0, 0, 1, 1], "seed_data": [1, 2, 3, 4]}),
    ],
)
def test_what_cannot_be_told_apart_is_nan(y: list[float], factors: dict[str, list[int]]) -> None:
    got = variance.components(y, factors)
    assert np.isnan(list(got.variances.values())).all()
    assert np.isnan(list(got.shares.values())).all()
    assert got.n == len(y)
    far = variance.distance_components(np.subtract.outer(y, y) ** 2, factors)
    assert np.isnan(list(far.shares.values())).all()
    assert far.n == len(y)


def test_what_does_not_fit_together_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 labels for 3"):
        variance.components([1.0, 2.0, 3.0], {"setting": [0, 1]})
    with pytest.raises(ValueError, match="called residual"):
        variance.components([1.0, 2.0], {"residual": [0, 1]})
    with pytest.raises(ValueError, match="not square"):
        variance.distance_components(np.zeros((2, 3)), {})
    with pytest.raises(ValueError, match="not symmetric"):
        variance.distance_components([[0.0, 1.0], [2.0, 0.0]], {})
    with pytest.raises(ValueError, match="to itself"):
        variance.distance_components([[1.0, 1.0], [1.0, 0.0]], {})


def divergences(p: Array) -> Array:
    """Jensen-Shannon divergences of the rows, averaged over the middle axis of (n, m, k)."""
    half = (p[:, None] + p) / 2
    entropy = [-(x * np.log(x)).sum(-1) for x in (half, p)]
    return np.maximum(entropy[0] - (entropy[1][:, None] + entropy[1]) / 2, 0.0).mean(-1)


def test_distances_of_distributions_against_permanova_by_hand() -> None:
    """One unbalanced factor by Anderson's (2001) sums over pairs."""
    rng = np.random.default_rng(8)
    groups = np.repeat([0, 1, 2], [4, 6, 7])
    p = rng.dirichlet(np.ones(5), (17, 3)) + 0.5 * rng.dirichlet(np.ones(5), (3, 3))[groups]
    p /= p.sum(-1, keepdims=True)
    D = divergences(p)
    pairs = list(itertools.combinations(range(17), 2))
    total = sum(D[i, j] for i, j in pairs) / 17
    sizes = np.bincount(groups)
    within = sum(D[i, j] / sizes[groups[i]] for i, j in pairs if groups[i] == groups[j])
    got = variance.distance_components(D, {"setting": groups})
    assert got.total == pytest.approx(total)
    assert got.sums == pytest.approx({"setting": total - within, "residual": within})
    assert got.r2["setting"] == pytest.approx(1 - within / total)
    assert got.freedom == {"setting": 2, "residual": 14}
    each = (17 - (sizes**2).sum() / 17) / 2
    want = ((total - within) / 2 - within / 14) / each
    assert want > 0
    assert got.variances["setting"] == pytest.approx(want)


def test_distances_in_many_dimensions_add_up_over_them() -> None:
    """Unbalanced: sums of squares of each coordinate by least squares, factor left out."""
    rng = np.random.default_rng(9)
    labels = crossing(3, 4, 4, 3)
    kept = np.sort(rng.choice(144, 100, replace=False))
    labels = {name: column[kept] for name, column in labels.items()}
    x = np.stack([draw(rng, labels, [1, 0.5, 0.5, 0.8], 1.0) for _ in range(6)], axis=1)
    got = variance.distance_components(((x[:, None] - x) ** 2).sum(-1), labels)

    def left(names: list[str]) -> float:
        X = np.concatenate([np.ones((100, 1)), *(np.eye(4)[labels[k]] for k in names)], axis=1)
        return float(((x - X @ np.linalg.lstsq(X, x)[0]) ** 2).sum())

    full = left(list(labels))
    assert got.sums["residual"] == pytest.approx(full)
    for name in labels:
        others = [other for other in labels if other != name]
        assert got.sums[name] == pytest.approx(left(others) - full)
    assert got.total == pytest.approx(float(((x - x.mean(0)) ** 2).sum()))
    assert got.shares["setting"] == pytest.approx(6 / (6 * 3.14), abs=0.3)


def test_objects_without_distances_are_left_out() -> None:
    labels = crossing(3, 4)
    x = draw(np.random.default_rng(6), labels, [1.0, 1.0], 1.0)
    D = (x[:, None] - x) ** 2
    D[5] = D[:, 5] = np.nan
    got = variance.distance_components(D, labels)
    kept = np.arange(12) != 5
    want = variance.distance_components(
        D[np.ix_(kept, kept)], {name: column[kept] for name, column in labels.items()}
    )
    assert got == want
    assert got.n == 11
    D[5, 5] = 0
    assert variance.distance_components(D, labels) == want
    D[0, 1] = D[1, 0] = np.nan
    with pytest.raises(ValueError, match="not all finite"):
        variance.distance_components(D, labels)


def test_distance_components_are_held_at_zero() -> None:
    rng = np.random.default_rng(0)
    cube = rng.normal(5, 2, (6, 5))
    cube -= 0.9 * (cube.mean(axis=1, keepdims=True) - cube.mean())
    y = cube.ravel()
    got = variance.distance_components((y[:, None] - y) ** 2, {"batch": np.repeat(range(6), 5)})
    assert got.variances["batch"] == 0
    assert got.shares == {"batch": 0.0, "residual": 1.0}
    assert got.sums["batch"] > 0


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
    rng = np.random.default_rng(0)
    labels = crossing(5, 5, 5, 4)
    y = draw(rng, labels, [1.0, 0.5, 0.5, 0.5], 1.0)
    start = time.perf_counter()
    first = variance.components(y, labels, draws=200)
    assert time.perf_counter() - start < 3
    assert variance.components(y, labels, draws=200) == first
    labels = {name: rng.integers(0, 60, 4000) for name in NAMES}
    start = time.perf_counter()
    variance.components(draw(rng, labels, [1.0, 0.5, 0.5, 0.5], 1.0), labels, draws=0)
    assert time.perf_counter() - start < 10
