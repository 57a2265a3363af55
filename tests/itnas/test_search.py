"""The bilevel search against a plain reimplementation, its exactness, and its records."""

import io
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import itnas
from itnas.method.bilevel import SearchPack
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting
from tests.reference.search import PlainSearch
from tests.reference.supernet import single_path

DOUBLE = EngineSettings(precision="float64")


def setting(space="nas-bench-201", dependence=None, **search):
    search = {"epochs": 2, "channels": 2, "cells": 1 if space == "nas-bench-201" else 3, **search}
    return Setting(space, SearchSettings(**search), dependence or DependenceSettings())


def dumped(pack):
    buffer = io.BytesIO()
    torch.save(pack.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def without_times(result):
    fields = result.as_dict()
    history = [
        (r.epoch, r.cells, {k: v for k, v in r.metrics.items() if k != "seconds"})
        for r in result.history
    ]
    return {k: v for k, v in fields.items() if "seconds" not in k}, history


def epoch_of(config, seed, data):
    """A plain search of one epoch on the batches of `seed`."""
    config = itnas.resolve(config, data)
    view = itnas.data.Batches(data, [seed.data], config.search.batch_size, "cpu", torch.float64)
    search = PlainSearch(config, seed, data.channels, 10, dtype=torch.float64)
    pairs = zip(view.training("architecture", 0), view.training("weights", 0), strict=True)
    for n, ((xa, ya), (xw, yw)) in enumerate(pairs):
        search.context.moment = ("architecture", 0, n)
        search.architecture_step(xa[0], ya[0])
        search.context.moment = ("weights", 0, n)
        search.weight_step(xw[0], yw[0])
    return search


@pytest.mark.parametrize(
    ("space", "dependence", "clip"),
    [
        ("nas-bench-201", DependenceSettings(attention="content"), 0.5),  # clipping is active
        ("nas-bench-201", DependenceSettings("independent"), 5.0),
        ("s1", DependenceSettings(own_weight=0.3), 5.0),
        ("s4", DependenceSettings(sharing="cell"), 5.0),
    ],
)
def test_an_epoch_agrees_with_a_plain_reimplementation(digits, space, dependence, clip):
    config = setting(
        space, dependence, epochs=1, batch_size=32, gradient_clip=clip,
        architecture_lr=0.01, transition_lr=0.02, attention_lr=0.03, transition_weight_decay=0.01,
    )  # fmt: skip
    pack = itnas.SearchPack([config], [Seeds(0, 1, 2)], digits, DOUBLE)
    pack.run_epoch()
    plain = epoch_of(config, Seeds(0, 1, 2), digits)
    for mine, wanted in zip(pack.architectures.trained, plain.architecture, strict=True):
        torch.testing.assert_close(mine[0], wanted, rtol=0, atol=1e-9)
    weights = pack.engine.store.named(0)
    for name, wanted in plain.network.named_parameters():
        torch.testing.assert_close(weights[name], wanted.detach(), rtol=0, atol=1e-8)


def test_the_same_run_twice_is_bit_identical(digits):
    config = setting()
    alone = itnas.run_search(config, [1], digits)[0]
    torch.manual_seed(99)
    packed = itnas.run_search(config, [0, 1], digits)[1]
    assert without_times(alone) == without_times(packed)
    assert without_times(alone) != without_times(itnas.run_search(config, [2], digits)[0])


@pytest.mark.parametrize("space", ["nas-bench-201", "s4"])
def test_a_search_continued_from_its_state_is_bit_identical(digits, space):
    configs = [setting(space, epochs=3), setting(space, DependenceSettings("placebo"), epochs=3)]
    seeds = [Seeds.all(0), Seeds(0, 1, 2)]
    through = itnas.SearchPack(configs, seeds, digits)
    while not through.finished:
        through.run_epoch()
    for epochs in (0, 1, 2):
        first = itnas.SearchPack(configs, seeds, digits)
        for _ in range(epochs):
            first.run_epoch()
        second = itnas.SearchPack(configs, seeds, digits)
        second.load_state_dict(dumped(first))
        while not second.finished:
            second.run_epoch()
        for a, b in zip(through.results(), second.results(), strict=True):
            assert without_times(a) == without_times(b)


def test_two_settings_with_one_seed_start_alike(digits):
    models = ("independent", "transition", "placebo")
    configs = [itnas.resolve(setting(dependence=DependenceSettings(m)), digits) for m in models]
    first, *others = [SearchPack([c], [Seeds.all(5)], digits) for c in configs]
    for other in others:
        assert torch.equal(first.engine.store.flat, other.engine.store.flat)
        for outer in ("0_1", "0_2", "0_3"):
            a, b = (
                pack.architectures.groups[0].cells["normal"].logits[outer]
                for pack in (first, other)
            )
            assert torch.equal(a, b)
        for epoch in (0, 1):
            pairs = zip(
                first.batches.training("weights", epoch),
                other.batches.training("weights", epoch),
                strict=True,
            )
            assert all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in pairs)


