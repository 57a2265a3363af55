"""The table `transfer` and its changes of tabular accuracy, against loops over the written rows."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.spatial.distance import jensenshannon

import analysis
from analysis.data.benchmark import test_accuracies as accuracies_of
from tests.analysis.synthetic import NB201_EDGES, NB201_OPS, Setting, Study, write_study

WORTH = np.random.default_rng(5).normal(size=(len(NB201_EDGES), len(NB201_OPS)))


def architecture(chosen: dict[tuple[int, int], int]) -> str:
    nodes = [[f"{NB201_OPS[chosen[s, t]]}~{s}" for s in range(t)] for t in range(1, 4)]
    return "+".join("|" + "|".join(node) + "|" for node in nodes)


def accuracy(chosen: dict[tuple[int, int], int]) -> float:
    """Every edge's operation is worth something, so that no two cells are equally good."""
    return 80 + sum(WORTH[i, chosen[e]] for i, e in enumerate(NB201_EDGES))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 15,625 architectures."""
    rows = []
    for indices in itertools.product(range(5), repeat=6):
        chosen = dict(zip(NB201_EDGES, indices, strict=True))
        rows.append((architecture(chosen), accuracy(chosen)))
    path = tmp_path_factory.mktemp("table") / "accuracies.parquet"
    pd.DataFrame(rows, columns=["architecture", "cifar10_test"]).to_parquet(path)
    return path


def named(folder: Path, table: Path | str, dataset: str = "cifar10") -> Path:
    """The study's file names the table."""
    path = folder / "study.yaml"
    content = yaml.safe_load(path.read_text())
    content["benchmark"] = {"table": str(table), "dataset": dataset}
    path.write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    folder = tmp_path_factory.mktemp("known") / "study"
    settings = [Setting("independent", "independent"), Setting("transition")]
    write_study(folder, Study(settings=settings, seeds=range(6), epochs=3, noise=2.0))
    return named(folder, table)


def flow(run: pd.DataFrame, links: pd.DataFrame, edge: tuple[int, int], matrix) -> np.ndarray:
    """The sum of w p_q T over the links into an edge; matrix: a link's row to its T."""
    p = run.set_index(["source", "target"])["probabilities"]
    of = links[(links["source"] == edge[0]) & (links["target"] == edge[1])]
    return sum(
        k.attention_weight
        * np.array(p[k.predecessor_source, k.predecessor_target], float)
        @ matrix(k)
        for k in of.itertuples()
    )


def square(link) -> np.ndarray:
    return np.array(link.matrix, float).reshape(5, 5)


def test_effects_and_accuracies_are_those_of_hand_made_flows(known: Path) -> None:
    results = analysis.load(known)
    got = analysis.compute_study(results, with_trajectories=False)["transfer"]
    assert got["setting"].unique().tolist() == ["transition"]
    got = got.set_index("run_id")
    edges, links = results.edges(epoch="last"), results.links(epoch="last")
    first = results.links(epoch="first")
    place = ["predecessor_source", "predecessor_target", "source", "target"]
    changed = 0
    for run_id, row in got.iterrows():
        run, last = edges[edges["run_id"] == run_id], links[links["run_id"] == run_id]
        begun = first[first["run_id"] == run_id].set_index(place)["matrix"]

        def start(k, begun=begun) -> np.ndarray:
            where = (k.predecessor_source, k.predecessor_target, k.source, k.target)
            return np.array(begun[where], float).reshape(5, 5)

        def means(k) -> np.ndarray:
            return np.tile(square(k).mean(axis=0), (5, 1))

        p = {(e.source, e.target): np.array(e.probabilities, float) for e in run.itertuples()}
        inner = [e for e in NB201_EDGES if e[0] > 0]
        now = {e: flow(run, last, e, square) for e in inner}
        own = {e: int(p[e].argmax()) for e in NB201_EDGES}
        for by, matrix, bits in (("start", start, "d_start"), ("row_means", means, "flow_effect")):
            other = {e: flow(run, last, e, matrix) for e in inner}
            apart = [jensenshannon(now[e], other[e], base=2) ** 2 for e in inner]
            assert row[bits] == pytest.approx(np.mean(apart), abs=1e-7)  # float32 sums
            chosen = own | {e: int((p[e] + other[e] - now[e]).argmax()) for e in inner}
            want = accuracy(chosen) - accuracy(own)
            assert row[f"benchmark_by_{by}"] == pytest.approx(want, abs=1e-9)
            changed += want != 0
            if by == "start":
                same = np.mean([chosen[e] == own[e] for e in inner])
                assert row["choice_start"] == pytest.approx(same)
        # Where every choice is the same, so is the cell; where one is not, so is the accuracy.
        for by, share in (("full", "choice_transfer"), ("columns", "choice_columns")):
            assert (row[f"benchmark_by_{by}"] == 0) == (row[share] == 1)
    assert changed > 2


