"""The GPU path: the same numbers as on the CPU, no waiting inside an epoch, captured steps."""

import pytest
import torch

import itnas
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def pack(digits, space="nas-bench-201", replicas=3, dependence=None, **engine):
    cells = 1 if space == "nas-bench-201" else 3
    search = SearchSettings(epochs=2, batch_size=32, channels=4, cells=cells)
    setting = Setting(space, search, dependence or DependenceSettings(attention="content"))
    seeds = [Seeds.all(n) for n in range(replicas)]
    return itnas.SearchPack([setting] * replicas, seeds, digits, EngineSettings(**engine))


def trained(made):
    while not made.finished:
        made.run_epoch()
    return made


@pytest.mark.parametrize("layout", ["groups", "loop"])
@pytest.mark.parametrize("space", ["nas-bench-201", "darts", "s1", "s4"])
def test_a_gpu_gives_the_numbers_of_the_cpu(digits, space, layout):
    wanted = trained(pack(digits, space, precision="float64"))
    mine = trained(pack(digits, space, device="cuda", precision="float64", layout=layout))
    for a, b in zip(mine.results(), wanted.results(), strict=True):
        assert a.metrics["valid_loss"] == pytest.approx(b.metrics["valid_loss"], abs=1e-8)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_precision_trains(digits, precision, channels_last):
    made = trained(pack(digits, device="cuda", precision=precision, channels_last=channels_last))
    exact = trained(pack(digits))
    for a, b in zip(made.results(), exact.results(), strict=True):
        assert a.status == "complete"
        assert a.metrics["train_loss"] == pytest.approx(b.metrics["train_loss"], rel=0.1)
    assert all(p.dtype == torch.float32 for p in made.architectures.parameters())


@pytest.mark.parametrize("space", ["nas-bench-201", "darts"])
def test_a_captured_step_is_the_step(digits, space):
    eager = trained(pack(digits, space, device="cuda", precision="float64"))
    captured = trained(pack(digits, space, device="cuda", precision="float64", graphs=True))
    for a, b in zip(captured.results(), eager.results(), strict=True):
        assert a.metrics["valid_loss"] == pytest.approx(b.metrics["valid_loss"], abs=1e-8)
        assert a.genotype == b.genotype


@pytest.mark.parametrize("graphs", [False, True])
def test_no_step_waits_for_the_gpu(digits, graphs):
    made = pack(digits, device="cuda", graphs=graphs)
    batches = list(
        zip(
            made.batches.training("architecture", 0),
            made.batches.training("weights", 0),
            strict=True,
        )
    )
    made.engine.moment = (0, 0)
    for (xa, ya), (xw, yw) in batches[:5]:  # constants are made, a graph is captured
        made.step(xa, ya, xw, yw)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for (xa, ya), (xw, yw) in batches[:3]:
            made.step(xa, ya, xw, yw)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_captured_float16_step_lowers_its_scale(digits):
    """Overflow in the architecture step alone, inside the graph."""
    made = pack(digits, device="cuda", precision="float16", graphs=True)
    exact = made.engine.architecture_gradient

    def overflowing(images, labels, p):
        losses, gradients = exact(images, labels, p)
        high = (made.engine.scale > 2.0**10)[:, None]
        return losses, {k: torch.where(high, torch.inf, g) for k, g in gradients.items()}

    made.engine.architecture_gradient = overflowing
    made.engine.moment = (0, 0)
    batch_a = next(made.batches.training("architecture", 0))
    batch_w = next(made.batches.training("weights", 0))
    for _ in range(9):
        made.step(*batch_a, *batch_w)
    assert made.engine.scale.tolist() == [2.0**10] * 3


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_small_change_of_p_changes_the_loss(digits, precision):
    made = pack(digits, "darts", device="cuda", precision=precision)
    images, labels = next(made.batches.training("weights", 0))
    p = {kind: q.detach() for kind, q in made.architectures().items()}
    before, _ = made.engine.evaluate(images, labels, p)
    p["normal"][:, 3] += 1e-4
    after, _ = made.engine.evaluate(images, labels, p)
    assert (after != before).all()


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_the_flags_of_the_process_are_as_they_were(digits, precision):
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32
    trained(pack(digits, device="cuda", precision=precision))
    assert before == (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
@pytest.mark.parametrize("graphs", [False, True])
def test_a_pack_on_another_than_the_current_gpu(digits, graphs):
    here = trained(pack(digits, device="cuda:0", precision="float64"))
    there = trained(pack(digits, device="cuda:1", precision="float64", graphs=graphs))
    for a, b in zip(there.results(), here.results(), strict=True):
        assert a.metrics["valid_loss"] == pytest.approx(b.metrics["valid_loss"], abs=1e-8)


def test_the_same_pack_twice_is_bit_identical(digits):
    first, again = (trained(pack(digits, device="cuda")) for _ in range(2))
    assert torch.equal(first.engine.store.flat, again.engine.store.flat)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("graphs", [False, True])
def test_a_pack_that_is_left_at_any_step_is_bit_identical(digits, graphs, precision):
    """Under graphs some of its steps are a warm-up that were replayed in the undisturbed one."""
    engine = {"device": "cuda", "graphs": graphs, "precision": precision}
    through, left = trained(pack(digits, **engine)), pack(digits, **engine)
    for after in (1, 2, 5):
        taken = []
        while len(taken) < after and not left.finished:
            left.run_epoch(lambda taken=taken, after=after: taken.append(0) or len(taken) == after)
        state = left.state_dict()  # on the CPU
        left = pack(digits, **engine)
        left.load_state_dict(state)
    trained(left)
    assert torch.equal(through.engine.store.flat, left.engine.store.flat)
    assert torch.equal(through.engine.scale, left.engine.scale)
    for a, b in zip(through.results(), left.results(), strict=True):
        assert a.metrics["train_loss"] == b.metrics["train_loss"]
        assert a.metrics["valid_loss"] == b.metrics["valid_loss"]
