"""Functions mapped over processes: same results, errors raised here, no process left behind."""

import multiprocessing
import os
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis import workers
from analysis.compute import study


def test_results_come_in_order_from_other_processes() -> None:
    found = workers.mapped(lambda x: (x * x, os.getpid()), range(9), parallel=True)
    assert [x for x, _ in found] == [x * x for x in range(9)]
    if workers.cores() > 1:
        assert os.getpid() not in {pid for _, pid in found}
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("parallel", [True, False])
def test_errors_are_raised_here(parallel: bool) -> None:
    def fail(x: int) -> int:
        if x == 2:
            raise ValueError("two")
        return x

    with pytest.raises(ValueError, match="two"):
        workers.mapped(fail, range(4), parallel)


def test_here_where_it_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("cores", lambda: 1),):
        monkeypatch.setattr(workers, name, value)
        pids = workers.mapped(lambda _: os.getpid(), range(3), parallel=True)
        assert set(pids) == {os.getpid()}
    monkeypatch.undo()
    monkeypatch.setitem(workers.sys.modules, "ray", object())
    assert set(workers.mapped(lambda _: os.getpid(), range(3), True)) == {os.getpid()}


def test_settings_computed_in_processes_give_the_same_tables(
    noisy: Path, noisy_study: analysis.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    mapped = study.mapped

    def watched(function, items, parallel):
        calls.append(parallel)
        return mapped(function, items, parallel)

    monkeypatch.setattr(study, "mapped", watched)
    monkeypatch.setattr(study, "MANY_RUNS", 2)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    found = analysis.compute_study(analysis.load(noisy))
    assert calls == [True]
    assert found.tables.keys() == noisy_study.tables.keys()
    for name, table in found.tables.items():
        pd.testing.assert_frame_equal(table, noisy_study[name])
