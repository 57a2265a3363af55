"""The registry of quantities: name, label, unit, level, limits and meaning of each, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Definition(NamedTuple):
    """What a quantity is called and what its numbers mean."""

    name: str
    label: str
    unit: str
    level: str
    limits: tuple[float, float] | None
    meaning: str


_SHARE, _BELOW_ONE, _ANY = (0.0, 1.0), (-float("inf"), 1.0), None

DEFINITIONS: Mapping[str, Definition] = {
    name: Definition(name, label, unit, level, limits, "")
    for name, label, unit, level, limits in (
        ("train_accuracy", "training accuracy", "0..1", "run", _SHARE),
        ("valid_accuracy", "relaxed accuracy", "0..1", "run", _SHARE),
        ("derived_accuracy", "derived accuracy", "0..1", "run", _SHARE),
        ("benchmark_test", "benchmark test accuracy", "%", "run", (0.0, 100.0)),
        ("train_loss", "training loss", "nats", "run", None),
        ("valid_loss", "relaxed loss", "nats", "run", None),
        ("architecture_entropy", "architecture entropy", "nats", "run", None),
        ("architecture_displacement", "architecture displacement", "0..1", "run", _SHARE),
        ("transition_displacement", "transition displacement", "0..1", "run", _SHARE),
        ("dependence_strength", "dependence strength", "0..1", "run", _SHARE),
        ("dobrushin_coefficient", "Dobrushin coefficient", "0..1", "run", _SHARE),
        ("operation_agreement", "operation agreement (Fleiss' kappa)", "", "setting", _BELOW_ONE),
        ("edge_agreement", "edge agreement (Jaccard index)", "0..1", "setting", _SHARE),
        ("probability_divergence", "probability divergence", "bits", "setting", _SHARE),
        ("transition_divergence", "transition divergence", "bits", "setting", _SHARE),
        ("dependence_stability", "dependence stability", "", "setting", _BELOW_ONE),
        ("learned_dependence_stability", "learned dependence stability", "", "setting", _BELOW_ONE),
        ("link_specificity", "link specificity", "", "setting", _BELOW_ONE),
        ("attention_agreement", "attention agreement", "", "setting", _BELOW_ONE),
        ("dependence_transfer", "dependence transfer", "", "setting", _ANY),
        ("column_transfer", "column transfer", "", "setting", _BELOW_ONE),
        ("learned_effect", "learned effect", "bits", "setting", _SHARE),
        ("flow_effect", "flow effect", "bits", "setting", _SHARE),
        ("choice_transfer", "choice transfer", "0..1", "setting", _SHARE),
    )
}


def label_of(name: str, unit: bool = True) -> str:
    """A quantity's label with its unit; its name where it is not registered."""
    found = DEFINITIONS.get(name)
    if found is None:
        return name.replace("_", " ")
    return f"{found.label} ({found.unit})" if unit and found.unit else found.label