def test_a_table_that_is_not_here_or_lacks_cells_leaves_numbers_out(
    known: Path, table: Path, tmp_path: Path
) -> None:
    gone = named(Path(shutil.copytree(known, tmp_path / "gone")), tmp_path / "nowhere.parquet")
    got = analysis.compute_study(analysis.load(gone), with_trajectories=False)["transfer"]
    assert "d_full" in got
    assert not [c for c in got if c.startswith("benchmark")]
    # A table without the runs' own cells: columns, but nothing in them.
    genotypes = analysis.load(known).runs["genotype"]
    frame = pd.read_parquet(table)
    frame[~frame["architecture"].isin(genotypes)].to_csv(tmp_path / "some.csv", index=False)
    some = named(Path(shutil.copytree(known, tmp_path / "some")), tmp_path / "some.csv")
    got = analysis.compute_study(analysis.load(some), with_trajectories=False)["transfer"]
    names = [f"benchmark_by_{by}" for by in ("full", "columns", "start", "row_means")]
    assert got[names].isna().all(axis=None)


def test_accuracies_are_read_from_parquet_and_csv(table: Path, tmp_path: Path) -> None:
    study = {"benchmark": {"table": str(table), "dataset": "cifar10"}}
    found = accuracies_of(study)
    assert len(found) == 15_625
    skips = dict.fromkeys(NB201_EDGES, NB201_OPS.index("skip_connect"))
    assert found[architecture(skips)] == pytest.approx(accuracy(skips))
    (tmp_path / "t.csv").write_text("architecture,x_valid,x_test\na,1,2.5\nb,1,\n")
    csv = {"table": str(tmp_path / "t.csv"), "dataset": "x"}
    assert accuracies_of({"benchmark": csv}) == {"a": 2.5}
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "folder.parquet").mkdir()
    for other in (
        csv | {"dataset": "y"},
        csv | {"table": str(tmp_path / "broken.parquet")},
        csv | {"table": str(tmp_path / "folder.parquet")},
        csv | {"table": "NATS-tss-v1_0-3ffb9-simple"},
    ):
        assert accuracies_of({"benchmark": other}) == {}
    assert accuracies_of(None) == accuracies_of({}) == accuracies_of({"benchmark": None}) == {}


def test_runs_are_named_by_their_seeds(tmp_path: Path) -> None:
    write_study(tmp_path, Study(settings=[Setting("t")], seeds=[3, 8, 5], epochs=2))
    got = analysis.compute_study(analysis.load(tmp_path), with_trajectories=False)["transfer"]
    assert got["seed_weights"].tolist() == [3, 5, 8]
    assert got["seed"].tolist() == ["seed 3", "seed 5", "seed 8"]
    assert got["form"].isin(["start", "a", "b", "c", "d", "cd"]).all()
    assert got["factor"].isin([0, 0.25, 0.5, 0.75, 1]).all()


@pytest.mark.parametrize(
    "setting", [Setting("a"), Setting("a", "independent", trainable=None)], ids=["diverged", "none"]
)
def test_tables_have_their_columns_even_without_rows(tmp_path: Path, setting: Setting) -> None:
    diverged = [("a", 0)] if setting.model == "transition" else []
    write_study(tmp_path / "s", Study(settings=[setting], seeds=[0], epochs=2, diverged=diverged))
    analysis.write_report(tmp_path / "s", tmp_path / "out", details=0)
    found = {n: pd.read_csv(tmp_path / f"out/tables/{n}.csv") for n in ("stability", "transfer")}
    assert found["transfer"].empty
    assert list(found["transfer"]) == [
        "setting", "cell", "run_id", "seed_weights", "d_start", "d_columns", "d_full",
        "flow_effect", "choice_transfer",
    ]  # fmt: skip
    assert {"setting", "cell", "quantity", "estimate", "note"} <= set(found["stability"])
    assert found["stability"].empty == bool(diverged)
