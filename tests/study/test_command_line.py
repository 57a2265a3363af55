"""The command line among other programs."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

import run_study
from study.file import load_study
from study.store.door import Storage
from tests.study.cli import ROOT, command, environment


@pytest.mark.parametrize(
    ("word", "unbuffered"), [("status", ""), ("status", "1"), ("--help", "")]
)  # fmt: skip
def test_who_stops_reading_sees_no_traceback(tmp_path, word, unbuffered):
    """As `| head -1`, with a reader that has gone before the first line: no race."""
    folder = Storage.open(tmp_path / "s")
    folder.write("study.yaml", "name: s\ncommand: launch\n")
    folder.write("packs.json", "{}")
    words = [word, folder.root] if word == "status" else [word]
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        command(*words), stdout=writer, stderr=subprocess.PIPE, text=True,
        env=environment() | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(writer)
    assert result.stderr == ""
    quiet = 128 + signal.SIGPIPE
    # argparse passes over errors of its own writing, so that help may end with 0
    assert result.returncode in ((quiet,) if word == "status" else (0, quiet))


def test_help_names_first_what_runs_offline():
    text = run_study.parser().format_help()
    first, _, _ = text.partition("then your own")
    named = re.findall(r"python run_study.py (\w+) *(\S*)", first)
    assert [word for word, _ in named] == ["demo", "plan", "status"]
    assert load_study(ROOT / named[1][1]).data.source == "digits"
    assert "retrain" not in text


def test_a_pipe_that_is_not_stdout_is_no_reason_to_be_quiet(monkeypatch):
    def broken(arguments):
        raise BrokenPipeError("of the cluster")

    monkeypatch.setattr(run_study, "_run", broken)
    with pytest.raises(BrokenPipeError, match="of the cluster"):
        run_study.main([])
