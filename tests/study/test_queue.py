"""The queue of packs: what is begun, what is tried again and when, what has failed for good."""

from __future__ import annotations

import pytest
import torch

from study.cluster.nodes import fits
from study.file.schema import Resources
from study.launch import PackList
from study.scheduling import queue as queues
from study.scheduling.failures import Failure, Kind, Retries, failure_of
from study.scheduling.progress import Progress
from study.store.checkpoints import Checkpoints
from study.store.door import Storage
from study.store.registry import Pack

PACKS = [Pack("a" * 12, ()), Pack("b" * 12, ())]
TROUBLE = Failure(Kind.TROUBLE, "OSError: disk full")


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(queues, "time", clock)
    return clock


@pytest.fixture
def make(tmp_path, clock):
    """A queue of two packs; the lines it tells are kept."""

    def make(max_failures=3, **options):
        lines: list[str] = []
        queue = queues.PackQueue(
            PackList(list(PACKS)), Retries(max_failures, 10.0), Progress(2, 0, 8),
            Storage.open(tmp_path), lines.append, **options,
        )  # fmt: skip
        queue.lines = lines
        return queue

    return make


def begin(queue, trial="t"):
    pack = queue.next()
    queue.started(trial, pack)
    return pack


def says(queue, trial="t", moment=(0, 0)):
    queue.reported(
        trial, {"moment": list(moment), "epoch": moment[0], "node_id": "n", "process": 7}
    )


def test_packs_come_in_order_and_once(make):
    queue = make()
    for trial, pack in zip("st", PACKS, strict=True):
        assert begin(queue, trial) is pack
    assert queue.next() is None
    assert not queue.exhausted
    queue.completed("s")
    queue.completed("t")
    assert queue.exhausted


def test_trouble_is_tried_again_after_waits_that_double(make, clock):
    queue = make(max_failures=3)
    begin(queue, "other")
    waits = []
    for n in range(4):
        begin(queue, f"t{n}")
        before = clock.now
        queue.failed(f"t{n}", TROUBLE)
        while n < 3 and queue._waiting and queue._waiting[0][0] > clock.now:
            assert queue.next() is None
            clock.now += 1.0
        waits.append(clock.now - before)
    assert waits == [10.0, 20.0, 40.0, 0.0]
    assert queue.progress.failed == {PACKS[1].pack_id: "OSError: disk full"}


def test_failures_are_counted_by_pack(make, clock):
    queue = make(max_failures=1)
    for n in range(2):
        begin(queue, "s")
        begin(queue, "t")
        queue.failed("s", TROUBLE)
        queue.failed("t", TROUBLE)
        assert len(queue.progress.failed) == 2 * n
        clock.now += 100


def raised(line):
    try:
        exec(compile("\n" * line + "raise KeyError('x')", "somewhere", "exec"))
    except KeyError as error:
        return failure_of(error)


def test_the_same_exception_twice_is_the_runs_own_fault(make):
    queue = make()
    begin(queue)
    queue.failed("t", raised(1))
    assert not queue.progress.failed
    begin(queue)
    queue.failed("t", raised(2))  # another one
    assert not queue.progress.failed
    begin(queue)
    queue.failed("t", raised(1))
    assert queue.progress.failed == {PACKS[0].pack_id: "KeyError: 'x'"}
    log = queue.storage.read(f"logs/{PACKS[0].pack_id}.error.txt")
    assert b"somewhere" in log


def test_kinds_of_exceptions():
    def kind(error):
        return failure_of(error).kind

    assert kind(OSError(28, "No space left on device")) is Kind.TROUBLE
    assert kind(torch.OutOfMemoryError("CUDA out of memory")) is Kind.TROUBLE
    assert kind(MemoryError()) is Kind.TROUBLE
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert kind(caught.value) is Kind.TROUBLE
    assert kind(RuntimeError("CUDA error: out of memory")) is Kind.TROUBLE
    failed = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    assert kind(RuntimeError(failed)) is Kind.TROUBLE
    assert kind(RuntimeError("CUDA error: device-side assert triggered")) is Kind.OWN
    assert kind(ValueError("x")) is Kind.OWN
    again = Failure.from_report(failure_of(ValueError("x")).as_report())
    assert again == failure_of(ValueError("x"))


