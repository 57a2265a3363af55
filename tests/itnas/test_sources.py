"""Every source on small data made here, and every way in which it can be wrong."""

import io
import socket
import threading
import time
from urllib.request import proxy_bypass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from itnas.data import DataError, DataSettings
from itnas.data.sources import _hub_splits, _prepare, hub_answers, load_data


def png(seed, size=(12, 12), mode="RGB"):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path, count=40, start=0, labels=None, column="label", wrap=True, image="image"):
    contents = [png(start + n) for n in range(count)]
    images = [{"bytes": c, "path": None} for c in contents] if wrap else contents
    labels = [n % 4 for n in range(count)] if labels is None else labels
    pq.write_table(pa.table({image: images, column: labels}), path)


def write_folder(root, classes=("cat", "dog"), count=6, start=0):
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for n in range(count):
            (root / name / f"{n}.png").write_bytes(png(start + 100 * k + n))


def load(source, **settings):
    return load_data(DataSettings(source, **settings))


def test_digits_are_scikit_learns():
    data = load("digits")
    values, labels = load_digits(return_X_y=True)
    assert data.images.shape == (1438, 1, 8, 8)
    assert len(data.test_images) == 359
    assert data.images.dtype == torch.uint8
    assert data.class_names == tuple("0123456789")
    both = torch.cat([data.images, data.test_images]).flatten(1).double() * (16 / 255)
    mine = sorted(map(tuple, both.round().long().tolist()))
    assert mine == sorted(map(tuple, values.astype(int).tolist()))
    assert torch.bincount(torch.cat([data.labels, data.test_labels])).tolist() == (
        np.bincount(labels).tolist()
    )
    assert torch.bincount(data.test_labels).min() >= 34  # balanced


def test_digits_at_another_resolution_and_in_colour():
    data = load("digits", resolution=16, color="rgb")
    assert data.images.shape[1:] == (3, 16, 16)
    assert torch.equal(data.images[:, 0], data.images[:, 2])


def test_parquet_in_the_hubs_layout(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", 40)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", 40, start=40)
    write_parquet(tmp_path / "test-00000-of-00001.parquet", 8, start=80)
    data = load(f"parquet:{tmp_path}")
    assert data.images.shape == (80, 3, 12, 12)
    assert len(data.test_labels) == 8
    pixels = np.asarray(Image.open(io.BytesIO(png(41))))
    assert np.array_equal(data.images[41].numpy().transpose(1, 2, 0), pixels)
    assert data.labels[:5].tolist() == [0, 1, 2, 3, 0]


def test_parquet_of_plain_bytes_without_a_test_split_keeps_a_fifth(tmp_path):
    write_parquet(tmp_path / "data.parquet", 50, wrap=False, image="img")
    data = load(f"parquet:{tmp_path}", color="gray", resolution=8)
    assert data.images.shape == (40, 1, 8, 8)
    assert len(data.test_images) == 10


def test_imagefolder_with_and_without_splits(tmp_path):
    write_folder(tmp_path / "split" / "train")
    write_folder(tmp_path / "split" / "val", count=3, start=50)
    data = load(f"imagefolder:{tmp_path / 'split'}", resolution=8)
    assert (len(data.images), len(data.test_images)) == (12, 6)
    assert data.class_names == ("cat", "dog")
    write_folder(tmp_path / "flat", count=10)
    data = load(f"imagefolder:{tmp_path / 'flat'}")
    assert (len(data.images), len(data.test_images)) == (16, 4)


def test_other_shapes_are_cropped_to_a_centred_square(tmp_path):
    write_folder(tmp_path)
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = 255  # only the centre survives
    Image.fromarray(wide).save(tmp_path / "cat" / "0.png")
    data = load(f"imagefolder:{tmp_path}", resolution=8)
    every = torch.cat([data.images, data.test_images]).float().mean((1, 2, 3))
    assert every.max() == 255


def test_a_subset_is_balanced_and_the_same_every_time():
    data, again = load("digits", subset=500), load("digits", subset=500)
    assert len(data.images) == 500
    everything = load("digits")
    share = torch.bincount(everything.labels) * (500 / len(everything.labels))
    assert (torch.bincount(data.labels) - share).abs().max() <= 1
    assert data.content_hash() == again.content_hash() != everything.content_hash()


