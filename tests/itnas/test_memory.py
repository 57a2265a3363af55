"""The estimate of a pack's memory against the storage that really lives during a step."""

import pytest
import torch

import itnas
from itnas._tensors import constant, one_hot
from itnas.engine.memory import peak_bytes
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting
from tests.itnas.storage import LiveStorage


def setting_of(digits, space, batch_size, channels=4):
    cells = 1 if space == "nas-bench-201" else 3
    search = SearchSettings(epochs=1, batch_size=batch_size, channels=channels, cells=cells)
    return itnas.resolve(Setting(space, search, DependenceSettings()), digits)


def measured(digits, setting, replicas, precision, size):
    """Live bytes at the peak of a step, with all that a pack holds but for its data set."""
    engine = EngineSettings(layout="groups", precision=precision)
    with LiveStorage() as live:
        pack = itnas.SearchPack([setting] * replicas, [Seeds.all(n) for n in range(replicas)],
                                digits, engine)  # fmt: skip
        pack.engine.backend.workers = None  # whole batches, as on a GPU
        pack.engine.moment = (0, 0)
        shape = (replicas, setting.search.batch_size, 1, size, size)
        batches = [
            (torch.zeros(shape, dtype=pack.engine.dtype), torch.zeros(shape[:2]).long())
            for _ in range(2)
        ]
        live.peak = 0  # the initial weights are drawn before
        pack.step(*batches[0], *batches[1])
    return live.peak


def test_storage_is_counted_once_and_until_it_is_released():
    with LiveStorage() as live:
        x = torch.zeros(1000)
        y = (x.view(10, 100) + 1).t()
        del x
        y = y * 2  # two of 4,000 bytes: x is gone
        del y
        torch.zeros(10)
    assert live.peak == 8000


CASES = [
    ("nas-bench-201", 1, "float32", 64, 8),
    ("nas-bench-201", 3, "float32", 32, 16),
    ("nas-bench-201", 1, "bfloat16", 32, 16),
    ("nas-bench-201", 3, "bfloat16", 64, 8),
    ("nas-bench-201", 1, "float16", 32, 8),
    ("nas-bench-201", 1, "float64", 32, 8),
    ("s1", 2, "float32", 16, 8),
]
SLOW = [
    ("darts", 1, "float32", 16, 16),
    ("darts", 3, "float32", 16, 8),
    ("darts", 1, "bfloat16", 16, 16),
    ("darts", 3, "bfloat16", 32, 8),
    ("darts", 1, "float16", 16, 8),
    ("darts", 1, "float64", 16, 8),
    ("s4", 2, "bfloat16", 16, 8),
]


@pytest.mark.parametrize(
    ("space", "replicas", "precision", "batch_size", "size"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_the_estimate_is_the_peak_of_both_steps(
    digits, space, replicas, precision, batch_size, size
):
    setting = setting_of(digits, space, batch_size)
    peak = measured(digits, setting, replicas, precision, size)
    assert 1.0 <= peak_bytes(setting, 1, size, 10, replicas, precision) / peak <= 1.3


def test_an_estimate_leaves_nothing_without_values_behind(digits):
    """The engine's constants are cached: an estimate that comes first must not make them."""
    setting = setting_of(digits, "nas-bench-201", 16)
    one_hot.cache_clear()
    constant.cache_clear()
    peak_bytes.cache_clear()
    peak_bytes(setting, 1, 8, 10, 2)
    assert measured(digits, setting, 2, "float32", 8) > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("space", ["nas-bench-201", "darts"])
def test_the_peak_on_a_gpu_is_near_the_estimate(digits, space, precision):
    setting = setting_of(digits, space, 64, channels=16)
    engine = EngineSettings(device="cuda", precision=precision)
    pack = itnas.SearchPack([setting] * 4, [Seeds.all(n) for n in range(4)], digits, engine)
    torch.cuda.reset_peak_memory_stats()
    pack.run_epoch()
    peak = torch.cuda.max_memory_allocated()
    assert 0.8 < peak / peak_bytes(setting, 1, 8, 10, 4, precision) < 1.25
