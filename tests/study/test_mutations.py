"""Study files broken at random: each is accepted or refused in lines, never with a traceback."""

from __future__ import annotations

import copy
import os
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itnas.data import DataSettings, load_data
from study.errors import StudyError
from study.file import load_study
from study.file.grid import expand
from tests.study.cli import ROOT, run_here

SECONDS = 5.0
"""of processor time, for one file; the largest takes 1 to 2, and more beside other work"""

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
    "tune": {"architecture_lr": [0.001, 0.1], "seed": 1, "epochs": {"low": 1, "high": 3, "step": 1},
             "dependence.sharing": {"choices": ["link", "edge"]}, "storage": "journal:x.log",
             "objective": ["derived_accuracy", "benchmark_valid"], "sampler": "gp",
             "aggregate": "mean - 1 * standard error", "seeds": {"start": 2, "all": 4}},
    "checkpoint_minutes": 5,
    "max_failures": 2,
    "waits": {"retry_seconds": 1},
}  # fmt: skip
MINIMAL = {"name": "m", "space": "darts", "search": {"cells": 3, "batch_size": 16}}
EXAMPLES = [path.read_text() for path in sorted((ROOT / "study" / "examples").glob("*.yaml"))]

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([10**400, -(2**63), 2**31 - 1, 2**31, 10**9, 1e-320, 1e308, 0.5, 1.5]),
    st.sampled_from(["", "auto", "0..3", "3..1", "0..99999", "1:19", "darts", "s1", "cuda", "a.b",
                     "uniform", "transition", "parquet:/nowhere", "parquet:~nobody/x", "x" * 5000,
                     "imagefolder:" + "y" * 300, "\0", "~", "\u2028", "\x85", "{}", "[a",
                     "2020-01-01", "\U0001f600", "hub:", "cuda:9" * 30]),
    st.text(max_size=8), st.binary(max_size=4), st.dates(), st.datetimes(),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6), inner, max_size=3)
        | st.dictionaries(st.integers(0, 9) | st.booleans(), inner, max_size=2)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["epochs", "model", "grid", "seeds", "search", "cpu", "search.cells", "dependence", "waits",
     "search.", "dependence.x", ".", "weights", "temperature", "name", "launches"]
)  # fmt: skip
ODD = st.sampled_from(
    [":", "- ", "{", "[", "}", "]", "&a ", "*a", "!!int ", "!!str ", "!!python/object:os.system ",
     "\t", "? ", "<<: ", "'", '"', "#", "\n", "{[a]: 1}", "!!float x", "!!binary x", "!!set {a}",
     "|", ">", "%", "\x00", "---\n", "...\n", "1:19", ".inf", "!!timestamp x", "0x", "_", "9" * 40,
     "!!null ", "!x ", "=", "@", "`", "\ufeff", "\ud800", "\u2028", "\U0001f600", "[" * 60, "e9"]
)  # fmt: skip


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


def at(content, path):
    for key in path:
        content = content[key]
    return content


@st.composite
def broken_content(draw):
    """A study file with some of its keys and values changed."""
    content = copy.deepcopy(draw(st.sampled_from([WHOLE, WHOLE, MINIMAL])))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(content)))
        if not path:
            continue
        parent, last = at(content, path[:-1]), path[-1]
        kind = draw(st.sampled_from(["value", "value", "remove", "rename", "move", "wrap"]))
        if kind == "value":
            parent[last] = draw(VALUES)
        elif kind == "remove":
            del parent[last]
        elif kind == "wrap":
            parent[last] = draw(st.sampled_from([[parent[last]] * 2, {str(last): parent[last]}]))
        elif kind == "rename" and isinstance(parent, dict):
            parent[draw(NAMES | st.text(max_size=6))] = parent.pop(last)
        else:
            parent[last] = copy.deepcopy(at(content, draw(st.sampled_from(places(content)))))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=draw(st.booleans()))


@st.composite
def broken_text(draw):
    """A text of a study file with characters and lines changed."""
    text = draw(broken_content() | st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(text)))
        kind = draw(
            st.sampled_from(["insert", "character", "delete", "double", "shuffle", "indent"])
        )
        lines = text.splitlines(keepends=True)
        n = min(text.count("\n", 0, place), max(len(lines) - 1, 0))
        if kind == "insert":
            text = text[:place] + draw(ODD) + text[place:]
        elif kind == "character":
            text = text[:place] + draw(st.characters()) + text[place:]
        elif kind == "delete":
            text = text[:place] + text[place + draw(st.integers(1, 12)) :]
        elif kind == "double":
            text = "".join(lines[: n + 1] + lines[n:])
        elif kind == "indent":
            text = "".join([*lines[:n], " " * draw(st.integers(1, 4)), *lines[n:]])
        else:
            text = "".join(draw(st.permutations(lines)))
    return text