def test_the_hub_goes_through_the_datasets_library(tmp_path, monkeypatch):
    """Against a DatasetDict made here: the real library, without a network."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c", "d"])}
    )

    def split(count, start):
        images = [{"bytes": png(start + n), "path": None} for n in range(count)]
        labels = [n % 4 for n in range(count)]
        return datasets.Dataset.from_dict({"img": images, "label": labels}, features=features)

    sets = datasets.DatasetDict({"train": split(20, 0), "test": split(8, 100)})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: sets)
    data = load("hub:made/here")
    assert data.images.shape == (20, 3, 12, 12)
    assert len(data.test_labels) == 8
    pixels = np.asarray(Image.open(io.BytesIO(png(3))))
    assert np.array_equal(data.images[3].numpy().transpose(1, 2, 0), pixels)
    train, test = _hub_splits("x", datasets.DatasetDict({"train": split(20, 0)}))
    assert test is None
    assert len(_prepare(DataSettings("hub:x"), train, test).test_images) == 4


def refused(source, message, **settings):
    with pytest.raises(DataError, match=message) as caught:
        load(source, **settings)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_used(tmp_path):
    refused(f"parquet:{tmp_path / 'none'}", "no Parquet files in")
    refused(f"imagefolder:{tmp_path / 'none'}", "is not a folder")
    refused(f"imagefolder:{tmp_path}", "no images in the class folders")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    refused(f"parquet:{tmp_path}", r"x.parquet cannot be read")


def test_a_hub_set_that_is_not_there(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def missing(name):
        raise ConnectionError("no network\nand a long story")

    monkeypatch.setattr(datasets, "load_dataset", missing)
    monkeypatch.setattr("itnas.data.sources.hub_answers", lambda: True)
    refused("hub:no/such", "hub:no/such cannot be loaded: no network$")


def listening():
    """A port that takes connections, and one that does not."""
    server = socket.create_server(("127.0.0.1", 0))
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    return server, port


@pytest.fixture
def hub(monkeypatch):
    """Sets the Hub's place, without proxies but for those that are given."""
    constants = pytest.importorskip("huggingface_hub").constants

    def place(endpoint, **proxies):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("itnas.data.sources.getproxies", lambda: proxies)

    return place


def test_the_hub_is_asked_once_and_not_waited_for(hub, monkeypatch, tmp_path):
    """Offline: one line within five seconds, where the library would try for half a minute."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    _, port = listening()
    hub(f"http://127.0.0.1:{port}")
    began = time.monotonic()
    refused("hub:no/such", "the Hub does not answer, nor is it in the cache here; parquet:DIR")
    assert time.monotonic() - began < 5


def test_whether_the_hub_answers(hub, monkeypatch):
    server, port = listening()
    with server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        hub(here)
        assert hub_answers()
        hub(f"https://hub.invalid:{port}")
        assert not hub_answers()
        hub("https://hub.invalid", https=here)  # a proxy has its own name server
        assert hub_answers()
        hub(here, http=f"http://127.0.0.1:{port}")
        assert hub_answers() is bool(proxy_bypass("127.0.0.1"))
    silent = threading.Event()

    def never(*_):
        silent.wait(60)
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", never)  # a name server that says nothing
    began = time.monotonic()
    hub("https://hub.invalid")
    assert not hub_answers()
    assert time.monotonic() - began < 4
    silent.set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "target"}, r"has no label column \(label\); it has image, target"),
        ({"image": "picture"}, r"has no image column \(image, img\); it has picture, label"),
        ({"labels": [1] * 40}, r"has one class only \(1\)"),
        ({"labels": [0, 1, None, 2] * 10}, "rows without a label"),
        ({"count": 0, "labels": pa.array([], pa.int64())}, "or no rows"),
    ],
)
def test_parquet_tables_that_cannot_be_used(tmp_path, options, message):
    write_parquet(tmp_path / "train.parquet", **options)
    refused(f"parquet:{tmp_path}", message)


def test_corrupt_images_are_named(tmp_path):
    write_folder(tmp_path / "a", count=20)
    broken = tmp_path / "a" / "dog" / "3.png"
    broken.write_bytes(png(0)[:60])
    refused(f"imagefolder:{tmp_path / 'a'}", r"dog/3.png is not a readable image")
    (tmp_path / "b").mkdir()
    images = [{"bytes": png(n) if n != 7 else b"junk", "path": None} for n in range(20)]
    table = pa.table({"img": images, "label": [n % 2 for n in range(20)]})
    pq.write_table(table, tmp_path / "b" / "train.parquet")
    refused(f"parquet:{tmp_path / 'b'}", r"row 7 of .* is not a readable image")


def test_one_class_folder_and_unknown_test_labels(tmp_path):
    write_folder(tmp_path / "one", classes=("cat",))
    refused(f"imagefolder:{tmp_path / 'one'}", r"has one class only \('cat'\)")
    write_folder(tmp_path / "two" / "train")
    write_folder(tmp_path / "two" / "test", classes=("cow",))
    refused(f"imagefolder:{tmp_path / 'two'}", "the test label 'cow' .* does not occur")


def test_a_subset_larger_than_the_set():
    refused("digits", "data.subset: 5000 of 1438 training images asked", subset=5000)
