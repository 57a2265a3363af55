"""A pack is left and continued at any step: the same bits, and no state but its own."""

import copy
import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from itnas.data import DataSettings, load_data
from itnas.method.bilevel import SearchPack
from itnas.method.records import EpochRecord
from itnas.settings import SearchSettings, Seeds, Setting
from tests.itnas import pausing
from tests.itnas.pausing import CASES, EPOCHS, INDEPENDENT, MIXED, Case

METRICS = [
    "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "derived_accuracy",
    "architecture_entropy", "architecture_displacement", "transition_displacement",
    "dependence_strength", "hessian_eigenvalue", "seconds",
]  # fmt: skip
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def images():
    return pausing.data()


@pytest.fixture(scope="module")
def undisturbed(images):
    """By case: results and last state of a pack that nothing happened to."""
    found = {}
    for name, case in CASES.items():
        pack = pausing.finish(case.pack(images))
        found[name] = pausing.outcome(pack), bits(pack.state_dict())
    return found


def bits(tree):
    """A state without times, tensors as bytes: equal where every bit is."""
    if isinstance(tree, torch.Tensor):
        return str(tree.dtype), tuple(tree.shape), tree.contiguous().numpy().tobytes()
    if isinstance(tree, dict):
        return {k: bits(v) for k, v in tree.items() if k != "seconds"}
    return [bits(v) for v in tree] if isinstance(tree, list) else repr(tree)


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def tensors(tree):
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors(value)


def small(images, runs=MIXED, **case):
    given = {"space": "nas-bench-201", "backend": "groups", **case}
    return Case(runs=runs, **given).pack(images)


# -- the same bits ---------------------------------------------------------------------------


EVERY_STEP = [
    name for name in CASES
    if name not in ("independent", "placebo", "darts-groups", "mixed-float64", "mixed-bfloat16")
]  # fmt: skip
"""the others are continued once, in another process"""


@pytest.mark.parametrize("name", EVERY_STEP)
def test_a_pack_that_is_another_one_after_every_step_gives_the_same_bits(images, undisturbed, name):
    """A freshly built pack goes on from the state after each single step of all epochs."""
    pack = CASES[name].pack(images)
    steps, moments = pack.batches.steps, []
    while not pack.finished:
        finished = pack.run_epoch(lambda: True)
        assert finished == (pack.epoch_step == 0)
        moments.append((pack.epoch, pack.epoch_step))
        state = through_a_file(pack.state_dict())
        pack = CASES[name].pack(images)
        pack.load_state_dict(state)
    assert moments == [divmod(n, steps) for n in range(1, EPOCHS * steps + 1)]
    results, last = undisturbed[name]
    assert pausing.outcome(pack) == results
    assert bits(pack.state_dict()) == last