def test_each_seed_moves_its_own_part_alone(digits):
    base = SearchPack([setting()], [Seeds(0, 0, 0)], digits)

    def same(seeds):
        other = SearchPack([setting()], [seeds], digits)
        holdouts = (pack.batches.parts[0]["holdout"] for pack in (base, other))
        return (
            torch.equal(base.engine.store.flat, other.engine.store.flat),
            torch.equal(*holdouts),
            base.histories == other.histories,
        )

    assert same(Seeds(0, 0, 0)) == (True, True, True)
    assert same(Seeds(1, 0, 0)) == (False, True, True)
    assert same(Seeds(0, 1, 0)) == (True, False, True)
    assert same(Seeds(0, 0, 1)) == (True, True, False)


def test_each_rate_moves_its_own_group(digits):
    for moving, moved in (
        ("architecture_lr", "logits"),
        ("transition_lr", "transition"),
        ("attention_lr", "attention"),
    ):
        rates = dict.fromkeys(("architecture_lr", "transition_lr", "attention_lr"), 0.0)
        config = setting(epochs=1, **{**rates, moving: 0.05})
        pack = itnas.SearchPack([config], [Seeds.all(0)], digits)
        dependence = pack.architectures.groups[0].cells["normal"]
        before = {k: v.clone() for k, v in dependence.state_dict().items()}
        pack.run_epoch()
        after = dependence.state_dict()
        changed = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
        assert changed == {moved}


def test_auto_is_six_over_the_architecture_steps(digits):
    resolved = itnas.resolve(setting(epochs=3, batch_size=16, transition_lr=0.5), digits).search
    assert digits.steps_per_epoch(16) == 11  # 180 images
    assert resolved.architecture_lr == 6 / 33 == resolved.attention_lr
    assert resolved.transition_lr == 0.5
    assert itnas.resolve(setting(cells="auto"), digits).search.cells == 5


def test_records_and_metrics_of_a_run(digits):
    result = itnas.run_search(setting(epochs=2), [0], digits)[0]
    assert [r.epoch for r in result.history] == [-1, 0, 1]
    assert result.history[0].metrics == {}
    assert result.metrics == result.history[-1].metrics  # of the last epoch, never the best
    assert result.status == "complete"
    assert result.epochs_completed == 2
    for name in ("train_accuracy", "valid_accuracy", "derived_accuracy"):
        assert 0 <= result.metrics[name] <= 1
    start, end = (
        np.array(result.history[k].cells["normal"].probabilities, dtype=float) for k in (0, -1)
    )
    wanted = np.abs(start - end).sum(1).mean() / 2
    assert result.metrics["architecture_displacement"] == pytest.approx(wanted, abs=1e-12)
    best = [result.history[-1].cells["normal"].probabilities[e] for e in range(6)]
    assert result.genotype == str(itnas.derive(itnas.get_space("nas-bench-201"), {"normal": best}))
    assert result.genotype_normal == result.genotype
    assert result.genotype_reduce is None


