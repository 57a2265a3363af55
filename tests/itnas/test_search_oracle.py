"""Whole epochs and large batches against the plain form, with torch's optimizers and schedule."""

import math

import pytest
import torch

import itnas
from itnas.method.search import SearchPack
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting
from tests.reference.backends import compiler
from tests.reference.search import PlainSearch

RATES = {"architecture_lr": 0.01, "transition_lr": 0.02, "attention_lr": 0.03}
COMPILED, TORCH = {"kernels": "compiled"}, {"kernels": "torch"}
BACKENDS = [
    pytest.param(COMPILED, marks=compiler, id="compiled"),
    pytest.param(TORCH, id="torch"),
]


def setting_of(space, data, **search):
    values = {"epochs": 3, "batch_size": 16, "channels": 4, "cells": 1} | RATES | search
    return itnas.resolve(Setting(space, SearchSettings(**values), DependenceSettings()), data)


def exact(engine):
    return EngineSettings(precision="float64", **engine)


def of_plain(reference):
    weights = {k: v.detach() for k, v in reference.network.named_parameters()}
    return weights, [p.detach() for p in reference.architecture]


def close(pack, reference, tolerance=1e-9):
    weights, architecture = of_plain(reference)
    for name, mine in pack.engine.store.named(0).items():
        torch.testing.assert_close(mine, weights[name], rtol=0, atol=tolerance)
    for mine, wanted in zip(pack.architectures.trained, architecture, strict=True):
        torch.testing.assert_close(mine[0].detach(), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("engine", BACKENDS)
def test_epochs_follow_torchs_cosine(engine, nesterov):
    """Three epochs: every step on the same batches, the weights' rate by CosineAnnealingLR."""
    data = itnas.load_data(itnas.DataSettings("digits", subset=120))
    rates = {"weights_lr": 0.1, "weights_lr_min": 0.01, "nesterov": nesterov}
    setting = setting_of("nas-bench-201", data, **rates)
    pack = SearchPack(
        [setting], [Seeds.all(4)], data, EngineSettings(precision="float64", **engine)
    )
    plain = PlainSearch(setting, Seeds.all(4), data.channels, data.classes, dtype=torch.float64)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(plain.sgd, 3, eta_min=0.01)
    for epoch in range(3):
        batches = zip(
            pack.batches.training("architecture", epoch),
            pack.batches.training("weights", epoch),
            strict=True,
        )
        losses = []
        for (xa, ya), (xw, yw) in batches:
            plain.architecture_step(xa[0], ya[0])
            losses.append(plain.weight_step(xw[0], yw[0]).item())
        schedule.step()
        pack.run_epoch()
        mean = sum(losses) / len(losses)
        assert pack.histories[0][-1].metrics["train_loss"] == pytest.approx(mean, abs=1e-9)
        close(pack, plain)


def test_every_epoch_has_an_order_of_its_own():
    data = itnas.load_data(itnas.DataSettings("digits", subset=120))
    pack = SearchPack([setting_of("nas-bench-201", data)], [Seeds.all(0)], data)
    first, second, other = (
        next(pack.batches.training(part, epoch))[1]
        for part, epoch in (("weights", 0), ("weights", 1), ("architecture", 0))
    )
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("engine", BACKENDS)
@pytest.mark.parametrize("step", ["architecture", "weights"])
def test_a_diverged_replica_is_frozen_where_it_was(engine, step):
    """Its weights, its architecture and both optimizers' state, from that step on."""
    data = itnas.load_data(itnas.DataSettings("digits", subset=120))
    setting = setting_of("nas-bench-201", data)
    pack = SearchPack([setting] * 2, [Seeds.all(0), Seeds.all(1)], data, EngineSettings(**engine))
    pack.weight_optimizer.set_rates([0.05] * 2)
    images, labels = next(pack.batches.training("weights", 0))
    pack.engine.moment = (0, 0)
    pack.step(images, labels, images, labels)

    def state(replica):
        store, adam = pack.engine.store, pack.architectures.optimizer
        own = adam.owner == replica
        rows = [
            store.by_replica(flat)[replica] for flat in (store.flat, pack.weight_optimizer.velocity)
        ]
        return torch.cat([*rows, *(flat[own] for flat in (adam.flat, adam.first, adam.second))])

    before = [state(k).clone() for k in range(2)]
    bad = images.clone()
    bad[0] = math.nan
    given = (bad, images) if step == "architecture" else (images, bad)
    if step == "weights":
        pack.architecture_step(images, labels)  # sound: it still moves
        before[0] = state(0).clone()
        pack.weight_step(bad, labels)
    else:
        pack.step(given[0], labels, given[1], labels)
    assert pack.alive.tolist() == [False, True]
    pack.step(images, labels, images, labels)  # good images do not wake it
    assert pack.alive.tolist() == [False, True]
    assert torch.equal(state(0), before[0])
    assert not torch.equal(state(1), before[1])
    assert state(1).isfinite().all()


@pytest.mark.parametrize(
    ("space", "channels", "engine"),
    [
        pytest.param("nas-bench-201", 16, COMPILED, marks=compiler, id="nas-bench-201-16-compiled"),
        pytest.param("nas-bench-201", 16, TORCH, id="nas-bench-201-16-torch"),
        pytest.param("darts", 8, COMPILED, marks=compiler, id="darts-8-compiled"),
        pytest.param("darts", 8, TORCH, marks=pytest.mark.slow, id="darts-8-torch"),
    ],
)
def test_a_batch_of_several_pieces_is_one_batch(space, channels, engine):
    """Gradients of 37 images of 16x16: more than a block, and no multiple of one. In float64."""
    data = itnas.load_data(itnas.DataSettings("digits", resolution=16, subset=200))
    cells = 1 if space == "nas-bench-201" else 3
    setting = setting_of(space, data, channels=channels, cells=cells, batch_size=37)
    pack = SearchPack(
        [setting], [Seeds.all(2)], data, EngineSettings(precision="float64", **engine)
    )
    plain = PlainSearch(setting, Seeds.all(2), data.channels, data.classes, dtype=torch.float64)
    images, labels = next(pack.batches.training("weights", 0))
    loss, _ = plain.loss(images[0], labels[0])
    weights = dict(plain.network.named_parameters())
    wanted = torch.autograd.grad(loss, [*plain.architecture, *weights.values()])
    p = pack.architectures()
    losses, dp = pack.engine.architecture_gradient(images, labels, p)
    torch.testing.assert_close(losses[0], loss.detach(), rtol=0, atol=1e-10)
    mine = torch.autograd.grad(
        list(p.values()), pack.architectures.trained, [dp[kind] for kind in p]
    )
    for a, b in zip(mine, wanted, strict=False):
        torch.testing.assert_close(a[0], b, rtol=0, atol=1e-10)
    _, _, flat = pack.engine.weight_gradient(images, labels, p)
    own = pack.engine.store.named(0, flat)
    for name, gradient in zip(weights, wanted[len(mine) :], strict=True):
        torch.testing.assert_close(own[name], gradient, rtol=0, atol=1e-10)
