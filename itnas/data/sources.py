"""Where images come from. Every source ends in `_prepare`: decode, resize, number the classes."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np
import torch
from numpy.typing import NDArray

from itnas.data.images import DataError, DataSettings, ImageData
from itnas.streams import stream

if TYPE_CHECKING:
    from PIL.Image import Image

TEST_SHARE = 5
"""Without a test split of its own, a source keeps one image in five as its test split."""
REACH_SECONDS = 2.5
"""for the Hub to take a connection"""


@dataclass
class _Split:
    """Images that are not decoded yet."""

    labels: Sequence[Any]
    open: Callable[[int], Image]
    describe: Callable[[int], str]
    """names one image in an error message"""


def load_data(settings: DataSettings) -> ImageData:
    """Load and decode a data set.

    Raises DataError, with one line, for a missing or unreadable folder, a corrupt image, a
    missing label column, fewer than two classes, or a test label that training never shows.
    """
    kind, _, where = settings.source.partition(":")
    if kind == "digits":
        train, test = _digits(), None
    elif kind == "parquet":
        train, test = _parquet(Path(where))
    elif kind == "imagefolder":
        train, test = _imagefolder(Path(where))
    else:
        train, test = _hub(where)
    return _prepare(settings, train, test)


def _digits() -> _Split:
    from PIL import Image
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)  # (1797, 64), 0..16
    images = np.rint(values.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return _Split(
        [int(y) for y in labels], lambda n: Image.fromarray(images[n]), lambda n: f"digits {n}"
    )


def _parquet(folder: Path) -> tuple[_Split, _Split | None]:
    """Files whose names begin with a split's name, as the Hub writes them."""
    files = sorted(folder.rglob("*.parquet")) if folder.is_dir() else []
    if not files:
        raise DataError(f"data.source: no Parquet files in {str(folder)!r}")
    train = [f for f in files if f.name.startswith("train")]
    test = [f for f in files if f.name.startswith("test")]
    test = test or [f for f in files if f.name.startswith("valid")]
    if not train and not test:
        train = files
    if not train:
        raise DataError(f"data.source: no train*.parquet in {str(folder)!r}")
    return _parquet_split(train), _parquet_split(test) if test else None


def _parquet_split(files: list[Path]) -> _Split:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for file in files:
        try:
            tables.append(pq.read_table(file))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"data.source: {file} cannot be read: {_line(error)}") from None
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise DataError(f"data.source: {files[0].parent}: {_line(error)}") from None
    names = table.column_names
    image = next((n for n in ("image", "img") if n in names), None)
    label = next((n for n in ("label", "labels", "fine_label") if n in names), None)
    if image is None or label is None:
        missing = "image column (image, img)" if image is None else "label column (label)"
        raise DataError(f"data.source: {files[0]} has no {missing}; it has {', '.join(names)}")
    images, labels = table[image], table[label]

    def load(n: int) -> Image:
        value = images[n].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError("no image bytes")
        return _open(io.BytesIO(content))

    return _Split(labels.to_pylist(), load, lambda n: f"row {n} of {files[0].parent}")


def _imagefolder(folder: Path) -> tuple[_Split, _Split | None]:
    """`train/CLASS/*` with `test/CLASS/*` (or val/), or CLASS/* alone."""
    if not folder.is_dir():
        raise DataError(f"data.source: {str(folder)!r} is not a folder")
    test_folder = next(
        (folder / n for n in ("test", "val", "valid", "validation") if (folder / n).is_dir()), None
    )
    if (folder / "train").is_dir():
        test = _folder_split(test_folder) if test_folder is not None else None
        return _folder_split(folder / "train"), test
    return _folder_split(folder), None


def _folder_split(folder: Path) -> _Split:
    from PIL import Image

    known = set(Image.registered_extensions())
    paths = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in known)
    if not paths:
        raise DataError(f"data.source: no images in the class folders of {str(folder)!r}")
    return _Split(
        [p.parent.name for p in paths], lambda n: _open(paths[n]), lambda n: str(paths[n])
    )


def _hub(name: str) -> tuple[_Split, _Split | None]:
    """From the Hub; where it does not answer, from this machine's cache of it, if it is there."""
    answers = hub_answers()
    try:
        import datasets
        from huggingface_hub import constants

        if not answers:  # the library would try for half a minute
            datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
        sets: Any = datasets.load_dataset(name)
    except Exception as error:  # the library raises a dozen kinds, from no network to no such set
        why = _line(error) if answers else "the Hub does not answer, nor is it in the cache here"
        remedy = "" if answers else "; parquet:DIR takes the Hub's files from a folder"
        raise DataError(f"data.source: hub:{name} cannot be loaded: {why}{remedy}") from None
    return _hub_splits(name, sets)


