"""The table of settings: means over seeds by hand, reservations, diverged and crossed runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis.compute import settings
from analysis.compute.settings import genotypes_table, settings_table
from tests.analysis.synthetic import Setting, Study, write_study


def groups_of(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(name): group for name, group in runs.groupby("setting")}


def table_of(runs: pd.DataFrame) -> pd.DataFrame:
    return settings_table(groups_of(runs)).set_index("setting", drop=False)


def row_of(folder: Path, study: Study) -> pd.Series:
    """The only row."""
    write_study(folder, study)
    (name,) = analysis.load(folder).runs["setting"].unique()
    return table_of(analysis.load(folder).runs).loc[name]


def test_means_are_over_the_seeds_of_a_setting(nb201: Path) -> None:
    runs = analysis.load(nb201).runs
    got = table_of(runs)
    assert list(got["setting"]) == ["independent", "placebo", "transition"]
    for name in ("independent", "transition"):
        x = runs.loc[runs["setting"] == name, "derived_accuracy"]
        row = got.loc[name]
        found = [row[f"derived_accuracy_{k}"] for k in ("mean", "sd", "n", "low", "high", "iqm")]
        bounds = stats.t.interval(0.95, 3, loc=x.mean(), scale=stats.sem(x))
        want = (x.mean(), x.std(), 4, *bounds, stats.trim_mean(x, 0.25))
        assert found == pytest.approx(want)
    assert got.loc["transition", "benchmark_test_mean"] == 81 + 1.5
    assert got.loc["independent", "transition_displacement_n"] == 0
    assert np.isnan(got.loc["independent", "transition_displacement_mean"])
    assert got.loc["independent", "trainable"] is None
    assert got.loc["transition", "trainable"] is True
    assert got.loc["transition", "init"] == "identity"
    assert got["runs"].tolist() == [4, 4, 4]


def test_intervals_stay_within_what_is_possible(nb201: Path) -> None:
    """As they do in the table `stability`, whose means are the same."""
    runs = analysis.load(nb201).runs
    runs["valid_accuracy"] = 0.5 + 0.499 * (runs["seed_weights"] > 0)
    runs["benchmark_test"] = 99.0 * (runs["seed_weights"] > 0)
    runs["skip_connections"] = 2
    row = table_of(runs).loc["transition"]
    x = np.array([0.5, 0.999, 0.999, 0.999])
    assert x.mean() + stats.t.ppf(0.975, 3) * stats.sem(x) > 1 == row["valid_accuracy_high"]
    assert (row["benchmark_test_low"], row["benchmark_test_high"]) == (0, 100)
    # Seeds that agree: as if one of them had counted one more.
    half = row["skip_connections_high"] - row["skip_connections_mean"]
    assert half == pytest.approx(stats.t.ppf(0.975, 3) / 4)


def test_diverged_runs_are_named_counted_and_in_no_mean(nb201: Path) -> None:
    row = table_of(analysis.load(nb201).runs).loc["placebo"]
    assert row["diverged_runs"] == "seed 2"
    assert (row["runs"], row["n"], row["diverged"]) == (4, 3, 1)
    counts = row[[c for c in row.index if c.endswith("_n")]]
    assert set(counts) <= {0, 3}
    # The benchmark accuracy of the diverged run is a number, and still left out.
    assert row["benchmark_test_mean"] == pytest.approx(81 + np.mean([0, 1, 3]))


def test_a_diverged_runs_genotype_need_not_be_readable(nb201: Path) -> None:
    runs = analysis.load(nb201).runs.copy()
    runs.loc[runs["status"] == "diverged", "genotype"] = ""
    assert table_of(runs)["n"].sum() == 11
    assert genotypes_table(groups_of(runs)).query("part == 'whole'")["count"].sum() == 11
    runs.loc[runs["status"] != "diverged", "genotype"] = "?"
    with pytest.raises(analysis.ResultsError, match="no genotype"):
        table_of(runs)


@pytest.mark.parametrize(
    ("moved", "reason"),
    [(0.19, "hardly moved: mean architecture displacement 0.190, under 0.2"), (0.21, "")],
)
def test_hardly_moved_is_under_two_tenths(tmp_path: Path, moved: float, reason: str) -> None:
    got = row_of(tmp_path, Study(settings=[Setting("a", moved=moved)], noise=3.0))
    assert got["reservations"] == reason


def test_matrices_that_hardly_moved_are_a_reservation_where_they_can_move(tmp_path: Path) -> None:
    both = [Setting("learns", moved=0.5), Setting("frozen", moved=0.5, trainable=False)]
    write_study(tmp_path, Study(settings=both))
    runs = analysis.load(tmp_path).runs
    runs["transition_displacement"] = 0.019
    got = table_of(runs)["reservations"]
    assert got["frozen"] == ""
    reason = "transition matrices hardly moved: mean displacement 0.019, under 0.02"
    assert got["learns"] == reason
    runs["transition_displacement"] = 0.021
    assert table_of(runs).loc["learns", "reservations"] == ""


def test_one_genotype_is_remarked_upon(tmp_path: Path) -> None:
    got = row_of(tmp_path, Study(settings=[Setting("a")], noise=0.0))
    assert got["distinct_genotypes"] == 1
    assert (got["reservations"], got["remarks"]) == ("", "one genotype only over 4 runs")
    table = genotypes_table(groups_of(analysis.load(tmp_path).runs))
    whole = table[table["part"] == "whole"].iloc[0]
    assert (whole["count"], whole["n"]) == (4, 4)
    assert whole["runs"] == "seed 0, seed 1, seed 2, seed 3"


def test_one_run_is_remarked_upon(tmp_path: Path) -> None:
    got = row_of(tmp_path, Study(settings=[Setting("a")], seeds=[5]))
    assert got["remarks"] == "one run only"
    assert np.isnan(got["derived_accuracy_low"])


def test_every_run_diverged(tmp_path: Path) -> None:
    study = Study(settings=[Setting("a")], diverged=[("a", s) for s in range(4)])
    got = row_of(tmp_path, study)
    assert (got["n"], got["diverged"]) == (0, 4)
    assert got["reservations"] == "every run diverged"
    assert genotypes_table(groups_of(analysis.load(tmp_path).runs)).empty


def test_crossed_seeds_are_seen_and_named(tmp_path: Path) -> None:
    got = row_of(tmp_path, Study(settings=[Setting("a")], crossed=True))
    assert got["crossed"]
    table = genotypes_table(groups_of(analysis.load(tmp_path).runs))
    named = ", ".join(table.loc[table["part"] == "whole", "runs"]).split(", ")
    assert sorted(named) == ["seed 0", "seeds 0/1/0", "seeds 1/0/0", "seeds 1/1/0"]
    equal = row_of(tmp_path / "equal", Study(settings=[Setting("a")], seeds=range(2)))
    assert not equal["crossed"]


def test_collapse_rate_and_runs_that_stopped_early(darts: Path) -> None:
    runs = analysis.load(darts).runs
    got = table_of(runs).loc["transition"]
    assert (got["stopped_early"], got["stopped_early_runs"], got["n"]) == (1, "seed 1", 3)
    plain = {"none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "noise"}
    collapsed = 0
    for text in runs["genotype"]:
        normal = eval(text, {"Genotype": dict, "range": range})["normal"]
        collapsed += sum(operation in plain for operation, _ in normal) > len(normal) / 2
    assert got["collapsed"] == collapsed
    bounds = stats.binomtest(collapsed, 3).proportion_ci(method="exact")
    found = [got[f"collapse_rate{suffix}"] for suffix in ("", "_low", "_high")]
    assert found == pytest.approx([collapsed / 3, bounds.low, bounds.high])


def test_genotypes_are_counted_by_content_part_by_part(darts: Path) -> None:
    runs = analysis.load(darts).runs
    # Two runs with one reduction cell but different normal ones; the third has neither.
    normal = [f"[('skip_connect', {i % 2}), ('sep_conv_3x3', {i})]" for i in (0, 1, 1)]
    reduce = [f"[('{name}', 0), ('none', 1)]" for name in ("noise", "noise", "skip_connect")]
    runs["genotype"] = [
        f"Genotype(normal={a}, normal_concat=[2], reduce={b}, reduce_concat=[2])"
        for a, b in zip(normal, reduce, strict=True)
    ]
    table = genotypes_table({"x": runs})
    assert table["part"].unique().tolist() == ["whole", "normal", "reduce"]
    counts = {part: g["count"].tolist() for part, g in table.groupby("part")}
    assert counts == {"whole": [1, 1, 1], "normal": [2, 1], "reduce": [2, 1]}
    shared = table[table["part"] == "reduce"].iloc[0]
    assert shared["genotype"] == "0→2 noise, 1→2 none"
    assert (shared["runs"], shared["code"]) == ("seed 0, seed 1", runs["genotype"].iloc[0])
    assert (table["n"] == 3).all()


def test_settings_stand_in_the_study_files_order(tmp_path: Path) -> None:
    names = ["z first", "m", "a last"]
    models = ["placebo", "transition", "independent"]
    order = [Setting(n, m) for n, m in zip(names, models, strict=True)]
    write_study(tmp_path, Study(settings=order, seeds=range(3), epochs=2))
    study = analysis.compute_study(analysis.load(tmp_path))
    assert study["settings"]["setting"].tolist() == names
    for table in ("stability", "trajectories", "genotypes", "operation_choices", "seed_values"):
        assert study[table]["setting"].unique().tolist() == names, table
    packs = json.loads((tmp_path / "packs.json").read_text())
    del packs["settings"]  # as before they were written down: by model, then by name
    (tmp_path / "packs.json").write_text(json.dumps(packs))
    study = analysis.compute_study(analysis.load(tmp_path), with_trajectories=False)
    assert study["settings"]["setting"].tolist() == ["a last", "z first", "m"]


def test_settings_that_the_study_file_lacks_come_last_by_model_and_name() -> None:
    models = {"q": "placebo", "b": "transition", "a": "transition", "i": "independent", "k": "new"}
    assert settings.in_order(models, ["b", "gone"]) == ["b", "i", "q", "a", "k"]
