"""The dependence model against hand-computed values, a numpy oracle and finite differences."""

import itertools
import math

import numpy as np
import pytest
import torch

from itnas.method.dependence import Dependence, build_dependence, count_parameters
from itnas.method.parameters import check_dependence
from itnas.method.spaces import Cell, Edge, get_space
from itnas.settings import DependenceSettings

NB201 = get_space("nas-bench-201")


def settings_of_the_table():
    """Every value of every row of the design's table, crossed where they meet."""
    crossed = itertools.product(
        ("transition", "independent", "placebo"),
        ("link", "edge", "cell"),
        ("learned", "content", "uniform"),
        ("identity", "uniform", "random"),
        (0.0, 0.3),
    )
    for model, sharing, attention, init, own in crossed:
        yield DependenceSettings(model, sharing, attention, init, own_weight=own)
    yield DependenceSettings(trainable=False, temperature=0.5, stop_gradient=True)


def shaken(module, scale=1.0, seed=0):
    """Move every parameter far from its start, so that nothing is near a symmetric point."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).double())
    return module


def numpy_oracle(dependence: Dependence):
    """p_e by the formulas of the design, written apart from the code: dictionaries and loops."""
    cell, settings = dependence.cell, dependence.settings
    state = {k: v.double().numpy() for k, v in dependence.state_dict().items()}

    def softmax(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    p = {}
    for target in range(cell.inputs, cell.nodes):
        for source in range(target):
            edge = next(e for e in cell.edges if (e.source, e.target) == (source, target))
            key = f"{source}_{target}"
            own = softmax(state[f"logits.{key}"] / settings.temperature) if (
                f"logits.{key}" in state) else None  # fmt: skip
            if source < cell.inputs or settings.model == "independent":
                p[source, target] = own
                continue
            scores, passed = [], []
            for before in range(source):
                q = next(e for e in cell.edges if (e.source, e.target) == (before, source))
                p_q = p[before, source]
                if settings.model == "placebo":
                    p_q = np.full(len(q.operations), 1 / len(q.operations))
                matrix = {
                    "link": f"{before}_{source}-{key}", "edge": key, "cell": "0",
                }[settings.sharing]  # fmt: skip
                T = softmax(state[f"transition.{matrix}"])
                score = 0.0
                if settings.attention != "uniform":
                    n = next(
                        n for n, link in enumerate(cell.links)
                        if cell.edges[link.predecessor] is q and cell.edges[link.edge] is edge
                    )  # fmt: skip
                    score = state["attention"][n]
                if settings.attention == "content":
                    u = state[f"query.{key}"]
                    u = np.array([u[cell.operations.index(o)] for o in q.operations])
                    score += float(p_q @ u) / math.sqrt(len(u))
                scores.append(score)
                passed.append(p_q @ T)
            w = softmax(np.array(scores))
            derived = sum(w_q * x for w_q, x in zip(w, passed, strict=True))
            share = settings.own_weight
            p[source, target] = derived if share == 0 else share * own + (1 - share) * derived
    return [p[e.source, e.target] for e in cell.edges]


@pytest.mark.parametrize("settings", list(settings_of_the_table()), ids=str)
def test_agrees_with_the_formulas_and_every_row_is_a_distribution(settings):
    dependence = shaken(build_dependence(NB201, settings, 3))["normal"]
    architecture = dependence()
    for got, want in zip(architecture.probabilities, numpy_oracle(dependence), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), want, rtol=0, atol=1e-12)
        assert got.sum().item() == pytest.approx(1, abs=1e-12)
        assert got.min() >= 0
    for T in architecture.matrices:
        torch.testing.assert_close(T.sum(-1), torch.ones(len(T)).double())
    links = 0 if settings.model == "independent" else 4
    assert len(architecture.matrices) == len(architecture.attention) == links
    if links:
        w = torch.stack(architecture.attention)
        torch.testing.assert_close(w[2:].sum(), torch.tensor(1.0).double())  # into (2, 3)


@pytest.mark.parametrize("name", ["darts", "s1", "s3"])
@pytest.mark.parametrize("attention", ["learned", "content", "uniform"])
def test_agrees_with_the_formulas_on_the_darts_cells(name, attention):
    settings = DependenceSettings(attention=attention, own_weight=0.2)
    for cell in shaken(build_dependence(get_space(name), settings, 1)).values():
        for got, want in zip(cell().probabilities, numpy_oracle(cell), strict=True):
            np.testing.assert_allclose(got.detach().numpy(), want, rtol=0, atol=1e-12)


def test_independent_is_a_softmax_on_every_edge():
    settings = DependenceSettings("independent", temperature=2.0)
    dependence = shaken(build_dependence(NB201, settings, 0))["normal"]
    logits = list(dependence.logits.values())
    assert len(logits) == 6
    for p, a in zip(dependence().probabilities, logits, strict=True):
        torch.testing.assert_close(p, torch.softmax(a / 2.0, dim=0))


def test_frozen_identity_with_uniform_attention_by_hand():
    """One-hot outer edges: with logit 2 a row of T has d = e^2 / (e^2 + 4) on the diagonal and
    r = 1 / (e^2 + 4) elsewhere, so a distribution p becomes r + (d - r) p.
    """
    settings = DependenceSettings(attention="uniform", init="identity", trainable=False)
    dependence = build_dependence(NB201, settings, seeds=0)["normal"].double()
    d, r = math.exp(2) / (math.exp(2) + 4), 1 / (math.exp(2) + 4)
    hot = {"0_1": 1, "0_2": 3, "0_3": 4}
    with torch.no_grad():
        for name, k in hot.items():
            dependence.logits[name].fill_(-1e9)[k] = 1e9

    def one_hot(k):
        return [float(n == k) for n in range(5)]

    p = [x.tolist() for x in dependence().probabilities]
    after_one = [r + (d - r) * x for x in one_hot(1)]  # both (1, 2) and (1, 3) follow (0, 1)
    after_two = [
        0.5 * (r + (d - r) * x) + 0.5 * (r + (d - r) * y)
        for x, y in zip(one_hot(3), after_one, strict=True)  # (0, 2) and (1, 2), equally
    ]
    wanted = [one_hot(1), one_hot(3), after_one, one_hot(4), after_one, after_two]
    np.testing.assert_allclose(p, wanted, rtol=0, atol=1e-12)
    assert after_two[3] == pytest.approx(
        0.5 * 0.64878 + 0.5 * (0.0878 + 0.56098 * 0.0878), abs=1e-4
    )


@pytest.mark.parametrize("attention", ["learned", "content", "uniform"])
@pytest.mark.parametrize("space", ["nas-bench-201", "s1"])
def test_placebo_has_the_parameters_of_transition_and_nothing_flows(attention, space):
    sizes = {
        model: count_parameters(get_space(space), DependenceSettings(model, attention=attention))
        for model in ("transition", "placebo")
    }
    assert sizes["transition"] == sizes["placebo"]
    settings = DependenceSettings("placebo", attention=attention)
    for cell in shaken(build_dependence(get_space(space), settings, 0)).values():
        p = cell().probabilities
        inner = torch.stack([(p[e] * torch.arange(len(p[e]))).sum() for e in cell.cell.inner_edges])
        gradients = torch.autograd.grad(
            inner.sum(), list(cell.logits.values()), allow_unused=True, retain_graph=True
        )
        assert all(g is None or not g.any() for g in gradients)
        moved = torch.autograd.grad(inner.sum(), list(cell.transition.values()))
        assert all(g.any() for g in moved)  # the matrices themselves do learn


@pytest.mark.parametrize("stop_gradient", [False, True])
def test_stop_gradient_decides_whether_predecessors_hear_of_inner_edges(stop_gradient):
    settings = DependenceSettings(stop_gradient=stop_gradient)
    cell = shaken(build_dependence(NB201, settings, 0))["normal"]
    inner = cell().probabilities[5][0]
    (gradient,) = torch.autograd.grad(inner, [cell.logits["0_1"]], allow_unused=True)
    heard = gradient is not None and bool(gradient.any())
    assert heard is not stop_gradient


@pytest.mark.parametrize(
    "settings",
    [
        DependenceSettings(),
        DependenceSettings(attention="content", own_weight=0.4, temperature=0.7),
        DependenceSettings(sharing="edge", attention="uniform", init="random"),
        DependenceSettings("placebo", sharing="cell", attention="content"),
    ],
    ids=str,
)
def test_gradients_against_finite_differences(settings):
    cell = shaken(build_dependence(NB201, settings, 2), scale=0.5)["normal"]
    parameters = dict(cell.named_parameters())

    def outputs(*values):
        replaced = dict(zip(parameters, values, strict=True))
        return tuple(torch.func.functional_call(cell, replaced, ()).probabilities)

    assert torch.autograd.gradcheck(outputs, tuple(parameters.values()), eps=1e-6, atol=1e-8)


def test_rectangular_matrices_have_an_identity_by_name():
    """A cell of two edges in a row whose lists overlap in one operation."""
    cell = Cell(1, 3, (
        Edge(0, 1, False, ("skip_connect", "sep_conv_3x3", "none")),
        Edge(0, 2, False, ("none",)),
        Edge(1, 2, True, ("max_pool_3x3", "skip_connect")),
    ))  # fmt: skip
    settings = DependenceSettings(attention="content", trainable=False, init_strength=3.0)
    dependence = Dependence(cell, "normal", settings, 0)
    T = dependence().matrices[0]
    assert T.shape == (3, 2)
    s = math.exp(3) / (math.exp(3) + 1)
    torch.testing.assert_close(T, torch.tensor([[1 - s, s], [0.5, 0.5], [0.5, 0.5]]))
    assert dependence().probabilities[2].sum().item() == pytest.approx(1)


def test_initial_values_frozen_exactly_and_trainable_with_small_noise():
    frozen = DependenceSettings(init="identity", trainable=False)
    exact = build_dependence(NB201, frozen, 0)["normal"].transition["0_1-1_2"]
    assert torch.equal(exact, 2.0 * torch.eye(5))
    assert not exact.requires_grad
    noisy = build_dependence(NB201, DependenceSettings(), 0)["normal"].transition["0_1-1_2"]
    spread = (noisy.detach() - 2.0 * torch.eye(5)).flatten()
    assert 0.5e-3 < spread.std() < 2e-3
    random = DependenceSettings(init="random", init_strength=1.5, trainable=False)
    logits = torch.cat([
        T.detach().flatten()
        for T in build_dependence(get_space("darts"), random, 0)["normal"].transition.values()
    ])  # fmt: skip
    assert logits.std().item() == pytest.approx(1.5, rel=0.05)  # 1,024 values
    assert build_dependence(NB201, frozen, 0)["normal"].groups().keys() == {
        "architecture_lr", "attention_lr",
    }  # fmt: skip


def test_settings_with_one_seed_start_from_the_same_outer_logits():
    starts = [
        build_dependence(NB201, settings, 7)["normal"].logits
        for settings in (
            DependenceSettings("independent"),
            DependenceSettings("transition", attention="content"),
            DependenceSettings("placebo", own_weight=0.5, sharing="cell"),
        )
    ]
    for name in ("0_1", "0_2", "0_3"):
        assert torch.equal(starts[0][name], starts[1][name])
        assert torch.equal(starts[0][name], starts[2][name])
    assert "1_2" not in starts[1]  # free logits on inner edges only where lambda > 0
    assert torch.equal(starts[0]["1_2"], starts[2]["1_2"])
    other = build_dependence(NB201, DependenceSettings("independent"), 8)["normal"].logits
    assert not torch.equal(other["0_1"], starts[0]["0_1"])


@pytest.mark.parametrize("sharing", ["edge", "cell"])
def test_one_matrix_for_different_lists_is_a_clear_error(sharing):
    with pytest.raises(ValueError, match=r"dependence.sharing: .*'link'"):
        check_dependence(get_space("s1"), DependenceSettings(sharing=sharing))
    check_dependence(get_space("s1"), DependenceSettings("independent", sharing=sharing))
    check_dependence(get_space("s4"), DependenceSettings(sharing=sharing))


@pytest.mark.parametrize(("sharing", "matrices"), [("link", 16), ("edge", 6), ("cell", 1)])
def test_sharing_decides_how_many_matrices_there_are(sharing, matrices):
    cell = build_dependence(get_space("darts"), DependenceSettings(sharing=sharing), 0)["normal"]
    assert len(cell.transition) == matrices
    assert len(cell().matrices) == 16  # one for every link all the same


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "transitions"}, "model: 'transitions' is not allowed; one of transition"),
        ({"own_weight": 1.5}, "own_weight: 1.5 is not allowed; between 0 and 1"),
        ({"temperature": 0}, "temperature: 0 is not allowed; above 0"),
        ({"trainable": "no"}, "trainable: 'no' is not allowed; one of true or false"),
        ({"init_strength": float("nan")}, "init_strength: nan is not allowed"),
    ],
)
def test_wrong_settings_are_one_clear_line(wrong, message):
    with pytest.raises(ValueError, match=message):
        DependenceSettings(**wrong)
