"""The kernels' 3x3 convolutions against torch's, norms and ReLU included."""

import pytest
import torch
import torch.nn.functional as F

from itnas.kernels.calls import EPSILON, Kernels
from itnas.kernels.maps import Map, pointers
from tests.reference.backends import compiler

pytestmark = compiler

SHAPES = [  # images, height, width, channels, edges
    (37, 16, 16, 16, 3),  # blocks of three images, the last one of one
    (64, 4, 4, 32, 2),  # several images in the buffers, several rows of tiles at a time
    (5, 32, 32, 16, 1),
    (2, 4, 80, 8, 2),  # a row is more than is computed at a time
    (9, 5, 7, 6, 3),  # tiles beyond the image, vectors of two
    (1, 7, 6, 3, 1),  # no vectors
    (8, 1, 1, 4, 2),
    (40, 3, 4, 64, 3),
]


def data(images, height, width, c, edges):
    """Maps, weights, and the gradients of the weighted, normalised parts of the output."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, height, width, c + 4, generator=generator, dtype=torch.float64)
    w = torch.randn(edges * c, c, 3, 3, generator=generator, dtype=torch.float64) / (9 * c) ** 0.5
    g = torch.randn(edges, images, height, width, c, generator=generator, dtype=torch.float64)
    return x, w, g, [0.5 + e for e in range(edges)]


def torchs(x, w, g, scales, dtype):
    """Output, and gradients of x and w."""
    x, w = (t.to(dtype).requires_grad_() for t in (x, w))
    c = w.shape[1]
    images = torch.relu(x[..., 2 : 2 + c].permute(0, 3, 1, 2))
    y = F.conv2d(images, w, None, 1, 1)
    normed = F.batch_norm(y, None, None, training=True, eps=EPSILON).permute(0, 2, 3, 1)
    loss = sum(
        scale * (part * own.to(dtype)).sum()
        for scale, part, own in zip(scales, normed.split(c, 3), g, strict=True)
    )
    dx, dw = torch.autograd.grad(loss, (x, w))
    return y.detach().permute(0, 2, 3, 1), dx[..., 2 : 2 + c], dw


def kernels(x, w, g, scales, dtype):
    """The same; x is a slice of a wider map, and its gradient is added twice."""
    calls, c = Kernels(dtype), w.shape[1]
    x, w, g = (t.to(dtype) for t in (x, w, g))
    source, y = Map(x, 2, c), torch.empty(*x.shape[:3], len(w), dtype=dtype)
    stats = torch.empty(2, len(g), 2, c, dtype=torch.float64)  # of y, and of g
    calls.winograd(source, w.data_ptr(), Map(y), pointers(stats[0]))
    for part, own, (mean, scale), sums in zip(y.split(c, 3), g, *stats, strict=True):
        torch.testing.assert_close(mean, part.double().mean((0, 1, 2)), rtol=0, atol=1e-6)
        sums[0] = own.double().sum((0, 1, 2))
        sums[1] = (own.double() * (part.double() - mean) * scale).sum((0, 1, 2))
    dx, found = torch.zeros_like(x), []
    for dw in (None, torch.full_like(w, torch.nan)):
        calls.winograd_backward(
            source, w.data_ptr(), Map(y), *map(pointers, stats), scales, [Map(own) for own in g],
            Map(dx, 2, c), None if dw is None else dw.data_ptr(),
        )  # fmt: skip
        found.append(dx.clone())
    first, both = found
    assert torch.equal(both, 2 * first)  # whether or not the weights' gradient is wanted
    assert (torch.cat([both[..., :2], both[..., 2 + c :]], 3) == 0).all()
    return y, first[..., 2 : 2 + c], dw


def errors(found, wanted):
    """Relative to the norm of what is wanted."""
    return [((a - b).norm() / b.norm()).item() for a, b in zip(found, wanted, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_torch_in_double_precision(shape):
    given = data(*shape)
    found = kernels(*given, torch.float64)
    assert max(errors(found, torchs(*given, torch.float64))) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_is_about_as_exact_as_torch_in_single_precision(shape):
    """Within 4 times of torch's own error, or of a few units in the last place."""
    given = data(*shape)
    exact = torchs(*(t.float().double() for t in given[:3]), given[3], torch.float64)
    mine, own = (errors(f(*given, torch.float32), exact) for f in (kernels, torchs))
    for a, b in zip(mine, own, strict=True):
        assert a < 4 * max(b, 1e-7)
