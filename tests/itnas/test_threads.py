"""Threads change how long a step takes, and not one bit of what it computes."""

import threading

import pytest
import torch

import itnas
from itnas.engine.groups.convolution import convolve
from itnas.engine.threads import Workers, blocks, ordered_sum
from itnas.kernels.library import load
from itnas.method.search import SearchPack
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting
from tests.reference.backends import compiler


@pytest.fixture(scope="module")
def images():
    return itnas.load_data(itnas.DataSettings("digits", resolution=16, subset=300))


@pytest.fixture
def threads():
    """Sets torch's threads, and puts them back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def trained(images, space, engine, count, threads):
    """Weights and architecture after two steps, as one tensor."""
    cells = 1 if space == "nas-bench-201" else 3
    search = SearchSettings(epochs=1, batch_size=64, channels=8, cells=cells)
    setting = Setting(space, search, DependenceSettings(attention="content"))
    threads(count)
    pack = SearchPack([setting] * 2, [Seeds.all(0), Seeds.all(1)], images, EngineSettings(**engine))
    pack.weight_optimizer.set_rates([0.025] * 2)
    batches = zip(
        pack.batches.training("architecture", 0), pack.batches.training("weights", 0), strict=True
    )
    for n, (architecture, weights) in zip(range(2), batches, strict=False):
        pack.engine.moment = (0, n)
        pack.step(*architecture, *weights)
    assert torch.get_num_threads() == count  # taken over within the step, and given back
    found = [pack.engine.store.flat.flatten(), pack.architectures.optimizer.flat]
    return torch.cat(found), pack.engine.workers.count


def spaces_and_engines():
    for space in ("darts", "nas-bench-201"):
        yield pytest.param(space, {"kernels": "compiled"}, marks=compiler, id=f"{space}-compiled")
        marks = pytest.mark.slow if space == "darts" else ()
        yield pytest.param(space, {"kernels": "torch"}, marks=marks, id=f"{space}-sizes")


@pytest.mark.parametrize("taken", ["replicas", "blocks"])
@pytest.mark.parametrize(("space", "engine"), list(spaces_and_engines()))
def test_bits_do_not_depend_on_the_number_of_threads(
    images, space, engine, taken, threads, monkeypatch
):
    """Whether threads take a replica each or blocks of images of one."""
    if taken == "blocks":
        monkeypatch.setattr("itnas.engine.pack.SMALL_MAP", 0)
    elif "compiled" not in engine.values():
        pytest.skip("all replicas are in one tensor")
    one, used = trained(images, space, engine, 1, threads)
    assert used == 1
    for count in (2, 3):
        more, used = trained(images, space, engine, count, threads)
        assert used == count
        assert torch.equal(one, more)


def test_a_whole_epoch_has_the_same_bits(images, threads):
    """Evaluation, history and metrics included, in a batch that is no multiple of a block."""
    found = []
    for count in (1, 3):
        threads(count)
        search = SearchSettings(epochs=1, batch_size=43, channels=4, cells=3)
        results = itnas.run_search(Setting("darts", search, DependenceSettings()), [0], images)
        found.append({k: v for k, v in results[0].metrics.items() if k != "seconds"})
    assert found[0] == found[1]


@compiler
def test_tasks_run_once_each_with_torch_on_one_thread(threads):
    from itnas.kernels.native import Native

    workers = Native(torch.float32).workers
    names, lock = [], threading.Lock()
    barrier = threading.Barrier(2, timeout=20)

    def task(n):
        if n < 2:
            barrier.wait()  # two tasks are under way at once
        with lock:
            names.append((n, threading.get_native_id(), torch.get_num_threads()))

    threads(2)
    with workers.working():
        workers.each(5, task)
    assert sorted(n for n, _, _ in names) == [0, 1, 2, 3, 4]
    assert len({thread for _, thread, _ in names}) == 2
    assert {count for _, _, count in names} == {1}  # torch's operations stay on one thread


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("backend", ["python", "kernels"])
def test_an_exception_in_a_task_is_raised(backend, error, threads):
    if backend == "kernels":
        if load() is None:
            pytest.skip("no C++ compiler")
        from itnas.kernels.native import Native

        workers = Native(torch.float32).workers
    else:
        workers = Workers()

    def task(n):
        if n == 3:
            raise error("three")

    for count in (1, 2):
        threads(count)
        with pytest.raises(error, match="three"), workers.working():
            workers.each(6, task)
        assert torch.get_num_threads() == count


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("channels", "groups", "kernel", "stride", "dilation"),
    [(6, 1, 3, 1, 1), (6, 6, 5, 2, 1), (6, 3, 3, 1, 2), (6, 1, 1, 2, 1)],
)
def test_convolutions_in_blocks_are_convolutions(
    count, channels, groups, kernel, stride, dilation, threads
):
    """Against torch's own of all images at once, gradients included, in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(37, channels, 9, 9, generator=generator).double().requires_grad_()
    shape = 12, channels // groups, kernel, kernel
    weight = torch.randn(shape, generator=generator).double().requires_grad_()
    padding = dilation * (kernel // 2)
    wanted = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    g = torch.randn(wanted.shape, generator=generator).double()
    gradients = torch.autograd.grad(wanted, [x, weight], g)
    threads(count)
    workers = Workers()
    with workers.working():
        mine = convolve(x, weight, workers, stride, dilation, groups)
        found = torch.autograd.grad(mine, [x, weight], g)
    for a, b in zip((mine, *found), (wanted, *gradients), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_blocks_cover_all_images_once():
    for images in (1, 15, 16, 17, 64):
        seen = [n for block in blocks(images) for n in range(images)[block]]
        assert seen == list(range(images))
    parts = [torch.full((2,), float(n)) for n in range(4)]
    assert ordered_sum(parts).tolist() == [6.0, 6.0]
