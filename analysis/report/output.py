"""Where a report is written, and its tables read again: a folder, local or of any URI."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import infer_dtype

from analysis.data.results import Folder
from analysis.errors import ResultsError


class Output(Folder):
    """A folder to write into; parents are made as needed."""

    def write(self, name: str, content: bytes) -> None:
        """Write one file; ResultsError, one line, where the place cannot be written."""
        place = f"{self.root}/{name}"
        with self.one_line(f"/{name} cannot be written"):
            self.filesystem.create_dir(place.rsplit("/", 1)[0], recursive=True)
            with self.filesystem.open_output_stream(place) as file:
                file.write(content)

    def write_table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a frame twice, without its index: tables/NAME.csv and tables/NAME.parquet.

        The CSV has numbers in full float32 precision, the Parquet file as they are; columns of
        mixed kinds, which Arrow has not, are texts there.
        """
        if not len(frame.columns):  # a file of nothing at all could not be read again
            frame = pd.DataFrame({"note": pd.Series(dtype=str)})
        text = frame.to_csv(index=False, float_format="%.9g", lineterminator="\n")
        self.write(f"tables/{name}.csv", text.encode())
        mixed = [c for c in frame if infer_dtype(frame[c], skipna=True).startswith("mixed")]
        texts = {str(c): frame[c].map(str, na_action="ignore") for c in mixed}
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(frame.assign(**texts), preserve_index=False), buffer)
        self.write(f"tables/{name}.parquet", buffer.getvalue())


def read_tables(path: str | Path) -> dict[str, pd.DataFrame]:
    """The tables of a written report, by name; of which `analysis.figure` makes its figures.

    path: the report's folder, local or URI. Raises ResultsError where it holds none.
    """
    folder = Folder(path)
    files = folder.parquet("tables")
    if not files:
        raise ResultsError(f"{path}: holds no tables/*.parquet of a report")
    return {
        name.removesuffix(".parquet"): pq.read_table(file, filesystem=folder.filesystem).to_pandas()
        for name, file in files.items()
    }


def beside(path: str | Path, name: str) -> Path | str:
    """A name within a folder: a Path, or a URI, which keeps its query."""
    if "://" not in str(path):
        return Path(path) / name
    folder, mark, query = str(path).partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Names of settings to names of files: plain characters, unique whatever the names are."""
    found: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^a-z0-9]+", "-", name.lower())[:60].strip("-") or "setting"
        every = chain([base], (f"{base}-{k}" for k in count(2)))
        found[name] = next(slug for slug in every if slug not in found.values())
    return found
