"""docs/analysis.md: its notebook runs as it stands there, and it names every quantity."""

from pathlib import Path

from matplotlib.figure import Figure

import analysis
from analysis.quantities import DEFINITIONS


def test_the_notebook_example_runs(nb201: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")
    example = text.split("<!-- notebook example -->\n```python\n")[1].split("```")[0]
    names: dict = {"folder": str(nb201)}
    exec(compile(example, "docs/analysis.md", "exec"), names)
    assert 0 < names["quantity"].estimate <= 1
    assert names["kappa"].n == 4
    assert isinstance(names["figure"], Figure)
    assert isinstance(names["heatmap"], Figure)
    assert isinstance(names["study"], analysis.Study)


def test_every_quantity_of_a_setting_is_explained() -> None:
    text = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")
    names = [d.name for d in DEFINITIONS.values() if d.level == "setting"]
    assert [name for name in names if f"`{name}`" not in text] == []
