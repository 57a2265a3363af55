"""What a study file leaves behind, and that what its lines say brings the runs back."""

from __future__ import annotations

import copy
import random
import re
import shlex
from dataclasses import replace

import pytest
import yaml

from itnas.data import DataSettings, load_data
from study.file import load_study
from study.file.grid import expand
from study.file.left_behind import left_behind
from study.store.registry import Registry
from tests.study.cli import TINY

IMAGES = load_data(DataSettings(resolution=8, subset=200))


class Study:
    """Tiny studies, complete ones among them."""

    def __init__(self, folder):
        self.path = folder / "study.yaml"

    def load(self, content, overrides=()):
        self.path.write_text(yaml.safe_dump(content, sort_keys=False))
        file = load_study(self.path, overrides)
        images = load_data(file.data) if "other" in content["name"] else IMAGES
        return file, replace(images, settings=file.data)

    def run_ids(self, content, overrides=()):
        file, data = self.load(content, overrides)
        return {run.run_id for run in expand(file, data).runs}

    def lines(self, old, new):
        """What `new` leaves behind of `old`, which is complete."""
        registry = Registry()
        for content in old if isinstance(old, list) else [old]:
            file, data = self.load(content)
            for run in expand(file, data).runs:
                registry.register(run)
        known = {entry["name"]: entry["setting"] for entry in registry.settings.values()}
        runs = {run_id: (run["setting"], run["seeds"]) for run_id, run in registry.runs.items()}
        file, data = self.load(new)
        return left_behind(file, data, expand(file, data), known, runs)


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def changed(**changes):
    """TINY with some keys changed; keys of sections with two underscores."""
    content = copy.deepcopy(TINY)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            content.setdefault(section, {})[name] = value
        else:
            content[key] = value
    return content


def grid(*entries, **swept):
    return {"dependence": list(entries)} | {k.replace("__", "."): v for k, v in swept.items()}


