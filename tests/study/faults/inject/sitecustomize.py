"""Put first on a launch's PYTHONPATH: faults in any of its processes, as `INJECT` (JSON) says.

A list of `{"at": "module:Qualified.name", "do", "times", "when", "counter"}`: the function or
method there does it (an `OSError` of that number, `raise`, `allocate`, `kill`, `wait`) the first
`times` times that the texts of its arguments match the pattern `when`, over all processes together,
which count in the folder `counter`; with `while`, every time that this file is there. Or
`{"at", "by": "module:name"}`: something else stands there.
"""

import contextlib
import importlib
import importlib.abc
import importlib.util
import json
import os
import re
import signal
import sys
import time


def _again(fault):
    """Whether this is one of the first `times` calls; counted by files, over all processes."""
    if "while" in fault:
        return os.path.exists(fault["while"])
    for n in range(fault["times"]):
        with contextlib.suppress(FileExistsError):
            path = os.path.join(fault["counter"], f"{fault['name']}-{n}")
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            return True
    return False


def _do(fault):
    kind = fault["do"]
    if isinstance(kind, int):
        raise OSError(kind, os.strerror(kind))
    if kind == "raise":
        raise RuntimeError("first line\nthe last line")
    if kind == "allocate":
        held = bytearray(fault["bytes"])
        for n in range(0, len(held), 4096):
            held[n] = 1
        time.sleep(60)
    if kind == "wait":
        time.sleep(fault["seconds"])
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def _patched(owner, name, fault):
    if "by" in fault:
        module, _, other = fault["by"].partition(":")
        setattr(owner, name, getattr(importlib.import_module(module), other))
        return
    real = getattr(owner, name)

    def wrapper(*arguments, **named):
        matches = re.search(fault.get("when", ""), " ".join(map(str, arguments)))
        if matches and _again(fault):
            _do(fault)
        return real(*arguments, **named)

    setattr(owner, name, wrapper)


def _apply(module, faults):
    for fault in faults:
        *path, name = fault["at"].partition(":")[2].split(".")
        owner = module
        for part in path:
            owner = getattr(owner, part)
        _patched(owner, name, fault)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, faults):
        self.faults = faults

    def find_spec(self, name, path=None, target=None):
        mine = [f for f in self.faults if f["at"].partition(":")[0] == name]
        if not mine:
            return None
        self.faults = [f for f in self.faults if f not in mine]
        spec = importlib.util.find_spec(name)
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module):
            execute(module)
            _apply(module, mine)

        loader.exec_module = exec_module
        return spec


_faults = [
    dict(f, name=f"fault{n}") for n, f in enumerate(json.loads(os.environ.get("INJECT", "[]")))
]
for _fault in [f for f in _faults if f["at"].partition(":")[0] in sys.modules]:
    _faults.remove(_fault)
    _apply(sys.modules[_fault["at"].partition(":")[0]], [_fault])
sys.meta_path.insert(0, _Finder(_faults))
