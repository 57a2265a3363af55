"""docs/new-dependence.md and docs/new-operation.md: run as they stand, and right."""

import re
from pathlib import Path

import pytest
import torch

import itnas
from itnas.kernels import library as kernels
from itnas.method.dependence import Dependence, build_dependence
from itnas.method.models import MODELS
from itnas.method.operations import OPERATIONS
from itnas.method.spaces import SPACES, Cell, Edge, get_space
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting
from study.file import StudyFile
from study.file.grid import effectless, expand
from tests.reference.backends import BACKENDS
from tests.reference.search import PlainSearch

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def page():
    """Runs the python blocks of a page, and takes back what it registered."""
    registries = (MODELS, OPERATIONS, SPACES)
    kept = [dict(registry) for registry in registries]

    def run(name):
        names = {"__name__": "notebook"}
        text = (DOCS / name).read_text(encoding="utf-8")
        for block in re.findall(r"^```python\n(.*?)^```", text, re.S | re.M):
            exec(compile(block, name, "exec"), names)
        return names

    yield run
    for registry, before in zip(registries, kept, strict=True):
        registry.clear()
        registry.update(before)


# -- a dependence model ---------------------------------------------------------------------


def product_of_experts(dependence):
    """The page's formula edge by edge, from the parameters by name."""
    cell, settings, p = dependence.cell, dependence.settings, []
    for edge in cell.edges:
        name = f"{edge.source}_{edge.target}"
        own = dependence.logits[name].softmax(0) if name in dependence.logits else None
        if not edge.inner:
            p.append(own)
            continue
        votes = torch.ones(len(edge.operations)).double()
        for q, before in enumerate(cell.edges):
            if before.target == edge.source:
                key = {"link": f"{before.source}_{before.target}-{name}", "cell": "0"}
                T = dependence.transition[key[settings.sharing]].softmax(1)
                votes = votes * sum(p[q][i] * T[i] for i in range(len(p[q])))
        derived, share = votes / votes.sum(), settings.own_weight
        p.append(share * own + (1 - share) * derived if share else derived)
    return p


