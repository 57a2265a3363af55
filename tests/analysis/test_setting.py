"""One setting's tables against plain computations over the written rows."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.compute import cell as cells
from analysis.compute.setting import SettingResult, compute_setting
from analysis.compute.settings import replicates
from analysis.data.results import Results
from analysis.data.samples import read_samples
from analysis.quantities import HEADLINE
from analysis.statistics import matrices
from tests.analysis.synthetic import Setting, Study, write_study
from tests.analysis.test_samples import rewrite

LINK = ["predecessor_source", "predecessor_target", "source", "target"]
LEARNED = "learned_dependence_stability"


def item_of(
    folder: Path, setting: str = "transition", change=lambda runs: runs, trajectories=False
) -> SettingResult:
    results = analysis.load(folder)
    runs = results.runs[results.runs["setting"] == setting]
    chosen, note = replicates(change(runs))
    chosen = chosen[chosen["status"] != "diverged"]
    return compute_setting(results, chosen, chosen, note, trajectories, {})


def stacks_of(folder: Path, epoch: str, setting: str = "transition") -> list[np.ndarray]:
    """Every link's matrices (n, 5, 5), seeds in order."""
    results = analysis.load(folder)
    ids = results.runs.loc[results.runs["setting"] == setting, "run_id"]
    rows = results.links(epoch=epoch, run_ids=ids)
    return [np.array(g["matrix"].to_list(), float).reshape(-1, 5, 5) for _, g in rows.groupby(LINK)]


def test_every_quantity_is_there_with_its_cell(noisy_study: analysis.Study) -> None:
    table = noisy_study["stability"]
    columns = "setting cell quantity estimate low high null_mean p_value seeds note"
    assert table.columns.tolist() == columns.split()
    of_runs = """dependence_strength settling_epoch skip_connections collapse_rate inner_edges_kept
        architecture_displacement transition_displacement valid_accuracy valid_accuracy_iqm
        derived_accuracy derived_accuracy_iqm benchmark_test benchmark_test_iqm"""
    of_cells = """operation_agreement operation_agreement_inner operation_agreement_outer
        edge_agreement probability_divergence probability_divergence_inner
        probability_divergence_outer transition_divergence dependence_stability
        learned_dependence_stability link_specificity attention_agreement dobrushin_coefficient
        dependence_transfer column_transfer learned_effect flow_effect choice_transfer"""
    for cell, names in (("all", of_runs), ("normal", of_cells)):
        assert set(names.split()) <= set(table.loc[table["cell"] == cell, "quantity"])
    assert not table.duplicated(["setting", "cell", "quantity"]).any()
    assert table.groupby("setting")["quantity"].nunique().nunique() == 1
    # What is missing says why.
    missing = table[table["estimate"].isna()]
    assert len(missing)
    assert missing["note"].str.len().gt(0).all()
    known = table[table["low"].notna()]
    assert (known["low"] <= known["estimate"] + 1e-9).all()
    assert (known["high"] >= known["estimate"] - 1e-9).all()


def test_quantities_of_matrices_are_those_of_the_rows(
    noisy: Path, noisy_study: analysis.Study
) -> None:
    start, last = stacks_of(noisy, "first"), stacks_of(noisy, "last")
    table = noisy_study["stability"].query("setting == 'transition' and cell == 'normal'")
    rows = table.set_index("quantity")[["estimate", "low", "high", "seeds"]]
    want = matrices.dependence_stability(last)[0]
    assert rows.loc["dependence_stability"].tolist() == pytest.approx(
        [want.estimate, want.low, want.high, want.n]
    )
    want = matrices.dependence_stability(matrices.learned(last, start))[0]
    assert rows.loc[LEARNED].tolist() == pytest.approx([want.estimate, want.low, want.high, want.n])
    # The largest total variation between two rows, by hand.
    apart = [np.abs(t[:, :, None] - t[:, None]).sum(-1).max((1, 2)) / 2 for t in last]
    assert rows.loc["dobrushin_coefficient", "estimate"] == pytest.approx(np.mean(apart))


