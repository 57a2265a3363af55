"""The estimate of a pack's memory against what is really kept."""

import pytest
import torch

import itnas
from itnas.engine.memory import peak_bytes, saved_bytes
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting


@pytest.mark.parametrize("space", ["nas-bench-201", "darts", "s1", "s4"])
def test_what_is_kept_is_counted_without_computing(digits, space):
    cells = 1 if space == "nas-bench-201" else 3
    search = SearchSettings(epochs=1, batch_size=16, channels=4, cells=cells)
    setting = itnas.resolve(Setting(space, search, DependenceSettings()), digits)
    engine = EngineSettings(layout="groups")
    pack = itnas.SearchPack([setting] * 3, [Seeds.all(n) for n in range(3)], digits, engine)
    pack.engine.moment = (0, 0)
    images, labels = next(pack.batches.training("weights", 0))
    weights = {w.untyped_storage().data_ptr() for w in pack.engine.leaves[0].values()}
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x
        return x

    p = {k: q.detach() for k, q in pack.architectures().items()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        pack.engine.weight_gradient(images, labels, p)
    really = sum(x.untyped_storage().nbytes() for k, x in kept.items() if k not in weights)
    estimate = 3 * saved_bytes(setting, 1, 8, 10)
    assert estimate == pytest.approx(really, rel=0.15)
    assert peak_bytes(setting, 1, 8, 10, 3) > estimate


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_peak_on_a_gpu_is_near_the_estimate(digits):
    search = SearchSettings(epochs=1, batch_size=64, channels=16, cells=3)
    setting = itnas.resolve(Setting("darts", search, DependenceSettings()), digits)
    engine = EngineSettings(device="cuda")
    pack = itnas.SearchPack([setting] * 4, [Seeds.all(n) for n in range(4)], digits, engine)
    torch.cuda.reset_peak_memory_stats()
    pack.run_epoch()
    peak = torch.cuda.max_memory_allocated()
    assert 0.5 < peak / peak_bytes(setting, 1, 8, 10, 4) < 1.5
