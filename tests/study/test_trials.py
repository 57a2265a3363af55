"""A trial in this process, without Ray: what it tells Tune, and that it leaves nothing behind."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch

from study.cluster.nodes import versions
from study.errors import StudyError
from study.file import load_study
from study.file.grid import Expansion, expand
from study.opening import read_data
from study.planning.sizes import sizes
from study.scheduling import loggers, trainable
from study.scheduling.trainable import TrialContext, _Trial
from study.store.checkpoints import Checkpoints
from study.store.door import Storage
from study.store.registry import Registry
from study.tuning.plan import plan_tuning
from tests.study.cli import refused
from tests.study.faults.support import lasting


class Listener:
    """Nobody tells it anything."""

    def __init__(self, *_):
        pass

    def ends(self):
        return False


@pytest.fixture
def trained(write_study, tmp_path, monkeypatch):
    """Trains packs one after the other in this process, as a reused actor does; gives reports."""
    monkeypatch.setattr("study.scheduling.orders.Listener", Listener)
    monkeypatch.setattr(trainable, "_where", lambda: {"node_id": "n", "host": "h", "process": 1})
    monkeypatch.setattr(trainable, "holds", lambda *_: True)
    kept = torch.get_num_threads(), torch.get_default_dtype()

    def train(name, before=lambda: None, values=None, **changes):
        """values: of a trial of a tuning, instead of the study's own settings."""
        file = load_study(write_study(search={"epochs": 2, "batch_size": 32, "channels": 4,
                                              "cells": 1}, **changes))  # fmt: skip
        data = read_data(file)
        expansion, folder, reports = expand(file, data), Storage.open(str(tmp_path / name)), []
        if values is not None:
            plan = plan_tuning(file, data)
            one = plan.setting(values)
            expansion = Expansion([one], plan.runs(one, file.seed_list()), [])
        packs = Registry().include(expansion, file, set(), 2)
        for pack in packs:
            before()
            context = TrialContext(
                study="tiny", folder=folder, token="t", engine=file.engine_settings(), threads=1,
                lookup=None, versions=versions(), checkpoint_epochs=1, checkpoint_minutes=10,
                max_failures=0, retry_seconds=1,
            )  # fmt: skip
            last = _Trial(pack, context, reports.append).run(data.to_arrays())
            reports.append(last)
        return reports

    yield train
    torch.set_num_threads(kept[0])
    torch.set_default_dtype(kept[1])


def test_nothing_is_left_to_the_next_pack_of_a_process(trained, tmp_path):
    """Another dtype, device and gradients, drawn random numbers, more threads: no bit changes."""
    seen = []

    def soil():
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.set_num_threads(2)
        torch.manual_seed(random.randrange(2**31))
        torch.rand(3, device="cpu"), np.random.rand(3), random.random()

    trained("clean")
    trained("soiled", soil)
    assert lasting(tmp_path / "soiled") == lasting(tmp_path / "clean")

    def look():
        seen.append((torch.rand(2).tolist(), np.random.rand(), random.random()))

    soil()
    begin = trainable._as_new
    for _ in range(2):
        begin(1)
        look()
        soil()
    begin(1)
    assert seen[0] == seen[1]
    assert torch.get_num_threads() == 1
    assert torch.is_grad_enabled()
    assert torch.ones(1).dtype == torch.float32


def test_a_trial_of_a_tuning_may_change_the_augmentation(trained, tmp_path):
    """It is the run that a study file with that augmentation asks for."""
    grid, data = {"dependence": [{}]}, {"source": "digits", "resolution": 8, "subset": 200}
    trained("tuned", values={"cutout": 3}, grid=grid, data=data,
            tune={"data.cutout": {"low": 0, "high": 4}})  # fmt: skip
    trained("written", grid=grid, data={**data, "cutout": 3})
    assert lasting(tmp_path / "tuned") == lasting(tmp_path / "written")
    trained("plain", grid=grid, data=data)
    plain, tuned = (lasting(tmp_path / name)["epochs"] for name in ("plain", "tuned"))
    assert [row.partition("train_loss")[2] for row in plain] != [
        row.partition("train_loss")[2] for row in tuned
    ]


