"""docs/analysis.md: its notebook runs as it stands there."""

from pathlib import Path

from matplotlib.figure import Figure

import analysis


def test_the_notebook_example_runs(nb201: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")
    example = text.split("<!-- notebook example -->\n```python\n")[1].split("```")[0]
    names: dict = {"folder": str(nb201)}
    exec(compile(example, "docs/analysis.md", "exec"), names)
    assert 0 < names["quantity"].estimate <= 1
    assert names["kappa"].interval.n == 4
    assert isinstance(names["figure"], Figure)
    assert isinstance(names["heatmap"], Figure)
    assert isinstance(names["study"], analysis.Computed)
