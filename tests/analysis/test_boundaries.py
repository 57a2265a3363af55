"""Who may import whom: the analysis loads no torch, Ray, itnas or study."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def modules_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_is_light() -> None:
    loaded = modules_after("import analysis")
    assert not loaded & {"torch", "ray", "itnas", "study", "pandas", "matplotlib", "pyarrow"}


def test_no_module_of_it_loads_the_search() -> None:
    every = sorted(p.relative_to(ROOT).with_suffix("") for p in (ROOT / "analysis").rglob("*.py"))
    names = ", ".join(".".join(p.parts) for p in every if p.name != "__init__")
    loaded = modules_after(f"import {names}")
    assert "analysis.report.write" in loaded
    assert not loaded & {"torch", "ray", "itnas", "study", "optuna", "sklearn"}


def test_loading_and_computing_draws_nothing() -> None:
    loaded = modules_after("import analysis.compute.study, analysis.contract")
    assert not loaded & {"matplotlib", "seaborn", "jinja2"}


def test_statistics_know_neither_files_nor_frames() -> None:
    modules = sorted(p.stem for p in (ROOT / "analysis" / "statistics").glob("[a-z]*.py"))
    assert len(modules) > 8
    loaded = modules_after("import " + ", ".join(f"analysis.statistics.{m}" for m in modules))
    assert not loaded & {"pandas", "pyarrow", "matplotlib", "yaml"}
    assert not {m for m in loaded if m.startswith(("analysis.data", "analysis.compute"))}


def test_data_knows_nothing_of_what_is_computed() -> None:
    loaded = modules_after("import analysis.data.samples, analysis.data.benchmark")
    assert not {m for m in loaded if m.startswith(("analysis.compute", "analysis.figures"))}
