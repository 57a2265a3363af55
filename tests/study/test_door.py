"""The storage door on file systems of every kind: atomic, one line for trouble, no traces.

Object stores are in `test_object_store.py`.
"""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs as arrow_fs

from study.errors import StudyError
from study.store.door import Storage
from study.store.folder import check_folder, clear_leftovers


def through_fsspec(name, root):
    """A folder of a file system that pyarrow reaches through fsspec."""
    handler = arrow_fs.FSSpecHandler(fsspec.filesystem(name, skip_instance_cache=True))
    return Storage(arrow_fs.PyFileSystem(handler), root)


KINDS = {
    "local": lambda tmp: Storage.open(tmp / "new" / "folder"),
    "file URI": lambda tmp: Storage.open(f"{tmp.as_uri()}/new/folder"),
    "sub-tree": lambda tmp: Storage(
        arrow_fs.SubTreeFileSystem(str(tmp), arrow_fs.LocalFileSystem()), "new/folder"
    ),
    "mock": lambda tmp: Storage(arrow_fs._MockFileSystem(), "new/folder"),
    "fsspec": lambda tmp: through_fsspec("file", f"{tmp}/new/folder"),
}


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    """A folder that is not there yet, on a file system with folders."""
    return KINDS[request.param](tmp_path)


def listing(storage):
    """All that the folder and the two above it hold: paths, and the contents of files."""
    above = str(Path(storage.root).parents[1])
    selector = arrow_fs.FileSelector("" if above == "." else above, recursive=True)
    return {
        info.path: storage.filesystem.open_input_stream(info.path).read() if info.is_file else None
        for info in storage.filesystem.get_file_info(selector)
    }


def test_round_trip(storage):
    assert storage.has_folders
    assert storage.names() == storage.names("a") == []
    assert storage.read("a/b") is None
    assert not storage.exists("a/b")
    storage.write("a/b", "text")
    storage.write("a/b", b"other")
    storage.write("a/c/d", b"")
    assert storage.read("a/b") == b"other"
    assert storage.read("a/c/d") == b""
    assert storage.exists("a")
    assert storage.names("a") == ["b", "c"]
    assert storage.folder("a").folder("c").names() == ["d"]
    storage.delete("a/b")
    storage.delete("a/b")
    assert not storage.exists("a/b")
    storage.delete_folder("a")
    storage.delete_folder("a")
    assert storage.names() == []
    assert not [path for path in listing(storage) if "/." in path]


def test_a_study_is_not_deleted_by_an_empty_name(tmp_path):
    storage = Storage.open(tmp_path / "x")
    storage.write("a", "1")
    with pytest.raises(ValueError, match="a name inside"):
        storage.delete_folder("")
    assert storage.read("a") == b"1"


names = st.sampled_from(["a", "b", "f/a", "f/b", "f/g/a"])
steps = st.one_of(
    st.tuples(st.just("write"), names, st.binary(max_size=3)),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("delete_folder"), st.sampled_from(["f", "f/g", "none"])),
)


@given(st.lists(steps, max_size=12))
@settings(derandomize=True, max_examples=100)
def test_a_folder_holds_what_was_written(actions):
    """Against a dictionary of files."""
    storage, files = Storage(arrow_fs._MockFileSystem(), "s"), {}
    for action, name, *content in actions:
        getattr(storage, action)(name, *content)
        if action == "write":
            files[name] = content[0]
        elif action == "delete":
            files.pop(name, None)
        else:
            files = {n: c for n, c in files.items() if not n.startswith(f"{name}/")}
    for name in ("a", "b", "f/a", "f/b", "f/g/a"):
        assert storage.read(name) == files.get(name)
        assert storage.exists(name) == (name in files)
    assert [n for n in storage.names("f") if n != "g"] == sorted(
        n[2:] for n in files if n in ("f/a", "f/b")
    )


# -- how it is opened, named and passed on ------------------------------------------------