KEYS = st.sampled_from(
    ["search.epochs", "seeds", "grid.dependence", "grid.search.epochs", "grid.x.y", "seeds.weights",
     "seeds.wieghts", "data", "data.flip", "pack", "engine.device", "resources.gpu", "waits",
     "tune.architecture_lr", "grid", "name", "a", "search..epochs", ".", "search.epochs.x", "space",
     "", " ", "grid.", "waits.stop_seconds", "checkpoint_epochs", "launches", "software.torch",
     "benchmark.table", "data.source", "\n", "\ud800", "name\n", "grid.dependence.init"]
)  # fmt: skip
TEXTS = st.one_of(
    ODD,
    st.sampled_from(["1:19", ".inf", "{[a]: 1}", "!!int ''", "1.5", "[", "", "null", "[0.1, .nan]",
                     "0..1", "{a: 1}", "!!python/name:os.system", "*a", "1e400", "'", "-", "010",
                     "[" * 3000, "{? [a] : b}", "&a [*a]", "9" * 5000, "a\nb: c", "[1, 2]"]),
    st.text(max_size=10),
    VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True)),
)  # fmt: skip
OPTIONS = st.one_of(st.tuples(KEYS, TEXTS).map("=".join), st.text(max_size=12))


@pytest.fixture(scope="module")
def images():
    return load_data(DataSettings(resolution=8, subset=200))


def judged(folder, images, text, overrides=()):
    """Read and expand; what is refused is refused in lines. Whether it was accepted."""
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    began = time.process_time()
    refused: StudyError | None = None
    try:
        expand(load_study(path, overrides), images)
    except StudyError as error:
        refused = error
    assert time.process_time() - began < SECONDS
    if refused is not None:
        assert refused.lines
        assert len(refused.lines) <= 21
        for line in refused.lines:
            assert line.strip()
            assert len(line.splitlines()) == 1
            assert len(line) < 1000
        assert refused.status == 2
    return refused is None