def hub_answers() -> bool:
    """Whether the Hub, or the proxy before it, takes connections; known within `REACH_SECONDS`."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    place = urlsplit(constants.ENDPOINT)
    proxy = None if proxy_bypass(place.hostname or "") else getproxies().get(place.scheme)
    place = urlsplit(proxy) if proxy else place
    port = place.port or (443 if place.scheme == "https" else 80)
    reached = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection((place.hostname or "", port), REACH_SECONDS).close()
            reached.set()

    thread = threading.Thread(target=connect, daemon=True)  # a name server may take its time
    thread.start()
    thread.join(REACH_SECONDS)
    return reached.is_set()


def _hub_splits(name: str, sets: Any) -> tuple[_Split, _Split | None]:
    """Splits of a `datasets.DatasetDict`."""
    train = next((s for s in ("train", *sets) if s in sets), None)
    test = next((s for s in ("test", "validation", "valid") if s in sets and s != train), None)
    if train is None:
        raise DataError(f"data.source: hub:{name} has no split")

    def split(key: str) -> _Split:
        rows = sets[key]
        names = rows.column_names
        image = next((n for n in ("image", "img") if n in names), None)
        label = next((n for n in ("label", "labels", "fine_label") if n in names), None)
        if image is None or label is None:
            raise DataError(
                f"data.source: hub:{name} has no image or label column; it has {', '.join(names)}"
            )
        return _Split(
            list(rows[label]), lambda n: rows[n][image], lambda n: f"row {n} of hub:{name} {key}"
        )

    return split(train), split(test) if test else None


def _prepare(settings: DataSettings, train: _Split, test: _Split | None) -> ImageData:
    if any(label is None for label in train.labels) or not len(train.labels):
        raise DataError(f"data.source: {settings.source} has rows without a label, or no rows")
    names = sorted(set(train.labels))
    if len(names) < 2:
        raise DataError(f"data.source: {settings.source} has one class only ({names[0]!r})")
    number = {name: n for n, name in enumerate(names)}

    def numbers(split: _Split) -> NDArray[np.int64]:
        unknown = [label for label in split.labels if label not in number]
        if unknown:
            raise DataError(
                f"data.source: the test label {unknown[0]!r} of {settings.source} does not occur "
                "among the training labels"
            )
        return np.array([number[label] for label in split.labels], dtype=np.int64)

    labels = numbers(train)
    rows = np.arange(len(labels))
    if test is None:
        order = _balanced(labels, "test split")
        count = max(len(labels) // TEST_SHARE, 1)
        test_rows, rows = np.sort(order[:count]), np.sort(order[count:])
        test, test_labels = train, labels[test_rows]
    else:
        test_rows, test_labels = np.arange(len(test.labels)), numbers(test)
    if settings.subset is not None:
        if settings.subset > len(rows):
            raise DataError(f"data.subset: {settings.subset} of {len(rows)} training images asked")
        rows = rows[np.sort(_balanced(labels[rows], "subset")[: settings.subset])]

    first = _image(train, int(rows[0]))
    auto = settings.resolution == "auto"
    size = max(min(first.size) // 4 * 4, 8) if auto else int(settings.resolution)
    color = settings.color
    if color == "auto":
        color = "gray" if first.mode in ("1", "L", "LA", "I", "I;16", "F") else "rgb"
    return ImageData(
        settings,
        _decode(train, rows, size, color),
        torch.from_numpy(labels[rows]),
        _decode(test, test_rows, size, color),
        torch.from_numpy(test_labels),
        tuple(str(name) for name in names),
    )


def _balanced(labels: NDArray[np.int64], purpose: str) -> NDArray[np.int64]:
    """A fixed random order any prefix of which has the classes in proportion."""
    order = torch.randperm(len(labels), generator=stream(0, purpose)).numpy()
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(place[order], kind="stable")]


def _decode(split: _Split, rows: NDArray[np.int64], size: int, color: str) -> torch.Tensor:
    """uint8 (rows, channels, size, size); other shapes are cropped to a centred square."""
    from PIL import Image, ImageOps

    channels = 1 if color == "gray" else 3
    images = np.empty((len(rows), size, size, channels), dtype=np.uint8)
    for place, row in enumerate(rows):
        image = _image(split, int(row)).convert("L" if color == "gray" else "RGB")
        if image.size != (size, size):
            shrinks = min(image.size) > size
            method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
            image = ImageOps.fit(image, (size, size), method)
        images[place] = np.asarray(image).reshape(size, size, channels)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _image(split: _Split, row: int) -> Image:
    try:
        image = split.open(row)
        image.load()
    except Exception as error:  # decoders raise nearly anything on a corrupt file
        raise DataError(
            f"data.source: {split.describe(row)} is not a readable image: {_line(error)}"
        ) from None
    return image


def _open(source: Path | io.BytesIO) -> Image:
    from PIL import Image

    return Image.open(source)


def _line(error: Exception) -> str:
    """The first line of an error, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
