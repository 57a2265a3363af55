"""The sentences on stability: they say what intervals and corrected p-values allow, no more."""

from dataclasses import replace

import numpy as np
import pytest

import analysis
from analysis.compute.stability import HEADLINE
from analysis.compute.study import Computed, compute_study
from analysis.report import findings
from analysis.statistics.inference import Difference
from tests.analysis.synthetic import Setting, Study, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    folder = tmp_path_factory.mktemp("findings") / "study"
    settings = [Setting("placebo", "placebo"), Setting("transition")]
    write_study(folder, Study(settings=settings, seeds=range(6), noise=2.0, epochs=3))
    return compute_study(analysis.load(folder))


def headline_with(study: Computed, difference: Difference, corrected: float) -> str:
    changed = [
        c._replace(difference=difference, corrected=corrected) if c.quantity == HEADLINE else c
        for c in study.comparisons
    ]
    return " ".join(findings.headline(study.summaries, study.stabilities, changed))


def test_a_headline_needs_the_corrected_p_value(study: Computed) -> None:
    up = Difference(0.3, 0.1, 0.5, 0.01, 6)
    assert "comes out again in other seeds" in headline_with(study, up, 0.02)
    text = headline_with(study, up, 0.2)
    assert "0.30 [0.10,\u00a00.50] (n=6 paired seeds, p = 0.01, Holm-corrected p = 0.2)" in text
    assert "do not show that what it learns is reproducible" in text
    assert "That is no evidence that it is not" in text
    down = Difference(-0.3, -0.5, -0.1, 0.001, 6)
    assert "less reproducible than where nothing can flow" in headline_with(study, down, 0.01)
    few = Difference(0.3, np.nan, np.nan, np.nan, 2)
    assert "nothing can be said from so few seeds" in headline_with(study, few, np.nan)


def test_no_headline_from_what_hardly_moved(study: Computed) -> None:
    still = [
        replace(s, estimates={**s.estimates, "architecture_displacement": low})
        for s in study.summaries
        for low in [s.estimates["architecture_displacement"]._replace(mean=0.01)]
    ]
    text = " ".join(findings.headline(still, study.stabilities, study.comparisons))
    assert text == "Nothing is concluded for “transition” (see Movement)."
    only_placebo = [still[0], study.summaries[1]]
    text = " ".join(findings.headline(only_placebo, study.stabilities, study.comparisons))
    assert text == "Placebos that hardly moved are no controls: “placebo”."


def test_many_settings_are_counted(study: Computed) -> None:
    (c,) = [c for c in study.comparisons if c.quantity == HEADLINE and c.kind == "placebo"]
    up = c._replace(difference=Difference(0.3, 0.1, 0.5, 0.001, 6), corrected=0.01)
    many = [up, *[c._replace(corrected=0.5)] * 7]
    text = " ".join(findings.headline(study.summaries, study.stabilities, many))
    assert "Of 8 comparisons" in text
    assert "1 are larger and 0 smaller" in text
    assert "The largest: “transition” (normal cell) 0.30" in text


def test_a_study_without_learning_does_not_ask(study: Computed) -> None:
    text = findings.headline(study.summaries[:1], study.stabilities, study.comparisons)
    assert text == [
        "No setting here learns transition matrices, so the study's question is not asked."
    ]


def test_controls_are_quoted_only_when_significant(study: Computed) -> None:
    text = " ".join(findings.against_controls(study.summaries, study.comparisons))
    assert "is significant after Holm's correction" in text
    assert "nor that it does not" in text
    changed = [c._replace(corrected=0.01) for c in study.comparisons]
    text = " ".join(findings.against_controls(study.summaries, changed))
    assert "“transition” against “placebo” in derived accuracy" in text


def test_seeds_name_the_width(study: Computed) -> None:
    text = " ".join(findings.seeds(study.widths))
    assert "An interval of width 0.2 on learned dependence stability takes" in text
    assert "There are 6; beyond them the numbers are projections." in text
    assert findings.seeds([]) == []
