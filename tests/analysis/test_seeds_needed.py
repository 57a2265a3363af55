"""How many seeds it takes, as tables: ranges that hold together, and none from few seeds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

import analysis
from analysis.compute import seeds_needed
from analysis.compute.verdict import NEGLIGIBLE
from analysis.quantities import HEADLINE
from analysis.report import sentences
from analysis.statistics.inference import missing, of_runs
from tests.analysis.synthetic import Study, write_study


def test_every_projected_quantity_has_a_range(noisy_study: analysis.Study) -> None:
    table = noisy_study["seeds_needed"]
    known = table[table["note"] == ""]
    low, best, high = (
        known[c].astype(float).fillna(np.inf) for c in ("seeds_low", "seeds", "seeds_high")
    )
    assert ((low <= best) & (best <= high)).all()
    assert (low >= 3).all()
    assert (low < high).sum() > 30
    # A narrower interval takes no fewer seeds.
    for _, rows in known.groupby(["setting", "cell", "quantity", "goal"]):
        wide_first = rows.sort_values("target", ascending=False)["seeds"].astype(float)
        assert wide_first.fillna(np.inf).is_monotonic_increasing
    needed = {HEADLINE, "column_transfer", "operation_agreement", "derived_accuracy"}
    assert needed <= set(known.loc[known["setting"] == "transition", "quantity"])
    stability = noisy_study["stability"].set_index(["setting", "cell", "quantity"])
    known = known[known["goal"] == "width"]
    of = stability.loc[pd.MultiIndex.from_frame(known[["setting", "cell", "quantity"]])]
    np.testing.assert_allclose(known["width_here"], of["high"] - of["low"])
    assert (known["seeds_here"] == 8).all()


def test_the_headline_has_the_seeds_that_see_it(noisy_study: analysis.Study) -> None:
    """To tell a share that would matter from 0 in 80% of studies, if errors are as they are here.

    That is as the interval has it: of seeds that all take no step along rows it has a width, too.
    """
    frame = noisy_study["seeds_needed"]
    row = frame[(frame["note"] == "to 0") & (frame["setting"] == "transition")].iloc[0]
    assert (row["quantity"], row["goal"], row["target"]) == (HEADLINE, "difference", NEGLIGIBLE)
    keys = ["setting", "cell", "quantity"]
    q = noisy_study["stability"].set_index(keys).loc[("transition", "normal", HEADLINE)]
    effect = NEGLIGIBLE / ((q["estimate"] - q["low"]) / stats.t.ppf(0.975, 7) * 8**0.5)
    power = TTestPower().power(effect, np.array([row["seeds"] - 1, row["seeds"]]), 0.05)
    assert power[0] < 0.8 <= power[1]
    told = " ".join(sentences.seeds(frame[frame["setting"] == "transition"]))
    assert "To see the difference to 0 in dependence transfer (“transition”), 0.05, in 80%" in told


def test_a_mean_takes_what_a_students_interval_takes() -> None:
    """The middle number: the first m with 2 t(m - 1) sd / sqrt(m) at most the width."""
    values = 0.5 + 0.05 * np.random.default_rng(1).normal(size=9)
    table = seeds_needed.for_widths({("all", "derived_accuracy"): of_runs(values)})
    assert table["target"].tolist() == [0.4, 0.2, 0.1, 0.05]

    def first(sd: float, width: float) -> int:
        m = 3
        while 2 * stats.t.ppf(0.975, m - 1) * sd / m**0.5 > width:
            m += 1
        return m

    # 90% of the variances of nine normal seeds lie between these multiples of the true one.
    few, many = (8 / stats.chi2.ppf(q, 8) for q in (0.95, 0.05))
    sd = values.std(ddof=1)
    for row in table.itertuples():
        want = [first(sd * k**0.5, row.target) for k in (few, 1.0, many)]
        assert [row.seeds_low, row.seeds, row.seeds_high] == want
    assert table["seeds"].max() > 9


def test_more_than_the_most_is_not_a_number() -> None:
    values = np.array([0.0, 1.0] * 4)
    table = seeds_needed.for_widths({("all", "valid_accuracy"): of_runs(values)})
    narrow = table[table["target"] == 0.05].iloc[0]
    assert pd.isna(narrow["seeds"])
    assert pd.isna(narrow["seeds_high"])
    assert table["seeds"].dtype == "Int64"


@pytest.mark.parametrize("seeds", [2, 5])
def test_fewer_than_six_seeds_project_nothing(tmp_path: Path, seeds: int) -> None:
    write_study(tmp_path, Study(seeds=range(seeds), epochs=2, noise=2.0))
    table = analysis.compute_study(analysis.load(tmp_path), False)["seeds_needed"]
    assert len(table)
    assert table[["seeds_low", "seeds", "seeds_high", "target"]].isna().all(axis=None)
    assert (table["note"] == "fewer than 6 seeds cannot tell how many it takes").all()
    assert not table["told"].any()


def test_equal_seeds_and_missing_quantities_project_nothing() -> None:
    found = {
        ("all", "derived_accuracy"): of_runs(np.full(8, 0.5)),
        ("all", "valid_accuracy"): missing("none", 8),
        ("all", "seconds"): of_runs(np.arange(8.0)),  # not asked for
    }
    (row,) = seeds_needed.for_widths(found).itertuples()
    assert row.quantity == "derived_accuracy"
    assert pd.isna(row.seeds)
    assert row.note.startswith("all seeds have the same")