A, B, C = {"model": "independent"}, {"model": "transition"}, {"model": "placebo"}
ONE = {"grid": grid(B), "seeds": 0}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({}, {"seeds": "0..5", "pack": 1, "name": "x"}, []),
        ({}, {"search__epochs": 2}, [
            "4 complete runs are left behind: they had search.epochs 1, the file says 2; "
            "--set search.epochs=1 keeps them"]),
        (ONE, {**ONE, "search__epochs": 2}, [
            "1 complete run is left behind: they had search.epochs 1, the file says 2; "
            "--set search.epochs=1 keeps them"]),
        ({}, {"search__batch_size": 16, "search__momentum": 0.5, "data__holdout": 0.2}, [
            "4 complete runs are left behind: they had data.holdout 0.1, search.batch_size 32 and "
            "search.momentum 0.9, the file says 0.2, 16 and 0.5; --set data.holdout=0.1 --set "
            "search.batch_size=32 --set search.momentum=0.9 keep them"]),
        ({"search__architecture_lr": 0.1 + 0.2}, {}, [
            "4 complete runs are left behind: they had search.architecture_lr 0.30000000000000004, "
            "the file says auto; --set search.architecture_lr=0.30000000000000004 keeps them"]),
        ({}, {"search__architecture_lr": 0.01}, [
            "4 complete runs are left behind: they had search.architecture_lr auto, the file says "
            "0.01; --set search.architecture_lr=auto keeps them"]),
        ({}, {"search__transition_lr": 0.01}, [  # nothing that independent runs have
            "2 complete runs are left behind: they had search.transition_lr auto, the file says "
            "0.01; --set search.transition_lr=auto keeps them"]),
        ({}, {"engine": {"precision": "float64"}, "data__crop": False, "data__flip": True}, [
            "4 complete runs are left behind: they had data.crop true, data.flip false and "
            "engine.precision float32, the file says false, true and float64; --set "
            "data.crop=true --set data.flip=false --set engine.precision=float32 keep them"]),
        ({"search__batch_size": 16}, {"search__batch_size": 16, "data__holdout": 0.25}, [
            "4 complete runs are left behind: they had data.holdout 0.1, the file says 0.25; "
            "--set data.holdout=0.1 keeps them"]),
        ({"grid": grid(A, B, C)}, {}, [
            "2 complete runs are left behind: they had {model: placebo}, which grid.dependence no "
            "longer has; {model: placebo} in grid.dependence keeps them"]),
        ({"grid": grid(A, B, C, {"attention": "uniform"})}, {}, [
            "4 complete runs are left behind: they had {model: placebo} and {model: transition, "
            "attention: uniform}, which grid.dependence no longer has; {model: placebo} and "
            "{model: transition, attention: uniform} in grid.dependence keep them"]),
        ({}, {"grid": {}}, [
            "2 complete runs are left behind: they had {model: independent}, which grid.dependence "
            "no longer has; {model: independent} in grid.dependence keeps them"]),
        ({"grid": grid(B, search__epochs=[1, 2, 3])}, {"grid": grid(B, search__epochs=[1])}, [
            "4 complete runs are left behind: they had search.epochs 2 and 3, which "
            "grid.search.epochs no longer has; 2 and 3 in grid.search.epochs keep them"]),
        ({"grid": grid(B, search__transition_lr=["auto", 0.1])},
         {"grid": grid(B, search__transition_lr=["auto"]), "search__epochs": 2}, [
            "2 complete runs are left behind: they had search.epochs 1, the file says 2; "
            "--set search.epochs=1 keeps them",
            "2 complete runs are left behind: they had search.epochs 1, the file says 2, and "
            "search.transition_lr 0.1, which grid.search.transition_lr no longer has; --set "
            "search.epochs=1 and 0.1 in grid.search.transition_lr keep them"]),
        ({"grid": grid(B, dependence__init=["identity", "random"])},
         {"grid": grid(B, dependence__init=["uniform"])}, [
            "4 complete runs are left behind: they had dependence.init identity and random, which "
            "grid.dependence.init no longer has; identity and random in grid.dependence.init keep "
            "them"]),
        ({"grid": grid({"init_strength": 0.5}, dependence__init=["random"])},
         {"grid": grid(B, dependence__init=["random"])}, [
            "2 complete runs are left behind: they had {model: transition, init_strength: 0.5}, "
            "which grid.dependence no longer has; {model: transition, init_strength: 0.5} in "
            "grid.dependence keeps them"]),
        ({"seeds": "0..9"}, {"seeds": [0, 1, 5]}, [
            "14 complete runs are left behind: they had seeds [2..4, 6..9], the file says [0..1, "
            "5]; --set seeds=0..9 keeps them"]),
        ({"seeds": "0..4"}, {"seeds": "0..1", "search__epochs": 2}, [
            "4 complete runs are left behind: they had search.epochs 1, the file says 2; "
            "--set search.epochs=1 keeps them",
            "6 complete runs are left behind: they had search.epochs 1, the file says 2, and seeds "
            "2..4, the file says 0..1; --set search.epochs=1 --set seeds=0..4 keep them"]),
        ({"seeds": {"weights": "0..1", "data": 7}}, {}, [
            "4 complete runs are left behind: they had seeds {weights: 0..1, data: 7, "
            "architecture: 0}, the file says 0..1; --set 'seeds={weights: 0..1, data: 7, "
            "architecture: 0}' keeps them"]),
        ({"seeds": {"weights": "0..1", "data": 7}}, {"seeds": {"weights": 1, "data": "7..8"}}, [
            "2 complete runs are left behind: they had seeds {weights: 0, data: 7, architecture: "
            "0}, the file says {weights: 1, data: 7..8, architecture: 0}; --set 'seeds={weights: "
            "0..1, data: 7..8, architecture: 0}' keeps them"]),
        ({"name": "other", "data__subset": 180}, {}, [
            "4 complete runs are left behind: they had other images; the former images "
            "(data.source, resolution, color, subset) keep them"]),
        ({"name": "other", "data__subset": 180}, {"search__epochs": 3}, [
            "4 complete runs are left behind: they had search.epochs 1, the file says 3, and other "
            "images; --set search.epochs=1 and the former images (data.source, resolution, color, "
            "subset) keep them"]),
        ({"space": "darts", "search": {"epochs": 1, "batch_size": 16, "channels": 4}, "seeds": 0},
         {"search__batch_size": 16}, [
            "2 complete runs are left behind: they had search.cells 8 and space darts, the file "
            "says 1 and nas-bench-201; --set search.cells=8 --set space=darts keep them"]),
    ],
)  # fmt: skip
def test_each_way_has_its_line(study, old, new, expected):
    assert study.lines(changed(**old), changed(**new)) == expected


def test_a_setting_of_another_release(study):
    file, data = study.load(changed())
    expansion = expand(file, data)
    normals = {one.name: {**one.normal, "search.gone": 0.5} for one in expansion.settings}
    runs = {f"{name}{seed}": (name, [seed] * 3) for name in normals for seed in (0, 1)}
    assert left_behind(file, data, expansion, normals, runs) == [
        "4 complete runs are left behind: they had search.gone 0.5, which this release does not "
        "know; no setting brings them back"
    ]
    unknown = {"x": ("a name of no setting", [0, 0, 0])}
    assert left_behind(file, data, expansion, normals, unknown) == []


