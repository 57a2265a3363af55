"""Entropy, displacement and dependence strength against scipy, scikit-learn and closed forms."""

import math

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import mutual_info_score

from itnas.method import measures
from itnas.method.records import CellRecord
from itnas.method.spaces import get_space

NB201 = get_space("nas-bench-201")
UNIFORM = [0.2] * 5
IDENTITY = np.eye(5).tolist()


def record(probabilities, attention=(1.0, 1.0, 0.5, 0.5), matrices=(IDENTITY,) * 4):
    return {"normal": CellRecord(list(probabilities), list(attention), list(matrices))}


def test_entropy_agrees_with_scipy_and_takes_zeros():
    p = np.random.default_rng(0).dirichlet(np.ones(8))
    assert measures.entropy(p) == pytest.approx(scipy_entropy(p), abs=1e-14)
    assert measures.entropy(np.array([1.0, 0, 0])) == 0


def test_mutual_information_agrees_with_scikit_learn():
    counts = np.random.default_rng(1).integers(1, 50, size=(3, 4))
    p = counts.sum(1) / counts.sum()
    T = counts / counts.sum(1, keepdims=True)
    wanted = mutual_info_score(None, None, contingency=counts)
    assert measures.mutual_information(p, T) == pytest.approx(wanted, abs=1e-12)


def test_displacements_by_hand():
    start = record([UNIFORM] * 6)
    moved = [list(UNIFORM) for _ in range(6)]
    moved[0] = [1.0, 0, 0, 0, 0]  # 0.8 from uniform
    turned = np.eye(5)[[1, 0, 2, 3, 4]].tolist()  # two of five rows are 1 from where they were
    now = record(moved, matrices=[turned, IDENTITY, IDENTITY, IDENTITY])
    assert measures.architecture_displacement(now, start) == pytest.approx(0.8 / 6)
    assert measures.transition_displacement(now, start) == pytest.approx(2 / 20)
    none = record([UNIFORM] * 6, attention=(), matrices=())
    assert measures.transition_displacement(none, none) is None
    assert measures.architecture_entropy(start) == pytest.approx(math.log(5))


def test_dependence_strength_of_known_tables():
    everything = record([UNIFORM] * 6)  # the identity passes all of a uniform predecessor on
    assert measures.dependence_strength(NB201, everything, "transition", 0) == pytest.approx(1)
    assert measures.dependence_strength(NB201, everything, "transition", 0.25) == pytest.approx(
        0.75
    )
    for model in ("placebo", "independent"):
        assert measures.dependence_strength(NB201, everything, model, 0) == 0
    same_rows = [[0.5, 0.5, 0, 0, 0]] * 5
    nothing = record([UNIFORM] * 6, matrices=[same_rows] * 4)
    assert measures.dependence_strength(NB201, nothing, "transition", 0) == pytest.approx(0)
    certain = record([[1.0, 0, 0, 0, 0]] * 6)  # no entropy, nothing to pass on
    assert measures.dependence_strength(NB201, certain, "transition", 0) == 0
    # one of the three inner edges hears of nothing, (2, 3) with a quarter of its attention
    mixed = record(
        [UNIFORM] * 6, (1.0, 1.0, 0.75, 0.25), [IDENTITY, same_rows, same_rows, IDENTITY]
    )
    wanted = (1 + 0 + 0.25) / 3
    assert measures.dependence_strength(NB201, mixed, "transition", 0) == pytest.approx(wanted)
