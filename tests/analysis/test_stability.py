"""Settings, comparisons, seeds needed and variance, from folders written by the contract alone."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.compute import comparisons, seeds_needed, stability
from analysis.compute.stability import HEADLINE, SettingStability, replicates
from analysis.compute.study import Computed, compute_study
from analysis.data.samples import read_samples
from analysis.report.tables import study as frames
from analysis.statistics import matrices
from tests.analysis.synthetic import Setting, Study, write_study
from tests.analysis.test_samples import rewrite


def item_of(
    folder: Path, setting: str = "transition", change=lambda runs: runs
) -> SettingStability:
    results = analysis.load(folder)
    runs, note = replicates(change(results.runs[results.runs["setting"] == setting]))
    runs = runs[runs["status"] != "diverged"]
    s = read_samples(results, runs, [-1, "last"])
    start = s[-1] if s[-1].n else None
    return stability.stability(runs, s["last"], start, None, note)


def computed(folder: Path) -> Computed:
    return compute_study(analysis.load(folder))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seeds of a setting, its placebo and independent, far from agreement."""
    folder = tmp_path_factory.mktemp("noisy") / "study"
    write_study(folder, Study(seeds=range(8), noise=2.0, epochs=4, benchmark=True))
    return folder


def test_every_quantity_is_there_with_its_cell(noisy: Path) -> None:
    table = frames(computed(noisy))["stability"]
    columns = [
        "setting",
        "cell",
        "quantity",
        "estimate",
        "low",
        "high",
        "null_mean",
        "p_value",
        "seeds",
        "note",
    ]
    assert table.columns.tolist() == columns
    names = set(table["quantity"])
    wanted = {
        "operation_agreement", "operation_agreement_inner", "operation_agreement_outer",
        "edge_agreement", "probability_divergence", "probability_divergence_inner",
        "probability_divergence_outer", "transition_divergence", "dependence_stability",
        "learned_dependence_stability", "link_specificity", "attention_agreement",
        "dependence_strength", "dobrushin_coefficient", "settling_epoch", "skip_connections",
        "collapse_rate", "inner_edges_kept", "architecture_displacement",
        "transition_displacement", "valid_accuracy", "valid_accuracy_iqm", "derived_accuracy",
        "derived_accuracy_iqm", "benchmark_test", "benchmark_test_iqm",
    }  # fmt: skip
    assert names == wanted
    assert not table.duplicated(["setting", "cell", "quantity"]).any()
    # What is missing says why.
    missing = table[table["estimate"].isna()]
    assert missing["note"].str.len().gt(0).all()
    known = table[table["estimate"].notna() & (table["setting"] == "transition")]
    # Without an interval only where all seeds have the same.
    assert known.loc[known["low"].isna(), "note"].str.contains("all seeds have the same").all()
    known = known[known["low"].notna()]
    assert (known["low"] <= known["estimate"] + 1e-9).all()
    assert (known["high"] >= known["estimate"] - 1e-9).all()


def test_quantities_of_matrices_are_those_of_the_rows(noisy: Path) -> None:
    results = analysis.load(noisy)
    ids = results.runs.query("setting == 'transition'")["run_id"]
    stacks = {}
    for epoch in ("first", "last"):
        rows = results.links(epoch=epoch, run_ids=ids)
        keys = ["predecessor_source", "predecessor_target", "source", "target"]
        stacks[epoch] = [
            np.array(g["matrix"].to_list(), float).reshape(-1, 5, 5) for _, g in rows.groupby(keys)
        ]
    item = item_of(noisy)
    want = matrices.dependence_stability(stacks["last"])[0]
    got = item.get("normal", "dependence_stability")
    assert got.interval == pytest.approx(want.interval)
    learned = matrices.learned(stacks["last"], stacks["first"])
    want = matrices.dependence_stability(learned)[0]
    assert item.get("normal", HEADLINE).interval == pytest.approx(want.interval)


def test_the_headline_is_the_paired_difference_to_the_placebo(noisy: Path) -> None:
    study = computed(noisy)
    (c,) = [
        c
        for c in study.comparisons
        if c.setting == "transition" and c.kind == "placebo" and c.quantity == HEADLINE
    ]
    by_name = {i.setting: i for i in study.stabilities}
    a, b = (by_name[n].get("normal", HEADLINE) for n in ("transition", "placebo"))
    assert c.difference.difference == pytest.approx(a.estimate - b.estimate)
    assert c.difference.n == 8
    assert c.difference.low < c.difference.difference < c.difference.high


def test_what_hardly_moved_or_is_frozen_has_learned_nothing(tmp_path: Path) -> None:
    settings = [Setting("still", moved=0.02), Setting("frozen", trainable=False), Setting("moved")]
    write_study(tmp_path, Study(settings=settings, seeds=range(4)))
    notes = {n: item_of(tmp_path, n).get("normal", HEADLINE).note for n in ("still", "frozen")}
    assert notes["still"].startswith("transition_displacement 0.010, under 0.02")
    assert notes["frozen"] == "the matrices are frozen"
    assert item_of(tmp_path, "moved").get("normal", HEADLINE).known


