"""`tune:` of a study file: what it may say, what is refused in one line, what trials it gives."""

from __future__ import annotations

import json

import pytest
import yaml

from itnas.settings import DependenceSettings, Seeds
from study.errors import StudyError
from study.file import load_study
from study.file.identity import effectless
from study.file.tune import Tune, seeds_of_trials
from study.opening import read_data
from study.store.door import Storage
from study.tuning.database import place_of
from study.tuning.plan import plan_tuning
from tests.study.cli import refused, run_here

ONE = {"dependence": [{"model": "transition"}]}


@pytest.fixture
def load(write_study):
    """A study file with such a `tune:`, read; further keys of the file by name."""

    def read(tune, **changes):
        return load_study(write_study(**{"grid": ONE, "tune": tune, **changes}))

    return read


def planned(file):
    return plan_tuning(file, read_data(file))


def test_every_way_to_say_what_is_searched(load):
    file = load({
        "architecture_lr": [0.001, 0.1],
        "search.weights_lr": {"low": 0.01, "high": 0.2, "log": True},
        "epochs": {"low": 1, "high": 9, "step": 4},
        "channels": [4, 16],
        "dependence.own_weight": {"low": 0, "high": 1},
        "sharing": {"choices": ["link", "edge"]},
        "trainable": {"choices": [True, False]},
        "transition_lr": {"choices": ["auto", 0.01]},
        "data.cutout": {"low": 0, "high": 4},
    })  # fmt: skip
    found = file.tune.parameters
    assert [one.key for one in found.values()] == [
        "search.architecture_lr", "search.weights_lr", "search.epochs", "search.channels",
        "dependence.own_weight", "dependence.sharing", "dependence.trainable",
        "search.transition_lr", "data.cutout",
    ]  # fmt: skip
    assert (found["architecture_lr"].low, found["architecture_lr"].log) == (0.001, True)
    assert (found["epochs"].kind, found["epochs"].step, found["epochs"].log) == (
        "integer",
        4,
        False,
    )
    assert (found["channels"].kind, found["channels"].log) == ("integer", True)
    assert found["own_weight"].kind == "number"
    assert found["transition_lr"].choices == ("auto", 0.01)


def test_what_is_written_reads_back(load, tmp_path):
    file = load({
        "architecture_lr": [0.001, 0.1], "init": {"choices": ["identity", "uniform"]},
        "epochs": {"low": 1, "high": 9, "step": 4},
        "objective": ["derived_accuracy", "valid_accuracy"],
        "aggregate": "mean - 0.5 * standard error", "seeds": {"start": 2, "all": 4},
        "sampler": "tpe", "storage": "journal:/tmp/x.log",
    })  # fmt: skip
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(file.resolved()))
    assert load_study(again).resolved() == file.resolved()
    assert load_study(again).tune == file.tune


