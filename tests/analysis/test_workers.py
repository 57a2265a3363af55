"""Functions mapped over processes: same results, errors raised here, no process left behind."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import analysis
from analysis import workers
from analysis.compute import study


@pytest.fixture
def alone() -> Iterator[Callable[..., Any]]:
    """Calls a function of this module in a new interpreter, which has no Ray: tests that ran here
    before may have left it, and then nothing is forked.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def _squares() -> tuple[list[tuple[int, int]], int, int]:
    found = workers.mapped(lambda x: (x * x, os.getpid()), range(9), parallel=True)
    return found, os.getpid(), len(multiprocessing.active_children())


def test_results_come_in_order_from_other_processes(alone: Callable[..., Any]) -> None:
    found, caller, left = alone(_squares)
    assert [x for x, _ in found] == [x * x for x in range(9)]
    if workers.cores() > 1:
        assert caller not in {pid for _, pid in found}
    assert left == 0


def _two_fails(parallel: bool) -> None:
    def fail(x: int) -> int:
        if x == 2:
            raise ValueError("two")
        return x

    workers.mapped(fail, range(4), parallel)


def test_errors_are_raised_here(alone: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="two"):
        _two_fails(parallel=False)
    with pytest.raises(ValueError, match="two"):
        alone(_two_fails, True)


def test_here_where_it_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("cores", lambda: 1),):
        monkeypatch.setattr(workers, name, value)
        pids = workers.mapped(lambda _: os.getpid(), range(3), parallel=True)
        assert set(pids) == {os.getpid()}
    monkeypatch.undo()
    monkeypatch.setitem(workers.sys.modules, "ray", object())
    assert set(workers.mapped(lambda _: os.getpid(), range(3), True)) == {os.getpid()}


def _tables_by_processes(folder: Path) -> tuple[dict[str, pd.DataFrame], bool]:
    caller, elsewhere = os.getpid(), []
    mapped = study.mapped

    def watched(function: Callable[..., Any], items: Any, parallel: bool) -> list[Any]:
        found = mapped(lambda item: (function(item), os.getpid()), items, parallel)
        elsewhere.extend(pid != caller for _, pid in found)
        return [result for result, _ in found]

    study.mapped, study.MANY_RUNS, workers.cores = watched, 2, lambda: 2
    found = analysis.compute_study(analysis.load(folder))
    return dict(found.tables), bool(elsewhere) and all(elsewhere)


def test_settings_computed_in_processes_give_the_same_tables(
    noisy: Path, noisy_study: analysis.Study, alone: Callable[..., Any]
) -> None:
    tables, elsewhere = alone(_tables_by_processes, noisy)
    assert elsewhere
    assert tables.keys() == noisy_study.tables.keys()
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, noisy_study[name])
