"""Makes each mistake of the catalogue in a copy of the tree and runs the tests that must notice.

    python -m tests.mutations                    all of them (a quarter of an hour)
    python -m tests.mutations --only p-is-rounded

prints a line each and, last, those that survive. Exit status 0: none does; 1: some do, or a mistake
cannot be made any more (its text is gone from the file); 2: an unknown name. The kernels of the
copies are built into a cache of their own.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutations.catalogue import MUTATIONS

ROOT = Path(__file__).resolve().parents[2]
TREES = ("itnas", "study", "analysis", "tests")
PYTEST_FAILED = 1


def copy_of(root, to):
    """What the tests need of a tree."""
    for name in TREES:
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, to / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "run_study.py"):
        if (root / name).exists():
            shutil.copy(root / name, to / name)
    if (root / "docs").is_dir():
        shutil.copytree(root / "docs", to / "docs")


def applied(mutation, root):
    """The text of the file with the mistake in it. ValueError where it does not apply once."""
    text = (root / mutation.path).read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"its text stands {text.count(mutation.old)} times in {mutation.path}")
    return text.replace(mutation.old, mutation.new)


def pytest(tests, tree, cache):
    """Exit status and output of a run of pytest in a tree; the tests as they are, marks and all."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"ITNAS_CACHE": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def examine(mutation, tree, cache):
    """'caught', 'SURVIVED', or why it cannot be made; the tree is left as it was."""
    path = tree / mutation.path
    before = path.read_text()
    try:
        path.write_text(applied(mutation, tree))
        code, output = pytest(mutation.tests, tree, cache)
    except ValueError as error:
        return f"BROKEN: {error}"
    finally:
        path.write_text(before)
    if code == PYTEST_FAILED:
        return "caught"
    if code == 0:
        return "SURVIVED"
    return f"BROKEN: pytest ended with {code}: {(output.strip().splitlines() or [''])[-1]}"


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="these mistakes alone")
    given = parser.parse_args()
    known = {m.name: m for m in MUTATIONS}
    unknown = [name for name in given.only or () if name not in known]
    if unknown:
        print(f"--only: {unknown[0]} is not known; one of {', '.join(known)}", file=sys.stderr)
        raise SystemExit(2)
    chosen = [known[name] for name in given.only or known]
    started, bad = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        tree, cache = Path(folder) / "tree", Path(folder) / "cache"
        tree.mkdir()
        cache.mkdir(mode=0o700)
        copy_of(ROOT, tree)
        tests = sorted({test for m in chosen for test in m.tests})
        code, output = pytest(tests, tree, cache)
        if code != 0:
            print(f"the tests fail without a mistake:\n{output}", file=sys.stderr)
            raise SystemExit(1)
        for mutation in chosen:
            before = time.monotonic()
            outcome = examine(mutation, tree, cache)
            print(f"{mutation.name}: {outcome} ({time.monotonic() - before:.0f} s)", flush=True)
            if outcome != "caught":
                bad.append(mutation.name)
    minutes = (time.monotonic() - started) / 60
    survivors = ", ".join(bad) or "none"
    print(f"{len(chosen)} mistakes in {minutes:.1f} min; not caught: {survivors}")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