@pytest.mark.parametrize(
    ("tune", "expected"),
    [
        ({"architecture_lr": [0.1, 0.01]}, "tune.architecture_lr: low: 0.1 is not allowed; below"),
        ({"architecture_lr": [0, 0.1]}, "tune.architecture_lr: low: 0 is not allowed; above 0"),
        ({"own_weight": {"low": 0, "high": 1, "log": True}}, "tune.own_weight: low: 0 is not"),
        ({"momentum": {"low": 0.5, "high": 1.5}}, "tune.momentum: high: 1.5 is not allowed; at"),
        ({"architecture_lr": [0.1]}, "tune.architecture_lr: [0.1] is not allowed; {low, high}"),
        ({"architecture_lr": 0.1}, "tune.architecture_lr: 0.1 is not allowed; {low, high}"),
        ({"architecture_lr": [0.1, 10**400]}, "tune.architecture_lr: high: 1000"),
        ({"epochs": {"low": 1.5, "high": 3}}, "tune.epochs: low: 1.5 is not allowed; a finite int"),
        ({"epochs": {"low": 1, "high": 3, "step": 5}}, "tune.epochs: step: 5 is not allowed"),
        ({"weights_lr": {"low": 0.1, "high": 1, "log": True, "step": 0.1}}, "step: is not allowed"),
        ({"weights_lr": {"low": 0.1, "high": 1, "base": 2}}, "'base': unknown key"),
        ({"weights_lr": {"low": 0.1}}, "tune.weights_lr: high: is missing"),
        ({"init": ["identity", "uniform"]}, "tune.init: ['identity', 'uniform'] is not allowed; {"),
        ({"init": {"choices": ["identity"]}}, "tune.init: choices: ['identity'] is not allowed"),
        ({"init": {"choices": ["identity", "zero"]}}, "tune.init: choices: 'zero' is not allowed"),
        ({"epochs": {"choices": [1, 1]}}, "tune.epochs: choices: [1, 1] is not allowed"),
        ({"architecture_rl": [0.1, 1]}, "unknown key; did you mean architecture_lr?"),
        ({"subset": {"low": 100, "high": 200}}, "tune.subset: cannot be tuned: of data, only crop"),
        ({"data.holdout": {"low": 0.1, "high": 0.2}}, "tune.data.holdout: cannot be tuned"),
        ({"dependence.epochs": {"low": 1, "high": 2}}, "tune.dependence.epochs: unknown key"),
        ({"epochs": {"low": 1, "high": 2}, "search.epochs": {"low": 1, "high": 2}}, "given twice"),
        ({"objective": "accuracy"}, "tune.objective: 'accuracy' is not allowed; one of derived"),
        ({"objective": "dependence_transfer"}, "tune.objective: 'dependence_transfer' is not"),
        ({"objective": ["dependence_transfer", "derived_accuracy"]}, "is not allowed; one of"),
        ({"aggregate": "median"}, "tune.aggregate: 'median' is not allowed; mean, or mean - K"),
        ({"aggregate": "mean - 0 * standard error"}, "tune.aggregate:"),
        ({"seeds": {"start": 3, "all": 2}}, "tune.seeds.start: 3 is not allowed; at most all (2)"),
        ({"seeds": {"all": 0}}, "tune.seeds.all: 0 is not allowed; at least 1"),
        ({"sampler": "cmaes"}, "tune.sampler: 'cmaes' is not allowed; auto, tpe, gp, random"),
        ({"storage": "here.db"}, "tune.storage: 'here.db' is not allowed; a URL"),
        ({"architecture_lr": [0.01, 0.1], "objective": "benchmark_valid"}, "needs `benchmark`"),
        (
            {"objective": ["derived_accuracy", "dependence_transfer"], "seeds": {"all": 4}},
            "tune.objective: dependence_transfer needs at least 8 seeds, not 4",
        ),
        (
            {"aggregate": "mean - 1 * standard error", "seeds": {"start": 1, "all": 4}},
            "tune.aggregate: mean - 1 * standard error needs seeds.start of at least 2",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(load, tune, expected):
    with pytest.raises(StudyError) as error:
        load(tune)
    (line,) = error.value.lines
    assert expected in line


@pytest.mark.parametrize(
    ("tune", "grid", "expected"),
    [
        (
            {"architecture_lr": [0.01, 0.1]},
            {"dependence": [{}], "search.architecture_lr": [0.1]},
            "tune.architecture_lr: is also under grid.search.architecture_lr; one of the two",
        ),
        (
            {"own_weight": {"low": 0, "high": 1}},
            {"dependence": [{"own_weight": 0.5}]},
            "tune.own_weight: is also under grid.dependence[0]; one of the two",
        ),
        (
            {"transition_lr": [0.01, 0.1]},
            {"dependence": [{"trainable": False}]},
            "tune.transition_lr: has no effect under this setting",
        ),
        (
            {"objective": ["derived_accuracy", "dependence_transfer"], "seeds": {"all": 8}},
            {"dependence": [{"model": "independent"}]},
            "tune.objective: dependence_transfer needs a model with matrices, not independent",
        ),
        (
            {"objective": ["derived_accuracy", "dependence_transfer"],
             "model": {"choices": ["transition", "independent"]}},
            {"search.epochs": [1]},
            "tune.objective: dependence_transfer needs at least 8 seeds, not 2\n"
            "tune.objective: dependence_transfer needs a model with matrices, not independent",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_rest_of_the_file(write_study, tune, grid, expected):
    study = write_study(tune=tune, grid=grid)
    message = refused("tune", str(study), "--trials", "2")
    for line in expected.splitlines()[:1]:
        assert line in message


def test_refused_with_exit_2_before_anything_is_written(write_study, tmp_path):
    for changes, expected in (
        ({}, "tune: nothing is searched"),
        ({"tune": {"architecture_lr": [0.01, 0.1]}}, "grid: 2 settings; tune searches around"),
        (
            {"tune": {"batch_size": {"choices": [32, 4096]}}, "grid": ONE},
            "tune: {batch_size: 4096} cannot be run: data: 200 images",
        ),
    ):
        words = ("tune", str(write_study(**changes)), "--trials", "1", "--storage",
                 str(tmp_path / "out"))  # fmt: skip
        assert expected in refused(*words)
    assert not (tmp_path / "out").exists()
    assert "--confirm" in refused("tune", "x.yaml", "--trials", "2", "--confirm", "1")


def test_a_database_must_be_given_on_an_object_store(write_study):
    study = str(write_study(tune={"architecture_lr": [0.01, 0.1]}, grid=ONE))
    message = refused("tune", study, "--trials", "1", "--storage", "s3://bucket/x?region=x")
    assert message.startswith("tune.storage: ")
    assert "give a database" in message


def test_a_database_that_cannot_be_opened_is_one_line(write_study, tmp_path):
    for place in (
        "postgresql://someone:secret@127.0.0.1:1/x",
        "nonsense://x",
        "sqlite:////dev/null/x/y.db",
        "postgresql://someone:secret${ITNAS_UNKNOWN}@127.0.0.1/x",
    ):
        study = str(write_study(tune={"architecture_lr": [0.01, 0.1], "storage": place}, grid=ONE))
        message = refused("tune", study, "--trials", "1", "--storage", str(tmp_path / "out"))
        (line,) = message.splitlines()
        assert line.startswith("tune.storage: ")
        assert "secret" not in line
    assert not (tmp_path / "out").exists()


def test_a_password_stays_in_the_environment(load, tmp_path, monkeypatch):
    monkeypatch.setenv("ITNAS_PASSWORD", "$ecret}")
    folder = Storage.open(tmp_path).folder("x")
    for given, place in (
        ("postgresql://me:${ITNAS_PASSWORD}@db/x", "postgresql://me:$ecret}@db/x"),
        ("${ITNAS_PASSWORD}", "$ecret}"),
        ("journal:/tmp/$HOME/x.log", "journal:/tmp/$HOME/x.log"),
    ):
        file = load({"architecture_lr": [0.01, 0.1], "storage": given})
        assert place_of(file.tune.storage, folder) == place
        assert file.resolved()["tune"]["storage"] == given
    with pytest.raises(StudyError, match=r"^tune.storage: the environment has no ITNAS_UNKNOWN$"):
        place_of("${ITNAS_UNKNOWN}", folder)


def test_seeds_of_trials():
    def of(seeds, **spent):
        every, how = seeds_of_trials(Tune(**({"seeds": spent} if spent else {})), seeds)
        return every, (how.start, how.all)

    assert of("0..3") == ([Seeds.all(n) for n in range(4)], (2, 4))
    assert of(0) == ([Seeds.all(n) for n in range(8)], (2, 8))
    assert of("3..9", all=4, start=1) == ([Seeds.all(n) for n in range(3, 7)], (1, 4))
    assert of([5, 1], all=4) == ([Seeds.all(n) for n in (5, 1, 6, 7)], (2, 4))
    assert of(0, all=1) == ([Seeds.all(0)], (1, 1))
    crossed = {"weights": "0..1", "data": 5, "architecture": [1, 2]}
    assert of(crossed, all=4)[0][0] == Seeds(0, 5, 1)
    with pytest.raises(ValueError, match=r"seeds.all: 8 is not allowed; at most the 4 crossed"):
        of(crossed, all=8)
    both = Tune(objective=["derived_accuracy", "valid_accuracy"], seeds={"start": 2, "all": 4})
    assert seeds_of_trials(both, 0)[1].start == 4  # no racing


@pytest.mark.parametrize(
    ("text", "penalty"),
    [("mean", 0), ("mean - standard error", 1), ("mean - 1.5 * standard error", 1.5),
     ("mean-.5*standard error", 0.5)],
)  # fmt: skip
def test_aggregates(text, penalty):
    assert Tune(aggregate=text).penalty == penalty


def test_parameters_follow_what_they_hang_on(load):
    file = load({
        "init_strength": {"low": 0.5, "high": 4}, "init": {"choices": ["identity", "uniform"]},
        "attention": {"choices": ["learned", "uniform"]}, "attention_lr": [0.5, 3.0],
    })  # fmt: skip
    space = planned(file).space
    known = {"init_strength": 1.0, "attention_lr": 1.0}
    for init in ("identity", "uniform"):
        for attention in ("learned", "uniform"):
            values = space.read({"init": init, "attention": attention, **known})
            without = effectless(DependenceSettings(init=init, attention=attention))
            assert ("init_strength" in values) == ("dependence.init_strength" not in without)
            assert ("attention_lr" in values) == ("search.attention_lr" not in without)
    assert space.read({"init": "identity", "attention": "learned"}) is None


def test_the_default_is_trial_0_where_it_is_searched(load):
    inside = planned(load({"architecture_lr": [0.1, 10.0], "own_weight": {"low": 0, "high": 1}}))
    assert inside.first_values == {"architecture_lr": 3.0, "own_weight": 0.0}  # auto: 6 / 2 steps
    assert inside.searches_default
    assert inside.notices() == []
    outside = planned(load({"architecture_lr": [0.1, 1.0], "channels": {"low": 8, "high": 16,
                                                                       "step": 4}}))  # fmt: skip
    assert outside.first_values == {"architecture_lr": 1.0, "channels": 8}
    assert not outside.searches_default
    assert outside.notices() == [
        "tune: the default setting is not among those that are searched; trial 0: "
        "architecture_lr 1.0 instead of 3.0, channels 8 instead of 4"
    ]


def test_auto_rates_follow_a_tuned_length(load):
    """`auto` is 6 / architecture steps of the trial's own run."""
    plan = planned(load({"epochs": {"low": 1, "high": 4}}))
    assert plan.setting({"epochs": 4}).setting.search.architecture_lr == 6 / 8
    assert plan.setting({"epochs": 1}).setting.search.architecture_lr == 6 / 2


def test_tuned_augmentation_is_part_of_a_runs_identity(load):
    plan = planned(load({"data.cutout": {"low": 0, "high": 4}}))
    assert plan.setting({"cutout": 0}).setting_id == plan.default.setting_id
    assert plan.setting({"cutout": 2}).setting_id != plan.default.setting_id
    assert plan.setting({"cutout": 2}).data == (("cutout", 2),)
    assert plan.setting({"cutout": 2}).normal["data.cutout"] == 2


def test_plan_tells_what_a_tuning_costs_at_most(write_study, tmp_path):
    study = str(write_study(tune={"architecture_lr": [0.1, 1.0], "seeds": {"start": 2, "all": 8}},
                            grid=ONE))  # fmt: skip
    words = ("plan", study, "--storage", str(tmp_path), "--json", "--trials", "12")
    tuning = json.loads(run_here(*words).stdout)["tuning"]
    assert (tuning["trials"], tuning["searches_a_trial"], tuning["searches_at_least"]) == (12, 8, 2)
    assert tuning["confirmation"] == 32