def test_a_worker_lost_after_progress_is_no_failure(make):
    queue = make(max_failures=0)
    checkpoints = Checkpoints(queue.storage, PACKS[0].pack_id, [])
    for epoch in range(5):
        begin(queue)
        says(queue, moment=(epoch, 0))
        checkpoints.save((epoch, 3), {})
        queue.lost("t", "its worker was lost", "", taken=False)
    assert not queue.progress.failed
    begin(queue)
    says(queue, moment=(4, 3))  # this time it wrote none
    queue.lost("t", "its worker was lost", "all that is known", taken=False)
    assert queue.progress.failed == {PACKS[0].pack_id: "its worker was lost"}
    assert queue.storage.read(f"logs/{PACKS[0].pack_id}.error.txt") == b"all that is known"


def test_a_node_taken_away_is_no_failure(make):
    queue = make(max_failures=0)
    for _ in range(5):
        begin(queue)
        queue.lost("t", "its worker was lost", "", taken=True)
    assert not queue.progress.failed


def test_unfit_nodes_are_named_once_and_their_packs_go_back(make):
    queue = make(max_failures=0)
    for _ in range(3):
        begin(queue)
        queue.unfit("t", "n1", "host1", "has torch 1.0 (here 2.0)")
    assert queue.excluded == {"n1"}
    assert len([line for line in queue.lines if "host1" in line]) == 1
    assert not queue.progress.failed


def test_fail_fast_ends_at_the_first_failure(make):
    queue = make(max_failures=0, fail_fast=True)
    begin(queue)
    queue.failed("t", TROUBLE)
    assert queue.next() is None
    assert queue.exhausted


def test_what_was_given_comes_back_when_trials_end_at_once(make):
    queue = make()
    begin(queue)
    given = queue.next()
    queue.recall()
    assert {queue.next().pack_id, queue.next().pack_id} == {PACKS[0].pack_id, given.pack_id}


@pytest.mark.parametrize(
    ("cpu", "gpu", "expected"),
    [
        (1, 0, 8),
        (3, 0, 2),
        (1, 1, 2),
        (1, 2, 1),
        (1, 0.5, 4),
        (1, 0.4, 4),
        (1, 0.3, 6),
        (4, 0.4, 2),
    ],
)
def test_shares_of_gpus_are_counted_on_each(cpu, gpu, expected):
    """0.4 of a GPU twice leaves 0.2 of it, which no pack can use together with another's."""
    assert fits({"CPU": 8.0, "GPU": 2.0}, Resources(cpu=cpu, gpu=gpu)) == expected


def test_a_worker_that_cannot_start_is_trouble_of_its_pack(make):
    """Ray tells of an error of a trial that never began: its pack is not lost."""
    from types import SimpleNamespace

    from study.scheduling.tuner import Conductor

    queue = make(max_failures=0)
    conductor = Conductor(queue, Resources(), None, None, None, None, 1.0)
    config = conductor.request()
    trial = SimpleNamespace(trial_id="t", config=config)
    conductor.broke(trial)
    assert queue.progress.failed == {PACKS[0].pack_id: "its worker was lost"}
    conductor.broke(trial)  # said twice, counted once
    assert begin(queue, "s") is PACKS[1]
    queue.completed("s")
    assert queue.exhausted


def test_orders_reach_a_worker_although_the_head_has_no_answer_at_times(monkeypatch):
    from ray.exceptions import RpcError

    from study.scheduling import orders

    kept, silent = {}, [True]

    def answered(real):
        def call(*given, **named):
            if silent[0]:
                raise RpcError("deadline exceeded")
            return real(*given)

        return call

    monkeypatch.setattr(orders, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(orders, "_internal_kv_put", answered(lambda k, v: kept.update({k: v})))
    monkeypatch.setattr(orders, "_internal_kv_get", answered(kept.get))
    driver, here, there = (
        orders.Orders("t"), orders.Listener("t", "n1"), orders.Listener("t", "n2")
    )  # fmt: skip
    with pytest.raises(RpcError):
        driver.leave({"n1"})
    assert not here.ends()
    silent[0] = False
    assert not here.ends()
    driver.leave({"n1"})
    assert here.ends()
    assert not there.ends()
    silent[0] = True
    with pytest.raises(RpcError):
        driver.stop()
    assert not driver.stopped
    assert not there.ends()
    silent[0] = False
    driver.stop()
    assert there.ends()
