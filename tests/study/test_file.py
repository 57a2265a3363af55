"""The study file: what it refuses, and how it says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from itnas.settings import SearchSettings, Seeds
from study.errors import StudyError
from study.file import load_study
from study.file.models import documented
from study.file.reference import settings_reference
from study.file.schema import Waits
from study.file.seeds import compact, parse_seeds
from study.planning.plan import Asked, make_plan
from study.store.door import Storage
from study.store.folder import write_description
from tests.study.cli import ROOT

EXAMPLES = sorted((ROOT / "study" / "examples").glob("*.yaml"))


def problems(path: Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(StudyError) as caught:
        load_study(path, overrides)
    return caught.value.lines


def test_defaults_are_those_of_itnas(write_study):
    file = load_study(write_study(search={}))
    assert file.search == SearchSettings()
    assert file.engine_settings().device == "cpu"


def test_defaults_of_what_a_launch_survives(write_study):
    file = load_study(write_study())
    assert (file.checkpoint_epochs, file.checkpoint_minutes) == (1, 10)
    assert (file.max_failures, file.fail_fast) == (3, False)
    assert dict(file.waits) == {
        "retry_seconds": 10, "stale_seconds": 60, "head_seconds": 30, "stop_seconds": 60
    }  # fmt: skip


def test_resolved_reads_back_as_itself(write_study, tmp_path):
    file = load_study(write_study(tune={"architecture_lr": [1e-3, 1e-1]}, engine={}))
    again = tmp_path / "again.yaml"
    provenance = {"software": {"torch": "2"}, "git_commit": None, "command": "launch"}
    again.write_text(yaml.safe_dump({**file.resolved(), **provenance}))
    assert load_study(again).resolved() == file.resolved()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"serach": {}}, "serach: unknown key; did you mean search? allowed: name, space"),
        ({"space": "nasbench"}, "space: 'nasbench' is not allowed; nas-bench-201, darts, s1"),
        ({"search": {"chanels": 4}}, "search.chanels: unknown key; did you mean channels?"),
        ({"search": {"architecture_lr": -1}}, "search.architecture_lr: -1"),
        ({"search": {"epochs": "ten"}}, "search.epochs: 'ten' is not allowed; an integer"),
        ({"search": {"cells": True}}, "search.cells: true is not allowed; an integer or auto"),
        ({"search": None}, "search: null is not allowed; a mapping"),
        ({"data": {"source": "ftp:x"}}, "data.source: 'ftp:x' is not allowed; one of digits"),
        ({"data": {"resolution": 7}}, "data.resolution: 7 is not allowed"),
        ({"seeds": "3..1"}, "seeds: '3..1' is not allowed; a seed (3), a range"),
        ({"seeds": {"wieghts": 1}}, "seeds: 'wieghts' is not allowed"),
        ({"seeds": [-1]}, "seeds: -1 is not allowed"),
        ({"seeds": "0..99999999"}, "seeds: more than 100,000 seeds"),
        ({"pack": 0}, "pack: 0 is not allowed; at least 1 or auto"),
        ({"name": "a/b"}, "name: 'a/b' is not allowed; letters, digits"),
        ({"resources": {"cpu": 0}}, "resources.cpu: 0 is not allowed; above 0"),
        ({"engine": {"device": "cuda"}}, "engine.device: cuda needs resources.gpu above 0, else"),
        ({"resources": {"gpu_type": "A100"}}, "resources.gpu_type: A100 is asked for with gpu: 0"),
        ({"resources": {"memory": 0}}, "resources.memory: 0 is not allowed; at least 0.001"),
        ({"resources": {"memory": 1e300}}, "resources.memory: 1e+300 is not allowed; at most"),
        ({"resources": {"memory": 1e-12}}, "resources.memory: 1e-12 is not allowed; at least"),
        ({"resources": {"gpu_memory": 1e300}}, "resources.gpu_memory: 1e+300 is not allowed; at m"),
        ({"resources": {"gpu": 1, "gpu_type": "A 100"}}, "resources.gpu_type: 'A 100' is not all"),
        ({"logger": "visdom"}, "logger: 'visdom' is not allowed; none, tensorboard, mlflow, wandb"),
        ({"engine": {"device": "tpu"}}, "engine.device: 'tpu' is not allowed; cpu, cuda or cuda:N"),
        ({"space": "s4", "search": {}, "engine": {"device": "cuda", "graphs": True}},
         "engine.graphs: True is not allowed; false in s4"),
        ({"engine": {"precision": "int8"}}, "engine.precision: 'int8' is not allowed; float32"),
        ({"benchmark": {}}, "benchmark.table: is missing"),
        ({"space": "s2", "search": {}, "benchmark": {"table": "x"}}, "benchmark: only for space"),
        ({"space": "darts"}, "search.cells: 1 is not allowed; at least 3 in darts"),
        ({"tune": {"architecture_lr": [1, 0]}}, "tune.architecture_lr: low: 1 is not allowed"),
        ({"grid": {"dependence": []}}, "grid.dependence: [] is not allowed; at least one"),
        ({"grid": {"dependence": [{"model": "x"}]}}, "grid.dependence[0].model: 'x' is not"),
        ({"grid": {"dependence": ["x"]}}, "grid.dependence[0]: 'x' is not allowed; a mapping"),
        ({"grid": {"data.holdout": [0.1]}}, "grid.data.holdout: unknown key; allowed: dependence"),
        ({"grid": {"search.foo": [1]}}, "grid.search.foo[0]: unknown key"),
        ({"grid": {"search.transition_lr": [1, -1]}}, "grid.search.transition_lr[1]: -1"),
    ],
)  # fmt: skip
def test_one_line_names_file_key_and_what_is_allowed(write_study, changes, expected):
    path = write_study(**changes)
    lines = problems(path)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{path}: {expected}")


def test_several_problems_are_several_lines(write_study):
    lines = problems(write_study(pack=0, space="x", serach={}))
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [1", ", line 1: "),
        ("name: a\nspace: darts\n x: 1", ", line 3: "),
        ("name: a\nname: b", ", line 2: the key name is given twice"),
        ("- 1", ": holds no mapping"),
        ("", ": holds no mapping"),
        ("a: &a [*a]", "an alias inside its own anchor"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: " + "[" * 3000, ""),
        ("\0", ""),
    ],
)
def test_broken_yaml_is_one_line(tmp_path, text, expected):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    lines = problems(path)
    assert len(lines) == 1
    assert expected in lines[0]
    assert str(path) in lines[0]


def test_aliases_that_unfold_to_gigabytes_are_refused(tmp_path):
    path = tmp_path / "bomb.yaml"
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("\n".join(levels))
    assert "too large once its aliases unfold" in problems(path)[0]


def test_missing_file_and_folder(tmp_path):
    assert "cannot be read" in problems(tmp_path / "none.yaml")[0]
    assert "cannot be read" in problems(tmp_path)[0]
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in problems(binary)[0]


def test_exponents_without_a_point_are_numbers(write_study):
    file = load_study(write_study(), ["search.architecture_lr=1e-3"])
    assert file.search.architecture_lr == 0.001


def test_overrides(write_study):
    file = load_study(
        write_study(),
        ["search.epochs=7", "grid.search.transition_lr=[auto, 0.1]", "seeds={weights: 0..2}",
         "resources.cpu=2"],
    )  # fmt: skip
    assert file.search.epochs == 7
    assert file.search.channels == 4  # its neighbours stay
    assert len(file.grid_points()) == 4
    assert len(file.seed_list()) == 3
    assert file.resources.cpu == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("serach.epochs=3", "--set serach.epochs=3: serach: unknown key; did you mean search?"),
        ("search.epoch=3", "--set search.epoch=3: search.epoch: unknown key; did you mean epochs?"),
        ("search.epochs=0", "--set search.epochs=0: search.epochs: 0 is not allowed; at least 1"),
        ("engine.device=gpu", "--set engine.device=gpu: engine.device: 'gpu'"),
        ("pack.x=1", "--set pack.x=1: pack holds a value"),
        ("search.epochs", "--set search.epochs: expected a.b=value"),
        ("search.epochs=[1", "--set search.epochs=[1: the value is no valid YAML"),
        ("grid.search.foo=[1]", "--set grid.search.foo=[1]: grid.search.foo[0]: unknown key"),
    ],
)
def test_overrides_are_named_when_refused(write_study, override, expected):
    lines = problems(write_study(), override)
    assert len(lines) == 1
    assert lines[0].startswith(expected)


def test_relative_paths_prefer_the_folder_of_the_study_file(write_study, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    changes = {"data": {"source": "parquet:images"}, "benchmark": {"table": "t.csv"}}
    file = load_study(write_study(**changes))
    assert file.data.source == f"parquet:{tmp_path / 'images'}"
    assert file.benchmark.table == str(elsewhere / "t.csv")  # not beside the file


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, [3]),
        ("0..3", [0, 1, 2, 3]),
        ([5, "0..2", 1], [5, 0, 1, 2]),
    ],
)
def test_seeds_set_all_three(value, expected):
    assert parse_seeds(value) == [Seeds.all(n) for n in expected]
    assert parse_seeds(compact(expected)) == parse_seeds(expected)


def test_seeds_are_crossed():
    seeds = parse_seeds({"weights": "0..1", "data": 7, "architecture": [1, 2]})
    assert seeds == [Seeds(0, 7, 1), Seeds(0, 7, 2), Seeds(1, 7, 1), Seeds(1, 7, 2)]


def test_every_setting_is_documented_where_it_is_defined():
    assert set(documented(SearchSettings)) == set(SearchSettings.__dataclass_fields__)
    text = settings_reference()
    assert "init_strength" in text
    assert "startup_trials" in text
    for line in ("checkpoint_epochs ", "checkpoint_minutes ", "max_failures ", "fail_fast "):
        assert text.count(f"\n  {line}") == 1
    for name, seconds in Waits():
        assert re.search(rf"\n  {name} [^\[]*\[default\s+{seconds}\]", text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_can_be_planned(path, tmp_path):
    """On the digits, so that no network is needed; counts alone, as the full sizes are for GPUs."""
    file = load_study(path, ["data.source=digits", "resources.gpu=0"])
    plan = make_plan(file, str(tmp_path), Asked(measure=False))
    assert plan["runs"] == plan["settings"] * len(file.seed_list())
    assert plan["merged_runs"] == 0
    assert plan["links"] == (4 if file.space == "nas-bench-201" else 16)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_say_whether_they_need_the_hub(path):
    before_the_file, _, _ = path.read_text().partition("\nname:")
    needs = load_study(path).data.source.startswith("hub:")
    assert ("Needs the Hugging Face Hub" in before_the_file) == needs


def test_examples_cover_what_is_promised():
    names = {path.stem for path in EXAMPLES}
    studies = {"demo", "nas-bench-201-seeds", "darts-transition-settings", "s1-s4"}
    assert names >= studies | {"tune-digits", "tune-nas-bench-201"}


@pytest.mark.parametrize("name", ["1e5", "true", "null", "1.5", "2020-01-01", "0x10"])
def test_a_name_that_looks_like_something_else_stays_a_name(tmp_path, name):
    """Under the command's own folder: what it writes is read as the same study again."""
    folder = Storage.open(tmp_path)
    path = tmp_path / "file.yaml"
    path.write_text(f"name: '{name}'\nspace: darts\n")
    file = load_study(path)
    write_description(folder, file, "launch")
    assert load_study(tmp_path / "study.yaml").name == file.name == name


@pytest.mark.parametrize(("key", "value"), [("channels", 4097), ("cells", 1001)])
def test_sizes_that_no_machine_holds_are_refused(write_study, key, value):
    with pytest.raises(StudyError, match=f"search.{key}: {value} is not allowed; at most"):
        load_study(write_study(), [f"search.{key}={value}"])
