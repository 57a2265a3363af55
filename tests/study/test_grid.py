"""Settings in normal form, their hashes and names, and packs written down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from itnas.engine.memory import peak_bytes
from itnas.settings import DependenceSettings, Seeds
from study.errors import StudyError
from study.file import load_study
from study.file.grid import expand
from study.file.identity import effectless
from study.opening import read_data
from study.store.registry import MEMORY_SHARE, Registry, pack_id_of, pack_size, setting_columns


@pytest.fixture(scope="module")
def tiny_data():
    from itnas.data import DataSettings
    from itnas.data.sources import load_data

    return load_data(DataSettings(resolution=8, subset=200))


@pytest.fixture
def expansion_of(write_study, tiny_data):
    """Expands a tiny study with some keys changed."""

    def expansion(*overrides: str, data=None, **changes):
        return expand(load_study(write_study(**changes), overrides), data or tiny_data)

    return expansion


def first_id(expansion):
    return expansion.runs[0].run_id


def test_grid_is_crossed(expansion_of):
    expansion = expansion_of(
        grid={
            "dependence": [{"model": "transition"}, {"attention": "uniform"}],
            "search.architecture_lr": ["auto", 0.001],
            "dependence.init": ["identity", "uniform"],
        },
        seeds="0..2",
    )
    assert len(expansion.settings) == 8
    assert len(expansion.runs) == 24
    assert [s.name for s in expansion.settings[:4]] == [
        "transition",
        "transition init=uniform",
        "transition architecture_lr=0.001",
        "transition init=uniform architecture_lr=0.001",
    ]


def test_without_a_grid_there_is_one_setting(expansion_of):
    assert [s.name for s in expansion_of(grid={}).settings] == ["transition"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"model": "independent"}, {"model": "independent", "sharing": "edge"}),
        ({"model": "independent"}, {"model": "independent", "own_weight": 0.5, "init": "random"}),
        ({"model": "independent"}, {"model": "independent", "stop_gradient": True}),
        ({"init": "uniform"}, {"init": "uniform", "init_strength": 1.0}),
        ({"model": "placebo"}, {"model": "placebo", "stop_gradient": True}),
    ],
)
def test_settings_without_effect_are_merged(expansion_of, first, second):
    expansion = expansion_of(grid={"dependence": [first, second]})
    assert len(expansion.settings) == 1
    assert len(expansion.runs) == 2
    assert expansion.merged_runs == 2
    assert "is the same as" in expansion.merged[0]


@pytest.mark.parametrize(
    ("dependence", "rate"),
    [
        ({"model": "independent"}, "transition_lr"),
        ({"model": "independent"}, "attention_lr"),
        ({"trainable": False}, "transition_lr"),
        ({"attention": "uniform"}, "attention_lr"),
    ],
)
def test_rates_without_effect_are_merged(expansion_of, dependence, rate):
    grid = {"dependence": [dependence], f"search.{rate}": [0.1, 0.2]}
    expansion = expansion_of(grid=grid)
    assert len(expansion.settings) == 1
    assert setting_columns(expansion.settings[0])[rate] is None
    assert rate not in expansion.settings[0].name


def test_what_has_an_effect_is_not_merged(expansion_of):
    different = [{}, *({name: value} for name, value in {
        "model": "placebo", "sharing": "edge", "attention": "content", "init": "random",
        "init_strength": 1.0, "trainable": False, "own_weight": 0.5, "temperature": 2.0,
        "stop_gradient": True,
    }.items())]  # fmt: skip
    expansion = expansion_of(grid={"dependence": different})
    assert len(expansion.settings) == len(different)
    assert len({s.name for s in expansion.settings}) == len(different)
    assert not expansion.merged


def test_columns_without_effect_are_null(expansion_of):
    independent, transition = expansion_of().settings
    columns = setting_columns(independent)
    assert columns["model"] == "independent"
    for name in ("sharing", "attention", "init", "init_strength", "trainable", "own_weight",
                 "transition_lr", "attention_lr"):  # fmt: skip
        assert columns[name] is None
    assert columns["stop_gradient"] is False  # the contract has no null there
    assert columns["architecture_lr"] == pytest.approx(6 / 2)  # 90 images: 2 steps, 1 epoch
    assert None not in setting_columns(transition).values()


def test_every_dependence_setting_has_an_effect_under_transition():
    assert effectless(DependenceSettings()) == set()


@pytest.mark.parametrize(
    "override",
    ["name=other", "pack=1", "pack_across_settings=true", "resources.cpu=2", "resources.gpu=1",
     "benchmark.table=x.csv", "search.architecture_lr=3.0",
     "tune.architecture_lr=[0.1, 0.2]", "data.source='imagefolder:somewhere'",
     "checkpoint_epochs=2", "checkpoint_minutes=0.5", "max_failures=0", "fail_fast=true",
     "waits={retry_seconds: 1, stale_seconds: 2, head_seconds: 3, stop_seconds: 4}"],
)  # fmt: skip
def test_run_id_leaves_out(expansion_of, override):
    assert first_id(expansion_of(override)) == first_id(expansion_of())


@pytest.mark.parametrize(
    "override",
    ["engine.precision=float64", "search.epochs=2", "search.channels=8", "search.momentum=0.5",
     "search.batch_size=16", "search.architecture_lr=0.5", "seeds=3",
     "grid.dependence=[{model: independent, temperature: 2.0}]"],
)  # fmt: skip
def test_run_id_includes(expansion_of, override):
    assert first_id(expansion_of(override)) != first_id(expansion_of())


@pytest.mark.parametrize("change", [{"holdout": 0.2}, {"crop": False}, {"cutout": 2}])
def test_run_id_includes_split_and_augmentation(expansion_of, tiny_data, change):
    other = replace(tiny_data, settings=replace(tiny_data.settings, **change))
    assert first_id(expansion_of(data=other)) != first_id(expansion_of())


def test_run_id_includes_content(expansion_of, tiny_data):
    images = tiny_data.images.clone()
    images[0, 0, 0, 0] += 1
    assert first_id(expansion_of(data=replace(tiny_data, images=images))) != first_id(
        expansion_of()
    )


def test_run_id_depends_on_each_seed(expansion_of):
    one = expansion_of().settings[0]
    seeds = [Seeds(0, 0, 0), Seeds(1, 0, 0), Seeds(0, 1, 0), Seeds(0, 0, 1)]
    assert len({one.run_id(s) for s in seeds}) == 4


def test_a_combination_the_space_forbids_is_named(expansion_of):
    with pytest.raises(StudyError, match="sharing"):
        expansion_of(space="s1", search={"cells": 3, "batch_size": 16},
                     grid={"dependence": [{"sharing": "cell"}]})  # fmt: skip


def test_too_few_images_for_a_batch(expansion_of):
    with pytest.raises(StudyError, match=r"too few for search\.batch_size 128"):
        expansion_of("search.batch_size=128")


def test_missing_data_is_one_line(write_study, tmp_path):
    for source in ("parquet", "imagefolder"):
        file = load_study(write_study(data={"source": f"{source}:{tmp_path / 'none'}"}))
        with pytest.raises(StudyError) as caught:
            read_data(file)
        assert len(caught.value.lines) == 1
        assert str(tmp_path / "none") in caught.value.lines[0]


# -- names and packs ----------------------------------------------------------------------


@pytest.fixture
def include(write_study, tiny_data):
    """Includes a changed tiny study into a registry; gives the packs to be trained."""

    def included(registry, *overrides, complete=(), **changes):
        file = load_study(write_study(**changes), overrides)
        expansion = expand(file, tiny_data)
        size = pack_size(file, expansion, tiny_data)
        return registry.include(expansion, file, set(complete), size)

    return included


def names(registry):
    return {entry["name"] for entry in registry.settings.values()}


def test_packs_hold_consecutive_seeds_of_one_setting(include):
    packs = include(Registry(), seeds="0..4")
    assert [[run.seeds.weights for run in pack.runs] for pack in packs] == [
        [0, 1], [2, 3], [4], [0, 1], [2, 3], [4]
    ]  # fmt: skip
    assert all(len({run.name for run in pack.runs}) == 1 for pack in packs)
    for pack in packs:
        assert pack.pack_id == pack_id_of(sorted((r.run_id for r in pack.runs), reverse=True))


def test_another_pack_is_for_new_runs_and_a_line_says_so(include):
    registry = Registry()
    asked = [run.run_id for pack in include(registry, seeds="0..3", pack=2) for run in pack.runs]
    assert registry.kept_packs(asked, set(), 2) == []
    (line,) = registry.kept_packs(asked, set(), 1)
    assert line.startswith("pack: 1 is for new runs; 4 packs that are not complete stay")
    assert registry.kept_packs(asked, set(asked), 1) == []  # nothing is left to train
    include(registry, seeds="0..4", pack=1)
    assert sorted(map(len, registry.packs.values())) == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_auto_packs_fill_the_gpu_at_the_studys_precision(write_study, tiny_data, precision):
    """The largest pack whose estimate fits, without the data set."""
    given = {"pack": "auto", "engine": {"precision": precision}}
    file = load_study(write_study(resources={"gpu": 1, "gpu_memory": 0.05}, **given))
    expansion = expand(file, tiny_data)
    size = pack_size(file, expansion, tiny_data)
    images = tiny_data.images
    room = 0.05 * 2**30 * MEMORY_SHARE - images.numel()
    setting = expansion.settings[0].setting
    fits, too_much = (
        peak_bytes(setting, images.shape[1], images.shape[2], tiny_data.classes, n, precision)
        for n in (size, size + 1)
    )
    assert fits <= room < too_much
    assert 1 < size < 64


def test_auto_packs_hold_four(include):
    assert [len(pack.runs) for pack in include(Registry(), seeds="0..5", pack="auto")] == [
        4, 2, 4, 2
    ]  # fmt: skip


def test_packs_across_settings(include):
    packs = include(Registry(), pack=3, pack_across_settings=True)
    assert [len(pack.runs) for pack in packs] == [3, 1]
    assert [run.name for run in packs[0].runs] == ["independent", "independent", "transition"]


def test_packs_are_reused_and_extended(include):
    registry = Registry()
    first = include(registry)
    again = include(registry)
    assert [p.pack_id for p in again] == [p.pack_id for p in first]
    more = include(registry, seeds="0..3", pack=1)
    assert [p.pack_id for p in more][:2] == [p.pack_id for p in first]
    assert [len(p.runs) for p in more] == [2, 2, 1, 1, 1, 1]  # old packs stay as they are


def test_complete_packs_are_left_out(include):
    registry = Registry()
    first, second = include(registry)
    complete = [run.run_id for run in first.runs]
    assert include(registry, complete=complete) == [second]


def test_unfinished_packs_no_longer_asked_for_are_forgotten(include):
    registry = Registry()
    independent, transition = include(registry)
    complete = [run.run_id for run in independent.runs]
    only = include(registry, complete=complete, grid={}, seeds=0)
    assert [len(pack.runs) for pack in only] == [1]
    assert set(registry.packs) == {independent.pack_id, only[0].pack_id}
    assert len(registry.runs) == 3
    assert transition.pack_id not in registry.packs


def test_names_stay_when_the_study_is_extended(include):
    registry = Registry()
    packs = include(registry)
    complete = [run.run_id for pack in packs for run in pack.runs]
    grid = {"dependence": [{"model": "transition"}], "search.epochs": [1, 2]}
    include(registry, complete=complete, grid=grid)
    assert names(registry) == {"independent", "transition", "transition epochs=2"}


def test_a_taken_name_is_told_apart_by_what_differs(include):
    registry = Registry()
    packs = include(registry)
    complete = [run.run_id for pack in packs for run in pack.runs]
    include(registry, "search.momentum=0.5", complete=complete)
    assert names(registry) == {
        "independent", "transition", "independent momentum=0.5", "transition momentum=0.5",
    }  # fmt: skip


def test_registry_reads_back(include, tmp_path):
    from study.store.door import Storage

    registry = Registry()
    include(registry)
    storage = Storage.open(tmp_path / "x")
    registry.write(storage)
    assert vars(Registry.read(storage)) == vars(registry)
    storage.write("packs.json", "{")
    with pytest.raises(StudyError, match=r"packs\.json: cannot be read"):
        Registry.read(storage)


def test_a_swept_depth_that_the_space_does_not_allow_is_refused(expansion_of):
    with pytest.raises(StudyError, match=r"search.cells: 2 is not allowed; darts needs at least 3"):
        expansion_of(space="darts", search={"batch_size": 8}, grid={"search.cells": [3, 2]})
