"""The verdict: each of the four from evidence by hand, and from folders with planted rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy

import analysis
from analysis.compute.verdict import verdict_table
from analysis.report import sentences
from tests.analysis.synthetic import Setting, Study, softmax, write_study
from tests.analysis.test_samples import rewrite

ROWS, COLUMNS, NOTHING, UNKNOWN = (
    "rows come out again",
    "only columns do",
    "nothing does",
    "cannot tell",
)
FOUND = {
    "cell": "pooled", "seeds": 8, "d_start": 0.1, "d_columns": 0.06, "d_full": 0.04,
    "dependence_transfer": 0.2, "low": 0.1, "high": 0.3, "p_value": 0.001,
    "column_transfer": 0.4, "column_low": 0.3, "column_high": 0.5,
    "found_if_planted": 0.9, "entropy": 1.0, "entropy_most": 2.3, "missing": "",
}  # fmt: skip
NO_ROWS = {"dependence_transfer": 0.0, "low": -0.03, "high": 0.03, "p_value": 0.4}
NO_COLUMNS = {"column_transfer": 0.0, "column_low": -0.04, "column_high": 0.04}


def verdicts(*changes: dict, reservations: tuple[str, ...] = ()) -> pd.DataFrame:
    """Of one row of evidence per change to FOUND."""
    names = [f"setting {i}" for i in range(len(changes))]
    found = pd.DataFrame([FOUND | c | {"setting": n} for c, n in zip(changes, names, strict=True)])
    held = [*reservations, *[""] * (len(names) - len(reservations))]
    about = {"setting": names, "reservations": held, "n": 8}
    return verdict_table(found, pd.DataFrame(about).assign(model="transition", trainable=True))


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({}, ROWS),
        (NO_COLUMNS, ROWS),  # rows are enough
        ({"found_if_planted": 0.1}, ROWS),  # what was found needs no power
        ({"low": -0.01}, UNKNOWN),
        ({"p_value": 0.06}, UNKNOWN),
        (NO_ROWS, COLUMNS),
        (NO_ROWS | {"low": -0.4}, COLUMNS),  # rows do not help: how far below 0 is all one
        (NO_ROWS | {"high": 0.06}, UNKNOWN),
        (NO_ROWS | {"found_if_planted": 0.79}, UNKNOWN),
        (NO_ROWS | NO_COLUMNS, NOTHING),
        (NO_ROWS | NO_COLUMNS | {"low": -0.06}, UNKNOWN),
        (NO_ROWS | NO_COLUMNS | {"column_high": 0.06}, UNKNOWN),
        (NO_ROWS | NO_COLUMNS | {"found_if_planted": 0.79}, UNKNOWN),
        ({"seeds": 4}, UNKNOWN),
        ({"missing": "no epoch -1"}, UNKNOWN),
    ],
)
def test_each_verdict_from_its_evidence(change: dict, want: str) -> None:
    (row,) = verdicts(change).itertuples()
    assert row.verdict == want
    assert (row.missing == "") == (want != UNKNOWN)


def test_what_is_missing_is_said() -> None:
    weak = NO_ROWS | {"found_if_planted": 0.25}
    seen = "rows as strong as the seeds' noise would have been found in 25% of studies like this"
    for change, words in (
        ({"seeds": 4}, "seeds: 4 of at least 5"),
        ({"missing": "the matrices are frozen"}, "the matrices are frozen"),
        ({"p_value": 0.2}, "seeds: the intervals are too wide"),
        (weak, f"seeds: {seen}"),
        (weak | {"entropy": 2.1}, "sharper predecessors' choices: their entropy is 2.1 of at most"),
    ):
        (row,) = verdicts(change).itertuples()
        assert row.missing.startswith(words)
    assert seen in row.missing


def test_a_settings_reservations_forbid_every_verdict() -> None:
    table = verdicts({}, {}, {"missing": "none"}, reservations=("hardly moved: 0.1", "", "still"))
    assert table["verdict"].tolist() == [UNKNOWN, ROWS, UNKNOWN]
    assert table["missing"].tolist() == ["hardly moved: 0.1", "", "still"]


def test_holm_is_over_all_but_the_primary_setting() -> None:
    p_values = [0.04, 0.03, 0.02, np.nan, 0.5]
    table = verdicts(*({"p_value": p} for p in p_values))
    assert table["primary"].tolist() == [True, False, False, False, False]
    # Of 0.02, 0.03 and 0.5: times 3, 2 and 1, and never less than one before.
    np.testing.assert_allclose(table["p_holm"], [0.04, 0.06, 0.06, np.nan, 0.5])
    assert table["verdict"].tolist() == [ROWS, *[UNKNOWN] * 4]
    alone = verdicts({"p_value": 0.04})
    assert alone["p_holm"].tolist() == [0.04]


def test_where_nothing_learns_there_is_no_verdict(tmp_path: Path) -> None:
    settings = [
        Setting("independent", "independent"),
        Setting("p", "placebo"),
        Setting("frozen", trainable=False),
    ]
    write_study(tmp_path, Study(settings=settings, seeds=range(3), epochs=2))
    study = analysis.compute_study(analysis.load(tmp_path), with_trajectories=False)
    assert study["verdict"].empty
    assert verdict_table(pd.DataFrame(), study["settings"]).empty


def test_which_setting_is_primary_is_no_matter_of_how_its_runs_went(tmp_path: Path) -> None:
    """Three that learn, of which the first and, in another study, all lost every run."""
    each = [Setting("p", "placebo"), Setting("frozen", trainable=False)]
    each += [Setting(name) for name in "cab"]
    for survivors in ("ab", ""):
        lost = [(name, seed) for name in set("cab") - set(survivors) for seed in range(3)]
        study = Study(settings=each, seeds=range(3), epochs=2, diverged=[*lost, ("frozen", 0)])
        folder = tmp_path / f"lost {len(lost)}"
        write_study(folder, study)
        found = analysis.compute_study(analysis.load(folder), with_trajectories=False)
        table = found["verdict"].set_index("setting")
        assert list(table.index) == ["c", "a", "b"]
        assert table["primary"].tolist() == [True, False, False]
        assert (table.loc["c", "verdict"], table.loc["c", "seeds"]) == (UNKNOWN, 0)
        assert table.loc["c", "missing"] == "every run diverged"
        assert (
            "What is missing: every run diverged." in sentences.verdict(found.tables)[0]["sentence"]
        )


def planted(folder: Path, study: Study, common) -> analysis.Study:
    """Matrices written anew: an identity, and what all seeds learn, and a little of their own.

    common: (rows, columns, generator) to logits, link by link. What the edges choose is the
    study's own and differs from seed to seed: else all seeds' flows were alike, rows or not.
    """
    write_study(folder, study)

    def learn(rows: list[dict]) -> list[dict]:
        for r in rows:
            k, m = r["rows"], r["columns"]
            place = [r["predecessor_source"], r["source"], r["target"]]
            own = np.random.default_rng([*place, int(r["run_id"][-3:]), int(r["run_id"][:8], 16)])
            more = common(k, m, np.random.default_rng(place)) + 0.3 * own.normal(size=(k, m))
            logits = 2 * np.eye(k, m) + more * (r["epoch"] + 1) / study.epochs
            r["matrix"] = softmax(logits).ravel().tolist()
        return rows

    rewrite(folder, "links", learn)
    return analysis.compute_study(analysis.load(folder), with_trajectories=False)


def test_rows_that_all_seeds_learn_come_out_again(tmp_path: Path) -> None:
    settings = [Setting("placebo", "placebo"), Setting("z first"), Setting("a second")]
    study = Study(settings=settings, seeds=range(10), epochs=2, noise=4.0)
    found = planted(tmp_path, study, lambda k, m, rng: 2 * rng.normal(size=(k, m)))
    table = found["verdict"]
    assert table["setting"].tolist() == ["z first", "a second"]  # the study file's order
    assert table["primary"].tolist() == [True, False]
    assert (table["p_value"] == 0.001).all()
    assert table["verdict"].iloc[0] == ROWS
    stability = found["stability"].set_index(["setting", "quantity"])
    for row in table.itertuples():  # one cell kind: nothing to pool
        own = stability.loc[(row.setting, "dependence_transfer")]
        assert [row.dependence_transfer, row.low, row.high, row.p_value] == pytest.approx(
            own[["estimate", "low", "high", "p_value"]].tolist()
        )


def test_columns_that_all_seeds_learn_are_only_columns(tmp_path: Path) -> None:
    """Also where rows are taken from nobody in any seed: 0 in all, and still with an interval."""
    study = Study(settings=[Setting("z first")], seeds=range(10), epochs=2, noise=4.0)
    found = planted(tmp_path, study, lambda k, m, rng: np.tile(2 * rng.normal(size=(1, m)), (k, 1)))
    (row,) = found["verdict"].itertuples()
    assert (found["transfer"]["factor"] == 0).all()
    assert row.dependence_transfer == 0
    assert row.low < 0 < row.high < 0.05
    assert row.verdict == COLUMNS


def test_cell_kinds_are_pooled_and_entropies_are_those_of_the_predecessors(tmp_path: Path) -> None:
    study = Study("darts", settings=[Setting("t")], seeds=range(3), epochs=2, noise=1.0)
    write_study(tmp_path, study)
    results = analysis.load(tmp_path)
    found = analysis.compute_study(results, with_trajectories=False)
    (row,) = found["verdict"].itertuples()
    means = found["transfer"].groupby("cell")[["d_start", "d_columns", "d_full"]].mean()
    assert len(means) == 2  # six inner edges each
    assert [row.d_start, row.d_columns, row.d_full] == pytest.approx(means.mean().tolist())
    edges = results.edges(epoch="last").set_index(["run_id", "cell", "source", "target"])
    links = results.links(epoch="last")
    bits = [
        entropy(edges.loc[(r.run_id, r.cell, r.predecessor_source, r.predecessor_target),
                          "probabilities"], base=2)
        for r in links.itertuples()
    ]  # fmt: skip
    assert row.entropy == pytest.approx(np.mean(bits), rel=1e-5)
    assert row.entropy_most == pytest.approx(3)
    assert row.verdict == UNKNOWN
    assert row.missing == "seeds: 3 of at least 5"