def test_means_over_seeds_of_transfer_are_the_rows_of_stability(
    noisy_study: analysis.Study,
) -> None:
    transfer = noisy_study["transfer"]
    columns = "setting cell run_id seed_weights seed d_start d_columns d_full flow_effect"
    assert transfer.columns.tolist()[:10] == [*columns.split(), "choice_transfer"]
    assert not [c for c in transfer if c.startswith("benchmark")]
    assert transfer["setting"].value_counts().to_dict() == {"placebo": 8, "transition": 8}
    stability = noisy_study["stability"].set_index(["setting", "quantity"])["estimate"]
    for setting, own in transfer.groupby("setting"):
        mean = own.mean(numeric_only=True)
        for quantity, want in (
            ("learned_effect", mean["d_start"]),
            ("flow_effect", mean["flow_effect"]),
            ("choice_transfer", mean["choice_transfer"]),
            ("column_transfer", 1 - mean["d_columns"] / mean["d_start"]),
            (HEADLINE, (mean["d_columns"] - mean["d_full"]) / mean["d_start"]),
        ):
            assert stability[setting, quantity] == pytest.approx(want), (setting, quantity)


def test_what_hardly_moved_or_is_frozen_has_learned_nothing(tmp_path: Path) -> None:
    settings = [Setting("still", moved=0.02), Setting("frozen", trainable=False), Setting("moved")]
    write_study(tmp_path, Study(settings=settings, seeds=range(5)))
    reasons = {
        "still": "transition_displacement 0.010, under 0.02",
        "frozen": "the matrices are frozen",
    }
    of_learning = (LEARNED, HEADLINE, "column_transfer", "learned_effect", "choice_transfer")
    for setting, reason in reasons.items():
        item = item_of(tmp_path, setting)
        for name in of_learning:
            q = item.get("normal", name)
            assert not q.known
            assert q.note == reason
        assert item.get("normal", "flow_effect").known  # what flows needs no learning
        transfer = item.tables["transfer"]
        empty = ["d_start", "d_columns", "d_full", "choice_transfer", "choice_start"]
        assert transfer[empty].isna().all(axis=None)
        assert transfer["flow_effect"].notna().all()
    moved = item_of(tmp_path, "moved")
    assert all(moved.get("normal", name).known for name in of_learning)


def test_without_epoch_minus_one_nothing_is_known_of_learning(ragged: Path) -> None:
    setting = analysis.load(ragged).runs["setting"].iloc[-1]
    got = item_of(ragged, setting)
    for cell in ("normal", "reduce"):
        assert got.get(cell, "dependence_stability").known
        for name in (LEARNED, HEADLINE, "learned_effect"):
            assert got.get(cell, name).note.startswith("no epoch -1")
    assert got.tables["transition_matrices"]["start_mean"].isna().all()


def test_names_and_the_order_of_seeds_change_nothing(
    noisy: Path, noisy_study: analysis.Study, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(noisy, tmp_path / "copy"))
    names = {"transition": "a", "placebo": "z", "independent": "m"}
    rewrite(copy, "runs", lambda rows: [r | {"setting": names[r["setting"]]} for r in rows[::-1]])
    study = analysis.compute_study(analysis.load(copy))
    for table in ("stability", "seed_values", "transfer", "links"):
        want, got = noisy_study[table].copy(), study[table]
        want["setting"] = want["setting"].map(names)
        keys = [c for c in ("setting", "cell", "quantity", "run_id", *LINK) if c in want]
        want, got = (t.sort_values(keys, ignore_index=True) for t in (want, got))
        pd.testing.assert_frame_equal(want, got)


def collapsed_of(runs: pd.DataFrame) -> dict[str, bool]:
    """run_id to whether more than three of the six edges have no parameters."""
    names = ("none~", "skip_connect~", "avg_pool_3x3~")
    count = {r.run_id: sum(r.genotype.count(o) for o in names) for r in runs.itertuples()}
    return {run_id: k > 3 for run_id, k in count.items()}


def test_seed_values_are_the_runs_own_and_the_jackknifes(
    noisy: Path, noisy_study: analysis.Study
) -> None:
    runs = analysis.load(noisy).runs
    values = noisy_study["seed_values"]
    columns = ["setting", "cell", "quantity", "run_id", "seed", "value", "collapsed"]
    assert values.columns.tolist() == columns
    assert not values.duplicated(["quantity", "run_id", "cell"]).any()
    own = runs.set_index("run_id")
    for name in ("derived_accuracy", "skip_connections", "benchmark_test"):
        found = values[(values["quantity"] == name) & (values["cell"] == "all")]
        assert len(found) == 24
        np.testing.assert_allclose(found["value"], own.loc[found["run_id"], name])
        assert (
            found["seed"] == "seed " + own.loc[found["run_id"], "seed_data"].map(str).values
        ).all()
    collapsed = collapsed_of(runs)
    assert 0 < sum(collapsed.values()) < 24
    assert (values["collapsed"] == values["run_id"].map(collapsed)).all()
    rate = values[values["quantity"] == "collapse_rate"]
    assert (rate["value"] == rate["collapsed"]).all()
    # Of a whole setting: n times the estimate less n - 1 times that without the seed.
    last = stacks_of(noisy, "last")
    keep = [[k for k in range(8) if k != i] for i in range(8)]
    whole = matrices.dependence_stability(last, None, 0)[0].estimate
    without = [
        matrices.dependence_stability([t[k] for t in last], None, 0)[0].estimate for k in keep
    ]
    mine = values[(values["setting"] == "transition")]
    found = mine[mine["quantity"] == "dependence_stability"]
    assert found["run_id"].tolist() == runs.query("setting == 'transition'")["run_id"].tolist()
    np.testing.assert_allclose(found["value"], 8 * whole - 7 * np.array(without))


