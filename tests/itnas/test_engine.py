"""The engine against the plain reference: edge by edge, one replica, torch's own optimizers."""

import math
import statistics

import pytest
import torch
import torch.nn.functional as F

import itnas
from itnas.engine.pack import Engine, prepare
from itnas.kernels import library as kernels
from itnas.method.bilevel import SearchPack
from itnas.method.genotype import single_paths
from itnas.settings import (
    DIFFERING,
    DependenceSettings,
    EngineSettings,
    SearchSettings,
    Seeds,
    Setting,
)
from tests.benchmarks.operators import engine_calls, plain_calls
from tests.reference.backends import BACKENDS, compiler
from tests.reference.dependence import plain_architecture
from tests.reference.search import PlainSearch
from tests.reference.supernet import single_path

SPACES = ["nas-bench-201", "darts", "s1", "s2", "s3", "s4"]
MODELS = [
    DependenceSettings(),
    DependenceSettings("independent"),
    DependenceSettings("placebo", attention="content"),
    DependenceSettings(sharing="cell", own_weight=0.3, temperature=0.7),
    DependenceSettings(attention="uniform", stop_gradient=True, init="random"),
]
backends = pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=compiler if b == "compiled" else ()) for b in BACKENDS]
)


def settings_for(backend, precision="float64"):
    return EngineSettings(precision=precision, **BACKENDS[backend])


def fits(space, dependence):
    return not (space == "s1" and dependence.sharing != "link")


def config(space, dependence=None, **search):
    cells = 1 if space == "nas-bench-201" else 3
    values = {"epochs": 1, "batch_size": 6, "channels": 4, "cells": cells} | search
    rates = {"architecture_lr": 0.01, "transition_lr": 0.02, "attention_lr": 0.03}
    return Setting(space, SearchSettings(**(rates | values)), dependence or DependenceSettings())


def slow(*spaces):
    return [pytest.param(space, marks=pytest.mark.slow) for space in spaces]


