"""Everything about a search except its data: typed settings, documented at the field.

The names are those of the study file (design, sections 1 and 7). Wrong values raise
`ValueError` with one line that names the field and what it allows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from itnas._checks import OneOf, check_choices, require
from itnas.method.dependence import MODELS  # where they register
from itnas.method.spaces import SPACES

ModelName = Annotated[str, OneOf(MODELS)]
"""a registered dependence model, see `itnas.method.models`"""
SpaceName = Annotated[str, OneOf(SPACES)]
"""a registered search space, see `itnas.method.spaces`"""


@dataclass(frozen=True)
class DependenceSettings:
    """How the architecture weights of inner edges depend on their predecessors (design, 1)."""

    model: ModelName = "transition"
    """transition: ITNAS; independent: DARTS; placebo: equal capacity, nothing can flow"""
    sharing: Literal["link", "edge", "cell"] = "link"
    """one transition matrix per link, per inner edge, or per cell kind"""
    attention: Literal["learned", "content", "uniform"] = "learned"
    """a scalar per link; that plus a scaled dot product with p_q; 1 / number of predecessors"""
    init: Literal["identity", "uniform", "random"] = "identity"
    """initial transition logits: on the diagonal; zero; normal"""
    init_strength: float = 2.0
    """the diagonal's logit under identity, the standard deviation under random"""
    trainable: bool = True
    """false freezes the transition matrices; attention and logits still learn"""
    own_weight: float = 0.0
    """lambda: the share of an inner edge's own softmax, 0..1"""
    temperature: float = 1.0
    """tau: divides the logits of every softmax over operations, > 0"""
    stop_gradient: bool = False
    """true keeps an inner edge's gradient from reaching its predecessors"""

    def __post_init__(self) -> None:
        check_choices(self)
        require(self, "init_strength", self.init_strength >= 0, "at least 0")
        require(self, "own_weight", 0 <= self.own_weight <= 1, "between 0 and 1")
        require(self, "temperature", self.temperature > 0, "above 0")


@dataclass(frozen=True)
class SearchSettings:
    """The bilevel search. Defaults are those of DARTS (Liu et al. 2019, section 3)."""

    method: Literal["gradient"] = "gradient"
    """gradient: architecture and weights by alternating gradient steps"""
    order: Literal["first"] = "first"
    """first: the architecture step takes the weights as constants"""
    epochs: int = 50
    """passes over the weights part"""
    batch_size: int = 64
    """images per step, for the weights and for the architecture alike"""
    channels: int = 16
    """C: channels of the first cell"""
    cells: int | Literal["auto"] = "auto"
    """cells of the DARTS family (auto: 8); cells per stage of nas-bench-201 (auto: 5)"""
    architecture_lr: float | Literal["auto"] = "auto"
    """Adam's rate for the logits a; auto: 6 / architecture steps of the run"""
    transition_lr: float | Literal["auto"] = "auto"
    """Adam's rate for the transition logits; auto as above"""
    attention_lr: float | Literal["auto"] = "auto"
    """Adam's rate for attention scalars and queries; auto as above"""
    architecture_weight_decay: float = 1e-3
    """L2 penalty in Adam for the logits a, as in DARTS"""
    transition_weight_decay: float = 0.0
    """the same for T and the attention; Adam turns any penalty that outweighs the small gradients
    of T into full steps towards uniform matrices, so it would erase the dependence by itself"""
    weights_lr: float = 0.025
    """SGD's rate for the supernet's weights, annealed by a cosine over the epochs"""
    weights_lr_min: float = 0.001
    """where the cosine ends"""
    momentum: float = 0.9
    """SGD's momentum"""
    nesterov: bool = False
    """Nesterov's momentum (NAS-Bench-201's searches use it)"""
    weight_decay: float = 3e-4
    """L2 penalty on the supernet's weights"""
    gradient_clip: float = 5.0
    """largest norm of the weights' gradient; 0 clips nothing"""

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("epochs", "batch_size", "channels"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "batch_size", self.batch_size >= 2, "at least 2 (batch statistics)")
        require(self, "cells", self.cells == "auto" or self.cells >= 1, "auto or at least 1")
        for name, most in (("channels", 4096), ("cells", 1000)):
            value = getattr(self, name)
            require(self, name, value == "auto" or value <= most, f"at most {most}")
        for name in ("architecture_lr", "transition_lr", "attention_lr"):
            value = getattr(self, name)
            require(self, name, value == "auto" or value >= 0, "auto or at least 0")
        require(self, "weights_lr", self.weights_lr > 0, "above 0")
        decays = ("architecture_weight_decay", "transition_weight_decay", "weight_decay")
        for name in (*decays, "weights_lr_min"):
            require(self, name, getattr(self, name) >= 0, "at least 0")
        require(self, "gradient_clip", self.gradient_clip >= 0, "at least 0")
        require(self, "momentum", 0 <= self.momentum < 1, "at least 0 and below 1")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: needs a momentum above 0")


