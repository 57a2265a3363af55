"""Half precision: maps are rounded, p and sums are not."""

import pytest
import torch

from itnas.engine.groups.grouped import Grouped
from itnas.engine.groups.sums import weighted_sums
from itnas.method.bilevel import SearchPack
from itnas.settings import EngineSettings, SearchSettings, Seeds, Setting

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
halves = pytest.mark.parametrize("half", HALVES)


def engine_of(digits, half, space="nas-bench-201"):
    cells = 1 if space == "nas-bench-201" else 3
    search = SearchSettings(epochs=1, batch_size=32, channels=4, cells=cells)
    pack = SearchPack([Setting(space, search)], [Seeds.all(0)], digits,
                      EngineSettings(precision=half, layout="groups"))  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 32, 1, 8, 8, generator=generator)
    labels = torch.randint(10, (1, 32), generator=generator)
    p = {kind: q.detach() for kind, q in pack.architectures().items()}
    return pack.engine, images, labels, p


@halves
@pytest.mark.parametrize("space", ["nas-bench-201", "darts"])
def test_a_small_change_of_p_changes_the_loss(digits, half, space):
    """A change that p in half precision would not show, of one operation of every edge."""
    engine, images, labels, p = engine_of(digits, half, space)
    p = {kind: q.to(HALVES[half]).float() for kind, q in p.items()}
    small = {"bfloat16": 1e-4, "float16": 2e-5}[half]
    before, _ = engine.evaluate(images, labels, p)
    width = 5 if space == "nas-bench-201" else 8
    for at in range(width - 2, p["normal"].shape[1], width):
        changed = {kind: q.clone() for kind, q in p.items()}
        changed["normal"][:, at] += small
        assert changed["normal"][0, at].to(HALVES[half]) == p["normal"][0, at].to(HALVES[half])
        after, _ = engine.evaluate(images, labels, changed)
        assert after != before


@halves
def test_the_gradient_of_p_is_the_slope_of_the_float32_loss(digits, half):
    """Central differences in float64 against the gradient in half precision, and of its own loss
    along its own gradient, over a step that is longer than the maps' rounding."""
    engine, images, labels, p = engine_of(digits, half)
    _, gradients = engine.architecture_gradient(images, labels, p)
    gradient = gradients["normal"]
    exact, *_ = engine_of(digits, "float64")
    assert gradient.dtype == torch.float32
    slopes = torch.zeros_like(gradient, dtype=torch.float64)
    for at in range(gradient.shape[1]):
        for sign in (1, -1):
            moved = p["normal"].double()
            moved[0, at] += sign * 1e-5
            loss, _ = exact.evaluate(images.double(), labels, {"normal": moved})
            slopes[0, at] += sign * loss[0] / 32 / 2e-5
    assert torch.cosine_similarity(gradient.double(), slopes) > 0.98
    assert gradient.norm() == pytest.approx(slopes.norm().item(), rel=0.1)
    step = 0.02 * gradient / gradient.norm()
    up, down = (
        engine.evaluate(images, labels, {"normal": p["normal"] + s * step})[0] / 32 for s in (1, -1)
    )
    along = ((up - down) / 0.04).item()
    assert along == pytest.approx(gradient.norm().item(), rel=0.2)


@halves
def test_sums_of_maps_are_taken_in_float32(half):
    """1024 and a hundred times 1/4, over two rounds: in half precision nothing would be added."""
    maps = torch.full((1, 101, 3), 0.25, dtype=HALVES[half])
    maps[0, 0] = 1024
    routing = torch.ones(1, 2, 101)
    with torch.autocast("cpu", HALVES[half]):
        first = weighted_sums(routing, maps, None)
        for _ in range(4):
            first = weighted_sums(routing[:, :, 1:2], maps[:, 1:2], first)
    assert first.dtype == torch.float32
    assert torch.equal(first, torch.full((1, 2, 3), 1050.0))


def test_weighted_sums_have_the_gradients_of_a_product():
    """In float32 on maps of bfloat16, against float64 on the same values."""
    generator = torch.Generator().manual_seed(1)
    routing = torch.randn(2, 3, 7, generator=generator)
    maps = torch.randn(2, 7, 11, generator=generator).bfloat16()
    before = torch.randn(2, 3, 11, generator=generator)
    cotangent = torch.randn(2, 3, 11, generator=generator)
    mine = [x.clone().requires_grad_() for x in (routing, maps, before)]
    wanted = [x.double().requires_grad_() for x in (routing, maps, before)]
    weighted_sums(*mine).backward(cotangent)
    (wanted[2] + wanted[0] @ wanted[1]).backward(cotangent.double())
    for a, b, tolerance in zip(mine, wanted, (1e-5, 2e-2, 0), strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=tolerance, atol=tolerance)
    assert mine[1].grad.dtype == torch.bfloat16


@halves
def test_batch_statistics_are_not_rounded(half):
    """The maps' mean over their deviation is 100: a rounded mean is off by a fifth of it."""
    x = (torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0)) + 100).to(
        HALVES[half]
    )
    y = Grouped().norm(x)
    assert y.dtype == HALVES[half]
    assert y.double().mean(dim=(0, 2, 3)).abs().max() < 5e-3


@halves
def test_logits_and_losses_are_of_float32(digits, half):
    engine, images, labels, p = engine_of(digits, half)
    losses, logits = engine._loss(slice(0, 1), images, labels, p, engine.leaves[0])
    assert losses.dtype == logits.dtype == torch.float32
    assert not torch.equal(logits, logits.to(HALVES[half]).float())
