"""Load: a study folder as lazily read tables (design, section 5).

Nothing is read before it is asked for, and then only the columns, epochs and runs asked for:
`links` of a large study never fits into memory as a whole. Four rules of the contract are
kept here so that nobody else has to think of them: dot-names are ignored, rows whose run_id
is not in `runs/` are ignored, a doubled row counts once, and one explicit schema is passed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

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

# Without these a run cannot be placed; every other missing value is shown as missing.
_NEEDED = (
    "run_id", "status", "space", "setting", "model", "epochs_completed", "seed_weights",
    "seed_data", "seed_architecture",
)  # fmt: skip


def load(path: str | Path) -> Results:
    """Open a study folder, a local path or any URI that pyarrow.fs opens.

    Raises ResultsError, one line, where there is no such folder, where it is no study, or
    where no run of it is complete yet.
    """
    location = str(path)
    try:
        if "://" in location:
            filesystem, root = pafs.FileSystem.from_uri(location)
        else:
            filesystem, root = pafs.LocalFileSystem(), Path(location).absolute().as_posix()
        kind = filesystem.get_file_info(root).type
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ResultsError(f"{location}: cannot be opened: {first_line(error)}") from error
    if kind == pafs.FileType.NotFound:
        raise ResultsError(f"{location}: no such folder")
    if kind == pafs.FileType.File:
        raise ResultsError(f"{location}: a file, not a study folder")
    results = Results(location, filesystem, root.rstrip("/"))
    if not results.shards("runs"):
        if results.study is None:
            raise ResultsError(f"{location}: not a study folder, it holds no runs/*.parquet")
        of = "" if results.planned_runs is None else f" of {results.planned_runs}"
        raise ResultsError(f"{location}: no run{of} of this study is complete yet")
    return results


class Results:
    """A study folder. Get one from `load`.

    `runs` is the table of complete runs, one row each; `epochs`, `edges` and `links` are
    methods that read what they are asked for. All give pandas frames with the contract's
    column names, sorted by the contract's keys.
    """

    def __init__(self, location: str, filesystem: pafs.FileSystem, root: str) -> None:
        self.location = location
        self._filesystem = filesystem
        self._root = root
        self._homes: dict[str, set[str]] = {}  # run_id to the shards of `runs` that hold it

    def __repr__(self) -> str:
        return f"Results({self.location!r})"

    @property
    def is_local(self) -> bool:
        """Whether the folder lies in a local file system."""
        return isinstance(self._filesystem, pafs.LocalFileSystem)

    def shards(self, table: str) -> list[str]:
        """Paths of a table's Parquet shards, sorted; names with a leading dot are not ours."""
        selector = pafs.FileSelector(f"{self._root}/{table}", allow_not_found=True)
        return sorted(
            info.path
            for info in self._filesystem.get_file_info(selector)
            if info.type == pafs.FileType.File
            and info.base_name.endswith(".parquet")
            and not info.base_name.startswith(".")
        )

    @cached_property
    def _shards(self) -> dict[str, dict[str, str]]:
        """Table to its shards, name to path: listed once, since listing a store takes time."""
        return {t: {p.rsplit("/", 1)[-1]: p for p in self.shards(t)} for t in SCHEMAS}

    @cached_property
    def study(self) -> dict[str, Any] | None:
        """The resolved study file, or None where the folder has none."""
        text = self._text("study.yaml")
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
        return str(names.iloc[0]) if len(names) else self._root.rsplit("/", 1)[-1]

    @cached_property
    def planned_runs(self) -> int | None:
        """How many runs the study was launched with, or None where nothing says so."""
        text = self._text("packs.json")
        try:
            runs = json.loads(text or "null")["runs"]
            return len(runs)
        except (ValueError, TypeError, KeyError):
            return None

    @cached_property
    def settings(self) -> list[str]:
        """Names of settings in the study file's order, as far as packs.json tells it."""
        try:
            settings = json.loads(self._text("packs.json") or "null")["settings"]
            return [str(setting["name"]) for setting in settings.values()]
        except (ValueError, TypeError, KeyError):
            return []

    @cached_property
    def runs(self) -> pd.DataFrame:
        """All complete runs, one row each, sorted by setting and seeds."""
        columns = [*SCHEMAS["runs"].names, "__filename"]
        frame = self._read("runs", columns, None, None).to_pandas()
        for run_id, path in zip(frame["run_id"], frame.pop("__filename"), strict=True):
            self._homes.setdefault(run_id, set()).add(path.rsplit("/", 1)[-1])
        frame = frame.drop_duplicates("run_id", ignore_index=True)
        for column in _NEEDED:
            if frame[column].isna().any():
                raise ResultsError(
                    f"{self.location}/runs: column {column} is missing, or empty in some row"
                )
        order = ["setting", "seed_weights", "seed_data", "seed_architecture", "run_id"]
        return frame.sort_values(order, ignore_index=True)

    def epochs(
        self, columns: Columns = None, epoch: Epoch = None, run_ids: Runs = None
    ) -> pd.DataFrame:
        """Rows of `epochs`: metrics of each run and epoch. See `edges` for the arguments."""
        return self.table("epochs", columns, epoch, run_ids).to_pandas()

    def edges(
        self, columns: Columns = None, epoch: Epoch = None, run_ids: Runs = None
    ) -> pd.DataFrame:
        """Rows of `edges`: operation probabilities of each run, epoch, cell and edge.

        columns: those wanted besides the keys (all where None). epoch: one, several,
        "first" (the initialisation, -1), "last" (each run's own last) or None for all.
        run_ids: only these runs, all complete ones where None.
        """
        return self.table("edges", columns, epoch, run_ids).to_pandas()

    def links(
        self, columns: Columns = None, epoch: Epoch = None, run_ids: Runs = None
    ) -> pd.DataFrame:
        """Rows of `links`: transition matrices, row-major. See `edges` for the arguments."""
        return self.table("links", columns, epoch, run_ids).to_pandas()

    def table(
        self, name: str, columns: Columns = None, epoch: Epoch = None, run_ids: Runs = None
    ) -> pa.Table:
        """Rows of `epochs`, `edges` or `links` as an Arrow table; see `edges` for the arguments.

        For those to whom lists of numbers as Python objects are too slow. Only the shards that
        hold the runs are opened, and of them only the columns and row groups asked for.
        """
        runs = self.runs
        if run_ids is not None:
            runs = runs[runs["run_id"].isin(list(run_ids))]
        keep = ds.field("run_id").isin(pa.array(runs["run_id"], pa.string()))
        last = runs.set_index("run_id")["epochs_completed"] - 1
        if epoch is not None:
            keep &= ds.field("epoch").isin(_epochs(epoch, last))
        if columns is not None:
            columns = [*KEYS[name], *(c for c in columns if c not in KEYS[name])]
        rows = self._read(name, columns, keep, runs["run_id"])
        keys = rows.select(list(KEYS[name])).to_pandas()
        keys = keys.drop_duplicates()
        if epoch == "last":
            keys = keys[keys["epoch"] == keys["run_id"].map(last)]
        return rows.take(pa.array(keys.sort_values(list(KEYS[name])).index))

    def _read(
        self,
        table: str,
        columns: Sequence[str] | None,
        keep: ds.Expression | None,
        run_ids: Iterable[str] | None,
    ) -> pa.Table:
        schema = SCHEMAS[table]
        if columns is not None and (unknown := {*columns} - {*schema.names, "__filename"}):
            raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}")
        try:
            paths = self._paths(table, run_ids)
            dataset = ds.dataset(paths, schema, "parquet", filesystem=self._filesystem)
            return dataset.to_table(columns=columns, filter=keep)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ResultsError(self._blame(table, error)) from error

    def _paths(self, table: str, run_ids: Iterable[str] | None) -> list[str]:
        """The shards of a table that can hold the runs.

        A pack's shards have one name in all tables. Where a folder's do not (its shards were
        joined, say), all of them are read.
        """
        shards = self._shards[table]
        if run_ids is None or not shards.keys() <= self._shards["runs"].keys():
            return list(shards.values())
        homes = set().union(*(self._homes[r] for r in run_ids))
        return [shards[name] for name in sorted(homes) if name in shards]

    def _blame(self, table: str, error: Exception) -> str:
        """One line that names the shard that cannot be read."""
        for shard in self.shards(table):
            try:
                with self._filesystem.open_input_file(shard) as file:
                    pq.read_table(file)
            except (pa.ArrowException, OSError, ValueError) as cause:
                name = shard.rsplit("/", 1)[-1]
                return f"{self.location}/{table}/{name} cannot be read: {first_line(cause)}"
        return f"{self.location}/{table} cannot be read: {first_line(error)}"

    def _text(self, name: str) -> str | None:
        try:
            with self._filesystem.open_input_stream(f"{self._root}/{name}") as file:
                return file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResultsError(
                f"{self.location}/{name} cannot be read: {first_line(error)}"
            ) from error


def _epochs(epoch: Epoch, last: pd.Series) -> list[int]:
    """The epochs that must be read for runs with these last epochs."""
    if epoch == "first":
        return [-1]
    if epoch == "last":
        return np.unique(last).tolist()
    return np.atleast_1d(np.asarray(epoch, dtype=int)).tolist()