DIFFERING = frozenset({
    "architecture_lr", "transition_lr", "attention_lr", "architecture_weight_decay",
    "transition_weight_decay", "weights_lr", "weights_lr_min", "momentum", "nesterov",
    "weight_decay", "gradient_clip",
})  # fmt: skip
"""Search settings that may differ inside a pack, besides seeds and the dependence."""


Precision = Literal["float32", "tf32", "bfloat16", "float16", "float64"]


@dataclass(frozen=True)
class EngineSettings:
    """How a search is computed."""

    device: str = "cpu"
    """cpu, cuda or cuda:N"""
    precision: Precision = "float32"
    """part of a run's identity, unlike everything else here. bfloat16 and float16 are torch's
    autocast: weights, batch statistics and architecture stay float32; tf32 is for
    convolutions and needs a GPU"""
    layout: Literal["auto", "groups", "loop"] = "auto"
    """how the replicas of a pack are laid out: as groups of every operation, or one after another;
    auto: groups on a GPU, on the CPU what is faster for the size of a map"""
    kernels: Literal["auto", "compiled", "torch"] = "auto"
    """on the CPU: compiled kernels (auto: where a C++ compiler is found) or torch's operations"""
    compile: bool = False
    """torch.compile of the network, with torch's operations"""
    channels_last: bool = False
    """channels_last tensors for torch's convolutions (the compiled kernels always take them)"""
    graphs: bool = False
    """a search step as one CUDA graph; needs a GPU"""

    def __post_init__(self) -> None:
        check_choices(self)
        kind, _, index = self.device.partition(":")
        known = kind in ("cpu", "cuda") and (not index or index.isdigit())
        require(self, "device", known, "cpu, cuda or cuda:N")
        if kind == "cpu":
            require(self, "precision", self.precision != "tf32", "tf32 needs device cuda")
            require(self, "graphs", not self.graphs, "graphs need device cuda")
        if self.kernels == "compiled":
            allowed = "needs device cpu, float32 or float64, and neither layout groups nor compile"
            require(self, "kernels", self.compilable, allowed)

    @property
    def compilable(self) -> bool:
        """Whether the compiled kernels can compute what is asked for."""
        on_cpu = self.device.partition(":")[0] == "cpu"
        plain = self.layout != "groups" and not self.compile
        return on_cpu and plain and self.precision in ("float32", "float64")


@dataclass(frozen=True)
class Seeds:
    """A run's seed is three (design, 4)."""

    weights: int
    """initialisation of the supernet"""
    data: int
    """split, order, augmentation, and the noise operation"""
    architecture: int
    """initialisation of a, T and the attention"""

    @classmethod
    def all(cls, seed: int) -> Seeds:
        """All three set to one number."""
        return cls(seed, seed, seed)

    def __post_init__(self) -> None:
        check_choices(self)
        for field in fields(self):
            require(self, field.name, 0 <= getattr(self, field.name) < 2**31, "0 to 2^31 - 1")


@dataclass(frozen=True)
class Setting:
    """Everything about a search except its seeds and its data (design, 2)."""

    space: SpaceName = "nas-bench-201"
    """the search space, see `itnas.method.spaces`"""
    search: SearchSettings = SearchSettings()
    """the bilevel search"""
    dependence: DependenceSettings = DependenceSettings()
    """the dependence of inner edges"""

    def __post_init__(self) -> None:
        check_choices(self)

    def resolved(self, default_cells: int, architecture_steps: int) -> Setting:
        """This setting with every `auto` replaced by its number.

        `architecture_steps` is the number of architecture steps of the whole run. Adam moves a
        logit by about its rate per step, so 6 / steps lets it move about as far as in the
        published DARTS search (design, 1).
        """
        search = self.search
        rates = ("architecture_lr", "transition_lr", "attention_lr")
        auto: dict[str, Any] = {
            name: 6.0 / architecture_steps for name in rates if getattr(search, name) == "auto"
        }
        if search.cells == "auto":
            auto["cells"] = default_cells
        return replace(self, search=replace(search, **auto))
