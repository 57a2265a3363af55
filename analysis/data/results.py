"""Load: a study folder as lazily read tables (design, section 5).

Nothing is read before it is asked for, and then only the columns, epochs and runs asked for:
`links` of a large study never fits into memory as a whole. Four rules of the contract are
kept here so that nobody else has to think of them: dot-names are ignored, rows whose run_id
is not in `runs/` are ignored, a doubled row counts once, and one explicit schema is passed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from analysis.contract import KEYS, SCHEMAS
from analysis.errors import ResultsError, first_line

Epoch = int | Sequence[int] | Literal["first", "last"] | None
Columns = Sequence[str] | None
Runs = Iterable[str] | None
Frame = pd.DataFrame
Known = TypeVar("Known")

UNREADABLE = (pa.ArrowException, OSError, ValueError)

# Without these a run cannot be placed; every other missing value is shown as missing.
_NEEDED = (
    "run_id", "status", "space", "setting", "model", "epochs_completed", "seed_weights",
    "seed_data", "seed_architecture",
)  # fmt: skip


class Folder:
    """A folder to read from or write into, local or of any URI that pyarrow.fs opens.

    Raises ResultsError, one line, where it cannot be opened.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location)
        with self.one_line(": cannot be opened"):
            if "://" in self.location:
                self.filesystem, root = pafs.FileSystem.from_uri(self.location)
            else:
                self.filesystem = pafs.LocalFileSystem()
                root = Path(location).absolute().as_posix()
        self.root = root.rstrip("/")

    @contextmanager
    def one_line(self, what: str) -> Iterator[None]:
        """Errors of files within become ResultsErrors of one line: the place, `what`, and why."""
        try:
            yield
        except UNREADABLE as error:
            raise ResultsError(f"{self.location}{what}: {first_line(error)}") from error

    @property
    def is_local(self) -> bool:
        """Whether the folder lies in a local file system."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def parquet(self, name: str) -> dict[str, str]:
        """Names of the Parquet files in a folder within to paths, sorted; none with a dot first."""
        selector = pafs.FileSelector(f"{self.root}/{name}", allow_not_found=True)
        files = sorted(self.filesystem.get_file_info(selector), key=lambda file: file.path)
        ours = [f for f in files if f.is_file and f.extension == "parquet"]
        return {f.base_name: f.path for f in ours if not f.base_name.startswith(".")}


def load(path: str | Path) -> Results:
    """Open a study folder, a local path or any URI that pyarrow.fs opens.

    Raises ResultsError, one line, where there is no such folder, where it is no study, or
    where no run of it is complete yet.
    """
    results = Results(path)
    location = results.location
    with results.one_line(": cannot be opened"):
        kind = results.filesystem.get_file_info(results.root).type
    if kind != pafs.FileType.Directory:
        what = "no such folder" if kind == pafs.FileType.NotFound else "a file, not a study folder"
        raise ResultsError(f"{location}: {what}")
    if not results.parquet("runs"):
        if results.study is None:
            raise ResultsError(f"{location}: not a study folder, it holds no runs/*.parquet")
        of = "" if results.planned_runs is None else f" of {results.planned_runs}"
        raise ResultsError(f"{location}: no run{of} of this study is complete yet")
    return results


class Results(Folder):
    """A study folder. Get one from `load`.

    `runs` is the table of complete runs, one row each; `epochs`, `edges` and `links` are
    methods that read what they are asked for. All give pandas frames with the contract's
    column names, sorted by the contract's keys.
    """

    _homes: dict[str, set[str]]  # run_id to the shards of `runs` that hold it, known with `runs`

    def __repr__(self) -> str:
        return f"Results({self.location!r})"

    @cached_property
    def _shards(self) -> dict[str, dict[str, str]]:
        """Table to its shards, name to path: listed once, since listing a store takes time."""
        return {table: self.parquet(table) for table in SCHEMAS}

    @cached_property
    def study(self) -> dict[str, Any] | None:
        """The resolved study file, or None where the folder has none."""
        text = self.text("study.yaml")
        if text is None:
            return None
        import yaml

        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            message = " ".join(str(error).split())
            raise ResultsError(f"{self.location}/study.yaml cannot be read: {message}") from error
        if not isinstance(content, dict):
            raise ResultsError(f"{self.location}/study.yaml is not a mapping of settings")
        return content

    @cached_property
    def name(self) -> str:
        """The study's name: from study.yaml, else from its runs, else the folder's."""
        if self.study and self.study.get("name"):
            return str(self.study["name"])
        names = self.runs["study"].dropna()
        return str(names.iloc[0]) if len(names) else self.root.rsplit("/", 1)[-1]

    @cached_property
    def planned_runs(self) -> int | None:
        """How many runs the study was launched with, or None where nothing says so."""
        return self._plan(lambda plan: len(plan["runs"]))

    @cached_property
    def settings(self) -> list[str]:
        """Names of settings in the study file's order, as far as packs.json tells it."""
        return self._plan(lambda plan: [str(s["name"]) for s in plan["settings"].values()]) or []

    def _plan(self, part: Callable[[Any], Known]) -> Known | None:
        """A part of packs.json, or None where it has none."""
        text = self.text("packs.json")
        try:
            return part(json.loads(text or "null"))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    @cached_property
    def runs(self) -> pd.DataFrame:
        """All complete runs, one row each, sorted by setting and seeds."""
        frame = self._read("runs", [*SCHEMAS["runs"].names, "__filename"]).to_pandas()
        if frame[[*_NEEDED]].isna().any(axis=None) and self._drop_foreign("runs"):
            return self.runs
        shards = frame.pop("__filename").str.rsplit("/", n=1).str[-1]
        self._homes = shards.groupby(frame["run_id"]).agg(set).to_dict()
        frame = frame.drop_duplicates("run_id", ignore_index=True)
        if lacking := [column for column in _NEEDED if frame[column].isna().any()]:
            why = f"column {lacking[0]} is missing, or empty in some row"
            raise ResultsError(f"{self.location}/runs: {why}")
        order = ["setting", "seed_weights", "seed_data", "seed_architecture", "run_id"]
        return frame.sort_values(order, ignore_index=True)

    def epochs(self, columns: Columns = None, epoch: Epoch = None, run_ids: Runs = None) -> Frame:
        """Rows of `epochs`: metrics of each run and epoch. See `edges` for the arguments."""
        return self.table("epochs", columns, epoch, run_ids).to_pandas()

    def edges(self, columns: Columns = None, epoch: Epoch = None, run_ids: Runs = None) -> Frame:
        """Rows of `edges`: operation probabilities of each run, epoch, cell and edge.

        columns: those wanted besides the keys (all where None). epoch: one, several,
        "first" (the initialisation, -1), "last" (each run's own last) or None for all.
        run_ids: only these runs, all complete ones where None.
        """
        return self.table("edges", columns, epoch, run_ids).to_pandas()

    def links(self, columns: Columns = None, epoch: Epoch = None, run_ids: Runs = None) -> Frame:
        """Rows of `links`: transition matrices, row-major. See `edges` for the arguments."""
        return self.table("links", columns, epoch, run_ids).to_pandas()

    def table(
        self, name: str, columns: Columns = None, epoch: Epoch = None, run_ids: Runs = None
    ) -> pa.Table:
        """Rows of `epochs`, `edges` or `links` as an Arrow table; see `edges` for the arguments.

        For those to whom lists of numbers as Python objects are too slow. Only the shards that
        hold the runs are opened, and of them only the columns and row groups asked for.
        """
        runs, keys = self.runs, list(KEYS[name])
        if run_ids is not None:
            runs = runs[runs["run_id"].isin(list(run_ids))]
        keep = ds.field("run_id").isin(pa.array(runs["run_id"], pa.string()))
        last = runs.set_index("run_id")["epochs_completed"] - 1
        if epoch is not None:
            wanted = -1 if epoch == "first" else last.unique() if epoch == "last" else epoch
            keep &= ds.field("epoch").isin(np.atleast_1d(np.asarray(wanted, int)).tolist())
        if columns is not None:
            columns = [*keys, *(c for c in columns if c not in keys)]
        rows = self._read(name, columns, keep, runs["run_id"])
        known = rows.select(keys).to_pandas().drop_duplicates()
        if epoch == "last":
            known = known[known["epoch"] == known["run_id"].map(last)]
        return rows.take(pa.array(known.sort_values(keys).index))

    def _read(
        self, table: str, columns: Columns, keep: ds.Expression | None = None, run_ids: Runs = None
    ) -> pa.Table:
        """Rows of the shards that can hold the runs; the shard that cannot be read is named.

        A pack's shards have one name in all tables. Where a folder's do not (its shards were
        joined, say), all of them are read.
        """
        schema, shards = SCHEMAS[table], self._shards[table]
        if columns is not None and (unknown := {*columns} - {*schema.names, "__filename"}):
            raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}")
        paths = list(shards.values())
        if run_ids is not None and shards.keys() <= self._shards["runs"].keys():
            homes = set().union(*(self._homes[r] for r in run_ids))
            paths = [shards[name] for name in sorted(homes) if name in shards]
        try:
            dataset = ds.dataset(paths, schema, "parquet", filesystem=self.filesystem)
            return dataset.to_table(columns=columns, filter=keep)
        except UNREADABLE as error:
            if self._drop_foreign(table):
                return self._read(table, columns, keep, run_ids)
            place = f"{self.location}/{table}"
            raise ResultsError(f"{place} cannot be read: {first_line(error)}") from error

    def _drop_foreign(self, table: str) -> bool:
        """Leave out files that are not ours: no texts called run_id. False where there are none.

        ResultsError, one line, names a shard that cannot be read.
        """
        ours = {}
        for name, path in self._shards[table].items():
            with self.one_line(f"/{table}/{name} cannot be read"):
                found = pq.read_table(path, filesystem=self.filesystem).schema
            if "run_id" in found.names and found.field("run_id").type == pa.string():
                ours[name] = path
        dropped = len(ours) < len(self._shards[table])
        self._shards[table] = ours
        return dropped

    def text(self, name: str) -> str | None:
        """A file of the folder; None where it has none of this name."""
        path = f"{self.root}/{name}"
        with self.one_line(f"/{name} cannot be read"):
            try:
                with self.filesystem.open_input_stream(path) as file:
                    return file.read().decode("utf-8", errors="replace")
            except FileNotFoundError:
                return None