def test_a_default_that_a_later_release_changed(study, monkeypatch):
    """The runs of before are those of the neutral value, which their normal form leaves out."""
    from dataclasses import asdict, field, make_dataclass

    from itnas.settings import SearchSettings
    from study.file import identity

    noise = field(default=0.5, metadata={"before": 0.0})
    later = make_dataclass("Later", [("noise", float, noise)], bases=(SearchSettings,), frozen=True)
    monkeypatch.setitem(identity.SECTIONS, "search", later)
    file, data = study.load(changed())
    expansion = expand(file, data)
    file = file.model_copy(update={"search": later(**asdict(file.search))})
    known = {one.name: one.normal for one in expansion.settings}
    runs = {run.run_id: (run.setting.name, [run.seeds.data] * 3) for run in expansion.runs}
    assert left_behind(file, data, expansion._replace(runs=[]), known, runs) == [
        "4 complete runs are left behind: they had search.noise 0, the file says 0.5; "
        "--set search.noise=0 keeps them"
    ]


# -- what the lines say, done ------------------------------------------------------------------

CHOICES = {
    "search__epochs": [1, 2, 3],
    "search__batch_size": [32, 16],
    "search__momentum": [0.9, 0.123456789012345],
    "search__weights_lr": [0.025, 1e-7],
    "search__nesterov": [False, True],
    "search__transition_lr": ["auto", 0.1],
    "search__attention_lr": ["auto", 3.0],
    "search__cells": [1, "auto"],
    "data__holdout": [0.1, 0.25],
    "data__cutout": [0, 2],
    "data__flip": ["auto", True],
    "engine": [{}, {"precision": "float64"}],
    "grid": [
        grid(A, B), grid(B, C), grid(C, {"temperature": 2}, {"init": "uniform"}), {},
        grid(B, search__transition_lr=["auto", 0.2]), grid(A, search__transition_lr=[0.1, 0.3]),
        grid(A, B, dependence__init=["identity", "uniform"]), grid(B, dependence__init=["random"]),
        grid(A, {"sharing": "edge"}, dependence__own_weight=[0, 0.5], search__epochs=[2, 3]),
    ],
    "seeds": [0, "0..2", [0, 4], {"weights": "0..1"}, {"data": [0, 3], "architecture": 1}],
}  # fmt: skip


def followed(content, line):
    """A study file with all done that a line says: `X, Y in grid.KEY and --set Z keep them`."""
    content = copy.deepcopy(content)
    text = re.sub(r" keeps? them$", "", line.partition("; ")[2])
    overrides = [
        shlex.split(option)[1] for option in re.findall(r"--set (?:'[^']*'|[^\s,]+)", text)
    ]
    text = re.sub(r"--set (?:'[^']*'|[^\s,]+)", "", text)
    for values, key in re.findall(r"((?:(?!grid\.).)+?) in grid\.(\S+)", text):
        listed = re.findall(r"\{[^}]*\}|[^\s,]+", re.sub(r"(^|\s)and\s", " ", values))
        held = content.setdefault("grid", {}).setdefault(key, [{}] if key == "dependence" else [])
        held += [yaml.safe_load(value) for value in listed]
    return content, overrides


def pairs(count):
    """Old and new studies, each a random choice of all."""
    dice = random.Random(11)
    for _ in range(count):
        old = {key: dice.choice(values) for key, values in CHOICES.items()}
        kept = dice.sample(sorted(CHOICES), dice.randint(6, len(CHOICES)))
        new = {
            key: old[key] if key in kept else dice.choice(values) for key, values in CHOICES.items()
        }
        yield changed(**old), changed(**new)


def test_what_the_lines_say_keeps_the_runs(study):
    """Every run that is left behind comes back by its line, and the lines count each once."""
    seen = 0
    for old, new in pairs(60):
        left = study.run_ids(old) - study.run_ids(new)
        lines = study.lines(old, new)
        assert sum(int(line.split()[0]) for line in lines) == len(left)
        back = set()
        for line in lines:
            content, overrides = followed(new, line)
            again = left & study.run_ids(content, overrides)
            assert len(again) >= int(line.split()[0]), (line, content, overrides)
            back |= again
            for option in overrides:  # and none is named in vain, such as a rate that follows
                fewer = [other for other in overrides if other != option]
                assert not again <= study.run_ids(content, fewer), (line, option)
        assert back == left
        seen += len(lines)
    assert seen > 60
