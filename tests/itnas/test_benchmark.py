"""The benchmark of a search step: its line, its target, its refusals."""

import json
import subprocess
import sys

import pytest

from itnas.kernels import processor
from tests.benchmarks import search_step
from tests.reference.backends import compiler

LINE = {
    "config", "device", "march", "torch_capability", "threads", "pack", "precision", "backend",
    "repeats", "steady", "plain_seconds", "plain_channels_last_seconds",
    "engine_seconds_per_run", "ratio",
    "ratio_low", "ratio_high", "ratio_channels_last", "ratio_channels_last_low",
    "ratio_channels_last_high", "plain_peak_mib", "plain_channels_last_peak_mib",
    "engine_peak_mib", "plain_operator_calls", "engine_operator_calls_per_run",
}  # fmt: skip
WALLS = {
    "plain_wall_seconds", "plain_channels_last_wall_seconds", "engine_wall_seconds_per_run"
}  # fmt: skip


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.search_step", *arguments],
        capture_output=True, text=True,
    )  # fmt: skip


@compiler
@pytest.mark.skipif("x86-64-v3" not in processor.supported_targets(), reason="no AVX2")
def test_a_target_holds_for_torch_and_for_the_kernels():
    done = run("--config", "s3-proxy", "--pack", "2", "--repeats", "1", "--threads", "2",
               "--march", "x86-64-v3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (text,) = done.stdout.splitlines()
    line = json.loads(text)
    assert line.keys() == LINE | WALLS
    assert (line["march"], line["torch_capability"]) == ("x86-64-v3", "AVX2")
    assert line["backend"] == "compiled avx2"
    assert line["ratio"] == pytest.approx(
        line["plain_seconds"] / line["engine_seconds_per_run"], rel=0.02
    )
    assert line["ratio_channels_last"] == pytest.approx(
        line["plain_channels_last_seconds"] / line["engine_seconds_per_run"], rel=0.02
    )


def test_one_thread_has_no_wall_seconds():
    done = run("--config", "s3-proxy", "--repeats", "1", "--kernels", "torch", "--steady")
    line = json.loads(done.stdout)
    assert line.keys() == LINE
    assert (line["march"], line["steady"]) == ("native", True)
    assert line["engine_peak_mib"] > 0
    assert line["backend"].startswith("torch")


def test_a_target_that_the_machine_lacks_is_refused(monkeypatch, capsys):
    """In a process of its own it would come before torch; here the order alone is left out."""
    monkeypatch.setattr(processor, "supported_targets", lambda: ["x86-64-v2"])
    monkeypatch.delitem(sys.modules, "torch")
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "ITNAS_MARCH"):
        monkeypatch.setenv(name, "")
    with pytest.raises(SystemExit) as exit_:
        search_step.hold_to("x86-64-v4")
    assert exit_.value.code == 2
    message = "--march: x86-64-v4 is not supported by this machine; it has x86-64-v2\n"
    assert capsys.readouterr().err == message


def test_settings_that_exclude_each_other_are_one_line():
    done = run("--config", "s3-proxy", "--kernels", "compiled", "--layout", "groups")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("kernels: 'compiled'")