def batch(replicas, count=6, channels=3, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (replicas, count, channels, size, size)
    images = torch.randn(shape, generator=generator).double()
    return images, torch.randint(10, (replicas, count), generator=generator)


def pack_of(digits, settings, seeds, backend, precision="float64"):
    return SearchPack(settings, seeds, digits, settings_for(backend, precision))


def shake(pack, plain):
    """Move the architecture away from its start, alike on both sides."""
    sides = [] if pack is None else [pack.architectures.trained]
    for parameters in sides + [reference.architecture for reference in plain]:
        generator = torch.Generator().manual_seed(7)
        for p in parameters:
            shape = p.shape[1:] if sides and parameters is sides[0] else p.shape
            with torch.no_grad():
                p += 0.5 * torch.randn(shape, generator=generator).to(p)


def close(mine, wanted, tolerance=1e-10):
    torch.testing.assert_close(mine, wanted, rtol=0, atol=tolerance)


def pair(digits, setting, seeds, backend):
    setting = itnas.resolve(setting, digits)
    pack = pack_of(digits, [setting] * len(seeds), seeds, backend)
    plain = [PlainSearch(setting, s, 1, 10, dtype=torch.float64) for s in seeds]
    shake(pack, plain)
    pack.engine.moment = ("architecture", 0, 0)
    for reference in plain:
        reference.context.moment = pack.engine.moment
    return pack, plain


def cases():
    """Every space x dependence model x number of replicas in groups and compiled; the other
    layouts with the default model. One replica of another model is `slow`."""
    for space in SPACES:
        for n, dependence in enumerate(MODELS):
            if not fits(space, dependence):
                continue  # one matrix cannot serve the candidate lists of s1
            for replicas in (1, 3):
                chosen = [b for b in BACKENDS if n == 0 or b in ("groups", "compiled")]
                name = f"{space}-{dependence.model}{n}-{replicas}"
                marks = pytest.mark.slow if n and replicas == 1 else ()
                yield pytest.param(space, dependence, replicas, chosen, id=name, marks=marks)


@pytest.mark.parametrize(("space", "dependence", "replicas", "chosen"), list(cases()))
def test_losses_and_gradients_agree_with_the_plain_form(
    digits, space, dependence, replicas, chosen
):
    seeds = [Seeds(n, n + 1, n + 2) for n in range(replicas)]
    setting = itnas.resolve(config(space, dependence), digits)
    images, labels = batch(replicas, channels=1)
    plain = [PlainSearch(setting, s, 1, 10, dtype=torch.float64) for s in seeds]
    shake(None, plain)
    outcomes = []
    for k, reference in enumerate(plain):
        reference.context.moment = ("architecture", 0, 0)
        loss, logits = reference.loss(images[k], labels[k])
        weights = dict(reference.network.named_parameters())
        gradients = torch.autograd.grad(
            loss, [*reference.architecture, *weights.values()], allow_unused=True
        )
        outcomes.append((loss.detach(), logits.argmax(1), weights, gradients))
    for backend in chosen:
        if backend == "compiled" and kernels.load() is None:
            continue
        pack = pack_of(digits, [setting] * replicas, seeds, backend)
        shake(pack, [])
        engine, p = pack.engine, pack.architectures()
        engine.moment = ("architecture", 0, 0)
        losses, dp = engine.architecture_gradient(images, labels, p)
        mine = torch.autograd.grad(
            list(p.values()), pack.architectures.trained, [dp[kind] for kind in p],
            allow_unused=True,
        )  # fmt: skip
        _, hits, flat = engine.weight_gradient(images, labels, p)
        for k, (loss, predicted, weights, wanted) in enumerate(outcomes):
            close(losses[k], loss)
            assert hits[k] == (predicted == labels[k]).sum()
            for a, b in zip(mine, wanted, strict=False):  # the architecture comes first
                close(torch.zeros(()) if a is None else a[k], torch.zeros(()) if b is None else b)
            own = engine.store.named(k, flat)
            assert own.keys() == weights.keys()
            for name, gradient in zip(weights, wanted[len(mine) :], strict=True):
                close(own[name], gradient)


@backends
@pytest.mark.parametrize("space", ["nas-bench-201", "s1", "s4"])
def test_a_replica_does_not_depend_on_its_neighbours(digits, space, backend):
    images, labels = batch(3, channels=1)
    setting = config(space)
    seeds = [Seeds.all(n) for n in range(3)]
    together = pack_of(digits, [setting] * 3, seeds, backend)
    alone = pack_of(digits, [setting], [seeds[1]], backend)
    poisoned = images.clone()
    poisoned[0] = math.nan
    for given in (images, poisoned):
        for _ in range(3):
            for pack, chosen in ((together, slice(None)), (alone, slice(1, 2))):
                pack.engine.moment = (0, 0)
                pack.step(given[chosen], labels[chosen], given[chosen], labels[chosen])
        for mine, wanted in zip(
            together.engine.store.named(1).values(), alone.engine.store.named(0).values(),
            strict=True,
        ):  # fmt: skip
            close(mine, wanted)
        for a, b in zip(together.architectures.trained, alone.architectures.trained, strict=True):
            close(a[1].detach(), b[0].detach())


UNEQUAL = [
    {"gradient_clip": 0.05, "weights_lr": 0.05},
    {"architecture_lr": 0.05, "momentum": 0.5, "weight_decay": 0.01},
    {"transition_lr": 0.1, "architecture_weight_decay": 0.1, "nesterov": True},
    {"weights_lr": 1e30, "gradient_clip": 0.0},  # diverges
]


def steps(digits, space, chosen, precision, count=20):
    """Per backend a pack of four unlike runs, one of which diverges; the plain ones beside."""
    dependences = [DependenceSettings(), DependenceSettings("placebo"), DependenceSettings(),
                   DependenceSettings("independent")]  # fmt: skip
    settings = [
        itnas.resolve(config(space, d, transition_weight_decay=0.01, **own), digits)
        for d, own in zip(dependences, UNEQUAL, strict=True)
    ]
    seeds = [Seeds(n, n, n + 3) for n in range(4)]
    packs = [pack_of(digits, settings, seeds, backend, precision) for backend in chosen]
    dtype = packs[0].engine.dtype
    plain = [
        PlainSearch(setting, seed, 1, 10, dtype=dtype)
        for setting, seed in list(zip(settings, seeds, strict=True))[:3]
    ]
    for pack in packs:
        pack.weight_optimizer.set_rates([s.search.weights_lr for s in settings])
    for n in range(count):
        images, labels = batch(4, channels=1, seed=n)
        images = images.to(dtype)
        for pack in packs:
            pack.engine.moment = (0, n)
            pack.step(images, labels, images, labels)
        for k, reference in enumerate(plain):
            reference.context.moment = ("architecture", 0, n)
            reference.architecture_step(images[k], labels[k])
            reference.context.moment = ("weights", 0, n)
            reference.weight_step(images[k], labels[k])
    return packs, plain


def largest_errors(pack, plain):
    weights = architecture = 0.0
    with torch.no_grad():
        p = pack.architectures()
        for k, reference in enumerate(plain):
            named = pack.engine.store.named(k)
            for name, wanted in reference.network.named_parameters():
                weights = max(weights, (named[name] - wanted).abs().max().item())
            for kind, cell in reference.dependence.items():
                wanted = torch.cat(plain_architecture(cell)[0])
                architecture = max(architecture, (p[kind][k] - wanted).abs().max().item())
    return weights, architecture


def available(*names):
    return [b for b in names if b != "compiled" or kernels.load() is not None]


@pytest.mark.parametrize("space", ["nas-bench-201", *slow("s1", "s2", "s4")])
def test_twenty_steps_with_unequal_rates_clipping_and_a_diverged_replica(digits, space):
    packs, plain = steps(digits, space, available("groups", "loop", "compiled"), "float64")
    for pack in packs:
        assert pack.alive.tolist() == [True, True, True, False]
        weights, architecture = largest_errors(pack, plain)
        assert weights < 1e-10
        assert architecture < 1e-10


def test_twenty_steps_in_single_precision_stay_near_the_plain_form(digits):
    """Rounding differs from the first step on; Adam turns a gradient's sign into a step of the
    rate, so the architecture agrees to a fraction of 20 steps' length, not to rounding."""
    packs, plain = steps(digits, "nas-bench-201", available(*BACKENDS), "float32")
    for pack in packs:
        weights, architecture = largest_errors(pack, plain)
        assert weights < 1e-4
        assert architecture < 1e-4


@backends
@pytest.mark.parametrize("space", ["nas-bench-201", "darts", "s1", *slow("s2", "s3", "s4")])
def test_single_precision_gradients_of_the_architecture(digits, space, backend):
    """Within 1e-4 of the float64 ones, relative to their norm; the median of five batches.

    Not of every batch: where a ReLU's input or the two largest of a pool's window are equal
    within rounding, the plain form in float32 is off by up to 2e-3 as well.
    """
    setting = itnas.resolve(config(space, channels=8), digits)
    packs = [
        pack_of(digits, [setting], [Seeds.all(0)], backend, precision)
        for precision in ("float64", "float32")
    ]
    errors = []
    for seed in range(5):
        images, labels = batch(1, count=16, channels=1, seed=seed)
        found = []
        for pack in packs:
            given, p = images.to(pack.engine.dtype), pack.architectures()
            pack.engine.moment = (0, seed)
            _, dp = pack.engine.architecture_gradient(given, labels, p)
            found.append(torch.cat([g.flatten() for g in dp.values()]).double())
        errors.append(((found[1] - found[0]).norm() / found[0].norm()).item())
    assert statistics.median(errors) < 1e-4


@compiler
@pytest.mark.parametrize("channels", [2, 5, 8, 12, 32])
@pytest.mark.parametrize("space", ["nas-bench-201", "darts"])
def test_compiled_kernels_at_any_number_of_channels(digits, space, channels):
    """Vectors of 1, 4, 8 and 16 numbers, and halves of an odd number of channels."""
    setting = config(space, channels=channels)
    pack, (reference,) = pair(digits, setting, [Seeds.all(3)], "compiled")
    images, labels = batch(1, count=3, channels=1, size=16)
    engine, p = pack.engine, {k: q.detach() for k, q in pack.architectures().items()}
    losses, _, flat = engine.weight_gradient(images, labels, p)
    loss, _ = reference.loss(images[0], labels[0])
    weights = dict(reference.network.named_parameters())
    wanted = torch.autograd.grad(loss, list(weights.values()))
    close(losses[0], loss.detach())
    own = engine.store.named(0, flat)
    for name, gradient in zip(weights, wanted, strict=True):
        close(own[name], gradient)


@backends
@pytest.mark.parametrize("space", ["nas-bench-201", "darts", "s1"])
def test_single_paths_are_the_network_of_the_kept_edges(digits, space, backend):
    """Edge weights of zero and one, also where the compiled kernels leave maps out."""
    pack, (reference,) = pair(digits, config(space), [Seeds.all(1)], backend)
    relaxed = pack.architectures()
    genotypes = pack._genotypes({k: p.detach() for k, p in relaxed.items()})
    paths = single_paths(pack.space, genotypes, relaxed)
    images, labels = batch(1, channels=1)
    losses, hits = pack.engine.evaluate(images, labels, paths)
    logits = reference.network(images[0], single_path(pack.space, genotypes[0]))
    close(losses[0], F.cross_entropy(logits, labels[0], reduction="sum").detach())
    assert hits[0] == (logits.argmax(1) == labels[0]).sum()


@pytest.mark.parametrize("model", ["transition", "independent"])
@pytest.mark.parametrize("space", SPACES)
def test_a_pack_of_eight_in_groups_takes_a_sixteenth_of_the_operator_calls(digits, space, model):
    setting = itnas.resolve(config(space, DependenceSettings(model)), digits)
    seeds = [Seeds.all(n) for n in range(8)]
    pack = pack_of(digits, [setting] * 8, seeds, "groups", "float32")
    pack.engine.moment = (0, 0)
    images, labels = batch(8, count=2, channels=1)
    images = images.float()
    calls = engine_calls(pack, images, labels) / 8
    assert calls <= plain_calls(PlainSearch(setting, seeds[0], 1, 10), images[0], labels[0]) / 16


@pytest.mark.parametrize(
    ("space", "channels", "cells", "published"),
    [("darts", 16, 8, 27_220), ("nas-bench-201", 16, 5, 9_394), ("darts", 4, 3, 10_528)],
)
def test_the_plain_form_is_that_of_the_published_codes(digits, space, channels, cells, published):
    """Operator calls of DARTS and NAS-Bench-201's own code, forward and backward, twice."""
    setting = config(space, DependenceSettings("independent"), channels=channels, cells=cells)
    search = PlainSearch(itnas.resolve(setting, digits), Seeds.all(0), 3, 10)
    images, labels = batch(1, count=2, size=8)
    assert plain_calls(search, images[0].float(), labels[0]) == pytest.approx(published, rel=0.05)


def test_memory_grows_linearly_with_the_pack(digits):
    """Saved activations in groups, as autograd counts them."""

    def saved(replicas):
        pack = pack_of(digits, [config("darts")] * replicas,
                       [Seeds.all(n) for n in range(replicas)], "groups", "float32")  # fmt: skip
        images, labels = batch(replicas, channels=1)
        storages = {}

        def keep(x):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        p = {k: q.detach() for k, q in pack.architectures().items()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            pack.engine.weight_gradient(images.float(), labels, p)
        return sum(storages.values())

    one, three, five = (saved(k) for k in (1, 3, 5))
    assert (five - three) == pytest.approx(three - one, rel=0.1)


def test_what_must_agree_in_a_pack_is_said(digits):
    calm = config("nas-bench-201")
    with pytest.raises(ValueError, match=r"search.channels: .* one value; got 4 and 8"):
        SearchPack([calm, config("nas-bench-201", channels=8)], [Seeds.all(0)] * 2, digits)
    with pytest.raises(ValueError, match="space: a pack needs one"):
        SearchPack([calm, config("s2", cells=3)], [Seeds.all(0)] * 2, digits)
    assert "architecture_lr" in DIFFERING
    assert "channels" not in DIFFERING


def test_engine_settings_that_exclude_each_other():
    for given, words in (
        ({"kernels": "compiled", "layout": "groups"}, "kernels: 'compiled'"),
        ({"kernels": "compiled", "precision": "bfloat16"}, "kernels: 'compiled'"),
        ({"precision": "tf32"}, "tf32 needs device cuda"),
        ({"graphs": True}, "graphs need device cuda"),
    ):
        with pytest.raises(ValueError, match=words):
            EngineSettings(**given)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_autocast_trains_with_a_float32_architecture(digits, precision):
    setting = config("nas-bench-201", batch_size=32)
    pack = SearchPack([setting] * 2, [Seeds.all(0), Seeds.all(1)], digits,
                      EngineSettings(precision=precision))  # fmt: skip
    while not pack.finished:
        pack.run_epoch()
    exact = itnas.run_search(setting, [0, 1], digits)
    for mine, wanted in zip(pack.results(), exact, strict=True):
        assert mine.status == "complete"
        assert mine.metrics["train_loss"] == pytest.approx(wanted.metrics["train_loss"], rel=0.1)
    assert all(p.dtype == torch.float32 for p in pack.architectures.parameters())


def float16_pack(digits):
    pack = SearchPack([config("nas-bench-201")] * 2, [Seeds.all(0), Seeds.all(1)], digits,
                      EngineSettings(precision="float16"))  # fmt: skip
    pack.engine.moment = (0, 0)
    return pack


def test_float16_halves_its_scale_where_the_gradient_of_the_weights_overflows(digits):
    pack = float16_pack(digits)
    engine = pack.engine
    gradient = torch.zeros_like(engine.store.flat)
    replica = engine.store.by_replica(torch.arange(len(gradient)).double())[1].long()
    gradient[replica[0]] = math.inf
    before, scale = engine.scale.clone(), engine.scale
    assert engine.usable(gradient, pack.alive).tolist() == [True, False]
    assert (engine.scale / before).tolist() == [1.0, 0.5]
    assert engine.scale is scale  # in place: a captured step reads this tensor


def test_float16_recovers_from_an_overflow_in_the_architecture_step_alone(digits, monkeypatch):
    """p is left where it is until the scale has come down, and moves then."""
    pack = float16_pack(digits)
    engine, exact = pack.engine, pack.engine.architecture_gradient

    def overflowing(images, labels, p):
        losses, gradients = exact(images, labels, p)
        high = (engine.scale > 2.0**13)[:, None] & torch.tensor([[False], [True]])
        return losses, {k: torch.where(high, math.inf, g) for k, g in gradients.items()}

    monkeypatch.setattr(engine, "architecture_gradient", overflowing)
    images, labels = batch(2, channels=1)
    starts = [a.detach().clone() for a in pack.architectures.trained]
    moved = []
    for _ in range(5):
        pack.architecture_step(images.float(), labels)
        now = pack.architectures.trained
        moved.append([any((a[k] != s[k]).any().item() for a, s in zip(now, starts, strict=True))
                      for k in (0, 1)])  # fmt: skip
    assert moved == [[True, False]] * 3 + [[True, True]] * 2
    assert engine.scale.tolist() == [2.0**16, 2.0**13]


def test_float16_doubles_its_scale_again(digits, monkeypatch):
    monkeypatch.setattr("itnas.engine.pack.SCALE_PERIOD", 4)
    pack = float16_pack(digits)
    pack.engine.scale.fill_(8.0)
    images, labels = batch(2, channels=1)
    scales = []
    for _ in range(4):
        pack.step(images.float(), labels, images.float(), labels)
        scales.append(pack.engine.scale[0].item())
    assert scales == [8.0, 16.0, 16.0, 32.0]


def test_float16_gradients_are_unscaled_once(digits):
    """Of the weights and of p: those of float32, whatever the scale."""
    found = {}
    for precision in ("float32", "float16"):
        pack = SearchPack([config("nas-bench-201")] * 2, [Seeds.all(0), Seeds.all(1)], digits,
                          EngineSettings(precision=precision, layout="groups"))  # fmt: skip
        images, labels = batch(2, count=32, channels=1)
        pack.engine.scale.copy_(torch.tensor([2.0**10, 2.0**12]))
        p = pack.architectures()
        _, dp = pack.engine.architecture_gradient(images.float(), labels, p)
        _, _, flat = pack.engine.weight_gradient(images.float(), labels, p)
        found[precision] = dp["normal"], pack.engine.store.by_replica(flat)
    for mine, wanted in zip(found["float16"], found["float32"], strict=True):
        for k in (0, 1):
            assert mine[k].norm() == pytest.approx(wanted[k].norm().item(), rel=0.05)
            assert torch.cosine_similarity(mine[k], wanted[k], dim=0) > 0.99


def test_engine_without_a_compiler_says_so_and_goes_on(monkeypatch, digits, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ITNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    kernels.load.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"no C\+\+ compiler"):
            engine = Engine([itnas.resolve(config("s2"), digits)], [Seeds.all(0)], 1, 10,
                            EngineSettings())  # fmt: skip
        assert engine.backend_name == "torch mixed"
        with pytest.raises(RuntimeError, match="not available"):
            Engine([itnas.resolve(config("s2"), digits)], [Seeds.all(0)], 1, 10,
                   EngineSettings(kernels="compiled"))  # fmt: skip
    finally:
        kernels.load.cache_clear()


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        (EngineSettings(kernels="torch"), "torch mixed"),
        (EngineSettings(kernels="torch", layout="loop"), "torch loop"),
        (EngineSettings(layout="groups"), "torch groups"),
        (EngineSettings(device="cuda:1"), "torch groups cuda"),
        pytest.param(
            EngineSettings(precision="float64"), f"compiled {kernels.isa()}", marks=compiler
        ),
    ],
)
def test_a_backend_is_named_before_anything_is_computed(engine, name):
    assert prepare(engine) == name
