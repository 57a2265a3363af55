"""The README's library example runs as it stands, without Ray."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_ten_lines_run_without_ray():
    code = re.search(r"<!-- library example -->\n```python\n(.*?)```", README.read_text(), re.S)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    code = code.replace("epochs=10", "epochs=1")  # the same lines, a shorter search
    check = (
        "\nimport sys, torch\n"
        "assert 'ray' not in sys.modules\n"
        "print('shape', tuple(network(torch.zeros(2, 1, 8, 8)).shape))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", "import torch; torch.set_num_threads(1)\n" + code + check],
        capture_output=True, text=True, cwd=README.parent, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert sum(line.startswith("|") for line in lines) == 3
    assert lines[3].startswith("[[0.")
    assert lines[-1] == "shape (2, 10)"