def test_without_epoch_minus_one_nothing_is_known_of_learning(ragged: Path) -> None:
    setting = analysis.load(ragged).runs["setting"].iloc[-1]
    got = item_of(ragged, setting)
    for cell in ("normal", "reduce"):
        assert got.get(cell, "dependence_stability").known
        assert got.get(cell, HEADLINE).note.startswith("no epoch -1")


def test_names_and_the_order_of_seeds_change_nothing(noisy: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(noisy, tmp_path / "copy"))
    names = {"transition": "a", "placebo": "z", "independent": "m"}
    rewrite(copy, "runs", lambda rows: [r | {"setting": names[r["setting"]]} for r in rows[::-1]])
    want, got = (frames(computed(f))["stability"] for f in (noisy, copy))
    want["setting"] = want["setting"].map(names)
    keys = ["setting", "cell", "quantity"]
    want, got = (t.sort_values(keys, ignore_index=True) for t in (want, got))
    pd.testing.assert_frame_equal(want, got)


def test_a_missing_seed_leaves_the_comparison_to_the_others(noisy: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(noisy, tmp_path / "copy"))
    rewrite(
        copy,
        "runs",
        lambda rows: [r for r in rows if (r["setting"], r["seed_data"]) != ("placebo", 3)],
    )
    study = computed(copy)
    counts = {c.kind: c.difference.n for c in study.comparisons if c.setting == "transition"}
    assert counts == {"independent": 8, "placebo": 7}
    by_name = {i.setting: i for i in study.stabilities}
    assert by_name["placebo"].n == 7
    (c,) = [
        c
        for c in study.comparisons
        if (c.setting, c.kind, c.quantity) == ("transition", "placebo", HEADLINE)
    ]
    rest = [0, 1, 2, 4, 5, 6, 7]
    a = by_name["transition"].get("normal", HEADLINE).agreement
    assert a is not None
    b = by_name["placebo"].get("normal", HEADLINE)
    assert c.difference.difference == pytest.approx(a.take(rest).estimate - b.estimate)


def test_controls_share_init_sharing_and_rates(tmp_path: Path) -> None:
    settings = [
        Setting("t"),
        Setting("other rate", rates=(0.01, 0.5, 0.03)),
        Setting("placebo", "placebo"),
        Setting("frozen", trainable=False, rates=(0.01, 0.9, 0.03)),
        Setting("independent", "independent"),
    ]
    write_study(tmp_path, Study(settings=settings, seeds=range(4), epochs=3))
    table = analysis.load(tmp_path).runs.drop_duplicates("setting").set_index("setting")
    want = {"independent": "independent", "placebo": "placebo", "frozen": "frozen"}
    assert comparisons.controls(table, "t") == want
    assert comparisons.controls(table, "other rate") == want | {"placebo": None}
    assert comparisons.controls(table, "independent") == {"independent": None}
    found = computed(tmp_path).comparisons
    (absent,) = [c for c in found if c.setting == "other rate" and c.kind == "placebo"]
    assert absent.note == "no placebo with the same sharing, init and rates in this study"


def test_holm_is_over_one_quantity_and_kind(noisy: Path) -> None:
    from statsmodels.stats.multitest import multipletests

    table = frames(computed(noisy))["comparisons"]
    for _, family in table.groupby(["kind", "quantity"]):
        known = family[family["p_value"].notna()]
        if len(known):
            want = multipletests(known["p_value"], method="holm")[1]
            np.testing.assert_allclose(known["p_holm"], want, atol=1e-12)


def test_links_are_marked_one_by_one(noisy: Path) -> None:
    table = frames(computed(noisy))["links"].query("setting == 'transition'")
    assert len(table) == 4
    item = item_of(noisy)
    for row, link in zip(table.itertuples(), item.links, strict=True):
        alone, _ = matrices.dependence_stability([link.sample.matrices])
        assert row.dependence_stability == pytest.approx(alone.estimate)
        assert row.dependence_stability_p == pytest.approx(alone.p_value, abs=0.03)
        assert row.dependence_stability_p_holm >= row.dependence_stability_p


def test_shared_matrices_are_told_by_sharing_and_by_the_numbers(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("transition")], seeds=range(3), noise=2.0))

    def one_for_all(rows: list[dict]) -> list[dict]:
        first = {r["epoch"]: r["matrix"] for r in reversed(rows)}
        return [r | {"matrix": first[r["epoch"]]} for r in rows]

    rewrite(tmp_path, "links", one_for_all)
    for sharing, specific in (("link", True), ("cell", False), (None, False)):
        got = item_of(tmp_path, change=lambda runs, s=sharing: runs.assign(sharing=s))
        q = got.get("normal", "link_specificity")
        assert q.known == specific
        if specific:
            assert (q.estimate, q.p_value) == (pytest.approx(0, abs=1e-12), 1)
    by_edge = item_of(tmp_path, change=lambda runs: runs.assign(sharing="edge"))
    assert by_edge.get("normal", "link_specificity").known  # three edges, three matrices


