"""Figures as files: PNG and SVG, and the styles."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure
from PIL import Image

import run_study
from analysis import figures
from analysis.figures import layout
from tests.analysis.clashes import clashes
from tests.analysis.figure_frames import make

SVG = "{http://www.w3.org/2000/svg}"
TABLES = make(epochs=2)


def drawn(style: str = "paper", name: str = "displacement") -> Figure:
    return figures.draw(TABLES, name, style=style)


def root(figure: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(layout.svg(figure))


def points(figure: Figure) -> dict[str, float]:
    """Every text of an SVG with its size in points."""
    return {
        "".join(text.itertext()): float(re.search(r"([\d.]+)px", text.attrib["style"])[1])
        for text in root(figure).iter(f"{SVG}text")
    }


@pytest.mark.parametrize("style", figures.STYLES)
def test_svg_is_well_formed_and_its_texts_are_texts(style: str) -> None:
    assert {"hardly moved, if the mean is left of this", "placebo (n=4)", "one seed"} <= points(
        drawn(style)
    ).keys()


def test_the_same_figure_gives_the_same_svg() -> None:
    figure = drawn()
    first = layout.svg(figure)
    assert layout.svg(figure) == layout.svg(drawn()) == first
    assert b"<dc:date>" not in first


def test_slides_have_larger_texts_in_points_and_on_the_same_screen() -> None:
    paper, slides = drawn(), drawn("slides")
    small, large = points(paper), points(slides)
    for text in ("hardly moved, if the mean is left of this", "placebo (n=4)", "one seed"):
        assert large[text] == pytest.approx(1.5 / 0.8 * small[text], rel=0.01)  # seaborn's contexts
    wider = slides.get_figwidth() / paper.get_figwidth()
    assert large["one seed"] / small["one seed"] > 1.1 * wider
    drawings = [f.axes[0].collections for f in (paper, slides)]
    markers = [next(c for c in of if hasattr(c, "get_sizes")).get_sizes()[0] for of in drawings]
    assert markers[1] / markers[0] == pytest.approx((1.5 / 0.8) ** 2)
    intervals = ([c for c in of if hasattr(c, "get_segments")] for of in drawings)
    lines = [c[0].get_linewidth()[0] for c in intervals]
    assert lines[1] / lines[0] == pytest.approx(1.5 / 0.8)


@pytest.mark.parametrize("style", figures.STYLES)
def test_png_and_svg_have_one_size_and_one_layout(style: str) -> None:
    figure = drawn(style)
    before = [ax.get_position().bounds for ax in figure.axes]
    image = Image.open(io.BytesIO(layout.png(figure, 100)))
    width = float(root(figure).attrib["width"].removesuffix("pt"))
    assert image.width / 100 == pytest.approx(width / 72, rel=0.01)
    assert [ax.get_position().bounds for ax in figure.axes] == before


def test_a_style_stays_with_its_figure() -> None:
    before, settings = layout.svg(drawn()), dict(matplotlib.rcParams)
    drawn("slides")
    assert layout.svg(drawn()) == before
    assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("entries", [1, 3, 9, 30])
def test_a_legend_has_as_many_columns_as_fit(entries: int) -> None:
    with layout.drawing("paper"):
        figure, (ax,) = layout.grid(1, 1, (5, 1))
        handles = [layout.entry(f"an entry number {i}", marker="o") for i in range(entries)]
        layout.finish(figure, handles, "a remark")
    assert not clashes(figure)
    height = ax.get_position().height * figure.get_figheight()
    assert height == pytest.approx(1, abs=0.45)


def test_the_command_offers_the_styles_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    for style in figures.STYLES:
        assert run_study.parser().parse_args(["analyze", "x", "--style", style]).style == style
    assert run_study.parser().parse_args(["analyze", "x"]).style == "paper"
    with pytest.raises(SystemExit):
        run_study.parser().parse_args(["analyze", "x", "--style", "poster"])
    assert "poster" in capsys.readouterr().err
