"""Where a report is written: a local folder or any URI that pyarrow.fs opens."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pandas.api.types import infer_dtype

from analysis.errors import ResultsError, first_line


class Output:
    """A folder to write into; parents are made as needed."""

    def __init__(self, location: str | Path) -> None:
        self.location = str(location)
        try:
            if "://" in self.location:
                self._filesystem, self._root = pafs.FileSystem.from_uri(self.location)
            else:
                self._filesystem = pafs.LocalFileSystem()
                self._root = Path(self.location).absolute().as_posix()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ResultsError(f"{self.location}: cannot be opened: {error}") from error

    @property
    def is_local(self) -> bool:
        """Whether the place lies in a local file system."""
        return isinstance(self._filesystem, pafs.LocalFileSystem)

    def path(self, name: str) -> Path | str:
        """The place of a file: a Path in a local folder, else its URI."""
        remote = "://" in self.location
        return beside(self.location, name) if remote else Path(self.location) / name

    def write(self, name: str, content: bytes) -> None:
        """Write one file; ResultsError, one line, where the place cannot be written."""
        place = f"{self._root}/{name}"
        try:
            self._filesystem.create_dir(place.rsplit("/", 1)[0], recursive=True)
            with self._filesystem.open_output_stream(place) as file:
                file.write(content)
        except (pa.ArrowException, OSError) as error:
            line = first_line(error)
            raise ResultsError(f"{self.location}/{name} cannot be written: {line}") from error

    def read_tables(self) -> dict[str, pd.DataFrame]:
        """Every tables/NAME.parquet of the folder, by name."""
        selector = pafs.FileSelector(f"{self._root}/tables", allow_not_found=True)
        files = sorted(self._filesystem.get_file_info(selector), key=lambda info: info.path)
        return {
            file.base_name.removesuffix(".parquet"):
                pq.read_table(file.path, filesystem=self._filesystem).to_pandas()
            for file in files if file.extension == "parquet"
        }  # fmt: skip

    def write_table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a frame twice, without its index: tables/NAME.csv and tables/NAME.parquet.

        The CSV has numbers in full float32 precision, the Parquet file as they are.
        """
        if not len(frame.columns):  # a file of nothing at all could not be read again
            frame = pd.DataFrame({"note": pd.Series(dtype=str)})
        text = frame.to_csv(index=False, float_format="%.9g", lineterminator="\n")
        self.write(f"tables/{name}.csv", text.encode())
        buffer = io.BytesIO()
        pq.write_table(_arrow(frame), buffer)
        self.write(f"tables/{name}.parquet", buffer.getvalue())


def beside(path: str | Path, name: str) -> str:
    """A name within a folder; a URI keeps its query."""
    folder, mark, query = str(path).partition("?") if "://" in str(path) else (str(path), "", "")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"


def _arrow(frame: pd.DataFrame) -> pa.Table:
    """The frame as an Arrow table; columns of mixed kinds, which Arrow has not, as texts."""
    kinds = {name: infer_dtype(frame[name], skipna=True) for name in frame}
    mixed = [name for name, kind in kinds.items() if kind.startswith("mixed")]
    texts = {str(name): frame[name].map(str, na_action="ignore") for name in mixed}
    return pa.Table.from_pandas(frame.assign(**texts), preserve_index=False)


class Slugs:
    """File names from setting names: plain characters, unique whatever the names are."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """The slug of a name; the same name gets the same slug again."""
        base = re.sub(r"[^a-z0-9]+", "-", name.lower())[:60].strip("-") or "setting"
        slug, count = base, 1
        while self._taken.setdefault(slug, name) != name:
            count += 1
            slug = f"{base}-{count}"
        return slug
