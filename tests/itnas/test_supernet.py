"""The plain reference against a functional forward pass, and derived networks."""

import pytest
import torch
import torch.nn.functional as F

from itnas.method.dependence import build_dependence
from itnas.method.genotype import derive
from itnas.method.network import build_network
from itnas.method.spaces import get_space
from itnas.settings import DependenceSettings, SearchSettings, Setting
from tests.reference.supernet import build_supernet, single_path


def supernet(space, channels=4, cells=1, seed=0, data_seed=0, image_channels=3):
    setting = Setting(space, SearchSettings(channels=channels, cells=cells))
    network, context = build_supernet(setting, image_channels, 10, seed, data_seed)
    return network.double(), context


def images(count=6, size=8, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator).double()


def weights(space, seed=0):
    modules = build_dependence(get_space(space), DependenceSettings("independent"), seed).double()
    with torch.no_grad():
        for parameter in modules.parameters():
            parameter.mul_(1000)
    return {kind: cell().probabilities for kind, cell in modules.items()}


def norm(x, weight=None, bias=None):
    return F.batch_norm(x, None, None, weight, bias, training=True)


def nb201_functional(state, x, probabilities):
    """NAS-Bench-201 with one cell a stage, from the paper's description and a state dict."""
    x = norm(F.conv2d(x, state["stem.0.weight"], padding=1), *affine(state, "stem.1"))
    layer = 0
    for stage in range(3):
        if stage:
            name = f"layers.{layer}"
            y = x
            for k, stride in ((0, 2), (1, 1)):
                conv = state[f"{name}.convolutions.{k}.1.weight"]
                y = F.conv2d(F.relu(y), conv, stride=stride, padding=1)
                y = norm(y, *affine(state, f"{name}.convolutions.{k}.2"))
            x = y + F.conv2d(F.avg_pool2d(x, 2), state[f"{name}.shortcut.1.weight"])
            layer += 1
        nodes = [x]
        edge = 0
        for target in (1, 2, 3):
            total = torch.zeros_like(x)
            for source in range(target):
                name, p, node = f"layers.{layer}.edges.{edge}.operations", probabilities[edge], (
                    nodes[source])  # fmt: skip
                total = total + p[1] * node
                for k, operation, padding in ((2, "nor_conv_1x1", 0), (3, "nor_conv_3x3", 1)):
                    conv = state[f"{name}.{operation}.1.weight"]
                    total = total + p[k] * norm(F.conv2d(F.relu(node), conv, padding=padding))
                pooled = F.avg_pool2d(node, 3, stride=1, padding=1, count_include_pad=False)
                total = total + p[4] * pooled
                edge += 1
            nodes.append(total)
        x = nodes[3]
        layer += 1
    x = F.relu(norm(x, *affine(state, "norm"))).mean((2, 3))
    return F.linear(x, state["classifier.weight"], state["classifier.bias"])


def affine(state, name):
    return state[f"{name}.weight"], state[f"{name}.bias"]


def test_nas_bench_201_agrees_with_a_functional_forward_pass():
    network, _ = supernet("nas-bench-201")
    probabilities = weights("nas-bench-201")
    x = images()
    wanted = nb201_functional(network.state_dict(), x, probabilities["normal"])
    torch.testing.assert_close(network(x, probabilities), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", ["nas-bench-201", "darts", "s1", "s2", "s3", "s4"])
def test_a_single_path_is_the_supernet_with_one_hot_weights(space):
    cells = 1 if space == "nas-bench-201" else 3
    network, _ = supernet(space, cells=cells)
    relaxed = weights(space)
    plain = {kind: [p.tolist() for p in ps] for kind, ps in relaxed.items()}
    path = single_path(get_space(space), derive(get_space(space), plain))
    hot = {
        kind: [
            F.one_hot(torch.tensor(k), len(p)).double() if k is not None else torch.zeros_like(p)
            for k, p in zip(choices, relaxed[kind], strict=True)
        ]
        for kind, choices in path.items()
    }
    x = images()
    torch.testing.assert_close(network(x, path), network(x, hot), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(network(x, path), network(x, relaxed))


def test_a_cell_of_none_alone_adds_nothing():
    network, _ = supernet("nas-bench-201")
    out = network(images(), {"normal": [0] * 6})
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out, out[:1].expand_as(out))  # nothing of the image is left


@pytest.mark.parametrize("cells", [3, 4, 6, 8])
def test_darts_reduces_at_one_and_two_thirds(cells):
    network, _ = supernet("darts", channels=2, cells=cells)
    kinds = [cell.body.kind for cell in network.cells]
    assert [n for n, kind in enumerate(kinds) if kind == "reduce"] == [cells // 3, 2 * cells // 3]
    maps = []
    for cell in network.cells:
        cell.register_forward_hook(lambda module, args, out: maps.append(out.shape[-1]))
    network(images(size=16), weights("darts"))
    assert maps[0] == 16
    assert maps[-1] == 4


def test_weights_depend_on_the_weights_seed_alone():
    first, same, other = (
        dict(supernet("darts", cells=3, seed=seed, data_seed=data)[0].named_parameters())
        for seed, data in ((0, 0), (0, 5), (1, 0))
    )
    assert all(torch.equal(first[k], same[k]) for k in first)
    moved = [k for k in first if not torch.equal(first[k], other[k])]
    fixed = set(first) - set(moved)
    assert all(k.startswith("stem.1") for k in fixed)  # a norm's scale and shift
    conv = first["stem.0.weight"]
    bound = 27**-0.5  # the default of PyTorch: uniform within 1 / sqrt(fan in)
    assert 0.9 * bound < conv.abs().max() <= bound


def test_noise_has_a_stream_for_each_moment_and_edge():
    network, context = supernet("s4", cells=3)
    probabilities, x = weights("s4"), images()
    context.moment = ("weights", 0, 0)
    first = network(x, probabilities)
    torch.manual_seed(0)
    assert torch.equal(first, network(x, probabilities))
    context.moment = ("weights", 0, 1)
    assert not torch.allclose(first, network(x, probabilities))
    other, context = supernet("s4", cells=3, data_seed=1)
    context.moment = ("weights", 0, 0)
    assert not torch.allclose(first, other(x, probabilities))


@pytest.mark.parametrize("space", ["nas-bench-201", "darts", "s4"])
def test_a_derived_network_is_a_module_that_trains(space):
    plain = {kind: [p.tolist() for p in ps] for kind, ps in weights(space, seed=2).items()}
    genotype = derive(get_space(space), plain)
    network = build_network(str(genotype), channels=4, cells=3, image_channels=1, classes=7)
    x = images(channels=1).float()
    logits = network(x)
    assert logits.shape == (6, 7)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    network.eval()
    torch.testing.assert_close(network(x)[:2], network(x[:2]), rtol=1e-4, atol=1e-4)
    assert network.state_dict().keys() == build_network(genotype, 4, 3, 1, 7).state_dict().keys()
