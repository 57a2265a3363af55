"""Runs are the same ones in every release that computes the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field, fields, replace

import pytest

from itnas.settings import EngineSettings
from study.file import identity
from study.file.grid import StudySetting
from study.file.identity import CONTENT, FIRST, SECTIONS, data_identity, normal_form, short_hash
from study.store.registry import Registry, setting_columns
from tests.study.cli import ROOT, environment
from tests.study.ten_runs import CASES, RUN_IDS, ten_runs


def test_ten_run_ids():
    """Whoever changes these makes every finished study start again."""
    runs = ten_runs()
    assert [run.run_id for run in runs] == RUN_IDS
    for run in runs:  # many of one setting are hashed in a quicker way
        seeds = list(vars(run.seeds).values())
        assert run.run_id == short_hash({**run.setting.normal, "seeds": seeds})


def test_ten_runs_vary_in_what_identifies_them():
    """Settings of the first release that no two of the ten differ in: those with one choice."""
    normals = [run.setting.normal for run in ten_runs()]
    constant = {key for key in FIRST if len({str(n.get(key)) for n in normals}) == 1}
    assert constant == {"search.method", "search.order"}


# -- a later release ------------------------------------------------------------------------


def later(section, default, **metadata):
    """The settings of a section with one more setting, `noise`."""

    @dataclass(frozen=True)
    class Later(SECTIONS[section]):
        noise: float = field(default=default, metadata=metadata)

    return Later


def ids_with(section, cls, **values):
    """run_ids of the ten where a section is that of a later release."""
    found = []
    for (data, _), run in zip(CASES, ten_runs(), strict=True):
        setting = run.setting.setting
        if section == "data":
            data = replace(data, settings=cls(**asdict(data.settings), **values))
        else:
            part = cls(**asdict(getattr(setting, section)), **values)
            setting = replace(setting, **{section: part})
        precision = run.setting.normal["engine.precision"]
        normal = normal_form(setting, data_identity(data), EngineSettings(precision=precision))
        found.append(StudySetting(setting, normal, "").run_id(run.seeds))
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_a_later_setting_counts_where_it_computes_something_new(section):
    assert ids_with(section, later(section, 0.0, before=0.0)) == RUN_IDS
    assert ids_with(section, later(section, 0.0)) == RUN_IDS  # undeclared: its default
    assert set(ids_with(section, later(section, 0.0, before=0.0), noise=0.5)).isdisjoint(RUN_IDS)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_changed_default_makes_other_runs_and_leaves_the_old_ones(section):
    changed = later(section, 0.5, before=0.0)
    assert set(ids_with(section, changed)).isdisjoint(RUN_IDS)
    assert ids_with(section, changed, noise=0.0) == RUN_IDS
    assert ids_with(section, changed, noise=0) == RUN_IDS
    earlier = later(section, 0.0, before=0.0)  # the release in which it was added
    assert ids_with(section, changed) == ids_with(section, earlier, noise=0.5)


def undeclared(sections):
    """Later settings that do not say what computes what was computed before they existed."""
    return [
        f"{section}.{f.name}"
        for section, cls in sections.items()
        for f in fields(cls)
        if f"{section}.{f.name}" not in FIRST | CONTENT and "before" not in f.metadata
    ]


def test_every_later_setting_declares_what_was_computed_before():
    """`field(default=..., metadata={"before": ...})`, or its default may never change."""
    assert undeclared(SECTIONS) == []
    forgotten = {**SECTIONS, "search": later("search", 0.0)}
    assert undeclared(forgotten) == ["search.noise"]
    assert undeclared({"search": later("search", 0.0, before=0.0)}) == []


_compiled = shutil.ignore_patterns("__pycache__")
RELEASE = """
import ten_runs
for overrides in {overrides}:
    print(" ".join(run.run_id for run in ten_runs.ten_runs(overrides)))
"""


def release(folder, line, *overrides):
    """run_ids of the ten as a copy of the code makes them that has one more search setting."""
    if not folder.exists():
        for package in ("itnas", "study"):
            shutil.copytree(ROOT / package, folder / package, ignore=_compiled)
    source = (ROOT / "itnas" / "settings.py").read_text()
    after = '    """largest norm of the weights\' gradient; 0 clips nothing"""\n'
    assert source.count(after) == 1
    source = source.replace("import dataclass, fields", "import dataclass, field, fields")
    (folder / "itnas" / "settings.py").write_text(
        source.replace(after, f'{after}    noise: {line}\n    """of a later release"""\n')
    )
    path = os.pathsep.join((str(folder), str(ROOT / "tests" / "study")))
    printed = subprocess.run(
        [sys.executable, "-c", RELEASE.format(overrides=list(overrides))],
        env=environment() | {"PYTHONPATH": path}, cwd=folder, check=True, timeout=600,
        capture_output=True, text=True,
    )  # fmt: skip
    return [ids.split() for ids in printed.stdout.splitlines()]


def test_two_later_releases(tmp_path):
    """From the study file on: a setting is added, and later its default is changed."""
    set_to = [], ["search.noise=0.5"], ["search.noise=0"]
    added = release(tmp_path / "x", 'float = field(default=0.0, metadata={"before": 0.0})', *set_to)
    changed = release(
        tmp_path / "x", 'float = field(default=0.5, metadata={"before": 0.0})', *set_to
    )
    assert added[0] == added[2] == changed[2] == RUN_IDS
    assert changed[0] == changed[1] == added[1]
    assert set(added[1]).isdisjoint(RUN_IDS)


# -- normal forms written down by another release --------------------------------------------


def test_normal_forms_of_other_releases_are_read(monkeypatch):
    """`packs.json` keeps them: one with a setting that is gone, one without a later setting."""
    run = ten_runs()[1]
    now = run.setting
    monkeypatch.setitem(identity.SECTIONS, "search", later("search", 0.5, before=0.0))
    gone = StudySetting(now.setting, {**now.normal, "search.gone": 3}, now.name)
    new = StudySetting(now.setting, {**now.normal, "search.noise": 0.5}, now.name)
    registry = Registry({
        "settings": {gone.setting_id: {"name": now.name, "setting": gone.normal}},
        "runs": {"x": {"setting": now.name, "seeds": [0, 0, 0]}},
        "packs": {"p": ["x"]},
    })  # fmt: skip
    assert registry.name(gone) == now.name
    assert registry.name(now) == f"{now.name} {now.setting_id[:4]}"  # nothing known differs
    registry = Registry()
    assert registry.name(new) == now.name
    assert registry.name(now) == f"{now.name} noise=0"
    columns = [setting_columns(one) for one in (now, gone, new)]
    assert columns[0] == columns[1] == columns[2]
    assert columns[0]["attention"] == "content"