def test_the_holdout_decides_the_valid_metrics(digits):
    """Recomputed from the state: relaxed and single-path accuracy with batch statistics."""
    config = setting(epochs=1)
    pack = itnas.SearchPack([config], [Seeds.all(0)], digits, DOUBLE)
    pack.run_epoch()
    metrics = pack.results()[0].metrics
    reference = PlainSearch(pack.settings[0], Seeds.all(0), 1, 10, dtype=torch.float64)
    weights = pack.engine.store.named(0)
    with torch.no_grad():
        for name, parameter in reference.network.named_parameters():
            parameter.copy_(weights[name])
        relaxed = pack.architectures()
    lists = {"normal": list(relaxed["normal"][0].split(5))}
    genotype = itnas.derive(pack.space, {"normal": [p.tolist() for p in lists["normal"]]})
    path = single_path(pack.space, genotype)
    losses, correct, derived = [], 0, 0
    for x, y in pack.batches.evaluation("holdout"):
        logits = reference.network(x[0], lists)
        losses += F.cross_entropy(logits, y[0], reduction="none").tolist()
        correct += int((logits.argmax(1) == y[0]).sum())
        derived += int((reference.network(x[0], path).argmax(1) == y[0]).sum())
    assert len(losses) == 40
    assert metrics["valid_loss"] == pytest.approx(np.mean(losses), abs=1e-10)
    assert metrics["valid_accuracy"] == correct / 40
    assert metrics["derived_accuracy"] == derived / 40


def test_a_diverged_run_is_flagged_and_its_neighbour_goes_on(digits):
    calm = setting(epochs=3)
    wild = setting(epochs=3, weights_lr=1e30, gradient_clip=0.0)
    pack = itnas.SearchPack([wild, calm], [Seeds.all(0), Seeds.all(0)], digits)
    while not pack.finished:
        pack.run_epoch()
    diverged, neighbour = pack.results()
    assert diverged.status == "diverged"
    assert diverged.epochs_completed == 0
    assert math.isnan(diverged.metrics["valid_accuracy"])
    assert diverged.metrics["architecture_displacement"] == 0
    assert [r.epoch for r in diverged.history] == [-1]
    itnas.Genotype.parse(diverged.genotype)
    assert without_times(neighbour) == without_times(itnas.run_search(calm, [0], digits)[0])
    again = itnas.SearchPack([wild, calm], [Seeds.all(0), Seeds.all(0)], digits)
    again.load_state_dict(dumped(pack))
    assert again.results()[0].status == "diverged"


def test_a_pack_of_diverged_runs_is_finished_at_once(digits):
    wild = setting(epochs=50, weights_lr=1e30, gradient_clip=0.0)
    pack = itnas.SearchPack([wild], [Seeds.all(0)], digits)
    pack.run_epoch()
    assert pack.finished


def test_what_does_not_fit_is_one_clear_line(digits):
    with pytest.raises(ValueError, match=r"search.cells: 2 is not allowed; darts needs at least 3"):
        itnas.resolve(setting("darts", cells=2), digits)
    with pytest.raises(itnas.DataError, match=r"too few for search.batch_size 256"):
        itnas.resolve(setting(batch_size=256), digits)
    with pytest.raises(ValueError, match=r"search.epochs: .* one value; got 1 and 2"):
        itnas.SearchPack([setting(epochs=1), setting(epochs=2)], [Seeds.all(0)] * 2, digits)
    with pytest.raises(ValueError, match=r"device: 'gpu' is not allowed; cpu, cuda or cuda:N"):
        EngineSettings(device="gpu")


def test_a_step_is_timed_without_paying_for_a_full_batch(digits):
    seconds = itnas.seconds_per_step(setting(batch_size=64), digits, EngineSettings(), budget=0.5)
    assert 1e-4 < seconds < 10


def test_importing_itnas_loads_no_ray_and_no_pandas():
    code = (
        "import sys, itnas; bad = {'ray', 'pandas', 'sklearn', 'PIL', 'pyarrow', 'pydantic'}; "
        "print(sorted(bad & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