@pytest.mark.faults
def test_processes_share_a_search_and_give_the_same_results(undisturbed, tmp_path):
    """One saves every case after some step and ends, another goes on from there."""
    for what in ("save", "finish"):
        subprocess.run(
            [sys.executable, "-m", "tests.itnas.pausing", what, str(tmp_path)],
            check=True, cwd=ROOT, timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    for name, (results, _) in undisturbed.items():
        assert (tmp_path / f"{name}.txt").read_text().splitlines() == results, name


def test_cases_end_differently_and_some_diverge_within_an_epoch(images, undisturbed):
    """What the other tests compare is worth comparing."""
    assert len({results[0] for results, _ in undisturbed.values()}) == len(undisturbed)
    moments = {pausing.moment(name, small(images).batches.steps) for name in CASES}
    assert len(moments) > 3
    pack = CASES["diverging-groups"].pack(images)
    assert not pack.run_epoch(lambda: not pack.alive.all())
    state = pack.state_dict()
    assert state["alive"].tolist() == [True, False]
    assert state["diverged"] == [False, False]  # that is said at the epoch's end
    assert pausing.finish(pack).diverged == [False, True]


def test_without_a_pause_an_epoch_is_taken_as_a_whole(images, undisturbed):
    pack = small(images)
    assert pack.run_epoch()
    assert (pack.epoch, pack.epoch_step) == (1, 0)
    assert not pack.run_epoch(lambda: True)
    assert (pack.epoch, pack.epoch_step) == (1, 1)
    assert pack.run_epoch()  # and what is left of it
    assert pack.finished
    assert pausing.outcome(pack) == undisturbed["mixed-groups"][0]


def test_a_pause_is_asked_after_every_step_but_the_last(images):
    pack, asked = small(images), []
    assert pack.run_epoch(lambda: asked.append(pack.epoch_step))
    assert asked == list(range(1, pack.batches.steps))


def test_times_of_the_parts_of_an_epoch_are_added(images):
    pack, parts = small(images), []
    while not pack.run_epoch(lambda: True):
        parts.append(list(pack.state_dict()["seconds"]))
        state = through_a_file(pack.state_dict())
        pack = small(images)
        pack.load_state_dict(state)
    whole = [pack.seconds, pack.training_seconds, pack.histories[0][-1].metrics["seconds"]]
    assert all(0 < a[n] < b[n] for a, b in zip(parts, [*parts[1:], whole], strict=True)
               for n in range(3))  # fmt: skip
    assert whole[2] == pytest.approx(whole[0])
    pack.run_epoch()
    result, steps = pack.results()[0], EPOCHS * pack.batches.steps
    assert result.seconds == pytest.approx(sum(r.metrics.get("seconds", 0) for r in result.history))
    assert result.seconds_per_step == pytest.approx(pack.training_seconds / steps / 3)


def test_a_step_is_timed_within_an_epoch_too(images):
    pack = small(images)
    pack.run_epoch(lambda: True)
    assert pack.results()[0].seconds_per_step == pytest.approx(pack.training_seconds / 3)


def test_the_scale_of_the_loss_goes_on(images, monkeypatch):
    """float16: a scale that has come down, and the steps it has counted since."""
    monkeypatch.setattr("itnas.engine.pack.SCALE_PERIOD", 5)

    def pack():
        return small(images, precision="float16")

    def started():
        made = pack()
        made.engine.scale.copy_(torch.tensor([8.0, 32.0, 1.0]))
        made.engine.since_overflow.copy_(torch.tensor([1.0, 0.0, 3.0]))
        return made

    through = pausing.finish(started())
    one = started()
    pausing.advance(one, 2)
    other = pack()
    other.load_state_dict(through_a_file(one.state_dict()))
    assert other.engine.scale.tolist() == [16.0, 32.0, 2.0]
    assert other.engine.since_overflow.tolist() == [0.0, 4.0, 2.0]
    assert bits(pausing.finish(other).state_dict()) == bits(through.state_dict())


def test_a_state_goes_on_in_another_layout(images):
    """Not to the bit: layouts round differently."""
    one = small(images, precision="float64")
    pausing.advance(one, 2)
    other = small(images, precision="float64", backend="loop")
    other.load_state_dict(one.state_dict())
    for a, b in zip(pausing.finish(one).results(), pausing.finish(other).results(), strict=True):
        assert a.metrics["train_loss"] == pytest.approx(b.metrics["train_loss"], abs=1e-9)
        assert a.genotype == b.genotype


# -- a state of its own ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["groups", "loop"])
def test_a_state_stays_what_it_is_while_both_packs_go_on(images, backend):
    pack = small(images, backend=backend)
    pausing.advance(pack, 2)
    state = pack.state_dict()
    before = copy.deepcopy(bits(state))
    other = small(images, backend=backend)
    other.load_state_dict(state)
    for each in (pack, other):
        pausing.finish(each)
        assert bits(state) == before
    for value in tensors(state):  # as little as possible is written
        assert value.device.type == "cpu"
        assert value.untyped_storage().nbytes() == value.numel() * value.element_size()


def test_what_a_captured_step_reads_stays_in_place(images):
    """A graph that was captured sees a loaded state, and all later steps."""
    pack = small(images)

    def places():
        sgd, adam, engine = pack.weight_optimizer, pack.architectures.optimizer, pack.engine
        held = [
            engine.store.flat, *engine.store.all.values(), engine.scale, engine.since_overflow,
            *(leaf for chunk in engine.leaves for leaf in chunk.values()), sgd.velocity, sgd.rates,
            adam.flat, adam.first, adam.second, adam.steps, *pack.architectures.parameters(),
            pack.alive,
        ]  # fmt: skip
        return [tensor.data_ptr() for tensor in held]

    before = places()
    pack.run_epoch(lambda: True)
    state = pack.state_dict()
    pausing.finish(pack)
    pack.load_state_dict(state)
    assert bits(pack.state_dict()) == bits(state)
    pausing.finish(pack)
    assert places() == before


@pytest.mark.parametrize(
    ("space", "cells", "weights", "most"),
    [("nas-bench-201", 5, 1_686_106, 13.57e6), ("darts", 8, 1_930_618, 16.44e6)],
)
def test_a_state_takes_little_more_than_weights_and_velocity(images, space, cells, weights, most):
    """Bytes of full supernets at the end of 50 epochs, as in docs/engine.md."""
    setting = Setting(space, SearchSettings(channels=16, cells=cells, batch_size=16))
    pack = SearchPack([setting], [Seeds.all(0)], images)
    (start,) = pack.histories[0]
    metrics = dict.fromkeys(METRICS, 0.5)
    pack.histories[0] += [EpochRecord(n, start.cells, metrics) for n in range(49)]
    buffer = io.BytesIO()
    torch.save(pack.state_dict(), buffer)
    gray = 2 * 9 * (16 if space == "nas-bench-201" else 48)  # weights that RGB images would need
    assert 8 * (weights - gray) < buffer.tell() < most


# -- states that do not belong ---------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(images):
    """In the second epoch."""
    pack = small(images)
    pausing.advance(pack, pack.batches.steps + 2)
    return pack.state_dict()


def refusal(pack, state):
    """The line of a refusal, which has changed nothing."""
    before = bits(pack.state_dict())
    with pytest.raises(ValueError) as error:  # noqa: PT011
        pack.load_state_dict(state)
    assert bits(pack.state_dict()) == before
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def one_pixel_brighter(images):
    pixels = images.images.clone()
    pixels[7, 0, 3, 3] += 1
    return dataclasses.replace(images, images=pixels)


def other_runs(name):
    """MIXED with one thing changed."""
    first, *rest = MIXED
    return {
        "fewer": MIXED[:2],
        "order": (rest[0], first, rest[1]),
        "rate": ((first[0], {**first[1], "transition_lr": 0.31}), *rest),
        "model": ((INDEPENDENT, first[1]), *rest),
    }[name]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: small(d, other_runs("fewer")), "identity.runs is a list of 3 there, a list of"),
        (lambda d: small(d, other_runs("order")), "runs[0].setting.search.transition_lr is 0.3"),
        (lambda d: small(d, other_runs("rate")), "transition_lr is 0.3 there, 0.31 here"),
        (lambda d: small(d, other_runs("model")), "model is 'transition' there, 'independent'"),
        (lambda d: small(d, batch_size=8), "search.batch_size is 16 there, 8 here"),
        (lambda d: small(d, space="s1"), "setting.space is 'nas-bench-201' there, 's1' here"),
        (lambda d: small(d, precision="float64"), "precision is 'float32' there, 'float64' here"),
        (lambda d: small(d, precision="bfloat16"), "precision is 'float32' there, 'bfloat16' here"),
        (lambda d: small(one_pixel_brighter(d)), "identity.data.content is"),
        (lambda d: small(pausing.data(cutout=4)), "identity.data.cutout is 2 there, 4 here"),
        (lambda d: small(pausing.data(holdout=0.11)), "identity.data.holdout is 0.1 there, 0.11"),
    ],
)  # fmt: skip
def test_a_state_of_other_runs_is_refused(images, saved, make, words):
    assert words in refusal(make(images), saved)


