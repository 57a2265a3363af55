"""Study folders that several test modules read; each is written once."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import analysis
from tests.analysis.synthetic import Setting, Study, write_study

ODD = '<script>alert("x")</script> & $x$ init=random'


@pytest.fixture(scope="session")
def nb201(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three settings of four seeds, one run diverged, with benchmark accuracies."""
    folder = tmp_path_factory.mktemp("nb201") / "study"
    write_study(folder, Study(benchmark=True, diverged=[("placebo", 2)]))
    return folder


@pytest.fixture(scope="session")
def darts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One setting of three seeds with two cell kinds, one run stopped early."""
    folder = tmp_path_factory.mktemp("darts") / "study"
    study = Study("darts", settings=[Setting("transition")], seeds=range(3), epochs=4)
    study.short = [("transition", 1)]
    write_study(folder, study)
    return folder


@pytest.fixture(scope="session")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Per-edge lists of different lengths, odd names, no study.yaml, no epoch -1."""
    folder = tmp_path_factory.mktemp("ragged") / "study"
    settings = [Setting(ODD, moved=0.05), Setting(ODD.upper(), "placebo", moved=0.3)]
    study = Study("s1", name=ODD, settings=settings, seeds=range(2), epochs=3, start=False)
    write_study(folder, study, metadata=False)
    return folder


@pytest.fixture(scope="session")
def ragged_out(ragged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its report."""
    out = tmp_path_factory.mktemp("ragged") / "report"
    assert analysis.write_report(ragged, out) == out / "report.html"
    return out


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five trials of one setting name over two seeds; a run of trial 3 diverged."""
    folder = tmp_path_factory.mktemp("tuned") / "study"
    accuracies = (0.3, 0.6, 0.5, 0.9, 0.4)
    settings = [
        Setting("transition", trial=i, accuracy=a, rates=(0.001 * 2**i, 0.01, 0.1 / 2**i))
        for i, a in enumerate(accuracies)
    ]
    for i, setting in enumerate(settings):
        diverged = [("transition", 1)] if i == 3 else []
        study = Study(settings=[setting], seeds=range(2), epochs=3, diverged=diverged)
        write_study(folder, study)
    return folder


@pytest.fixture(scope="session")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seeds of a setting, its placebo and independent, far from agreement; half collapse."""
    folder = tmp_path_factory.mktemp("noisy") / "study"
    write_study(folder, Study(seeds=range(8), noise=2.0, epochs=4, benchmark=True))
    return folder


@pytest.fixture(scope="session")
def noisy_study(noisy: Path) -> analysis.Study:
    """What is computed of it."""
    return analysis.compute_study(analysis.load(noisy))


@pytest.fixture
def no_global_state():
    """Drawing leaves neither a figure nor a setting behind in pyplot."""
    before = dict(plt.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before