def check(folder, images, examples):
    accepted = []

    @settings(max_examples=examples, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(broken_text(), st.lists(OPTIONS, max_size=2))
    def each(text, overrides):
        accepted.append(judged(folder, images, text, overrides))

    each()
    share = sum(accepted) / len(accepted)
    assert 0.02 < share < 0.5, share  # mutations reach both sides


def test_random_mutations(tmp_path, images):
    check(tmp_path, images, 500)


@pytest.mark.slow
def test_many_random_mutations(tmp_path, images):
    check(tmp_path, images, 10_000)


FILE = "name: x\nspace: nas-bench-201\nsearch: {epochs: 1, batch_size: 32, channels: 4, cells: 1}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: {[a]: 1}", ", line 4: a key is a list or a mapping"),
        ("? {a: b}\n: c", ", line 4: a key is a list or a mapping"),
        ("? !!str [a]\n: c", ", line 4: a key is a list or a mapping"),
        ("1: x", ", line 4: the key 1 is no text"),
        ("grid: {dependence: [{null: 1}]}", ", line 4: the key null is no text"),
        ("data: {a: 1, a: 2}", ", line 4: the key a is given twice"),
        ("pack: !!int ''", ", line 4: '' is no int"),
        ("pack: !!int 1:19", ", line 4: '1:19' is no int"),
        ("a: !!float x", ", line 4: 'x' is no float"),
        ("fail_fast: !!bool x", ", line 4: 'x' is no bool"),
        ("a: !!timestamp 2020-01-01", ", line 4: could not determine a constructor for the tag"),
        ("a: !!binary aaaa", ", line 4: could not determine a constructor for the tag"),
        ("seeds: 1:19", ": seeds: '1:19' is not allowed; a seed (3), a range"),
        ("seeds: 010", ": seeds: '010' is not allowed"),
        ("seeds: .nan", ": seeds: nan is not allowed"),
        ("seeds: {weights: {a: 1}}", ": seeds: {'a': 1} is not allowed"),
        ("seeds: 2020-01-01", ": seeds: '2020-01-01' is not allowed"),
        ("pack: 1e400", ": pack: inf is not allowed; an integer or auto"),
        ("pack: 1" + "0" * 400, ": pack: too large; below 2^31"),
        ("pack: " + "9" * 5000, ", line 4: '99999"),
        ("grid: {search.weight_decay: [.nan]}", ": grid.search.weight_decay[0]: nan is not all"),
        ("grid: {search.epochs: [1" + "0" * 400 + "]}", ": grid.search.epochs[0]: too large"),
        ("checkpoint_minutes: .inf", ": checkpoint_minutes: inf is not allowed; a finite number"),
        ("checkpoint_epochs: 0", ": checkpoint_epochs: 0 is not allowed; at least 1"),
        ("checkpoint_epochs: 1.5", ": checkpoint_epochs: 1.5 is not allowed; an integer"),
        ("max_failures: -1", ": max_failures: -1 is not allowed; at least 0"),
        ("fail_fast: 1", ": fail_fast: 1 is not allowed; true or false"),
        ("waits: {head_seconds: .inf}", ": waits.head_seconds: inf is not allowed; a finite"),
        ("waits: {stale_seconds: 0}", ": waits.stale_seconds: 0 is not allowed; above 0"),
        ("waits: {stop_second: 1}", ": waits.stop_second: unknown key; did you mean stop_seconds?"),
        ("resources: {cpu: .inf}", ": resources.cpu: inf is not allowed; a finite number"),
        ("resources: {gpu: 1.5}", ": resources.gpu: 1.5 is not allowed; 0, a share from 0.01, or"),
        ("tune: {architecture_lr: [0.1, .inf]}", ": tune.architecture_lr: high: inf is not allo"),
        ("grid: {search.epochs: [" + "1, " * 3000 + "]}", ": grid: 3,000 combinations; at most"),
        ("grid: {search.epochs: [1, 2, 3]}\nseeds: 0..99999",
         ": seeds: 300,000 runs with this grid; at most 100,000"),
        ("a: " + "[" * 3000, ", line 4: nested too deeply"),
        ("- " * 3000, ""),
        ("x: " + "a" * 250_000, ": larger than 250,000 bytes; not a study file"),
    ],
)  # fmt: skip
def test_what_is_odd_is_one_line(tmp_path, images, text, expected):
    assert not judged(tmp_path, images, FILE + text)
    with pytest.raises(StudyError) as refused:
        load_study(tmp_path / "study.yaml")
    assert len(refused.value.lines) == 1
    assert refused.value.lines[0].startswith(f"{tmp_path / 'study.yaml'}{expected}")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("seeds=1:19", "--set seeds=1:19: seeds: '1:19' is not allowed"),  # 79 in base 60
        ("grid.x.y=1", "--set grid.x.y=1: grid.x.y: 1 is not allowed; a list"),
        ("grid.x.y=[1]", "--set grid.x.y=[1]: grid.x.y: unknown key; allowed: dependence, search"),
        ("grid=1", "--set grid=1: grid: 1 is not allowed; a mapping"),
        ("grid.=1", "--set grid.=1: expected a.b=value"),
        ("seeds.weights=0..x", "--set seeds.weights=0..x: seeds: '0..x' is not allowed"),
        ("seeds.wieghts=0", "--set seeds.wieghts=0: seeds: 'wieghts' is not allowed"),
        ("seeds={[a]: 1}", "--set seeds={[a]: 1}: the value is no valid YAML (a key is a list"),
        ("pack=!!int ''", "--set pack=!!int '': the value is no valid YAML ('' is no int)"),
        ("pack=" + "9" * 5000, "--set pack=9999"),
        ("waits=[" + "1, " * 5000, "--set waits=[1, 1, 1,"),
        ("\n=1", "--set \\n=1: "),
        ("=", "--set =: expected a.b=value"),
        ("", "--set : expected a.b=value"),
    ],
)
def test_odd_options_are_one_line(tmp_path, images, option, expected):
    assert not judged(tmp_path, images, FILE, [option])
    with pytest.raises(StudyError) as refused:
        load_study(tmp_path / "study.yaml", [option])
    assert len(refused.value.lines) == 1
    assert refused.value.lines[0].startswith(expected)


def test_a_part_of_the_seeds_can_be_set(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(FILE)
    assert len(load_study(path, ["seeds.weights=0..3", "seeds.data=[1, 5]"]).seed_list()) == 8


def test_many_problems_are_told_up_to_a_number(tmp_path, images):
    text = FILE + f"grid: {{search.epochs: {list(range(-99, 1))}}}"
    assert not judged(tmp_path, images, text)
    with pytest.raises(StudyError) as refused:
        load_study(tmp_path / "study.yaml")
    assert len(refused.value.lines) == 21
    assert refused.value.lines[-1].endswith(": 80 more problems")


@pytest.mark.parametrize(
    ("text", "runs"), [("seeds: 0..49999", 50_000), ("grid: {search.momentum: [%s]}", 2000)]
)
def test_the_largest_are_read_in_time(tmp_path, images, text, runs):
    values = ", ".join(str(n / 3000) for n in range(2000))
    assert judged(tmp_path, images, FILE + text.replace("%s", values))
    assert len(expand(load_study(tmp_path / "study.yaml"), images).runs) == runs


def test_the_command_line_refuses_with_2(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.yaml")
    for text in ("{[a]: 1}", "\udcff: 1", "name: \u2028", "a: !!python/name:os.system"):
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        for word in ("plan", "launch"):
            result = run_here(word, str(path), "--storage", str(tmp_path / "out"))
            assert result.returncode == 2
            assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