def test_a_state_of_other_seeds_is_refused(images, saved, monkeypatch):
    monkeypatch.setattr(pausing, "CALM", pausing.Seeds(0, 1, 3))
    line = refusal(small(images), saved)
    assert "identity.runs[0].seeds.architecture is 2 there, 3 here" in line


def changed(path, value):
    """A state with one value in another's place, by the keys to it."""

    def change(state):
        *inner, last = path
        for key in inner:
            state = state[key]
        state[last] = value(state[last]) if callable(value) else value

    return change


def removed(*path):
    def remove(state):
        *inner, last = path
        for key in inner:
            state = state[key]
        del state[last]

    return remove


@pytest.mark.parametrize(
    "damage",
    [
        changed(["weights"], lambda w: w[:, 1:]),
        changed(["weights"], lambda w: w.double()),
        changed(["weights"], lambda w: w.tolist()),
        changed(["weight_optimizer", "velocity"], None),
        changed(["architecture_optimizer", "steps"], 3.0),
        changed(["alive"], [True] * 3),
        changed(["scale"], lambda s: s[:1]),
        changed(["epoch"], -1),
        changed(["epoch"], EPOCHS + 1),
        changed(["epoch"], 0),
        changed(["epoch"], True),
        changed(["epoch_step"], 1),  # two steps have been summed
        changed(["epoch_step"], 99),
        changed(["epoch_step"], "two\nlines" * 99),
        changed(["losses"], lambda x: x[:1]),
        changed(["hits"], lambda x: x.float()),
        changed(["diverged"], [False, False]),
        changed(["diverged"], [0, 0, 0]),
        changed(["seconds"], [1.0]),
        changed(["identity"], torch.zeros(2, 2)),
        changed(["identity", "precision"], torch.zeros(2, 2)),
        changed(["identity", "runs", 0, "later"], 1),
        changed(["histories"], lambda h: h[:2]),
        changed(["histories", 0, "metrics"], lambda m: m[:1]),
        changed(["histories", 0, "metrics", 1], {"train_loss": "low"}),
        changed(["histories", 0, "cells", "normal"], lambda x: x[:, :-1]),
        changed(["histories", 2, "cells"], {}),
        changed(["later"], 1),
        removed("identity", "runs", 0, "setting", "search.epochs"),
        removed("architecture", "modules_by_group.0.normal.attention"),
        *(removed(key) for key in (
            "identity", "epoch", "epoch_step", "weights", "weight_optimizer", "architecture",
            "architecture_optimizer", "scale", "alive", "losses", "hits", "diverged", "histories",
            "seconds",
        )),
    ],
)  # fmt: skip
def test_a_state_that_is_not_whole_is_refused(images, saved, damage):
    state = copy.deepcopy(saved)
    damage(state)
    assert len(refusal(small(images), state)) < 200


