"""Who holds a study: heartbeats, claims, and launches that come at the same time."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from study.errors import StudyError
from study.scheduling.progress import Progress
from study.status import study_status
from study.store import lock as locks
from study.store.door import Storage
from study.store.lock import (
    Lock,
    holds,
    is_alive,
    machine,
    read_heartbeat,
    refuse_if_running,
)
from tests.study.cli import NOBODY, heartbeat
from tests.study.test_refusals import launch


def elsewhere(**changes):
    return heartbeat(host="elsewhere", machine="elsewhere", pid=1, process_started=1.0) | changes


def hold(folder, stale_seconds=60.0):
    return Lock(folder, Progress(4, 0, 4).snapshot, stale_seconds, lambda line: None)


def test_which_heartbeats_are_alive():
    old = (datetime.now(UTC) - timedelta(seconds=90)).isoformat()
    assert is_alive(heartbeat())
    assert is_alive(heartbeat(host="elsewhere", pid=1))
    assert not is_alive(heartbeat(pid=NOBODY))
    assert not is_alive(heartbeat(host="elsewhere", beat=old))
    assert not is_alive(heartbeat(beat=old))
    assert not is_alive(heartbeat(state="finished"))
    assert not is_alive({})
    assert not is_alive({"state": "running", "beat": "yesterday", "pid": "x"})


def test_a_process_is_known_by_its_number_and_its_start():
    started = psutil.Process().create_time()
    mine = heartbeat(machine=machine(), process_started=started)
    assert is_alive(mine)
    assert is_alive(mine | {"beat": "2020-01-01T00:00:00+00:00"})  # whatever the clocks say
    assert not is_alive(mine | {"process_started": started - 100})  # its number was given again
    assert not is_alive(mine | {"pid": NOBODY})


def test_a_running_study_is_refused_and_a_dead_one_taken_over(write_study, tmp_path):
    folder = Storage.open(tmp_path / "out" / "tiny")
    folder.write("study.yaml", "name: tiny\ncommand: launch\n")
    folder.write("logs/launch.json", json.dumps(heartbeat()))
    assert "is running elsewhere" in launch(write_study, tmp_path)
    with pytest.raises(StudyError, match="is running elsewhere"), hold(folder):
        pass
    assert folder.names("logs") == ["launch.json"]  # no claim is left
    folder.write("logs/launch.json", json.dumps(heartbeat(pid=NOBODY)))
    with hold(folder):
        assert study_status(folder.root)["state"] == "running"
    assert study_status(folder.root)["state"] == "finished"


def test_a_driver_elsewhere_is_dead_when_its_beat_stands_still(tmp_path):
    """By this process's clock alone: the beat's own time lies years back, or ahead."""
    folder = Storage.open(tmp_path)
    for beat in ("2020-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00"):
        folder.write("logs/launch.json", json.dumps(elsewhere(beat=beat)))
        began = time.monotonic()
        with hold(folder, stale_seconds=1.0):
            assert time.monotonic() - began >= 1.0


def test_a_driver_elsewhere_is_watched_once(tmp_path):
    """By who opens the study, and not again by who takes the lock; but if it has come back."""
    folder, told = Storage.open(tmp_path), []
    folder.write("logs/launch.json", json.dumps(elsewhere(beats=1)))
    dead = refuse_if_running(folder, 1.0, told.append)
    began = time.monotonic()
    with Lock(folder, Progress(4, 0, 4).snapshot, 600.0, told.append, dead):
        assert time.monotonic() - began < 60
    assert len(told) == 1
    folder.write("logs/launch.json", json.dumps(elsewhere(beats=2)))
    with Lock(folder, Progress(4, 0, 4).snapshot, 1.0, told.append, dead):
        assert len(told) == 2


def test_a_driver_elsewhere_is_alive_when_its_beat_changes(tmp_path):
    folder = Storage.open(tmp_path)
    ancient = elsewhere(beat="2020-01-01T00:00:00+00:00")
    folder.write("logs/launch.json", json.dumps(ancient))
    later = ancient | {"beat": "2020-01-01T00:00:03+00:00"}
    timer = threading.Timer(0.5, folder.write, ("logs/launch.json", json.dumps(later)))
    timer.start()
    began = time.monotonic()
    with pytest.raises(StudyError, match="is running elsewhere"), hold(folder):
        pass
    assert time.monotonic() - began < 10


def test_a_heartbeat_says_how_it_ended(tmp_path):
    folder = Storage.open(tmp_path / "s")
    folder.write("study.yaml", "name: s\n")
    with pytest.raises(KeyboardInterrupt), hold(folder):
        raise KeyboardInterrupt
    assert study_status(folder.root)["state"] == "interrupted"


def test_a_lock_that_was_taken_over_is_not_written_any_more(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    folder = Storage.open(tmp_path)
    with hold(folder) as mine:
        assert holds(folder, mine.token)
        folder.write("logs/launch.json", json.dumps(elsewhere(token="theirs")))
        assert not holds(folder, mine.token)
        end = time.monotonic() + 10
        while not mine.lost and time.monotonic() < end:
            time.sleep(0.05)
        assert mine.lost
    assert read_heartbeat(folder)["token"] == "theirs"


def test_the_claim_of_a_launch_that_died_is_removed(tmp_path):
    folder = Storage.open(tmp_path)
    folder.write("logs/claim-0.json", json.dumps(heartbeat(machine=machine(), pid=NOBODY)))
    folder.write("logs/claim-1.json", json.dumps(elsewhere()))
    with hold(folder, stale_seconds=-4.5):  # claims elsewhere are given 1 s
        assert folder.names("logs") == ["launch.json"]


def _compete(root, barrier, results):
    folder = Storage.open(root)
    barrier.wait()
    try:
        with hold(folder):
            results.put("took")
            time.sleep(2)
    except StudyError:
        results.put("refused")


@pytest.mark.faults
def test_of_many_launches_at_once_one_is_left(tmp_path):
    context = multiprocessing.get_context("spawn")
    for n in range(3):
        barrier, results = context.Barrier(5), context.Queue()
        processes = [
            context.Process(target=_compete, args=(str(tmp_path / str(n)), barrier, results))
            for _ in range(5)
        ]
        for process in processes:
            process.start()
        found = sorted(results.get(timeout=600) for _ in processes)
        for process in processes:
            process.join(timeout=600)
        assert found == ["refused"] * 4 + ["took"]
        assert Storage.open(tmp_path / str(n)).names("logs") == ["launch.json"]
