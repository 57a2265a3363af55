"""The forward pass of K supernets at once: how the layers of a blueprint are put together.

A map of K replicas is (B, K*C, H, W), replica by replica. What a cell computes, and how a
convolution or a batch norm is done, is left to a backend: torch's operations with the replicas as
groups (`itnas/engine/groups/grouped.py`), or one replica with compiled kernels (`itnas/kernels/`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from itnas.engine.groups.sums import exact
from itnas.engine.plan.blueprint import Blueprint, Head, Preprocess, Residual, SearchCell, Stem
from itnas.engine.plan.rounds import Part
from itnas.engine.weights import Weights
from itnas.method.spaces import CellKind

EdgeWeights = Mapping[CellKind, Tensor]
"""by cell kind (K, operations of all edges in the order of the edges): p_e one after another"""
Noise = Callable[[list[str], tuple[int, ...]], Tensor]
"""(names of edges, (B, C, H, W)) to the noise operation's outputs, (K, edges, B, C, H, W)"""


class Backend(Protocol):
    """How the pieces of a supernet are computed."""

    def convolution(self, x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """x (B, K*C, H, W), weight (K, C out, C, k, k), padded by k // 2."""

    def halve(self, x: Tensor, even: Tensor, odd: Tensor) -> Tensor:
        """Factorized reduction: two 1x1 convolutions of stride 2, the second one pixel further on;
        their outputs side by side. even (K, C1, C, 1, 1), odd (K, C2, C, 1, 1).
        """

    def norm(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Batch norm with the batch's statistics; scale and shift (K, C)."""

    def cell(
        self, layer: SearchCell, inputs: list[Tensor], weights: Weights, p: Tensor, noise: Noise
    ) -> Tensor:
        """Input nodes to the cell's output: all later nodes (DARTS) or the last one."""


def forward(
    blueprint: Blueprint,
    backend: Backend,
    images: Tensor,
    weights: Weights,
    p: EdgeWeights,
    noise: Noise,
) -> Tensor:
    """(B, K * image channels, H, W) to logits (K, B, classes)."""

    def of(part: Part) -> Tensor:
        return weights[part.name]

    x = images
    before = last = x  # rectified, for the DARTS family: both consumers of a cell start with a ReLU
    for layer in blueprint.layers:
        match layer:
            case Stem():
                x = backend.convolution(x, of(layer.weight))
                x = backend.norm(x, of(layer.scale), of(layer.shift))
                before = last = torch.relu(x)
            case SearchCell(preprocess=()):
                x = backend.cell(layer, [x], weights, p[layer.kind], noise)
            case SearchCell():
                inputs = [
                    _preprocess(backend, each, state, of)
                    for each, state in zip(layer.preprocess, (before, last), strict=True)
                ]
                x = backend.cell(layer, inputs, weights, p[layer.kind], noise)
                before, last = last, torch.relu(x)
            case Residual():
                x = _residual(backend, layer, x, of)
            case Head():
                return _head(backend, layer, x, of)
    raise AssertionError("a blueprint ends with its head")


def _preprocess(
    backend: Backend, layer: Preprocess, x: Tensor, of: Callable[[Part], Tensor]
) -> Tensor:
    if layer.weight is not None:
        return backend.norm(backend.convolution(x, of(layer.weight)))
    assert layer.even is not None
    assert layer.odd is not None
    return backend.norm(backend.halve(x, of(layer.even), of(layer.odd)))


def _residual(backend: Backend, layer: Residual, x: Tensor, of: Callable[[Part], Tensor]) -> Tensor:
    y = x
    for weight, scale, shift, stride in zip(
        layer.weights, layer.scales, layer.shifts, (2, 1), strict=True
    ):
        y = backend.convolution(torch.relu(y), of(weight), stride)
        y = backend.norm(y, of(scale), of(shift))
    return y + backend.convolution(F.avg_pool2d(x, 2), of(layer.shortcut))


def _head(backend: Backend, layer: Head, x: Tensor, of: Callable[[Part], Tensor]) -> Tensor:
    if layer.scale is not None and layer.shift is not None:
        x = torch.relu(backend.norm(x, of(layer.scale), of(layer.shift)))
    weight, bias = of(layer.weight), of(layer.bias)
    with exact(x):  # a rounded logit would hide a small change of p from the loss
        features = x.mean(dim=(2, 3), dtype=weight.dtype).unflatten(1, (weight.shape[0], -1))
        return torch.baddbmm(bias[:, None], features.transpose(0, 1), weight.transpose(1, 2))
