"""The cache of kernels: what it is keyed by, what it loads, and what it refuses to load.

Sources here are a few lines, so that a build takes a tenth of a second; `load` itself, with the
real sources, is what every other test of the engine goes through.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from itnas.kernels import build, library, processor, store
from itnas.kernels.__main__ import main
from itnas.kernels.build import UnavailableError, find_compiler, open_library, stem

ROOT = Path(__file__).parents[2]
SOURCE = """#include "size.h"
extern "C" const char* instruction_set() { return "tiny"; }
extern "C" int size() { return SIZE; }
"""
PLANTED = """#include <fstream>
extern "C" int size() { return -1; }
struct Planted { Planted() { std::ofstream("MARKER") << 1; } } planted;
"""
SCRIPT = """
import ctypes, sys
from pathlib import Path
from itnas.kernels import build
build.SOURCES = Path(sys.argv[1])
print(ctypes.CDLL(f"/proc/self/fd/{build.open_library('float', 'native')}").size())
"""
X86 = {
    "processor": "0", "vendor_id": "AuthenticAMD", "cpu family": "25", "model": "1",
    "model name": "AMD EPYC", "stepping": "1", "cpu MHz": "2596.1",
    "flags": "fpu " + " ".join(processor.LEVELS.values()),
}  # fmt: skip
ARM = {
    "processor": "0", "BogoMIPS": "243.75", "Features": "fp asimd sve", "CPU implementer": "0x41",
    "CPU architecture": "8", "CPU variant": "0x1", "CPU part": "0xd40", "CPU revision": "1",
}  # fmt: skip

pytestmark = [
    pytest.mark.skipif(not build.identifying_lines(), reason="no /proc/cpuinfo"),
    pytest.mark.skipif(not any(map(shutil.which, build.COMPILERS)), reason="no C++ compiler"),
]
x86 = pytest.mark.skipif(not processor.targets(), reason="no x86-64")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The cache folder of a test (not there yet); its sources, temporary files and environment."""
    (tmp_path / "cpp").mkdir()
    (tmp_path / "cpp" / "kernels.cpp").write_text(SOURCE)
    (tmp_path / "cpp" / "size.h").write_text("#define SIZE int(sizeof(REAL))\n")
    (tmp_path / "tmp").mkdir()
    for name in ("CXX", "ITNAS_MARCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ITNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(build, "SOURCES", tmp_path / "cpp")
    monkeypatch.setattr(library, "SIGNATURES", {})
    library.load.cache_clear()
    yield tmp_path / "cache"
    library.load.cache_clear()


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """Writes a /proc/cpuinfo of its own."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "CPUINFO", path)

    def write(*cores):
        path.write_text("\n".join("".join(f"{k}\t: {v}\n" for k, v in c.items()) for c in cores))

    return write


def size(descriptor):
    return ctypes.CDLL(f"/proc/self/fd/{descriptor}").size()


def libraries(folder):
    return sorted(folder.glob("*.so"))


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def start(folder):
    """A process that opens the library and prints its size."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder.parent / "cpp")], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(folder.parent / "tmp"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def plant(target, marker):
    """Replace a library by one that leaves a mark where it is loaded."""
    source = marker.with_suffix(".cpp")
    source.write_text(PLANTED.replace("MARKER", str(marker)))
    compiler = find_compiler().command
    subprocess.run([*compiler, "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
    target.chmod(0o600)


def without_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "tmp"))


# -- the key ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in (X86, ARM) for name in kind if name in processor.IDENTIFYING],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_every_identifying_line_of_a_processor_is_in_the_key(cpuinfo, kind, name):
    cpuinfo(kind, kind)
    before = stem("float", "native")
    cpuinfo(kind, kind | {name: kind[name] + "x"})  # one core suffices
    assert stem("float", "native") != before
    without = {k: v for k, v in kind.items() if k != name}
    cpuinfo(without, without)
    assert stem("float", "native") != before


def test_every_known_line_is_in_the_key():
    changing = {"processor", "cpu MHz", "BogoMIPS"}
    assert (X86.keys() | ARM.keys()) - changing == processor.IDENTIFYING


def test_what_changes_by_itself_is_not_in_the_key(cpuinfo):
    cpuinfo(X86)
    before = stem("float", "native")
    cpuinfo(X86 | {"cpu MHz": "3000"}, X86 | {"processor": "1"})
    assert stem("float", "native") == before


@x86
def test_a_portable_target_takes_the_place_of_the_processor(cpuinfo):
    cpuinfo(X86)
    native, portable = stem("float", "native"), stem("float", "x86-64-v3")
    cpuinfo(X86 | {"model": "2"})
    assert stem("float", "native") != native
    assert stem("float", "x86-64-v3") == portable
    assert len({native, portable, stem("float", "x86-64-v2")}) == 3


def test_source_numbers_machine_and_flags_are_in_the_key(monkeypatch):
    found = {stem("float", "native"), stem("double", "native")}
    for name in ("kernels.cpp", "size.h"):
        path = build.SOURCES / name
        path.write_text(path.read_text() + "// more\n")
        found.add(stem("float", "native"))
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    found.add(stem("float", "native"))
    monkeypatch.setattr(platform, "machine", lambda: "other")
    found.add(stem("float", "native"))
    monkeypatch.setattr(platform, "system", lambda: "other")
    found.add(stem("float", "native"))
    assert len(found) == 7


def test_the_compiler_is_in_the_second_part_of_the_key(monkeypatch, tmp_path):
    def key(version, arguments=""):
        path = script(tmp_path / f"c++-{version}", f"echo {version}")
        monkeypatch.setenv("CXX", path + arguments)
        return stem("float", "native", find_compiler())

    keys = {key("12"), key("13"), key("13", " -m32")}
    assert len(keys) == 3
    assert all(k.startswith(stem("float", "native")) for k in keys)


@x86
def test_supported_targets_are_those_whose_flags_all_cores_have(cpuinfo):
    def less(*names):
        return X86 | {"flags": " ".join(f for f in X86["flags"].split() if f not in names)}

    expected = {
        (): ["x86-64-v4", "x86-64-v3", "x86-64-v2"],
        ("avx512vl",): ["x86-64-v3", "x86-64-v2"],
        ("movbe",): ["x86-64-v2"],
        ("abm", "avx512f"): ["x86-64-v2"],
        ("ssse3",): [],
    }
    for names, targets in expected.items():
        cpuinfo(X86, less(*names))
        assert processor.supported_targets() == targets


# -- what is loaded -----------------------------------------------------------------------


def test_a_library_is_built_once_for_this_user_alone(folder, monkeypatch):
    assert size(open_library("float", "native")) == 4
    assert size(open_library("double", "native")) == 8  # no mix-up of the two in one process
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(libraries(folder)) == 2
    subprocess.run(["sha256sum", "--check", *folder.glob("*.sha256")], cwd=folder, check=True)
    monkeypatch.setattr(build, "_compiled", None)
    assert size(open_library("float", "native")) == 4


def test_missing_folders_above_are_made_for_this_user_too(folder, monkeypatch):
    monkeypatch.setenv("ITNAS_CACHE", str(folder / "a" / "b"))
    open_library("float", "native")
    assert folder.stat().st_mode & 0o777 == (folder / "a").stat().st_mode & 0o777 == 0o700


def test_who_may_read_the_folder_may_read_its_libraries(folder):
    folder.mkdir()
    folder.chmod(0o755)
    open_library("float", "native")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_a_truncated_library_is_built_again_and_kills_nobody(folder):
    open_library("float", "native")
    (path,) = libraries(folder)
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(len(whole) // 3)
    process = start(folder)
    assert process.communicate()[0] == "4\n"
    assert process.returncode == 0
    assert libraries(folder)[0].read_bytes() == whole


def test_a_planted_library_never_runs(folder, tmp_path):
    open_library("float", "native")
    (path,) = libraries(folder)
    marker = tmp_path / "marker"
    plant(path, marker)
    assert size(open_library("float", "native")) == 4
    assert not marker.exists()
    plant(tmp_path / "other.so", marker)
    ctypes.CDLL(str(tmp_path / "other.so"))
    assert marker.exists()  # so the plant would have shown


@pytest.mark.parametrize("how", ["group", "others", "link", "owner", "pipe", "record", "path"])
def test_an_unsafe_file_is_built_again(folder, tmp_path, how):
    """Though its content fits its digest."""
    open_library("float", "native")
    (path,), (record,) = libraries(folder), folder.glob("*.sha256")
    before = path.stat().st_ino
    if how == "group":
        path.chmod(0o660)
    elif how == "others":
        path.chmod(0o602)
    elif how == "link":
        path.rename(tmp_path / "elsewhere.so")
        path.symlink_to(tmp_path / "elsewhere.so")
    elif how == "owner":
        if os.getuid() != 0:
            pytest.skip("only root can give files away")
        os.chown(path, 12345, 12345)
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "record":
        record.chmod(0o620)
    else:
        path.rename(tmp_path / path.name)
        record.write_text(record.read_text().replace(path.name, f"../{path.name}"))
    assert size(open_library("float", "native")) == 4
    status = libraries(folder)[0].lstat()
    assert status.st_ino != before
    assert status.st_mode & 0o777 == 0o600
    assert status.st_uid == os.getuid()


def test_what_never_fits_is_built_again_once(folder, monkeypatch):
    built = []
    monkeypatch.setattr(build, "_compiled", lambda *_: built.append(1) or b"library")
    monkeypatch.setattr(store, "find", lambda *_: None)
    with pytest.warns(UserWarning, match="does not fit its digest") as told:
        assert library.load() is None
    assert len(built) == len(told) == 1


@pytest.mark.parametrize("how", ["group", "others", "link", "owner", "file"])
def test_an_unsafe_folder_is_not_taken(folder, tmp_path, monkeypatch, how):
    """Nor what lies in it, though it was built by this very program."""
    open_library("float", "native")
    marker = tmp_path / "marker"
    plant(libraries(folder)[0], marker)
    content = libraries(folder)[0].read_bytes()
    (record,) = folder.glob("*.sha256")
    with store.private_folder(folder) as descriptor:
        store.add(descriptor, record.name.removesuffix(".sha256"), content)  # fits its digest
    if how in ("group", "others"):
        folder.chmod(0o770 if how == "group" else 0o777)
    elif how == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    elif how == "owner" and os.getuid() == 0:
        os.chown(folder, 12345, 12345)
    elif how == "owner":
        own = os.getuid()
        monkeypatch.setattr(store, "_problem", lambda s, real=store._problem: (
            f"belongs to another user ({own})" if s.st_ino == folder.stat().st_ino else real(s)
        ))  # fmt: skip
    else:
        shutil.rmtree(folder)
        folder.write_text("")
    before = sorted(folder.iterdir()) if how != "file" else None
    with pytest.warns(UserWarning, match="every process builds its own") as told:
        assert size(open_library("float", "native")) == 4
    assert len(told) == 1
    reason = {"link": "is a symbolic link", "owner": "another user", "file": "Not a directory"}
    assert str(folder) in str(told[0].message)
    assert reason.get(how, "can be written by others") in str(told[0].message)
    assert not marker.exists()
    assert before is None or sorted(folder.iterdir()) == before
    assert list((tmp_path / "tmp").iterdir()) == []


def test_no_home_at_all(monkeypatch, tmp_path):
    monkeypatch.delenv("ITNAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    with pytest.warns(UserWarning, match="no home folder"):
        assert size(open_library("float", "native")) == 4


def test_processes_that_build_at_once_do_not_meet(folder, monkeypatch, tmp_path):
    """Their compilers give unlike bytes, and are slow enough to overlap."""
    real = find_compiler().command[0]
    wrapper = f'[ "$1" = --version ] || sleep 1; exec {real} "$@" -DSALT=$$'
    monkeypatch.setenv("CXX", script(tmp_path / "slow-c++", wrapper))
    (tmp_path / "cpp" / "kernels.cpp").write_text(SOURCE + 'extern "C" int salt() {return SALT;}')
    processes = [start(folder) for _ in range(3)]
    assert [p.communicate()[0] for p in processes] == ["4\n"] * 3
    (record,) = folder.glob("*.sha256")
    assert {path.suffix for path in folder.iterdir()} == {".so", ".sha256"}  # nothing half done
    with store.private_folder(folder) as descriptor:
        assert store.find(descriptor, record.name.removesuffix(".sha256"))


# -- without a compiler, or any fast form -------------------------------------------------


def test_a_node_without_a_compiler_finds_what_was_built_ahead(
    folder, monkeypatch, tmp_path, capsys
):
    assert main(["--dtype", "float32"]) == 0
    assert Path(capsys.readouterr().out.strip()) in libraries(folder)
    without_compiler(monkeypatch, tmp_path)
    assert size(open_library("float", "native")) == 4
    with pytest.raises(UnavailableError, match=r"no C\+\+ compiler"):
        open_library("double", "native")


@x86
def test_a_node_without_a_compiler_takes_the_best_portable_library(
    folder, monkeypatch, tmp_path, cpuinfo
):
    cpuinfo(X86)
    for target in ("x86-64-v2", "x86-64-v3"):
        assert main(["--march", target, "--dtype", "float32"]) == 0
    cpuinfo(X86 | {"model": "99"})
    without_compiler(monkeypatch, tmp_path)
    with store.private_folder(folder) as descriptor:
        assert "-x86-64-v3-" in build._take(descriptor, "float", "native").name
        cpuinfo(X86 | {"flags": processor.LEVELS["x86-64-v2"]})
        assert "-x86-64-v2-" in build._take(descriptor, "float", "native").name
        cpuinfo(X86 | {"flags": "fpu"})
        with pytest.raises(UnavailableError):
            build._take(descriptor, "float", "native")


@x86
def test_the_environment_names_a_target(folder, monkeypatch, cpuinfo):
    cpuinfo(X86 | {"flags": processor.LEVELS["x86-64-v2"]})
    monkeypatch.setenv("ITNAS_MARCH", "x86-64-v2")
    assert library.isa() == "tiny"
    assert "-x86-64-v2-" in libraries(folder)[0].name
    library.load.cache_clear()
    monkeypatch.setenv("ITNAS_MARCH", "x86-64-v3")
    with pytest.warns(UserWarning, match="does not support x86-64-v3"):
        assert library.load() is None


def _broken_source(monkeypatch, tmp_path):
    (tmp_path / "cpp" / "kernels.cpp").write_text('#error "no vectors"\n')
    return "could not be built: .*no vectors"


def _unknown_processor(monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    return "not known"


def _no_users(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "getuid")
    return "not known"


def _no_compiler(monkeypatch, tmp_path):
    without_compiler(monkeypatch, tmp_path)
    return r"no C\+\+ compiler"


def _broken_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    return "none does not run"


def _unknown_target(monkeypatch, tmp_path):
    monkeypatch.setenv("ITNAS_MARCH", "i386")
    return "march i386: this machine knows native"


def _no_compiler_and_an_unsafe_folder(monkeypatch, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    without_compiler(monkeypatch, tmp_path)
    return r"no C\+\+ compiler; .*can be written by others"


@pytest.mark.parametrize(
    "how",
    [
        *(_broken_source, _unknown_processor, _no_users, _no_compiler, _broken_compiler),
        *(_unknown_target, _no_compiler_and_an_unsafe_folder),
    ],
    ids=lambda how: how.__name__.lstrip("_"),
)
def test_where_there_is_no_fast_form_one_warning_says_why(monkeypatch, tmp_path, how):
    message = how(monkeypatch, tmp_path)
    with pytest.warns(UserWarning, match=message) as told:
        assert library.load(torch.float32) is None
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert library.load(torch.float32) is None  # said once


# -- the command --------------------------------------------------------------------------


def test_the_command_builds_both_types_and_prints_where(folder, tmp_path, capsys):
    given = tmp_path / "given"
    assert main(["--folder", str(given)]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(printed) == libraries(given)
    assert len(printed) == 2
    assert not folder.exists()


@pytest.mark.parametrize("words", [["--march", "i386"], ["--dtype", "int"], ["--nonsense"]])
def test_bad_input_is_one_line_and_2(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words[-1] in line


def test_an_unsafe_folder_is_one_line_and_2(folder, capsys):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(folder) in line
    assert "others" in line


def test_what_cannot_be_built_is_the_compilers_line_and_1(monkeypatch, tmp_path, capsys):
    (tmp_path / "cpp" / "kernels.cpp").write_text('#error "no vectors"\n')
    assert main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "error" in line
    assert "no vectors" in line
    without_compiler(monkeypatch, tmp_path)
    assert main([]) == 1
    assert "no C++ compiler" in capsys.readouterr().err


def test_the_command_is_a_module():
    words = [sys.executable, "-m", "itnas.kernels", "--march", "i386"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("itnas.kernels: --march i386: expected one of native")
