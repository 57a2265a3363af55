"""The report's sentences: they say what the tables say, with n, and no more."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.compute import settings, verdict
from analysis.report import html, sentences, text
from analysis.statistics.inference import SMALL_N
from analysis.statistics.metrics import detectable_difference
from tests.analysis.synthetic import Setting, Study, write_study


def tables_of(folder: Path, study: Study) -> dict[str, pd.DataFrame]:
    """The table of settings alone, which is all that many sentences need."""
    write_study(folder, study)
    runs = analysis.load(folder).runs
    groups = {str(name): settings.replicates(group)[0] for name, group in runs.groupby("setting")}
    return {"settings": settings.settings_table(groups)}


def with_accuracies(folder: Path, accuracies: dict[str, list[float]]) -> dict[str, pd.DataFrame]:
    """Settings whose derived accuracies are exactly these."""
    seeds = range(len(next(iter(accuracies.values()))))
    each = [Setting(name) for name in accuracies]
    write_study(folder, Study(settings=each, seeds=seeds, epochs=2, noise=3.0))
    runs = analysis.load(folder).runs
    for name, values in accuracies.items():
        runs.loc[runs["setting"] == name, "derived_accuracy"] = values
    groups = {str(name): group for name, group in runs.groupby("setting")}
    return {"settings": settings.settings_table(groups)}


def test_overlapping_intervals_are_no_difference_and_no_equality(tmp_path: Path) -> None:
    tables = with_accuracies(tmp_path, {"a": [0.50, 0.55, 0.60], "b": [0.51, 0.56, 0.64]})
    told = " ".join(sentences.accuracy(tables))
    assert "do not separate any two of them, which is not evidence that they are equal" in told
    # Student's interval of three values by hand: mean +- 4.3027 sd / sqrt(3).
    half = 4.302653 * np.std([0.50, 0.55, 0.60], ddof=1) / 3**0.5
    assert f"0.550 [{0.55 - half:.3f},\u00a0{0.55 + half:.3f}] (“a”, n=3)" in told
    sd = np.sqrt((np.var([0.50, 0.55, 0.60], ddof=1) + np.var([0.51, 0.56, 0.64], ddof=1)) / 2)
    assert f"true difference of {detectable_difference(sd, 3):.3f} four times" in told


def test_separate_intervals_are_described_and_not_called_a_test(tmp_path: Path) -> None:
    # The extremes overlap, since b is noisy; a and c do not.
    data = {"a": [0.50, 0.501, 0.502], "b": [0.40, 0.7, 0.9], "c": [0.60, 0.601, 0.602]}
    told = " ".join(sentences.accuracy(with_accuracies(tmp_path, data)))
    assert "Of 3 pairs of settings, 1 have intervals that do not overlap (“c” over “a”)" in told
    assert "it is no test" in told


def launch(started: str, **software: str) -> dict[str, object]:
    return {"started": started, "git_commit": "a" * 40, "software": software}


def test_mixtures_are_named_and_counted_by_the_launch_of_each_run() -> None:
    """Five runs, by hand: two of the first launch, none of the second, three of the third."""
    started = ["2026-01-01 10:00", "2026-01-03 09:59", "2026-01-03 10:00", "2026-01-04 10:00",
               "2026-01-05 10:00"]  # fmt: skip
    runs = pd.DataFrame({"started": pd.to_datetime(started, utc=True), "device": "cuda",
                         "gpu": ["A100"] * 4 + ["H100"]})  # fmt: skip
    launches = [
        launch("2026-01-01T10:00:00+00:00", torch="2.12.0", ray="2.60.0"),
        launch("2026-01-03T11:59:30+02:00", torch="1.0.0", ray="2.60.0"),  # 09:59:30 UTC
        launch("2026-01-03T10:00:00+00:00", torch="2.13.0", ray="2.60.0"),
    ]
    (told,) = sentences.mixtures(launches, runs)
    assert "torch 2.12.0 (2 runs) and 2.13.0 (3 runs)" in told
    assert "gpu A100 (4 runs) and H100 (1 run)" in told
    assert not any(word in told for word in ("1.0.0", "ray", "git commit", "device"))
    assert sentences.mixtures(launches[:1], runs.assign(gpu=None)) == []
    assert sentences.mixtures([], runs[:4]) == []
    assert sentences.mixtures([{}, {"started": "long ago"}], runs[:4]) == []


def test_movement_names_who_did_not_move(tmp_path: Path) -> None:
    each = [Setting("moved", moved=0.6), Setting("still", moved=0.01)]
    told = " ".join(sentences.movement(tables_of(tmp_path, Study(settings=each, noise=3.0))))
    assert told.startswith("“moved” moved by at least 0.2 on average")
    assert "No conclusion is drawn from “still” (hardly moved" in told
    assert "Every setting moved" not in told


def test_nothing_is_concluded_where_nothing_moved(tmp_path: Path) -> None:
    each = [Setting("a", moved=0.1), Setting("b", moved=0.1)]
    tables = tables_of(tmp_path, Study(settings=each))
    told = " ".join(sentences.movement(tables))
    assert told.startswith("No conclusion is drawn from “a” (hardly moved")
    assert "says nothing about stability yet" in told
    for about in (sentences.accuracy, sentences.genotypes, sentences.dependence):
        assert about(tables) == []


def test_movement_of_all_is_said_only_with_several_genotypes(tmp_path: Path) -> None:
    several = tables_of(tmp_path / "a", Study(settings=[Setting("x")], noise=3.0))
    assert "its seeds derived more than one genotype" in " ".join(sentences.movement(several))
    same = " ".join(
        sentences.movement(tables_of(tmp_path / "b", Study(settings=[Setting("x")], noise=0.0)))
    )
    assert "more than one genotype" not in same
    assert "In “x” all seeds derived one genotype" in same


def test_a_placebo_is_told_wherever_the_transition_is(tmp_path: Path) -> None:
    each = [Setting("t"), Setting("p", "placebo")]
    tables = tables_of(tmp_path, Study(settings=each))
    told = " ".join(sentences.dependence(tables))
    assert "“t”: dependence strength 0.200" in told
    assert "“p”: dependence strength 0 by definition" in told
    assert "no placebo" not in told
    alone = {"settings": tables["settings"][tables["settings"]["setting"] == "t"]}
    assert "This study has no placebo" in " ".join(sentences.dependence(alone))


def test_identity_is_spoken_of_only_where_there_is_one(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, Study(settings=[Setting("t")]))
    for init in ("identity", "uniform"):
        tables["settings"]["init"] = init
        told = " ".join(sentences.dependence(tables))
        assert ("an identity start is the same in every seed" in told) == (init == "identity")


def test_crossed_seeds_are_said_to_be_crossed(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a")], crossed=True, epochs=2))
    runs, note = settings.replicates(analysis.load(tmp_path).runs)
    tables = {"settings": settings.settings_table({"a": runs})}
    told = " ".join(sentences.coverage(tables, 4, None, note))
    assert told.startswith("4 runs are here.")
    assert "(crossed seeds: the 1 of 4 runs with three equal seeds)" in told
    assert "the variance decomposition is over all" in told


def compared(p_values: list[float]) -> pd.DataFrame:
    """Comparisons of “t” with its placebo in as many cell kinds, by these p-values."""
    rows = [
        ("t", "p", "placebo", f"cell{i}", "operation_agreement", 0.3, 0.1, 0.5, p, 0.01, 6)
        for i, p in enumerate(p_values)
    ]
    columns = ["setting", "reference", "kind", "cell", "quantity", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "p_value", "p_holm", "seeds"])


def test_comparisons_are_corrected_over_all_that_are_counted(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, Study(settings=[Setting("t"), Setting("p", "placebo")]))
    # 0.02 times 3 is over 5%: Holm over these three, whatever p_holm of the table says.
    tables["comparisons"] = compared([0.02, 0.5, 0.9])
    told = " ".join(sentences.controls(tables))
    assert "none of 3 paired comparisons" in told
    assert "nor that it does not" in told
    tables["comparisons"] = compared([0.01, 0.5, 0.9])
    told = " ".join(sentences.controls(tables))
    assert "1 of 3 paired comparisons" in told
    assert "corrected p = 0.03, n=6" in told


def evidence(**changes: object) -> pd.DataFrame:
    row = {
        "setting": "t", "cell": "pooled", "seeds": 8, "d_start": 0.2, "d_columns": 0.1,
        "d_full": 0.05, "dependence_transfer": 0.25, "low": 0.1, "high": 0.4,
        "column_transfer": 0.5, "column_low": 0.3, "column_high": 0.7, "p_value": 0.01,
        "found_if_planted": 0.9, "entropy": 1.0, "entropy_most": 2.3, "missing": "",
    }  # fmt: skip
    return pd.DataFrame([row | changes])


def of_placebo(name: str) -> dict[str, pd.DataFrame]:
    """The tables that tell of a placebo of “t” with this name, empty where “t” has none."""
    compared = {"setting": ["t"], "kind": ["placebo"], "reference": [name]}
    values = {"dependence_transfer": (0.01, -0.1, 0.12), "column_transfer": (0.4, np.nan, np.nan)}
    rows = [("p", "normal", q, *numbers) for q, numbers in values.items()]
    columns = ["setting", "cell", "quantity", "estimate", "low", "high"]
    return {"comparisons": pd.DataFrame(compared), "stability": pd.DataFrame(rows, columns=columns)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "rows come out again"),
        ({"low": -0.01, "high": 0.04, "p_value": 0.5}, "only columns come out again"),
        (
            {"low": -0.01, "high": 0.04, "p_value": 0.5, "column_low": -0.03, "column_high": 0.04},
            "nothing comes out again in other seeds",
        ),
        ({"low": -0.1, "high": 0.2, "p_value": 0.5}, "these seeds cannot tell"),
        ({"seeds": 4, "low": np.nan, "high": np.nan}, "seeds: 4 of at least 5"),
        (
            {"p_value": 0.2, "found_if_planted": 0.3, "entropy": 2.2},
            "sharper predecessors' choices",
        ),
        ({"missing": "the matrices are frozen"}, "the matrices are frozen"),
    ],
)
def test_the_verdict_says_what_its_row_says(changes: dict, said: str) -> None:
    about = pd.DataFrame({"setting": ["t"], "reservations": [""], "n": [8]})
    about = about.assign(model="transition", trainable=True)
    tables = {"verdict": verdict.verdict_table(evidence(**changes), about)} | of_placebo("p")
    (told,) = sentences.verdict(tables)
    assert told["sentence"].endswith(
        "Of its placebo, where nothing can flow: dependence transfer 0.01 [-0.10,\u00a00.12] and "
        "column transfer 0.40."
    )
    assert said in f"{told['headline']} {told['sentence']}"
    assert told["primary"]
    if not changes:
        numbers = "Dependence transfer 0.25 [0.10,\u00a00.40] (p = 0.01), column transfer 0.50"
        assert numbers in told["sentence"]


def test_a_setting_without_a_placebo_has_none_to_tell() -> None:
    about = pd.DataFrame({"setting": ["t"], "reservations": [""], "n": [8]})
    about = about.assign(model="transition", trainable=True)
    tables = {"verdict": verdict.verdict_table(evidence(), about)} | of_placebo("")
    assert "placebo" not in sentences.verdict(tables)[0]["sentence"]


def test_a_placebo_is_told_where_not_all_settings_are(tmp_path: Path) -> None:
    each = [*(Setting(f"t{i}") for i in range(7)), Setting("p", "placebo")]
    about = tables_of(tmp_path, Study(settings=each, seeds=range(3), epochs=2))["settings"]
    about = about.set_index("setting").loc[[s.name for s in each]].reset_index()
    row = {"cell": "normal", "quantity": "dependence_stability", "estimate": 0.1, "low": 0.0}
    row |= {"high": 0.2, "p_value": 0.3, "seeds": 3}
    tables = {"settings": about, "stability": about[["setting"]].assign(**row)}
    for told in (sentences.dependence(tables), sentences.stabilities(tables)):
        assert any("“p”" in sentence for sentence in told)
        assert any("“t0”" in sentence for sentence in told)
        assert not any("“t6”" in sentence for sentence in told)


def test_shares_of_transfer_are_explained_where_they_first_stand() -> None:
    shown = str(html.explained("Dependence transfer 1, column transfer 2; dependence transfer <3"))
    assert shown.startswith('<abbr title="(D(columns) - D(full)) / D(start)')
    assert '>Dependence transfer</abbr> 1, <abbr title="1 - D(columns) / D(start)' in shown
    assert shown.endswith("dependence transfer &lt;3")


def test_a_dagger_has_a_word_and_stands_beside_intervals_that_hold_chance() -> None:
    row = {"setting": "a", "cell": "normal", "quantity": "link_specificity", "null_mean": 0.0}
    row |= {"estimate": 0.1, "low": -0.1, "high": 0.3, "p_value": 0.01, "seeds": 5, "note": ""}
    shown, marked = html.stability({"stability": pd.DataFrame([row])})
    assert "0.10 [-0.10,\u00a00.30] †" in shown
    assert marked
    _, marked = html.stability({"stability": pd.DataFrame([row | {"low": 0.05}])})
    assert not marked


def test_headings_explain_quantities_and_names_are_escaped() -> None:
    frame = pd.DataFrame({"setting": ["<b>"], "dependence_transfer": ["x"]})
    shown = html.table(frame)
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert '<abbr title="(D(columns) - D(full)) / D(start)' in shown


@pytest.mark.parametrize(("seeds", "said"), [(4, True), (12, False)])
def test_what_few_seeds_cannot_tell_is_said(tmp_path: Path, seeds: int, said: bool) -> None:
    tables = tables_of(tmp_path, Study(settings=[Setting("t")], seeds=range(seeds), epochs=2))
    assert (sentences.few(tables) == SMALL_N) == said
    told = sentences.limits(tables, seeds, seeds)
    assert any(sentence.endswith(SMALL_N) for sentence in told) == said


@pytest.mark.parametrize(
    ("here", "planned", "missing"), [(3, 5, 2), (5, 5, 0), (6, 5, 0), (3, None, 0)]
)
def test_missing_runs(tmp_path: Path, here: int, planned: int | None, missing: int) -> None:
    tables = tables_of(tmp_path, Study(settings=[Setting("t")], epochs=2))
    told = " ".join(sentences.limits(tables, here, planned))
    assert (f"{missing} of {planned} planned runs are missing." in told) == (missing > 0)
    assert ("does not say how many runs were planned" in told) == (planned is None)
    told = " ".join(sentences.coverage(tables, here, planned))
    assert ("The study is incomplete" in told) == (missing > 0)


def test_numbers_as_text() -> None:
    assert text.estimate(np.nan, np.nan, np.nan) == "—"
    assert text.estimate(0.5, np.nan, np.nan, 3) == "0.500 (too few seeds for an interval)"
    assert text.estimate(0.5, np.nan, np.nan, 3, short=True) == "0.500"
    assert text.estimate(0.0, -1e-9, 1e-9, 1) == "0.0 [0.0,\u00a00.0]"
    rate = {"collapsed": 3, "n": 12, "collapse_rate_low": 0.0549, "collapse_rate_high": 0.5719}
    assert text.collapsed(rate) == "3 of 12, 25% [5%,\u00a057%]"
    assert text.collapsed(rate | {"collapsed": 0, "n": 0}) == "—"
    assert text.listed(["a"]) == "a"
    assert text.listed(["a", "b", "c"]) == "a, b and c"
    assert text.seed_range(9, 40) == "9 to 40"
    assert text.seed_range(9, pd.NA) == "9 to over 200"
    assert text.seed_range(pd.NA, pd.NA) == "over 200"
