"""Settings against their controls: paired by seed, corrected together, or a reason."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

import analysis
from analysis.compute import comparisons
from analysis.compute.setting import SettingResult, compute_setting
from analysis.quantities import HEADLINE
from analysis.statistics import matrices
from tests.analysis.synthetic import Setting, Study, write_study
from tests.analysis.test_samples import rewrite
from tests.analysis.test_setting import LEARNED, stacks_of


def items_of(folder: Path) -> tuple[list[SettingResult], pd.DataFrame]:
    results = analysis.load(folder)
    runs = results.runs
    groups = [g for _, g in runs.groupby("setting")]
    return [compute_setting(results, g, g, "", False, {}) for g in groups], runs


def row_of(study: analysis.Study, kind: str, quantity: str) -> pd.Series:
    table = study["comparisons"].query("setting == 'transition'")
    (row,) = (r for _, r in table.iterrows() if (r["kind"], r["quantity"]) == (kind, quantity))
    return row


@pytest.mark.parametrize("quantity", [HEADLINE, LEARNED, "operation_agreement"])
def test_settings_quantities_are_compared_with_the_placebos(
    noisy_study: analysis.Study, quantity: str
) -> None:
    row = row_of(noisy_study, "placebo", quantity)
    estimate = noisy_study["stability"].set_index(["setting", "quantity"])["estimate"]
    want = estimate["transition", quantity] - estimate["placebo", quantity]
    assert row["difference"] == pytest.approx(want)
    assert (row["reference"], row["cell"], row["seeds"]) == ("placebo", "normal", 8)
    assert row["low"] < row["difference"] < row["high"]
    assert (row["p_value"] < 0.05) == (not row["low"] <= 0 <= row["high"])
    assert np.isnan(row["probability_of_improvement"])


def test_a_single_runs_quantity_is_a_paired_t_test(
    noisy: Path, noisy_study: analysis.Study
) -> None:
    runs = analysis.load(noisy).runs.sort_values("seed_data")
    a, b = (
        runs.loc[runs["setting"] == s, "derived_accuracy"].to_numpy()
        for s in ("transition", "independent")
    )
    row = row_of(noisy_study, "independent", "derived_accuracy")
    test = stats.ttest_rel(a, b)
    bounds = test.confidence_interval()
    found = row[["difference", "low", "high", "p_value"]].tolist()
    assert found == pytest.approx([np.mean(a - b), bounds.low, bounds.high, test.pvalue])
    better = np.mean([(x > y) + (x == y) / 2 for x, y in itertools.product(a, b)])
    assert row["probability_of_improvement"] == pytest.approx(better)


def test_independent_is_no_control_of_matrices(noisy_study: analysis.Study) -> None:
    table = noisy_study["comparisons"]
    of_both = set(table.loc[table["kind"] == "independent", "quantity"])
    assert {"derived_accuracy", "operation_agreement", "edge_agreement"} <= of_both
    assert not of_both & {LEARNED, HEADLINE, "dependence_strength", "transition_displacement"}
    assert set(table["setting"]) == {"placebo", "transition"}


def test_a_missing_seed_leaves_the_comparison_to_the_others(noisy: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(noisy, tmp_path / "copy"))
    rewrite(
        copy,
        "runs",
        lambda rows: [r for r in rows if (r["setting"], r["seed_data"]) != ("placebo", 3)],
    )
    items, runs = items_of(copy)
    found = comparisons.comparisons_table(items, runs).query("setting == 'transition'")
    seeds = found.groupby("kind")["seeds"].unique().map(list).to_dict()
    assert seeds == {"independent": [8], "placebo": [7]}
    rest = [0, 1, 2, 4, 5, 6, 7]

    def learned(setting: str) -> float:
        pairs = [[t[rest] for t in stacks_of(noisy, e, setting)] for e in ("last", "first")]
        return matrices.dependence_stability(matrices.learned(*pairs), None, 0)[0].estimate

    (row,) = found.query(f"quantity == '{LEARNED}'").itertuples()
    assert row.difference == pytest.approx(learned("transition") - learned("placebo"))
    accuracy = runs.pivot(index="seed_data", columns="setting", values="derived_accuracy").dropna()
    (row,) = found.query("kind == 'placebo' and quantity == 'derived_accuracy'").itertuples()
    want = (accuracy["transition"] - accuracy["placebo"]).mean()
    assert row.difference == pytest.approx(want)


def test_without_a_seed_in_common_there_are_no_numbers(noisy: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(noisy, tmp_path / "copy"))
    seeds = ("seed_weights", "seed_data", "seed_architecture")

    def other_seeds(rows: list[dict]) -> list[dict]:
        of = [r for r in rows if r["setting"] == "placebo"]
        for r in of:
            r |= {s: r[s] + 100 for s in seeds}
        return rows

    rewrite(copy, "runs", other_seeds)
    items, runs = items_of(copy)
    found = comparisons.comparisons_table(items, runs).query("kind == 'placebo'")
    assert (found["note"] == "no seed in common").all()
    assert found[["difference", "low", "high", "p_value", "p_holm"]].isna().all(axis=None)


def test_controls_share_init_sharing_and_rates(tmp_path: Path) -> None:
    settings = [
        Setting("t"),
        Setting("other rate", rates=(0.01, 0.5, 0.03)),
        Setting("placebo", "placebo"),
        Setting("frozen", trainable=False, rates=(0.01, 0.9, 0.03)),
        Setting("independent", "independent"),
    ]
    write_study(tmp_path, Study(settings=settings, seeds=range(3), epochs=2))
    table = analysis.load(tmp_path).runs.drop_duplicates("setting").set_index("setting")
    want = {"independent": "independent", "placebo": "placebo", "frozen": "frozen"}
    assert comparisons.controls(table, "t") == want
    assert comparisons.controls(table, "other rate") == want | {"placebo": None}
    assert comparisons.controls(table, "independent") == {"independent": None}
    assert comparisons.controls(table, "placebo") == {
        "independent": "independent",
        "frozen": "frozen",
    }
    for column, value in (("init", "random"), ("sharing", "edge"), ("init_strength", 1.0)):
        other = table.copy()
        other.loc["t", column] = value
        assert comparisons.controls(other, "t") == want | {"placebo": None, "frozen": None}
    found = comparisons.comparisons_table(*items_of(tmp_path))
    (absent,) = found[
        (found["setting"] == "other rate") & (found["kind"] == "placebo")
    ].itertuples()
    assert absent.note == "no placebo with the same sharing, init and rates in this study"
    assert (absent.quantity, absent.seeds) == (HEADLINE, 0)
    assert np.isnan(absent.difference)


def test_among_several_controls_the_likest_is_taken(tmp_path: Path) -> None:
    settings = [Setting("t"), Setting("a", "placebo"), Setting("b", "placebo")]
    write_study(tmp_path, Study(settings=settings, seeds=range(2), epochs=2))
    table = analysis.load(tmp_path).runs.drop_duplicates("setting").set_index("setting")
    for other, likest in (("a", "b"), ("b", "a")):
        changed = table.copy()
        changed.loc[other, "own_weight"] = 0.5
        assert comparisons.controls(changed, "t")["placebo"] == likest


def test_holm_is_over_one_quantity_and_kind(tmp_path: Path) -> None:
    settings = [Setting(n) for n in "abc"] + [Setting("i", "independent"), Setting("p", "placebo")]
    write_study(tmp_path, Study(settings=settings, seeds=range(4), epochs=2, noise=2.0))
    table = comparisons.comparisons_table(*items_of(tmp_path))
    told = table[table["quantity"].isin(["derived_accuracy", "edge_agreement", LEARNED])]
    sizes = []
    for _, family in told.groupby(["kind", "quantity"]):
        known = family[family["p_value"].notna()]
        want = multipletests(known["p_value"], method="holm")[1]
        np.testing.assert_allclose(known["p_holm"], want, atol=1e-12)
        sizes.append(len(known))
    assert sorted(sizes) == [3, 3, 3, 4, 4]  # a, b and c, and the placebo with `independent`
    # Nothing is corrected over quantities: a family is no larger than the settings are many.
    assert (table["p_holm"] <= 4 * table["p_value"] + 1e-12)[table["p_value"].notna()].all()
