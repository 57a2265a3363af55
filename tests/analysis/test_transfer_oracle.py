"""Transfer against itself written down once more: seed by seed, matrix by matrix, by lstsq."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from analysis.statistics.flow import FlowCell
from analysis.statistics.predicted_flows import FACTORS, FORMS
from analysis.statistics.transfer import transfer
from tests.analysis.studies.transfer_worlds import ALL, World, draw, softmax
from tests.analysis.test_transfer import ragged_cell

Tables = dict[int, np.ndarray]  # a matrix (R, C) by its number
Flows = list[np.ndarray]  # of every inner edge


def flows_of(cell: FlowCell, seed: int, tables: Tables) -> Flows:
    out = [np.zeros(len(e.operations)) for e in cell.edges]
    for k in cell.links:
        out[k.edge] = out[k.edge] + k.w[seed] * k.p[seed] @ tables[k.matrix]
    return out


def bits(first: Flows, second: Flows) -> float:
    pairs = zip(first, second, strict=True)
    return float(np.mean([jensenshannon(p, q, base=2) ** 2 for p, q in pairs]))


def centred(table: np.ndarray) -> np.ndarray:
    """Logarithms less their mean over operations."""
    logs = np.log(np.maximum(table, 1e-12))
    return logs - logs.mean(axis=-1, keepdims=True)


def row_free(x: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=0)


class Matrix:
    """What the others say of one distinct matrix, for one target."""

    def __init__(self, cell: FlowCell, number: int, target: int, others: list[int]) -> None:
        shared = [k for k in cell.links if k.matrix == number]
        start, table = shared[0].start, shared[0].matrices
        visits = np.mean([k.p for k in shared], axis=0)
        visits = visits - visits.mean(axis=1, keepdims=True)  # (n, R)
        columns = start.shape[2]
        z = [centred(table[j]) - centred(start[j]) for j in others]
        x = [centred(start[j]) for j in others]
        zc, xc = (np.stack([row_free(y) for y in of]) for of in (z, x))
        v = visits[others]

        of_visits = [np.zeros(xc.shape) for _ in range(columns)]
        for c, one in enumerate(of_visits):
            one[:, :, c] = v

        def fit(with_start: bool, with_visits: bool) -> tuple[float, np.ndarray]:
            slopes = np.array([one.ravel() for one in of_visits * with_visits]).T
            if with_visits:  # a start that visits explain altogether says nothing of its own
                left = xc.ravel() - slopes @ np.linalg.lstsq(slopes, xc.ravel())[0]
                with_start &= bool((left**2).sum() > 1e-9 * (xc**2).sum())
            parts = [xc.reshape(-1, 1)] * with_start + [slopes] * with_visits
            found = np.linalg.lstsq(np.hstack(parts), zc.ravel())[0] if parts else [0.0]
            b = float(found[0]) if with_start else 0.0
            return b, found[-columns:] if with_visits else np.zeros(columns)

        tilt, begun = np.mean(z, axis=0).mean(axis=0), centred(start[target])
        own = begun - np.mean(x, axis=0).mean(axis=0)
        self.tables = {"start": begun, "a": begun + tilt}
        for form, which in {"c": (True, False), "d": (False, True), "cd": (True, True)}.items():
            b, slope = fit(*which)
            self.tables[form] = begun + tilt + b * own + visits[target][:, None] * slope
        self.residual = (zc - b * xc - v[:, :, None] * slope).mean(axis=0)
        self.whole = begun + np.mean(z, axis=0)
        self.mean = table[others].mean(axis=0)


def predictions(cell: FlowCell, target: int, others: list[int]) -> tuple[list[Flows], list[Flows]]:
    """Flows of one seed by every form, and by every way that has rows."""
    numbers = {k.matrix for k in cell.links}
    of = {m: Matrix(cell, m, target, others) for m in numbers}

    def by(table) -> Flows:
        return flows_of(cell, target, {m: table(one) for m, one in of.items()})

    forms = {f: by(lambda m, f=f: softmax(m.tables[f])) for f in FORMS[:5]}
    tilts = []
    for j in others:
        real, start = (
            flows_of(cell, j, {k.matrix: getattr(k, name)[j] for k in cell.links})
            for name in ("matrices", "start")
        )
        tilts.append([np.log(p) - np.log(q) for p, q in zip(real, start, strict=True)])
    of_edges = zip(forms["start"], zip(*tilts, strict=True), strict=True)
    tilted = [p * np.exp(np.mean(t, axis=0)) for p, t in of_edges]
    forms["b"] = [p / p.sum() for p in tilted]
    rows = [
        by(lambda m, f=f, k=k: softmax(m.tables[f] + k * m.residual))
        for f in FORMS[1:5]
        for k in FACTORS
    ]
    rows.append(by(lambda m: softmax(m.whole)))
    if cell.random_start:
        forms["mean"] = by(lambda m: np.tile(m.mean.mean(axis=0), (len(m.mean), 1)))
        rows.append(by(lambda m: m.mean))
    return list(forms.values()), rows


def by_the_text(cell: FlowCell) -> np.ndarray:
    """(4, n): D(start), D(columns), D(full), and by a quarter of the rows, which is tested."""
    n, out = cell.n, []
    real = [flows_of(cell, i, {k.matrix: k.matrices[i] for k in cell.links}) for i in range(n)]
    for i in range(n):
        others = [j for j in range(n) if j != i]
        inner = []  # of every other seed k, without k and i
        for k in others:
            forms, rows = predictions(cell, k, [j for j in others if j != k])
            inner.append(([bits(f, real[k]) for f in forms], [bits(r, real[k]) for r in rows]))
        form = int(np.mean([f for f, _ in inner], axis=0).argmin())
        ways = [[f[form], *r] for f, r in inner]
        way = int(np.mean(ways, axis=0).argmin())
        forms, rows = predictions(cell, i, others)
        tables = int(np.mean([f for f, _ in inner], axis=0)[1:5].argmin())
        chosen = forms[0], forms[form], [forms[form], *rows][way], rows[len(FACTORS) * tables]
        out.append([bits(p, real[i]) for p in chosen])
    return np.array(out).T


WORLDS = {
    "identity": World(noise=0.5, columns=0.7, weaker=0.5, visited=1.0, rows=0.7),
    "uniform": World(noise=0.5, columns=0.5, rows=0.9, init="uniform"),
    "random": World(noise=0.3, weaker=0.8, columns=0.4, rows=0.7, init="random"),
    "one matrix": replace(ALL, rows=0.8, sharing="cell"),
    "own weight": replace(ALL, rows=0.8, own_weight=0.4),
}


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("name", [*WORLDS, "ragged"])
def test_transfer_is_what_its_text_says(name: str, n: int) -> None:
    cell = ragged_cell(n) if name == "ragged" else draw(WORLDS[name], n, np.random.default_rng(n))
    found = transfer(cell, 0)
    told = np.stack([found.d_start, found.d_columns, found.d_full])
    *expected, tested = by_the_text(cell)
    np.testing.assert_allclose(told, expected, rtol=1e-6, atol=1e-9)
    assert found.drawn[0] == pytest.approx(tested.mean(), rel=1e-4)  # in float32
