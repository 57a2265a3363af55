"""A tuning that is killed is the tuning that nothing happened to."""

from __future__ import annotations

import json
import random
import time

import optuna
import pytest

from study.store.door import Storage
from tests.study.faults.support import STUDY, Tuning, lasting, write_study
from tests.study.test_object_store import inside, objects

pytestmark = pytest.mark.faults

TRIALS = 5
TUNE = {
    "name": "tiny",
    "search": {**STUDY["search"], "epochs": 4, "architecture_lr": 0.5, "weights_lr": 0.1},
    "grid": {"dependence": [{"model": "transition"}]},
    "seeds": "0..3",
    "pack": 2,
    "resources": {"cpu": 2},  # one worker on two processors: then suggestions come in one order
    "tune": {
        "architecture_lr": [0.2, 2.0],
        "transition_lr": [0.2, 2.0],
        "seeds": {"start": 2, "all": 4},
        "startup_trials": 2,
    },
}


WORDS = ("--trials", str(TRIALS), "--confirm", "3")


def trials(place):
    """All that Optuna knows of every trial, but for when it was."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if place.startswith("journal:"):
        backend = optuna.storages.journal.JournalFileBackend(place.removeprefix("journal:"))
        study = optuna.load_study(
            study_name="tiny", storage=optuna.storages.JournalStorage(backend)
        )
    else:
        study = optuna.load_study(study_name="tiny", storage=place)
    return [
        (t.number, t.state.name, t.values, t.params, t.user_attrs, t.constraints)
        for t in study.trials
    ]


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A tuning that nothing happens to: tables, trials, what is recorded and found."""
    folder = tmp_path_factory.mktemp("calm")
    tuning = Tuning(write_study(folder, **TUNE), folder / "out", *WORDS)
    assert tuning.ends() == 0, tuning.errors
    own = folder / "out" / "tiny"
    known = trials(f"sqlite:///{own / 'tune' / 'optuna.db'}")
    assert [state for _, state, *_ in known] == ["COMPLETE"] * TRIALS
    return own, known


def test_fault_17_tuning_killed(calm, tmp_path):
    """The driver by SIGKILL at three random moments."""
    own, known = calm
    study, storage = write_study(tmp_path / "file", **TUNE), tmp_path / "out"
    folder, chance = storage / "tiny", random.Random(3)
    for n in range(3):
        tuning = Tuning(study, storage, *WORDS)
        tuning.until(lambda n=n: len(list(folder.glob("runs/*.parquet"))) > 2 * n)
        time.sleep(chance.uniform(0, 2))
        tuning.kill()
    tuning = Tuning(study, storage, *WORDS)
    assert tuning.ends() == 0, tuning.errors
    assert trials(f"sqlite:///{folder / 'tune' / 'optuna.db'}") == known
    assert lasting(folder) == lasting(own)
    for name in ("tuning.json", "best.yaml"):
        assert (folder / "tune" / name).read_text() == (own / "tune" / name).read_text()
    assert not (folder / "checkpoints").exists()


def test_fault_17_tuning_killed_in_an_object_store(calm, s3, tmp_path):
    """The trials in a journal, everything else in the store; killed once."""
    own, known = calm
    place = f"journal:{tmp_path / 'shared' / 'optuna.log'}"
    tune = {**TUNE["tune"], "storage": place}
    study, storage = write_study(tmp_path / "file", **{**TUNE, "tune": tune}), inside(s3, "out")
    tuning = Tuning(study, storage, *WORDS)
    tuning.until(lambda: any("/runs/" in key for key in objects(s3)))
    tuning.kill()
    tuning = Tuning(study, storage, *WORDS)
    assert tuning.ends() == 0, tuning.errors
    assert trials(place) == known
    door = Storage.open(storage).folder("tiny")
    assert json.loads(door.read("tune/tuning.json")) == json.loads(
        (own / "tune" / "tuning.json").read_text()
    )
    assert door.exists("tune/best.yaml")
