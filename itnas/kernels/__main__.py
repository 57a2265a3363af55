"""Build the compiled kernels ahead, for nodes without a compiler.

    python -m itnas.kernels --march x86-64-v3 --folder /shared/kernels

prints the path of each library. Nodes find them where ITNAS_CACHE names the folder (or in the
user's cache folder, if all share a home). `native` serves processors like this one alone, a target
such as x86-64-v3 every processor that has its instructions. Exit status 1 where the kernels cannot
be built, 2 for wrong arguments or a folder in which others can write.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from itnas.kernels.build import NATIVE, UnavailableError, build_ahead, cache_folder, marches

REALS = {"float32": ("float",), "float64": ("double",), "both": ("float", "double")}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        self.exit(2, f"itnas.kernels: {message}\n")


def main(words: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = _Parser(prog="python -m itnas.kernels", description=(__doc__ or "").partition("\n")[0])
    march = os.environ.get("ITNAS_MARCH") or NATIVE
    parser.add_argument("--march", default=march, help="of " + ", ".join(marches()))
    parser.add_argument("--dtype", choices=REALS, default="both", help="type of numbers")
    parser.add_argument("--folder", type=Path, help="default: ITNAS_CACHE or ~/.cache/itnas")
    given = parser.parse_args(words)
    if given.march not in marches():
        parser.error(f"--march {given.march}: expected one of {', '.join(marches())}")
    try:
        folder = given.folder or cache_folder()
        for real in REALS[given.dtype]:
            print(build_ahead(real, given.march, folder), flush=True)
    except OSError as error:
        parser.error(f"--folder: {error}")
    except UnavailableError as error:
        print(f"itnas.kernels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