UNEQUAL = Cell(1, 4, (
    Edge(0, 1, False, ("skip_connect", "sep_conv_3x3", "none")),
    Edge(0, 2, False, ("none", "skip_connect")),
    Edge(1, 2, True, ("max_pool_3x3", "skip_connect", "none")),
    Edge(0, 3, False, ("none",)),
    Edge(1, 3, True, ("max_pool_3x3", "skip_connect")),
    Edge(2, 3, True, ("max_pool_3x3", "skip_connect", "none", "sep_conv_3x3")),
))  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "changes"),
    [
        ("nas-bench-201", {}), ("nas-bench-201", {"sharing": "cell"}), ("darts", {}),
        ("darts", {"own_weight": 0.3}), ("unequal", {}), ("unequal", {"own_weight": 0.3}),
    ],
)  # fmt: skip
def test_the_model_is_its_formula(page, cell, changes):
    page("new-dependence.md")
    settings = DependenceSettings("product", **changes)
    cell = UNEQUAL if cell == "unequal" else get_space(cell).cells["normal"]
    dependence = Dependence(cell, "normal", settings, 0).double()
    with torch.no_grad():
        for parameter in dependence.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    architecture, wanted = dependence(), product_of_experts(dependence)
    toll = [torch.arange(len(p)).double().sin() for p in wanted]
    gradients = [
        torch.autograd.grad(
            sum(p @ t for p, t in zip(probabilities, toll, strict=True)),
            list(dependence.parameters()),
        )
        for probabilities in (architecture.probabilities, wanted)
    ]
    torch.testing.assert_close(architecture.probabilities, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    for node in {cell.edges[e].source for e in cell.inner_edges}:
        n = sum(edge.target == node for edge in cell.edges)
        for w, link in zip(architecture.attention, cell.links, strict=True):
            if cell.edges[link.edge].source == node:
                assert w.item() == pytest.approx(1 / n)


def test_replicas_of_the_model_are_those_of_single_seeds(page):
    page("new-dependence.md")
    space, settings = get_space("s1"), DependenceSettings("product")
    together = build_dependence(space, settings, [3, 5])["reduce"]().probabilities
    for k, seed in enumerate((3, 5)):
        alone = build_dependence(space, settings, seed)["reduce"]().probabilities
        for p, q in zip(together, alone, strict=True):
            torch.testing.assert_close(p[k], q)


def test_the_model_is_a_name_like_any_other(page, digits):
    with pytest.raises(ValueError, match="model: 'product' is not allowed; one of transition"):
        DependenceSettings("product")
    names = page("new-dependence.md")
    assert names["result"].status == "complete"
    assert names["result"].metrics["dependence_strength"] > 0
    assert effectless(DependenceSettings("product")) == {
        "dependence.attention", "search.attention_lr",
    }  # fmt: skip
    groups = build_dependence(get_space("darts"), DependenceSettings("product"), 0)["normal"]
    assert groups.groups().keys() == {"architecture_lr", "transition_lr"}
    alike = [{"model": "product", "attention": a} for a in ("learned", "content")]
    file = StudyFile.model_validate(
        {"name": "x", "space": "nas-bench-201", "grid": {"dependence": alike}}
    )
    expansion = expand(file, digits)
    assert [s.name for s in expansion.settings] == ["product"]
    assert len(expansion.merged) == 1


# -- an operation ---------------------------------------------------------------------------


def plain_and_pack(digits, backend, replicas=2):
    """The plain form of every replica, and the same runs as a pack, of the page's space."""
    search = SearchSettings(epochs=1, batch_size=6, channels=4, cells=3)
    setting = itnas.resolve(Setting("asymmetric", search), digits)
    seeds = [Seeds(n, n + 1, n + 2) for n in range(replicas)]
    engine = EngineSettings(precision="float64", **BACKENDS[backend])
    pack = itnas.SearchPack([setting] * replicas, seeds, digits, engine)
    return [PlainSearch(setting, s, 1, 10, dtype=torch.float64) for s in seeds], pack


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_and_gradients_of_the_operation_are_those_of_the_plain_form(page, digits, backend):
    if backend == "compiled" and kernels.load() is None:
        pytest.skip("no C++ compiler")
    page("new-operation.md")
    plain, pack = plain_and_pack(digits, backend)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((2, 6, 1, 8, 8), generator=generator).double()
    labels = torch.randint(10, (2, 6), generator=generator)
    p = pack.architectures()
    losses, dp = pack.engine.architecture_gradient(images, labels, p)
    mine = torch.autograd.grad(
        list(p.values()), pack.architectures.trained, [dp[kind] for kind in p], allow_unused=True
    )
    _, _, flat = pack.engine.weight_gradient(images, labels, p)
    for k, reference in enumerate(plain):
        loss, _ = reference.loss(images[k], labels[k])
        weights = dict(reference.network.named_parameters())
        assert any("conv_7x1_1x7" in name for name in weights)
        wanted = torch.autograd.grad(
            loss, [*reference.architecture, *weights.values()], allow_unused=True
        )
        own = pack.engine.store.named(k, flat)
        assert own.keys() == weights.keys()
        found = [None if g is None else g[k] for g in mine] + [own[name] for name in weights]
        torch.testing.assert_close(losses[k], loss.detach(), rtol=0, atol=1e-10)
        for a, b in zip(found, wanted, strict=True):
            a, b = (torch.zeros(()) if g is None else g for g in (a, b))
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10, check_dtype=False)


def test_the_space_is_a_name_like_any_other(page):
    with pytest.raises(ValueError, match="space: 'asymmetric' is not allowed; one of nas-bench"):
        Setting("asymmetric")
    names = page("new-operation.md")
    assert names["result"].status == "complete"
    genotype = str(names["result"].genotype)
    assert set(re.findall(r"\('(\w+)'", genotype)) <= {"skip_connect", "conv_7x1_1x7"}
    everywhere = genotype.replace("skip_connect", "conv_7x1_1x7")
    network = itnas.build_network(everywhere, 4, 3, image_channels=1)
    shapes = {tuple(v.shape) for k, v in network.state_dict().items() if "edges" in k}
    assert {(8, 8, 1, 7), (8, 8, 7, 1)} <= shapes
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert StudyFile.model_validate({"name": "x", "space": "asymmetric"}).space == "asymmetric"


def test_an_operation_that_nobody_registered_is_named(page):
    page("new-operation.md")
    del OPERATIONS["conv_7x1_1x7"]
    with pytest.raises(
        ValueError, match=r"asymmetric has operation 'conv_7x1_1x7'; known are none"
    ):
        get_space("asymmetric")