def test_crossed_studies_take_equal_seeds_and_say_so(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("a")], crossed=True, epochs=3))
    runs, note = replicates(analysis.load(tmp_path).runs)
    assert len(runs) == 1
    assert note == "crossed seeds: the 1 of 4 runs with three equal seeds"
    only = analysis.load(tmp_path).runs.query("seed_data == 0")
    runs, note = replicates(only)
    assert len(runs) == 2
    assert note == "only seed_weights varies over these runs"
    table = frames(computed(tmp_path))["stability"]
    assert table["note"].str.contains("crossed seeds").all()


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
    assert frames(computed(tmp_path))["stability"]["note"].str.contains("crossed seeds").all()


def crossed_study(folder: Path) -> None:
    """4 x 4 x 3 seeds by hand: the accuracy follows the setting and the data seed."""
    settings = [Setting(n, m) for n, m in (("a", "transition"), ("b", "placebo"), ("c", "placebo"))]
    study = Study(settings=settings, seeds=range(48), epochs=2, noise=1.0)
    write_study(folder, study)
    rng = np.random.default_rng(0)
    of_data = [0.0, 0.1, 0.2, 0.4]

    def cross(rows: list[dict]) -> list[dict]:
        for r in rows:
            w, d, a = np.unravel_index(r["seed_data"], (4, 4, 3))
            r |= {"seed_weights": int(w), "seed_data": int(d), "seed_architecture": int(a)}
            r["derived_accuracy"] = of_data[d] + 0.01 * rng.normal()
        return rows

    rewrite(folder, "runs", cross)


def test_variance_is_attributed_where_seeds_are_crossed(tmp_path: Path) -> None:
    crossed_study(tmp_path)
    study = computed(tmp_path)
    assert study.variance.reason == ""
    shares = study.variance.scalars["derived_accuracy"].shares
    assert shares["seed_data"] > 0.95
    table = frames(study)["variance"]
    assert {"edge_probabilities", "transition_matrices"} <= set(table["quantity"])
    matrix = table[table["quantity"] == "transition_matrices"].set_index("source")["share"]
    assert matrix["residual"] > 0.8  # they are drawn anew for every run
    assert table.groupby(["cell", "quantity"])["share"].sum().round(6).isin([0, 1]).all()


def test_variance_says_why_not(noisy: Path) -> None:
    study = computed(noisy)
    assert "always equal" in study.variance.reason
    assert frames(study)["variance"]["note"].str.contains("always equal").all()


def test_widths_are_those_of_the_interval_and_fall_with_seeds(noisy: Path) -> None:
    item = item_of(noisy)
    curves = {(c.cell, c.quantity): c for c in seeds_needed.width_curves(item)}
    for key in (("normal", "dependence_stability"), ("all", "derived_accuracy")):
        curve, quantity = curves[key], item.get(*key)
        assert curve.width[curve.seeds == 8] == pytest.approx(quantity.interval.width)
        assert (np.diff(curve.width[curve.seeds > 8]) < 0).all()
        assert (curve.low <= curve.width).all()
        assert (curve.width <= curve.high).all()


def test_split_half_reliability() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((3, 4, 4))
    exact = seeds_needed.split_half([np.repeat(t[None], 6, 0) for t in truth])
    np.testing.assert_allclose(exact, 1)
    noise = seeds_needed.split_half([rng.normal(size=(40, 8, 8)) for _ in range(8)])
    assert noise[0].mean() == pytest.approx(0, abs=0.06)
    # Spearman and Brown: two halves of correlation r make a whole of 2r / (1 + r).
    mixed = [t + 0.4 * rng.normal(size=(10, 4, 4)) for t in truth]
    r, whole = seeds_needed.split_half(mixed)
    np.testing.assert_allclose(whole, 2 * r / (1 + r))


@pytest.mark.parametrize("space", ["darts", "nas-bench-201"])
def test_kept_edges_of_an_epoch_are_the_genotypes_of_the_last(tmp_path: Path, space: str) -> None:
    study = Study(space, settings=[Setting("transition")], seeds=range(5), epochs=2, noise=2.0)
    write_study(tmp_path, study)
    item = item_of(tmp_path)
    exclude = ("none",) if space == "darts" else ()
    for cell in item.sample.cells:
        got = stability.kept_at(item.sample, cell, exclude)
        want = item.get(cell, "edge_agreement")
        assert got.interval == pytest.approx(want.interval)


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_and_two_seeds_have_reasons(tmp_path: Path, seeds: int) -> None:
    write_study(tmp_path, Study(seeds=range(seeds), epochs=3))
    found = frames(computed(tmp_path))
    table = found["stability"]
    assert table[table["estimate"].isna()]["note"].str.len().gt(0).all()
    assert found["seeds_needed"].empty
    pairs = table[table["quantity"] == "dependence_stability"]
    assert pairs["estimate"].notna().sum() == (2 if seeds == 2 else 0)
    assert pairs["low"].isna().all()