def test_pickled(tmp_path):
    storage = pickle.loads(pickle.dumps(Storage.open(tmp_path / "x")))
    storage.write("a", "1")
    assert (tmp_path / "x" / "a").read_text() == "1"
    query = "?endpoint_override=127.0.0.1:5000&scheme=http&region=x"
    distant = Storage.open(f"s3://bucket/x{query}")
    assert pickle.loads(pickle.dumps(distant)).filesystem == distant.filesystem
    assert str(pickle.loads(pickle.dumps(distant))) == f"s3://bucket/x{query}"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://b/p?endpoint_override=127.0.0.1:5000&scheme=http",
         "s3://b/p/name?endpoint_override=127.0.0.1:5000&scheme=http"),
        ("s3://b/p/?region=x#part", "s3://b/p/name?region=x"),
        ("s3://b?region=x", "s3://b/name?region=x"),
        ("s3://key:sec%2Fret@b/a%20b?region=x", "s3://key:sec%2Fret@b/a%20b/name?region=x"),
        ("s3://b/p?region=x&allow_delayed_open=false",
         "s3://b/p/name?region=x&allow_delayed_open=false"),
        ("gs://b/p?retry_limit_seconds=1", "gs://b/p/name?retry_limit_seconds=1"),
        ("fsspec+memory:///p", "fsspec+memory:///p/name"),
        ("/p/../q", "/p/../q/name"),
        ("file:///a%20b/p/", "/a b/p/name"),
    ],
)  # fmt: skip
def test_its_text_opens_the_same_folder_again(location, expected):
    folder = Storage.open(location).folder("name")
    assert str(folder) == expected
    again = Storage.open(str(folder))
    assert (again.root, again.filesystem) == (folder.root, folder.filesystem)
    assert str(again) == expected


def test_a_relative_path_is_of_this_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(Storage.open("results")) == str(tmp_path / "results")


@pytest.mark.parametrize(
    "location",
    ["nowhere://x/y", "s3://", "s3:///x", "s3://[x", "fsspec+nope://x", "~nobody-of-that-name/x",
     "hdfs://nowhere/x", "s3://bucket/a b?region=x"],
)  # fmt: skip
def test_what_cannot_be_opened_is_one_line(location):
    with pytest.raises(StudyError) as caught:
        Storage.open(location)
    (line,) = caught.value.lines
    assert line.startswith(f"storage {location}: ")
    assert len(line.splitlines()) == 1


def test_which_file_systems_have_folders():
    s3 = Storage.open("s3://b/p?region=x")
    assert not s3.has_folders
    assert not Storage(arrow_fs.SubTreeFileSystem("b", s3.filesystem), "p").has_folders
    assert not Storage.open("gs://b/p").has_folders
    assert through_fsspec("memory", "/p").has_folders

    class Distant(fsspec.AbstractFileSystem):
        protocol = ("s3", "s3a")

    assert not Storage(arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(Distant())), "b/p").has_folders


# -- trouble ------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    storage = Storage.open(tmp_path)
    storage.write("x", "old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        storage.write("x", "new")
    assert storage.read("x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


class Breaking(arrow_fs.FSSpecHandler):
    """The local file system through fsspec; `problem` is raised by moves and reads."""

    def __init__(self, problem):
        super().__init__(fsspec.filesystem("file", auto_mkdir=False))
        self.problem = problem

    def move(self, src, dest):
        assert self.fs.exists(src)  # whole, under another name
        raise self.problem

    def open_input_stream(self, path):
        raise self.problem


def test_a_move_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "x").write_text("old")
    storage = Storage(arrow_fs.PyFileSystem(Breaking(OSError(28, "No space"))), str(tmp_path))
    with pytest.raises(OSError, match="No space") as caught:
        storage.write("x", "new")
    assert caught.value.errno == 28
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (pa.ArrowInvalid("no\nlines"), "ArrowInvalid: no"),
        (pa.ArrowNotImplementedError("not here"), "not here"),
        (RuntimeError("driver\nlost"), "RuntimeError: driver"),
        (OSError("first\n  second"), "first second"),
        (OSError(5, "first\nsecond"), "first second"),
    ],
)
def test_trouble_is_an_oserror_of_one_line(tmp_path, problem, line):
    storage = Storage(arrow_fs.PyFileSystem(Breaking(problem)), str(tmp_path))
    for action in (lambda: storage.read("x"), lambda: storage.write("x", "1")):
        with pytest.raises(OSError, match=line) as caught:
            action()
        assert len(str(caught.value).splitlines()) == 1
        assert caught.value.errno == getattr(problem, "errno", None)