def test_a_pack_does_not_begin_on_a_node_that_is_left(trained, tmp_path, monkeypatch):
    """It goes back, uncounted: Tune gives the worker of a pack that has left to the next one."""
    monkeypatch.setattr(Listener, "ends", lambda self: True)
    assert trained("out") == [{trainable.ENDED: trainable.PAUSED}] * 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("writes", range(4))
def test_a_worker_of_a_launch_that_lost_the_lock_writes_nothing(trained, tmp_path, monkeypatch,
                                                                writes):  # fmt: skip
    """Lost before the pack begins, or after so many of its writes: two epochs' and the rows'."""
    held = iter([True] * writes)
    monkeypatch.setattr(trainable, "holds", lambda *_: next(held, False))
    with pytest.raises(trainable._LostError):
        trained("out")
    files = sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file())
    saved = ["000001-000000000.ckpt", "000002-000000000.ckpt"][: max(writes - 1, 0)]
    assert files == saved + ["attempts.json"] * (writes > 0)


def test_a_checkpoint_is_as_large_as_planned(trained, tmp_path, monkeypatch):
    saved = []
    save = Checkpoints.save

    def measured(self, moment, state):
        saved.append(save(self, moment, state))

    monkeypatch.setattr(Checkpoints, "save", measured)
    trained("out")
    file = load_study(tmp_path / "study.yaml")
    data = read_data(file)
    found = sizes(expand(file, data).runs, data, file.engine_settings(), 2, 1)
    assert found["checkpoint_bytes"] == pytest.approx(max(saved), rel=0.15)
    assert found["checkpoints_bytes"] == 3 * found["checkpoint_bytes"]


def test_every_epoch_is_told_with_its_metrics(trained):
    """What Tune's loggers draw: means over the pack's runs, on an axis of epochs."""
    epochs = [report for report in trained("out") if "epoch_seconds" in report]
    assert [(r["epoch"], r["timesteps_total"]) for r in epochs] == [(1, 1), (2, 2)] * 2
    for report in epochs:
        assert {"train_loss", "valid_loss", "valid_accuracy", "derived_accuracy"} <= report.keys()
        assert 0 <= report["valid_accuracy"] <= report["best_valid_accuracy"] <= 1


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_logger_that_is_not_installed(write_study, tmp_path, monkeypatch, package):
    found = loggers.importlib.util.find_spec
    monkeypatch.setattr(loggers.importlib.util, "find_spec",
                        lambda name: None if name == package else found(name))  # fmt: skip
    words = ("launch", str(write_study()), "--storage", str(tmp_path / "out"))
    message = refused(*words, "--set", f"logger={package}")
    assert message == f"logger: {package} needs a package: pip install {package}\n"
    assert not (tmp_path / "out").exists()


def test_tensorboard_needs_a_disk(write_study, s3):
    message = refused("launch", str(write_study()), "--storage", s3, "--set", "logger=tensorboard")
    assert message.startswith("logger: tensorboard writes into the study's folder")


def test_a_logger_that_breaks_ends_nothing(write_study, monkeypatch):
    """It is told once and left out; Tune itself would end the launch."""
    from ray.tune import Callback

    heard = []

    class Broken(Callback):
        def on_trial_result(self, **info):
            heard.append(info)
            raise ConnectionError("the server\nis away")

    monkeypatch.setattr(loggers, "_callback", lambda *_: Broken())
    lines = []
    file = load_study(write_study(), ["logger=mlflow"])
    (callback,) = loggers.logger_callbacks(file, None, lines.append)
    for n in range(3):
        callback.on_trial_result(iteration=n, trials=[], trial=None, result={})
    assert [info["iteration"] for info in heard] == [0]
    assert lines == ["logger: mlflow has failed (the server); the study goes on"]
    assert not pickle.loads(pickle.dumps(callback.__getstate__()))


def test_a_logger_that_cannot_start_is_refused(write_study, monkeypatch):
    from ray.tune import Callback

    class Locked(Callback):
        def setup(self, **info):
            raise ValueError("No API key found\nlong explanation")

    monkeypatch.setattr(loggers, "_callback", lambda *_: Locked())
    with pytest.raises(StudyError) as refusal:
        loggers.logger_callbacks(load_study(write_study(), ["logger=wandb"]), None, print)
    assert refusal.value.lines == ("logger: wandb cannot be used (No API key found)",)
