"""First-order bilevel search of a pack (DARTS, Liu et al. 2019, with the dependence of design 1).

Per step: one Adam step of the architecture on a batch of the architecture part, the weights
taken as constants; then one SGD step of the weights on a batch of the weights part, the
architecture taken as constant. All replicas of a pack take their steps together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from itnas.data import Batches, ImageData
from itnas.engine.graphs import CapturedStep, Step, check_graphs
from itnas.engine.optimizers import ReplicaSGD
from itnas.engine.pack import Engine
from itnas.engine.replicas import Architectures
from itnas.method import measures
from itnas.method import state as states
from itnas.method.genotype import Genotype, count_tied_edges, derive, single_paths
from itnas.method.records import CellRecord, EpochRecord, RunResult
from itnas.method.spaces import CellKind, Space, get_space
from itnas.settings import EngineSettings, Seeds, Setting

P = ParamSpec("P")
R = TypeVar("R")


def _computing(
    method: Callable[Concatenate[SearchPack, P], R],
) -> Callable[Concatenate[SearchPack, P], R]:
    """A method of a pack that computes: with its engine's threads, or its GPU's flags."""

    @wraps(method)
    def inside(self: SearchPack, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.engine.working():
            return method(self, *args, **kwargs)

    return inside


class SearchPack:
    """Several runs trained together as one supernet with a replica dimension (design, section 2).

    >>> pack = SearchPack([setting] * 4, [Seeds.all(n) for n in range(4)], data)
    >>> while not pack.finished:
    ...     pack.run_epoch()
    >>> genotypes = [result.genotype for result in pack.results()]

    Between any two steps its `state_dict` can be taken; a pack of the same runs goes on from it.
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        seeds: Sequence[Seeds],
        data: ImageData,
        engine: EngineSettings | None = None,
    ) -> None:
        """Build every run at its initialisation (epoch -1 of its history).

        `auto` values are resolved here. What may differ between the settings of a pack is listed
        in `itnas.settings.DIFFERING`. Raises ValueError for settings that do not fit each other,
        their space or the data, DataError (a ValueError) for too few images, RuntimeError from
        torch for a device that is not there.
        """
        engine = engine or EngineSettings()
        if len(settings) != len(seeds) or not settings:
            raise ValueError("a pack needs one seed for each setting, and at least one")
        self.settings, self.seeds = [resolve(s, data) for s in settings], list(seeds)
        self.space = get_space(self.settings[0].space)
        self.searches = [s.search for s in self.settings]
        check_graphs(engine, self.space)
        self.engine = Engine(self.settings, seeds, data.channels, data.classes, engine)
        device, dtype = self.engine.device, self.engine.dtype
        self.batches = Batches(
            data, [s.data for s in seeds], self.searches[0].batch_size, engine.device, dtype
        )
        self.architectures = Architectures(self.space, self.settings, seeds, device, dtype)
        self.weight_optimizer = ReplicaSGD(
            self.engine.store,
            momentum=[s.momentum for s in self.searches],
            weight_decay=[s.weight_decay for s in self.searches],
            nesterov=[s.nesterov for s in self.searches],
            gradient_clip=[s.gradient_clip for s in self.searches],
        )
        self.alive = torch.ones(len(seeds), dtype=torch.bool, device=device)
        """false from the step on in which a replica's loss was not finite: it is frozen there"""
        self._stepped: Step = (
            CapturedStep(self._take_step, device) if engine.graphs else self._take_step
        )
        self.epoch = 0
        """finished epochs"""
        self.epoch_step = 0
        """finished steps of the epoch that has begun"""
        self.pause: Callable[[], bool] | None = None
        """what `run_epoch` asks where it is given no `pause` of its own"""
        self.histories = [[EpochRecord(-1, cells)] for cells in self.architectures.records()]
        self.diverged = [False] * len(seeds)
        self.seconds, self.training_seconds = 0.0, 0.0
        self._losses: list[Tensor] = []
        self._hits: list[Tensor] = []
        """of every step of the epoch that has begun, (K,) each: summed at its end, all at once"""
        self._epoch_seconds = 0.0

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return self.searches[0].epochs

    @property
    def finished(self) -> bool:
        """Nothing left to train: all epochs are done, or every run has diverged."""
        return self.epoch >= self.epochs or all(self.diverged)

    # -- the bilevel search ---------------------------------------------------------------

    @_computing
    def run_epoch(self, pause: Callable[[], bool] | None = None) -> bool:
        """Take what steps are left of the epoch, and measure every run that has not diverged.

        `pause` is asked after every step but the epoch's last. Where it says True this returns
        False, between two steps, and the next call goes on with the next one. True: the epoch is
        finished and in the histories.
        """
        started, epoch, engine = time.perf_counter(), self.epoch, self.engine
        pause = pause or self.pause
        self.weight_optimizer.set_rates([_annealed(s, epoch) for s in self.searches])
        pairs = zip(
            self.batches.training("architecture", epoch, self.epoch_step),
            self.batches.training("weights", epoch, self.epoch_step),
            strict=True,
        )
        for architecture_batch, weights_batch in pairs:
            engine.moment = (epoch, self.epoch_step)
            loss, correct = self.step(*architecture_batch, *weights_batch)
            self._losses.append(loss)
            self._hits.append(correct)
            self.epoch_step += 1
            if self.epoch_step < self.batches.steps and pause is not None and pause():
                self._take_time(started, time.perf_counter())
                return False
        losses = torch.stack(self._losses)
        train_loss = losses.mean(dim=0).tolist()  # the host waits here, once an epoch
        trained = time.perf_counter()
        metrics = self._evaluate(epoch)
        images = self.batches.steps * self.batches.batch_size
        accuracy = (torch.stack(self._hits).sum(dim=0) / images).tolist()
        self._take_time(started, trained)
        alive = self.alive.tolist()
        for k, cells in enumerate(self.architectures.records()):
            sound = alive[k] and math.isfinite(metrics[k]["valid_loss"])
            if self.diverged[k] or not sound:
                self.diverged[k] = True  # the history keeps the last epoch that was sound
                continue
            own = {"train_loss": train_loss[k], "train_accuracy": accuracy[k], **metrics[k]}
            measured = self._measure(k, cells)
            self.histories[k].append(
                EpochRecord(epoch, cells, {**own, **measured, "seconds": self._epoch_seconds})
            )
        self.alive &= ~torch.tensor(self.diverged, device=self.alive.device)
        self.epoch, self.epoch_step = self.epoch + 1, 0
        self._losses, self._hits, self._epoch_seconds = [], [], 0.0
        return True

    def _take_time(self, started: float, trained: float) -> None:
        """Count the time since `started` as this epoch's, until `trained` as its steps'."""
        self.training_seconds += trained - started
        seconds = (time.perf_counter() - started) / len(self.settings)
        self._epoch_seconds += seconds
        self.seconds += seconds

    @_computing
    def step(self, *batches: Tensor) -> tuple[Tensor, Tensor]:
        """One architecture step and one weight step: the latter's losses and hits, (K,) each.

        Images (K, B, C, H, W) and labels (K, B) of the architecture part, then of the weights'.
        """
        return self._stepped(*batches)

    def _take_step(
        self, images_a: Tensor, labels_a: Tensor, images_w: Tensor, labels_w: Tensor
    ) -> tuple[Tensor, Tensor]:
        self.architecture_step(images_a, labels_a)
        return self.weight_step(images_w, labels_w)

    @_computing
    def architecture_step(self, images: Tensor, labels: Tensor) -> None:
        """One Adam step of a, T and the attention; the weights are constants."""
        engine, moment = self.engine, self.engine.moment
        engine.moment = ("architecture", *moment)
        p = self.architectures()
        losses, gradients = engine.architecture_gradient(images, labels, p)
        engine.moment = moment
        self.alive &= losses.isfinite()
        usable = engine.usable(gradients, self.alive)
        self.architectures.step(p, gradients, usable)

    @_computing
    def weight_step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One SGD step of the weights; the architecture is constant. Losses and hits, (K,) each."""
        engine, moment = self.engine, self.engine.moment
        engine.moment = ("weights", *moment)
        with torch.no_grad():
            p = self.architectures()
        losses, hits, gradient = engine.weight_gradient(images, labels, p)
        engine.moment = moment
        self.alive &= losses.isfinite()
        self.weight_optimizer.step(gradient, engine.usable(gradient, self.alive))
        return losses, hits

    # -- measuring ------------------------------------------------------------------------

    @_computing
    @torch.no_grad()
    def _evaluate(self, epoch: int) -> list[dict[str, float]]:
        """On the holdout part: the relaxed supernets, and the genotypes' single paths in them."""
        relaxed = self.architectures()
        paths = single_paths(self.space, self._genotypes(relaxed), relaxed)
        totals, count = [], 0
        for n, (images, labels) in enumerate(self.batches.evaluation("holdout")):
            self.engine.moment = ("holdout", epoch, n)
            loss, hits = self.engine.evaluate(images, labels, relaxed)
            _, derived = self.engine.evaluate(images, labels, paths)
            totals.append(torch.stack([loss.double(), hits.double(), derived.double()]))
            count += labels.shape[1]
        means = (torch.stack(totals).sum(dim=0) / count).T.tolist()
        names = ("valid_loss", "valid_accuracy", "derived_accuracy")
        return [dict(zip(names, values, strict=True)) for values in means]

    def _genotypes(self, relaxed: dict[CellKind, Tensor]) -> list[Genotype]:
        plain = {kind: p.double().cpu() for kind, p in relaxed.items()}
        found = []
        for k in range(len(self.settings)):
            probabilities = {
                kind: [q.tolist() for q in p[k].split(_lengths(self.space, kind))]
                for kind, p in plain.items()
            }
            found.append(derive(self.space, probabilities))
        return found

    def _measure(self, k: int, cells: dict[CellKind, CellRecord]) -> dict[str, float | None]:
        dependence, start = self.settings[k].dependence, self.histories[k][0].cells
        return {
            "architecture_entropy": measures.architecture_entropy(cells),
            "architecture_displacement": measures.architecture_displacement(cells, start),
            "transition_displacement": measures.transition_displacement(cells, start),
            "dependence_strength": measures.dependence_strength(
                self.space, cells, dependence.model, dependence.own_weight
            ),
            "hessian_eigenvalue": None,
        }

    def progress(self) -> dict[str, float]:
        """Means over the runs of their latest metrics, for a scheduler."""
        names = ("train_loss", "valid_loss", "valid_accuracy", "derived_accuracy")
        latest = [history[-1].metrics for history in self.histories]
        values = {n: [m[n] for m in latest if m.get(n) is not None] for n in names}
        return {n: math.fsum(v) / len(v) if v else math.nan for n, v in values.items()}  # type: ignore[arg-type]

    @property
    def best_valid_accuracy(self) -> float | None:
        """Of the runs, at the end of their last sound epoch; None before the first."""
        latest = [history[-1].metrics.get("valid_accuracy") for history in self.histories]
        return max((value for value in latest if value is not None), default=None)

    def results(self) -> list[RunResult]:
        """What every run has come to so far, of its last sound epoch."""
        return [self._result(k) for k in range(len(self.settings))]

    def _result(self, k: int) -> RunResult:
        history = self.histories[k]
        last = history[-1]
        nothing = dict.fromkeys(
            ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "derived_accuracy"),
            math.nan,
        )
        probabilities = {kind: record.probabilities for kind, record in last.cells.items()}
        genotype = derive(self.space, probabilities)
        steps = max(self.epoch * self.batches.steps + self.epoch_step, 1) * len(self.settings)
        return RunResult(
            status="diverged" if self.diverged[k] else "complete",
            epochs_completed=len(history) - 1,
            genotype=str(genotype),
            genotype_normal=genotype.cell("normal") if "normal" in last.cells else None,
            genotype_reduce=genotype.cell("reduce") if "reduce" in last.cells else None,
            tied_edges=count_tied_edges(self.space, probabilities),
            **genotype.counts(self.space),
            metrics=last.metrics or {**nothing, **self._measure(k, last.cells), "seconds": 0.0},
            seconds=self.seconds,
            seconds_per_step=self.training_seconds / steps,
            history=history,
        )

    # -- state ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the search depends on, between any two steps.

        Tensors and plain values only: `torch.load(..., weights_only=True)` reads it. The tensors
        are copies on the CPU, so it stays what it is while the pack goes on, and may be written by
        another thread. Random streams are keyed by epoch and step: no generator's state is in it.
        A replica in float32 takes 13.6 MB of NAS-Bench-201 (C=16, N=5) and up to 16.4 MB of DARTS
        (C=16, 8 cells), see docs/engine.md.
        """
        losses, hits = self._sums()
        return {
            "identity": self._identity(),
            "epoch": self.epoch,
            "epoch_step": self.epoch_step,
            **states.copied(self._tensors()),
            "losses": states.copied(losses),
            "hits": states.copied(hits),
            "diverged": list(self.diverged),
            "histories": [states.history_state(history) for history in self.histories],
            "seconds": [self.seconds, self.training_seconds, self._epoch_seconds],
        }

    def _identity(self) -> dict[str, Any]:
        """Whose state it is: what decides every bit but for the machine and the backend."""
        return {
            "runs": states.identity(self.settings, self.seeds),
            "data": dict(self.batches.identity),
            "precision": self.engine.settings.precision,
        }

    def _tensors(self) -> dict[str, Any]:
        """What steps change, in any layout and on any device alike."""
        engine = self.engine
        return {
            "weights": engine.store.by_replica(engine.store.flat),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "architecture": self.architectures.state_dict(),
            "architecture_optimizer": self.architectures.optimizer.state_dict(),
            "scale": [engine.scale, engine.since_overflow],
            "alive": self.alive,
        }

    def _sums(self) -> tuple[Tensor, Tensor]:
        """Losses and hits of the steps of the epoch that has begun, (steps, K)."""
        rates = self.weight_optimizer.rates
        return states.stacked(self._losses, rates), states.stacked(self._hits, rates.long())

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of a pack of the same runs, whatever its layout and device.

        The state is copied. ValueError, with one line and before anything is changed, for one that
        is not of this pack: other settings, seeds, data or precision, shapes, or missing values.
        """
        losses, hits = self._sums()
        states.check(
            state,
            own={"identity": self._identity(), **self._tensors()},
            sums={"losses": losses, "hits": hits},
            starts=[history[0] for history in self.histories],
            epochs=self.epochs,
            steps=self.batches.steps,
        )
        engine, given = self.engine, states.copied(state, self.engine.device)
        engine.store.flat.copy_(engine.store.from_replicas(given["weights"]))
        self.weight_optimizer.load_state_dict(given["weight_optimizer"])
        self.architectures.load_state_dict(given["architecture"])
        self.architectures.optimizer.load_state_dict(given["architecture_optimizer"])
        for mine, saved in zip((engine.scale, engine.since_overflow), given["scale"], strict=True):
            mine.copy_(saved)
        self.alive.copy_(given["alive"])
        self.diverged = given["diverged"]
        self.histories = [
            states.history_from(saved, history[0])
            for saved, history in zip(given["histories"], self.histories, strict=True)
        ]
        self.epoch, self.epoch_step = given["epoch"], given["epoch_step"]
        self._losses, self._hits = list(given["losses"]), list(given["hits"])
        self.seconds, self.training_seconds, self._epoch_seconds = given["seconds"]


def resolve(setting: Setting, data: ImageData) -> Setting:
    """The setting with every `auto` as a number, checked against its space and the data."""
    space = get_space(setting.space)
    setting = setting.resolved(space.default_cells, steps_per_run(setting, data))
    if setting.search.cells < space.minimum_cells:  # type: ignore[operator]
        raise ValueError(
            f"search.cells: {setting.search.cells} is not allowed; {space.name} needs at least "
            f"{space.minimum_cells} (a normal cell and two reductions)"
        )
    return setting


def steps_per_run(setting: Setting, data: ImageData) -> int:
    """Search steps of a whole run. DataError where a part is smaller than a batch."""
    return data.steps_per_epoch(setting.search.batch_size) * setting.search.epochs


def _lengths(space: Space, kind: CellKind) -> list[int]:
    return [len(edge.operations) for edge in space.cells[kind].edges]


def _annealed(search: Any, epoch: int) -> float:
    """The weights' rate: a cosine over the epochs."""
    low, high = search.weights_lr_min, search.weights_lr
    return float(low + (high - low) * (1 + math.cos(math.pi * epoch / search.epochs)) / 2)
