"""Studies whose three seeds are not equal: who replicates whom, and where variance comes from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.compute.settings import replicates
from analysis.compute.variance import variance_table
from tests.analysis.synthetic import Setting, Study, write_study
from tests.analysis.test_samples import rewrite


def test_crossed_studies_take_equal_seeds_and_say_so(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a")], crossed=True, epochs=3))
    results = analysis.load(tmp_path)
    runs, note = replicates(results.runs)
    assert runs["seed_weights"].tolist() == [0]
    assert note == "crossed seeds: the 1 of 4 runs with three equal seeds"
    only = results.runs.query("seed_data == 0")
    runs, remark = replicates(only)
    assert len(runs) == 2
    assert remark == "only seed_weights varies over these runs"
    study = analysis.compute_study(results)
    assert study.crossed == note
    assert study["stability"]["note"].str.contains(note).all()
    assert set(study["seed_values"]["seed"]) == {"seed 0"}


def test_equal_seeds_are_all_replicates(noisy: Path, noisy_study: analysis.Study) -> None:
    runs = analysis.load(noisy).runs.query("setting == 'placebo'")
    chosen, note = replicates(runs.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(chosen, runs.reset_index(drop=True))
    assert (note, noisy_study.crossed) == ("", "")


def test_crossed_seeds_that_are_never_equal(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a")], seeds=range(6), epochs=2))

    def cross(rows: list[dict]) -> list[dict]:
        for r in rows:
            w, d = divmod(r["seed_data"], 3)
            r |= {"seed_weights": 10 + w, "seed_data": 20 + d, "seed_architecture": 30}
        return rows

    rewrite(tmp_path, "runs", cross)
    runs, note = replicates(analysis.load(tmp_path).runs)
    assert runs[["seed_weights", "seed_data"]].values.tolist() == [[10, 20], [11, 21]]
    assert note == "crossed seeds: 2 of 6 runs, no two of which share a seed"
    study = analysis.compute_study(analysis.load(tmp_path))
    assert study["stability"]["note"].str.contains("crossed seeds").all()
    assert study["settings"]["crossed"].all()
    assert set(study["seed_values"]["seed"]) == {"seeds 10/20/30", "seeds 11/21/30"}


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 x 4 x 3 seeds by hand: the accuracy follows the data seed alone."""
    folder = tmp_path_factory.mktemp("crossed")
    settings = [Setting(n, m) for n, m in (("a", "transition"), ("b", "placebo"), ("c", "placebo"))]
    write_study(folder, Study(settings=settings, seeds=range(48), epochs=2, noise=1.0))
    rng = np.random.default_rng(0)
    of_data = [0.0, 0.1, 0.2, 0.4]

    def cross(rows: list[dict]) -> list[dict]:
        for r in rows:
            w, d, a = np.unravel_index(r["seed_data"], (4, 4, 3))
            r |= {"seed_weights": int(w), "seed_data": int(d), "seed_architecture": int(a)}
            r["derived_accuracy"] = of_data[d] + 0.01 * rng.normal()
        return rows

    rewrite(folder, "runs", cross)
    return folder


def test_variance_is_attributed_where_seeds_are_crossed(crossed: Path) -> None:
    study = analysis.compute_study(analysis.load(crossed), with_trajectories=False)
    table = study["variance"]
    share = table.set_index(["quantity", "source"])["share"]
    assert share["derived_accuracy", "seed_data"] > 0.95
    assert share["transition_matrices", "residual"] > 0.8  # they are drawn anew for every run
    assert set(table.loc[table["cell"] == "normal", "quantity"]) == {
        "edge_probabilities",
        "transition_matrices",
    }
    sums = table.groupby(["cell", "quantity"])["share"].sum()
    assert sums.round(6).isin([0, 1]).all()
    assert (table["runs"] == 144).all()
    # Everything else is of the three runs of each setting whose seeds are equal.
    assert study["stability"]["seeds"].max() == 3
    assert study["settings"]["n"].tolist() == [3, 3, 3]
    for _, own in study["transfer"].groupby("setting"):
        assert own["seed"].tolist() == ["seed 0", "seed 1", "seed 2"]


def test_runs_whose_seeds_another_setting_lacks_are_left_out(crossed: Path) -> None:
    runs = analysis.load(crossed).runs
    more = runs.query("setting == 'a' and seed_data == 0").assign(seed_data=9)
    table = variance_table(pd.concat([runs, more]), {})
    assert table["note"].str.startswith("12 runs left out: their seeds are not in every").all()
    few = variance_table(runs.query("setting != 'a' or seed_data != 3"), {})
    assert few["quantity"].tolist() == ["none"]  # three levels of each are left
    assert "takes at least 4 x 4 x 3" in few["note"].iloc[0]


def test_variance_says_why_not(noisy_study: analysis.Study) -> None:
    table = noisy_study["variance"]
    assert table["quantity"].tolist() == ["none"]
    assert "always equal" in table["note"].iloc[0]


def test_a_crossed_study_with_one_replicate_a_setting_is_reported(tmp_path: Path) -> None:
    """Its settings have no interval and no agreement; their figures are left out."""
    settings = [Setting("a"), Setting("b", "placebo")]
    write_study(tmp_path / "study", Study(settings=settings, crossed=True, epochs=2))
    page = analysis.write_report(tmp_path / "study", trajectories=False)
    assert Path(page).is_file()