@pytest.mark.parametrize("state", [None, [], {}, {"epoch": 1}, torch.zeros(3)])
def test_what_is_no_state_is_refused(images, state):
    refusal(small(images), state)


def test_the_list_of_what_a_state_must_have_is_complete(saved):
    assert set(saved) == {
        "identity", "epoch", "epoch_step", "weights", "weight_optimizer", "architecture",
        "architecture_optimizer", "scale", "alive", "losses", "hits", "diverged", "histories",
        "seconds",
    }  # fmt: skip


def test_a_state_of_an_earlier_release_is_of_use(images, saved, monkeypatch):
    """A later setting is part of the identity only where it computes something new."""
    state = copy.deepcopy(saved)
    for run in state["identity"]["runs"]:
        del run["setting"]["search.order"]
    order = SearchSettings.__dataclass_fields__["order"]
    monkeypatch.setattr(order, "metadata", {"before": "first"})
    small(images).load_state_dict(state)
    monkeypatch.setattr(order, "metadata", {"before": "second"})
    assert "has no 'search.order'" in refusal(small(images), state)


def test_a_data_set_is_known_by_its_images_alone(saved):
    """Not by where they lie."""
    data = load_data(DataSettings("digits", subset=120, cutout=2))
    moved = DataSettings("parquet:/elsewhere/digits", cutout=2)
    small(dataclasses.replace(data, settings=moved)).load_state_dict(saved)
