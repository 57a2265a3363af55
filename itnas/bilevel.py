"""First-order bilevel search (DARTS, Liu et al. 2019, with the dependence of design section 1).

Per step: one Adam step of the architecture on a batch of the architecture part, the weights
taken as constants; then one SGD step of the weights on a batch of the weights part, the
architecture taken as constant.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from itnas import measures
from itnas.data import Batches, ImageData
from itnas.dependence import Architecture, Dependence, build_dependence
from itnas.genotype import count_tied_edges, derive
from itnas.records import CellRecord, EpochRecord, RunResult
from itnas.settings import EngineSettings, Seeds, Setting
from itnas.spaces import CellKind, get_space
from tests.reference.supernet import build_supernet, single_path

ADAM_BETAS = (0.5, 0.999)
"""Of the architecture's optimizer, as in DARTS."""


class Run:
    """One search: one resolved setting with one seed, from initialisation to result."""

    def __init__(
        self, setting: Setting, seeds: Seeds, data: ImageData, engine: EngineSettings
    ) -> None:
        self.setting, self.space = setting, get_space(setting.space)
        search, device = setting.search, engine.device
        dtype = {"float32": torch.float32, "float64": torch.float64}[engine.precision]
        self.batches = Batches(data, seeds.data, search.batch_size, device, dtype)
        network, self.context = build_supernet(
            setting, data.channels, data.classes, seeds.weights, seeds.data
        )
        self.network = network.to(device, dtype)
        self.dependence = build_dependence(self.space, setting.dependence, seeds.architecture)
        self.dependence.to(device, dtype)
        self.weights = list(self.network.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.weights, search.weights_lr, search.momentum,
            weight_decay=search.weight_decay, nesterov=search.nesterov,
        )  # fmt: skip
        groups: dict[str, list[Tensor]] = {}
        for cell in self.dependence.values():
            for rate, parameters in cast(Dependence, cell).groups().items():
                groups.setdefault(rate, []).extend(parameters)
        self.architecture = [p for parameters in groups.values() for p in parameters]
        decay = {"architecture_lr": search.architecture_weight_decay}
        self.architecture_optimizer = torch.optim.Adam(
            [
                {
                    "params": parameters,
                    "lr": getattr(search, rate),
                    "weight_decay": decay.get(rate, search.transition_weight_decay),
                }
                for rate, parameters in groups.items()
            ],
            betas=ADAM_BETAS,
        )
        self.history = [EpochRecord(-1, self._record())]
        self.diverged = False
        self.seconds, self.training_seconds = 0.0, 0.0

    # -- the bilevel search ---------------------------------------------------------------

    def run_epoch(self, epoch: int) -> None:
        """Train for one epoch, then measure; a loss that is not finite ends the run here."""
        started = time.perf_counter()
        search = self.setting.search
        low, high = search.weights_lr_min, search.weights_lr
        rate = low + (high - low) * (1 + math.cos(math.pi * epoch / search.epochs)) / 2
        self.weight_optimizer.param_groups[0]["lr"] = rate
        losses, correct = [], []
        pairs = zip(
            self.batches.training("architecture", epoch),
            self.batches.training("weights", epoch),
            strict=True,
        )
        for step, (architecture_batch, weights_batch) in enumerate(pairs):
            self.context.moment = ("architecture", epoch, step)
            self.architecture_step(*architecture_batch)
            self.context.moment = ("weights", epoch, step)
            loss, hits = self.weight_step(*weights_batch)
            losses.append(loss)
            correct.append(hits)
        train_loss = torch.stack(losses).mean().item()  # the host waits here, once an epoch
        trained = time.perf_counter()
        images = self.batches.steps * search.batch_size
        metrics = {
            "train_loss": train_loss,
            "train_accuracy": torch.stack(correct).sum().item() / images,
            **self._evaluate(epoch),
        }
        self.training_seconds += trained - started
        seconds = time.perf_counter() - started
        self.seconds += seconds
        if not (math.isfinite(train_loss) and math.isfinite(metrics["valid_loss"])):
            self.diverged = True  # the history keeps the last epoch that was sound
            return
        cells = self._record()
        self.history.append(
            EpochRecord(epoch, cells, {**metrics, **self._measure(cells), "seconds": seconds})
        )

    def architecture_step(self, images: Tensor, labels: Tensor) -> None:
        """One Adam step of a, T and the attention; the weights are constants."""
        for weight in self.weights:
            weight.requires_grad_(False)
        loss = F.cross_entropy(self.network(images, self._relaxed()), labels)
        gradients = torch.autograd.grad(loss, self.architecture, allow_unused=True)
        for parameter, gradient in zip(self.architecture, gradients, strict=True):
            # unused (a placebo's outer edge that no operation follows): decay only
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        self.architecture_optimizer.step()

    def weight_step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One SGD step of the weights; the architecture is constant. Loss and hits, both ()."""
        for weight in self.weights:
            weight.requires_grad_(True)
        with torch.no_grad():
            choices = self._relaxed()
        logits = self.network(images, choices)
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        if self.setting.search.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.weights, self.setting.search.gradient_clip)
        self.weight_optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    # -- measuring ------------------------------------------------------------------------

    def _architecture(self) -> dict[CellKind, Architecture]:
        return {kind: self.dependence[kind]() for kind in self.space.cells}

    def _relaxed(self) -> dict[CellKind, list[Tensor]]:
        return {kind: a.probabilities for kind, a in self._architecture().items()}

    @torch.no_grad()
    def _record(self) -> dict[CellKind, CellRecord]:
        def plain(tensors: list[Tensor]) -> list[Any]:
            return [t.double().cpu().tolist() for t in tensors]

        return {
            kind: CellRecord(plain(a.probabilities), plain(a.attention), plain(a.matrices))
            for kind, a in self._architecture().items()
        }

    @torch.no_grad()
    def _evaluate(self, epoch: int) -> dict[str, float]:
        """On the holdout part: the relaxed supernet, and the genotype's single path in it."""
        relaxed = self._relaxed()
        plain = {kind: [p.double().cpu().tolist() for p in ps] for kind, ps in relaxed.items()}
        genotype = derive(self.space, plain)
        path = single_path(self.space, genotype)
        losses, correct, derived, total = [], [], [], 0
        for n, (images, labels) in enumerate(self.batches.evaluation("holdout")):
            self.context.moment = ("holdout", epoch, n)
            logits = self.network(images, relaxed)
            losses.append(F.cross_entropy(logits, labels, reduction="sum"))
            correct.append((logits.argmax(1) == labels).sum())
            derived.append((self.network(images, path).argmax(1) == labels).sum())
            total += len(labels)
        return {
            "valid_loss": torch.stack(losses).sum().item() / total,
            "valid_accuracy": torch.stack(correct).sum().item() / total,
            "derived_accuracy": torch.stack(derived).sum().item() / total,
        }

    def _measure(self, cells: dict[CellKind, CellRecord]) -> dict[str, float | None]:
        dependence, start = self.setting.dependence, self.history[0].cells
        return {
            "architecture_entropy": measures.architecture_entropy(cells),
            "architecture_displacement": measures.architecture_displacement(cells, start),
            "transition_displacement": measures.transition_displacement(cells, start),
            "dependence_strength": measures.dependence_strength(
                self.space, cells, dependence.model, dependence.own_weight
            ),
            "hessian_eigenvalue": None,
        }

    def result(self) -> RunResult:
        """Everything of the last sound epoch."""
        last = self.history[-1]
        nothing = dict.fromkeys(
            ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "derived_accuracy"),
            math.nan,
        )
        probabilities = {kind: record.probabilities for kind, record in last.cells.items()}
        genotype = derive(self.space, probabilities)
        steps = max(len(self.history) - 1 + self.diverged, 1) * self.batches.steps
        return RunResult(
            status="diverged" if self.diverged else "complete",
            epochs_completed=len(self.history) - 1,
            genotype=str(genotype),
            genotype_normal=genotype.cell("normal") if "normal" in last.cells else None,
            genotype_reduce=genotype.cell("reduce") if "reduce" in last.cells else None,
            tied_edges=count_tied_edges(self.space, probabilities),
            **genotype.counts(self.space),
            metrics=last.metrics or {**nothing, **self._measure(last.cells), "seconds": 0.0},
            seconds=self.seconds,
            seconds_per_step=self.training_seconds / steps,
            history=self.history,
        )

    # -- state ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, see `SearchPack.state_dict`."""
        return {
            "network": self.network.state_dict(),
            "dependence": self.dependence.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "architecture_optimizer": self.architecture_optimizer.state_dict(),
            "history": [asdict(record) for record in self.history],
            "diverged": self.diverged,
            "seconds": [self.seconds, self.training_seconds],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of the same run."""
        for name in ("network", "dependence", "weight_optimizer", "architecture_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.history = [
            EpochRecord(
                record["epoch"],
                {kind: CellRecord(**cell) for kind, cell in record["cells"].items()},
                record["metrics"],
            )
            for record in state["history"]
        ]
        self.diverged = state["diverged"]
        self.seconds, self.training_seconds = state["seconds"]
