"""Checkpoints: read back as they were written, and what is damaged or foreign passed over."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from study.store.checkpoints import Checkpoints, clear_all_but, newest, read_attempts
from study.store.door import Storage

STATE = {"weights": torch.arange(6.0).reshape(2, 3), "epoch": 3, "histories": [[{"epoch": -1}]]}


@pytest.fixture
def folder(tmp_path):
    return Storage.open(tmp_path)


@pytest.fixture
def checkpoints(folder):
    made = Checkpoints(folder, "aaaaaaaaaaaa", ["r0", "r1"])
    for epoch in (1, 2, 3):
        made.save((epoch, 5), STATE | {"epoch": epoch})
    return made


def restored(checkpoints):
    loaded = []
    return checkpoints.restore(loaded.append), loaded


def test_the_newest_is_restored_and_the_last_two_are_kept(folder, checkpoints):
    found, (state,) = restored(checkpoints)
    assert found.moment == (3, 5)
    assert not found.passed_over
    assert state["epoch"] == 3
    assert torch.equal(state["weights"], STATE["weights"])
    assert checkpoints.moments() == [(2, 5), (3, 5)]
    assert newest(folder, "aaaaaaaaaaaa") == (3, 5)
    assert newest(folder, "bbbbbbbbbbbb") is None


def test_moments_are_ordered_as_numbers(folder):
    made = Checkpoints(folder, "cccccccccccc", ["r0"])
    for moment in ((9, 99), (10, 2), (10, 11)):
        made.save(moment, STATE)
    assert made.moments() == [(10, 2), (10, 11)]


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "empty", "other runs"])
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path, folder, checkpoints, damage):
    path = max((tmp_path / "checkpoints" / "aaaaaaaaaaaa").glob("*.ckpt"))
    content = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        values = np.frombuffer(content, np.uint8).copy()
        values[-40] ^= 1
        path.write_bytes(values.tobytes())
    elif damage == "foreign":
        torch.save(STATE, path)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        other = Checkpoints(folder, "aaaaaaaaaaaa", ["r0", "r2"])
        other.save((3, 5), STATE)
    found, (state,) = restored(checkpoints)
    assert found.moment == (2, 5)
    assert state["epoch"] == 2
    (why,) = found.passed_over.values()
    assert len(why.splitlines()) == 1


def test_a_state_that_does_not_fit_is_passed_over(checkpoints):
    def load(state):
        if state["epoch"] == 3:
            raise ValueError("the state of another pack")

    found = checkpoints.restore(load)
    assert found.moment == (2, 5)
    assert list(found.passed_over.values()) == ["the state of another pack"]


def test_nothing_sound_is_the_beginning(tmp_path, checkpoints):
    for path in (tmp_path / "checkpoints" / "aaaaaaaaaaaa").glob("*.ckpt"):
        path.write_bytes(b"x")
    found, loaded = restored(checkpoints)
    assert found.moment is None
    assert not loaded
    assert len(found.passed_over) == 2


def test_trouble_with_the_storage_is_not_damage(checkpoints, monkeypatch):
    def broken(self, name):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Storage, "read", broken)
    with pytest.raises(OSError, match="Input/output"):
        restored(checkpoints)


def test_beginnings_are_counted(folder, checkpoints):
    assert len(checkpoints.begin({"host": "a"})) == 1
    assert len(checkpoints.begin({"host": "b"})) == 2
    assert [one["host"] for one in read_attempts(folder, "aaaaaaaaaaaa")] == ["a", "b"]


def test_what_nobody_trains_is_cleared(tmp_path, folder, checkpoints):
    Checkpoints(folder, "bbbbbbbbbbbb", ["r2"]).save((1, 0), STATE)
    clear_all_but(folder, {"bbbbbbbbbbbb"})
    assert folder.names("checkpoints") == ["bbbbbbbbbbbb"]
    clear_all_but(folder, set())
    assert not (tmp_path / "checkpoints").exists()