def test_seed_values_average_to_the_estimate_up_to_its_bias(noisy_study: analysis.Study) -> None:
    keys = ["setting", "cell", "quantity"]
    mean = noisy_study["seed_values"].groupby(keys)["value"].mean()
    rows = noisy_study["stability"].set_index(keys).loc[mean.index]
    assert len(mean) > 60
    off = (mean - rows["estimate"]).abs()
    # Means over seeds and over pairs of seeds have no bias; a ratio's is of the order 1/n.
    plain = mean.index.get_level_values("cell") == "all"
    divergences = mean.index.get_level_values("quantity").str.contains("divergence|effect")
    assert off[plain | divergences].max() < 1e-9
    width = (rows["high"] - rows["low"]).fillna(0)
    assert (off <= 1e-9 + 0.25 * width).all()


def test_without_collapsed_is_the_study_of_the_others_alone(
    noisy: Path, noisy_study: analysis.Study, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(noisy, tmp_path / "copy"))
    collapsed = collapsed_of(analysis.load(noisy).runs)
    rewrite(copy, "runs", lambda rows: [r for r in rows if not collapsed[r["run_id"]]])
    others = analysis.compute_study(analysis.load(copy))["stability"]
    found = noisy_study["without_collapsed"]
    assert found.columns.tolist() == others.columns.tolist()
    count = Counter(analysis.load(copy).runs["setting"])
    assert set(found["setting"]) == {s for s, n in count.items() if 0 < n < 8}
    keys = ["setting", "cell", "quantity"]
    want = others.set_index(keys).query("estimate.notna()")
    got = found.set_index(keys)
    assert set(want.index) == set(got.index[got["estimate"].notna()])
    numbers = ["estimate", "low", "high", "seeds"]
    pd.testing.assert_frame_equal(got.loc[want.index, numbers], want[numbers])


def test_where_no_seed_or_every_seed_collapsed_there_are_no_others(noisy: Path) -> None:
    fine = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_1x1~1|none~2|"
    skips = fine.replace("nor_conv_1x1", "skip_connect")
    for genotype, rate in ((fine, 0), (skips, 1)):
        item = item_of(noisy, change=lambda runs, g=genotype: runs.assign(genotype=g))
        assert item.get("all", "collapse_rate").estimate == rate
        assert item.tables["without_collapsed"].empty


def test_links_are_marked_one_by_one(noisy: Path, noisy_study: analysis.Study) -> None:
    table = noisy_study["links"].query("setting == 'transition'")
    assert len(table) == 4
    ordered = table.sort_values(LINK)
    for row, stack in zip(ordered.itertuples(), stacks_of(noisy, "last"), strict=True):
        alone, _ = matrices.dependence_stability([stack])
        assert row.dependence_stability == pytest.approx(alone.estimate)
        assert row.dependence_stability_low == pytest.approx(alone.low)
        assert row.dependence_stability_p == pytest.approx(alone.p_value, abs=0.03)
        assert row.dependence_stability_p_holm >= row.dependence_stability_p
    assert table["attention_weight"].tolist() == [1, 1, 0.5, 0.5]  # 1 / predecessors


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


@pytest.mark.parametrize("space", ["darts", "nas-bench-201"])
def test_kept_edges_of_an_epoch_are_the_genotypes_of_the_last(tmp_path: Path, space: str) -> None:
    study = Study(space, settings=[Setting("transition")], seeds=range(5), epochs=2, noise=2.0)
    write_study(tmp_path, study)
    results = analysis.load(tmp_path)
    sample = read_samples(results, results.runs, ["last"])["last"]
    for kind in sample.cells:
        written = cells.Cell(results.runs, sample, None, kind)
        derived = cells.kept_at(written.edges, written.never_kept, written.n)
        assert written.kept == derived
        assert len(set(derived)) > 1


