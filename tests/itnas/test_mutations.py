"""The catalogue of mistakes fits the code, its command works; in full it is slow."""

import subprocess
import sys

import pytest

from tests.mutations.__main__ import ROOT, applied, examine
from tests.mutations.catalogue import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_every_mistake_can_be_made(mutation):
    assert applied(mutation, ROOT) != (ROOT / mutation.path).read_text()
    for test in mutation.tests:
        file, _, rest = test.partition("::")
        assert f"def {rest.partition('[')[0]}" in (ROOT / file).read_text() or not rest


def test_names_are_unique_and_there_are_enough():
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS) >= 20


def test_what_a_test_does_not_notice_survives(tmp_path):
    """On a small tree: a mistake that is noticed, one that is not, one that cannot be made."""
    (tmp_path / "code.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "test_code.py").write_text(
        "from code_of import double\n\n\ndef test_double():\n    assert double(2) == 4\n"
    )
    (tmp_path / "code.py").rename(tmp_path / "code_of.py")

    def outcome(old, new):
        mutation = Mutation("m", "code_of.py", old, new, ("test_code.py::test_double",))
        return examine(mutation, tmp_path, tmp_path, root=tmp_path)

    assert outcome("2 * x", "3 * x") == "caught"
    assert outcome("2 * x", "x * x") == "SURVIVED"
    assert outcome("4 * x", "x").startswith("BROKEN: its text stands 0 times")
    assert outcome("return", "retrun").startswith("BROKEN: pytest ended with 4")
    assert (tmp_path / "code_of.py").read_text() == "def double(x):\n    return 2 * x\n"


def test_an_unknown_name_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations", "--only", "nothing"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("--only: nothing is not known; one of ")


@pytest.mark.slow
def test_no_mistake_survives():
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