@pytest.mark.parametrize("action", ["names", "exists", "delete"])
def test_a_name_that_no_file_can_have(tmp_path, action):
    with pytest.raises(OSError, match="UnicodeEncodeError"):
        getattr(Storage.open(tmp_path), action)("surrogate\ud800")


def test_a_file_that_is_cleared_away_while_it_is_written_is_written_again(tmp_path, monkeypatch):
    """Another launch clears leftovers, or the empty folder, at the worst moment."""
    storage, other = Storage.open(tmp_path / "s"), Storage.open(tmp_path / "s")
    moments = []

    def replace(source, target, real=os.replace):
        moments.append(source)
        if len(moments) == 1:
            other.clear_leftovers("f")
            os.rmdir(tmp_path / "s" / "f")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    storage.write("f/x", "1")
    assert storage.read("f/x") == b"1"
    assert len(moments) == 2
    assert os.listdir(tmp_path / "s" / "f") == ["x"]


# -- no traces ----------------------------------------------------------------------------


def killed_while_writing(storage, name):
    """A process that is killed when its file is whole and not yet in its place."""
    child = os.fork()
    if not child:
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        storage.write(name, "new")
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_leftovers_of_killed_writers_are_cleared_and_nothing_else(tmp_path):
    storage = Storage.open(tmp_path)
    folders = ("", "logs/", "runs/", "checkpoints/abc/", "tune/")
    for folder in folders:
        storage.write(f"{folder}x.json", "kept")
    for name in (".hidden", "runs/.nfs0123456789", "logs/a.0123abcd", "report.0123abcd"):
        (tmp_path / name).write_text("another's")
    kept = listing(storage.folder("a/b"))
    for folder in folders:
        killed_while_writing(storage, f"{folder}x.json")
    assert len(listing(storage.folder("a/b"))) == len(kept) + len(folders)
    clear_leftovers(storage)
    assert listing(storage.folder("a/b")) == kept


def ended(storage, error, *written, kept=()):
    """A launch that ends so. Of what it has written it takes all but some away again."""
    for name in (*written, *kept):
        storage.write(name, "x")
    for name in written:
        storage.delete(name)
    raise error


def refused(storage, *written):
    """A launch that is refused."""
    with pytest.raises(StudyError, match="refused"), storage.footprint():
        ended(storage, StudyError("refused"), *written)


def test_a_refused_launch_leaves_no_storage_where_there_was_none(storage):
    before = listing(storage)
    refused(storage, "logs/claim", "logs/launch.json", "checkpoints/a/b")
    assert listing(storage) == before
    assert not storage.exists("")


def test_a_refused_launch_leaves_a_study_as_it_was(storage):
    storage.write("study.yaml", "name: x")
    storage.write("runs/a.parquet", "a")
    storage.write("checkpoints/a/1", "1")
    storage.delete("checkpoints/a/1")  # an empty folder that was there before
    before = listing(storage)
    assert any(path.endswith("checkpoints/a") for path in before)
    refused(storage, "logs/claim", "runs/b", "checkpoints/a/2", "checkpoints/b/1")
    assert listing(storage) == before


def test_what_a_refused_launch_did_write_stays(storage):
    with pytest.raises(KeyboardInterrupt), storage.footprint():
        ended(storage, KeyboardInterrupt(), "runs/a", "logs/b", kept=["logs/error.txt"])
    assert storage.names() == ["logs"]
    assert storage.read("logs/error.txt") == b"x"


def test_a_launch_that_is_not_refused_keeps_its_folders(storage):
    with storage.footprint():
        storage.write("logs/a", "x")
        storage.delete("logs/a")
    assert storage.names() == ["logs"]


def test_footprints_do_not_hide_what_went_wrong(tmp_path, monkeypatch):
    storage = Storage.open(tmp_path)

    def broken(*_, **__):
        raise OSError("the server is gone")

    monkeypatch.setattr(Storage, "_folders", broken)
    refused(storage)


def test_a_launch_killed_before_it_described_the_study_can_be_made_again(tmp_path):
    storage = Storage.open(tmp_path / "s")
    storage.write("logs/launch.json", "{}")
    check_folder(storage, "launch")
    storage.write("thesis.tex", "")
    with pytest.raises(StudyError, match="is not a study"):
        check_folder(storage, "launch")