def test_a_genotype_that_keeps_an_edge_unknown_to_edges_is_a_reason(noisy: Path) -> None:
    def of_a_larger_cell(runs: pd.DataFrame) -> pd.DataFrame:
        return runs.assign(genotype=runs["genotype"] + "+|none~0|none~1|none~2|none~3|")

    q = item_of(noisy, change=of_a_larger_cell).get("normal", "edge_agreement")
    assert not q.known
    assert "not in edges/" in q.note


def test_shares_of_operations_are_counted(noisy: Path, noisy_study: analysis.Study) -> None:
    results = analysis.load(noisy)
    ids = results.runs.query("setting == 'placebo'")["run_id"]
    rows = results.edges(epoch="last", run_ids=ids)
    best = [r.operations[int(np.argmax(r.probabilities))] for r in rows.itertuples()]
    want = Counter(zip(rows["source"], rows["target"], best, strict=True))
    table = noisy_study["operation_choices"].query("setting == 'placebo'")
    assert len(table) == 6 * 5
    for row in table.itertuples():
        assert row.share == pytest.approx(want[row.source, row.target, row.operation] / 8)
        assert row.inner == (row.source > 0)
        assert row.seeds == 8


def test_a_tied_edge_is_a_share_of_its_own(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("transition")], seeds=range(4), epochs=2))

    def tie(rows: list[dict]) -> list[dict]:
        of_seed = [
            r for r in rows if r["run_id"].endswith("2") and (r["source"], r["target"]) == (0, 1)
        ]
        for r in of_seed:
            r["probabilities"] = [0.4, 0.4, 0.1, 0.05, 0.05]
        return rows

    rewrite(tmp_path, "edges", tie)
    table = item_of(tmp_path).tables["operation_choices"]
    tied = table[table["operation"] == "tied"]
    assert tied[["source", "target", "share"]].values.tolist() == [[0, 1, 0.25]]
    sums = table.groupby(["source", "target"])["share"].sum()
    assert sums.tolist() == pytest.approx([1] * 6)


def test_samples_are_read_once_per_table(noisy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[tuple[str, str]] = Counter()
    table = Results.table

    def counted(self: Results, name: str, columns=None, epoch=None, run_ids=None):
        ids = set(run_ids)
        runs = self.runs[self.runs["run_id"].isin(ids)]
        read[name, "/".join(sorted(set(runs["setting"])))] += 1
        return table(self, name, columns, epoch, run_ids)

    monkeypatch.setattr(Results, "table", counted)
    analysis.compute_study(analysis.load(noisy))
    settings = ("independent", "placebo", "transition")
    want = {("edges", s): 1 for s in settings} | {("links", s): 1 for s in settings[1:]}
    assert read == want | {("epochs", "/".join(settings)): 1}


def test_runs_without_rows_are_left_out_with_a_note(noisy: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(noisy, tmp_path / "copy"))
    item = item_of(noisy)
    gone = item.tables["seed_values"]["run_id"].iloc[2]
    rewrite(copy, "links", lambda rows: [r for r in rows if r["run_id"] != gone])
    item = item_of(copy)
    q = item.get("normal", "dependence_stability")
    assert q.n == 7
    assert "1 runs left out: rows missing or not finite" in q.note
    assert item.get("all", "derived_accuracy").n == 8  # it has its row in runs
    assert [len(item.places[cell]) for cell in ("all", "normal")] == [8, 7]
    keep = [i for i in range(8) if i != 2]
    alone = matrices.dependence_stability([t[keep] for t in stacks_of(noisy, "last")])[0]
    assert (q.estimate, q.low, q.high) == pytest.approx((alone.estimate, alone.low, alone.high))


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_and_two_seeds_have_reasons(tmp_path: Path, seeds: int) -> None:
    write_study(tmp_path, Study(seeds=range(seeds), epochs=3))
    study = analysis.compute_study(analysis.load(tmp_path))
    table = study["stability"]
    assert table[table["estimate"].isna()]["note"].str.len().gt(0).all()
    pairs = table[table["quantity"] == "dependence_stability"]
    assert pairs["estimate"].notna().sum() == (2 if seeds == 2 else 0)
    assert pairs["low"].isna().all()
    headline = table[table["quantity"] == HEADLINE].query("setting != 'independent'")
    assert headline["estimate"].isna().all()
    assert headline["note"].str.contains("fewer than three seeds").all()
    assert study["verdict"]["verdict"].tolist() == ["cannot tell"]
