"""Study files broken at random: each is accepted or refused in lines, never with a traceback."""

from __future__ import annotations

import copy
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itnas.data import DataSettings
from itnas.data.sources import load_data
from study.errors import StudyError
from study.file import load_study
from study.file.grid import expand

WHOLE = {
    "name": "tiny",
    "space": "nas-bench-201",
    "data": {"source": "digits", "resolution": 8, "subset": 200, "holdout": 0.1, "crop": True},
    "search": {"epochs": 1, "batch_size": 32, "channels": 4, "cells": 1, "architecture_lr": "auto",
               "momentum": 0.9, "nesterov": False},
    "grid": {"dependence": [{"model": "independent"}, {"model": "transition", "own_weight": 0.1}],
             "search.transition_lr": ["auto", 0.01], "dependence.init": ["identity", "random"]},
    "seeds": {"weights": "0..1", "data": [0, 1], "architecture": 3},
    "pack": 2,
    "resources": {"cpu": 1, "gpu": 0},
    "engine": {"precision": "float32", "device": "auto"},
    "benchmark": {"table": "table.parquet", "dataset": "cifar10"},
    "tune": {"architecture_lr": [0.001, 0.1], "seed": 1},
    "checkpoint_minutes": 5,
    "waits": {"retry_seconds": 1},
}  # fmt: skip
MINIMAL = {"name": "m", "space": "darts", "search": {"cells": 3, "batch_size": 16}}

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.sampled_from([10**400, -(2**63), 2**31]),
    st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([1e-320, 1e308, 0.5]),
    st.sampled_from(["", "auto", "0..3", "3..1", "1:19", "darts", "s1", "cuda", "uniform", "a.b",
                     "parquet:/nowhere", "transition", "~", "\u2028", "\x85", "{}", "[a", "2020-01-01"]),
    st.text(max_size=8), st.binary(max_size=4), st.dates(),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value, path=()):
    """Every place in a nested structure."""
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            found += places(inner, (*path, n))
    return found


@st.composite
def broken_files(draw):
    content = copy.deepcopy(draw(st.sampled_from([WHOLE, WHOLE, MINIMAL])))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(content)))
        if not path:
            continue
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        kind = draw(st.sampled_from(["value", "value", "remove", "rename", "move"]))
        if kind == "value":
            parent[path[-1]] = draw(VALUES)
        elif kind == "remove":
            del parent[path[-1]]
        elif kind == "rename" and isinstance(parent, dict):
            known = [
                "epochs",
                "model",
                "grid",
                "seeds",
                "search",
                "cpu",
                "search.cells",
                "dependence",
            ]
            parent[draw(st.sampled_from(known) | st.text(max_size=6))] = parent.pop(path[-1])
        else:
            other = draw(st.sampled_from(places(content)))
            holder = content
            for key in other:
                holder = holder[key]
            parent[path[-1]] = copy.deepcopy(holder)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        kind = draw(st.sampled_from(["insert", "delete", "double"]))
        if kind == "insert":
            odd = [":", "- ", "{", "[", "&a", "*a", "!!int ", "!!python/object:os.system ", "\t", "? ",
                   "<<: ", "'", '"', "#", "\n", "{[a]: 1}", "!!float x", "!!binary x", "!!set {a}", "|",
                   "%", "\x00", "---\n", "1:19", ".inf", "!!timestamp x", "0x", "_"]  # fmt: skip
            text = text[:at] + draw(st.sampled_from(odd)) + text[at:]
        elif kind == "delete":
            text = text[:at] + text[at + draw(st.integers(1, 12)) :]
        else:
            lines = text.splitlines(keepends=True)
            n = draw(st.integers(0, max(len(lines) - 1, 0)))
            text = "".join(lines[: n + 1] + lines[n:])
    return text


KEYS = st.sampled_from(
    ["search.epochs", "seeds", "grid.dependence", "grid.search.epochs", "grid.x.y", "seeds.weights",
     "data", "data.flip", "pack", "engine.device", "resources.gpu", "tune.architecture_lr", "waits",
     "grid", "name", "a", "search..epochs", ".", "search.epochs.x", "space"]
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(["1:19", ".inf", "{[a]: 1}", "!!int ''", "1.5", "[", "", "null", "[0.1, .nan]",
                     "0..1", "{a: 1}", "!!python/name:os.system", "*a", "1e400", "0x", "'", "-"]),
    st.text(max_size=10),
    VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True)),
)  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return load_data(DataSettings(resolution=8, subset=200))


def judged(folder, images, text, overrides=()):
    """Read and expand; what is refused is refused in lines."""
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    began = time.monotonic()
    try:
        expand(load_study(path, overrides), images)
    except StudyError as error:
        assert error.lines
        assert all(line.strip() and len(line.splitlines()) == 1 for line in error.lines), (
            error.lines
        )
    assert time.monotonic() - began < 2


def check_files(folder, images, examples):
    @settings(max_examples=examples, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(broken_files(), st.lists(st.tuples(KEYS, TEXTS), max_size=1))
    def check(text, overrides):
        judged(folder, images, text, [f"{key}={value}" for key, value in overrides])

    check()


def test_random_mutations(tmp_path, images):
    check_files(tmp_path, images, 500)


@pytest.mark.slow
def test_many_random_mutations(tmp_path, images):
    check_files(tmp_path, images, 10_000)


@pytest.mark.parametrize(
    "text",
    ["{[a]: 1}", "name: !!int ''", "search: {weight_decay: .inf}", "seeds: 1:19", "a: !!float x",
     "search: {epochs: 2020-01-01}", "? {a: b}\n: c", "grid: {search.weight_decay: [.nan]}",
     "checkpoint_minutes: .inf", "resources: {cpu: .inf}", "resources: {gpu: 1.5}", "seeds: .nan"],
)  # fmt: skip
def test_what_was_a_traceback_once(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text("name: x\nspace: darts\n" + text if text[0] != "{" else text)
    with pytest.raises(StudyError) as refused:
        load_study(path)
    assert all(len(line.splitlines()) == 1 for line in refused.value.lines)


def test_a_range_is_no_time_of_day(tmp_path):
    """YAML 1.1 reads 1:19 as 79, in base 60."""
    path = tmp_path / "study.yaml"
    path.write_text("name: x\nspace: darts\n")
    with pytest.raises(StudyError, match=r"--set seeds=1:19: seeds: '1:19' is not allowed"):
        load_study(path, ["seeds=1:19"])
