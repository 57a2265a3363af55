"""Figures as files: PNG and SVG, and the styles."""

import io
import re
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image

import run_study
from analysis.data.genotypes import parse
from analysis.errors import ResultsError
from analysis.figures import palette, rendering
from analysis.figures.cells import cell_figure
from tests.analysis.test_genotypes import DARTS_V2

SVG = "{http://www.w3.org/2000/svg}"


def figure(columns: int = 2, title: str = "a title"):
    """Panels with titles, axis labels and a legend, as the report's figures have them."""
    with palette.drawing():
        drawn, axes = palette.grid(columns, columns, (3.3, 1.9))
        for ax in axes:
            ax.plot([0, 1, 2], [0.1, 0.4, 0.3], label="accuracy")
            ax.set_title(title, fontsize=8.5)
            ax.set(xlabel="epoch", ylabel="accuracy (0..1)")
        palette.legend(drawn, axes, 2)
    return drawn


def write_svg(style: str, **options) -> ElementTree.Element:
    drawn = figure(**options)
    return ElementTree.fromstring(rendering.svg(drawn, rendering.arranged(drawn, style)))


def points(root: ElementTree.Element) -> dict[str, float]:
    """Every text of an SVG with its size in points, as large as the file is shown."""
    zoom = float(root.attrib["width"].removesuffix("pt")) / float(root.attrib["viewBox"].split()[2])
    return {
        "".join(text.itertext()): float(re.search(r"([\d.]+)px", text.attrib["style"])[1]) * zoom
        for text in root.iter(f"{SVG}text")
    }


@pytest.mark.parametrize("style", rendering.STYLES)
def test_svg_is_well_formed_and_its_texts_are_texts(style: str) -> None:
    assert {"a title", "epoch", "accuracy (0..1)", "accuracy"} <= points(write_svg(style)).keys()


def test_the_same_figure_gives_the_same_svg() -> None:
    drawn = figure()
    first = rendering.svg(drawn)
    assert rendering.svg(drawn) == rendering.svg(figure()) == first
    assert b"<dc:date>" not in first


def test_slides_have_larger_texts_in_points_and_on_the_same_screen() -> None:
    paper, slides = write_svg("paper"), write_svg("slides")
    large, small = points(slides), points(paper)
    for text in ("a title", "epoch", "accuracy"):
        assert large[text] == pytest.approx(1.5 * small[text])

    def width(root: ElementTree.Element) -> float:
        return float(root.attrib["width"].removesuffix("pt"))

    assert large["epoch"] / width(slides) > 1.15 * small["epoch"] / width(paper)


def test_png_and_svg_have_one_size_in_every_style() -> None:
    for style in rendering.STYLES:
        drawn = figure()
        zoom = rendering.arranged(drawn, style)
        image = Image.open(io.BytesIO(rendering.png(drawn, 144, zoom)))
        root = ElementTree.fromstring(rendering.svg(drawn, zoom))
        width = float(root.attrib["width"].removesuffix("pt"))
        assert image.width / image.info["dpi"][0] == pytest.approx(width / 72, rel=0.01)


@pytest.mark.parametrize("title", ["short", "a title as wide as its panel, and not a bit more"])
def test_nothing_touches_or_is_cut_in_slides(title: str) -> None:
    drawn = figure(3, title)
    before = drawn.get_size_inches()[0]
    assert not rendering._clashes(drawn, (0, 0))
    rendering.arranged(drawn, "slides")
    assert not rendering._clashes(drawn, (0, 0))
    # Panels gave way as far as the titles let them.
    after = drawn.get_size_inches()[0]
    assert after < 0.8 * before if title == "short" else 0.8 * before < after < before


def test_what_touches_and_what_is_cut_is_found() -> None:
    drawn = figure(2, "a title that is much too wide for a panel of three inches of width")
    assert {len(clash) for clash in rendering._clashes(drawn, (0, 0))} == {1, 2}


def test_axes_placed_by_hand_shrink_with_their_figure() -> None:
    drawn = cell_figure(parse(DARTS_V2)["normal"], "title")
    width, height = drawn.get_size_inches()
    rendering.arranged(drawn, "slides")
    assert drawn.get_size_inches()[0] < width
    assert drawn.get_size_inches()[0] / width == pytest.approx(drawn.get_size_inches()[1] / height)
    assert not rendering._clashes(drawn, (0, 0))


def test_a_style_stays_with_its_figure() -> None:
    before, settings = rendering.svg(figure()), dict(matplotlib.rcParams)
    write_svg("slides")
    assert rendering.svg(figure()) == before
    assert dict(matplotlib.rcParams) == settings
    drawn = figure()
    size = tuple(drawn.get_size_inches())
    assert rendering.arranged(drawn, "paper") == 1
    assert tuple(drawn.get_size_inches()) == size


def test_an_unknown_style_is_one_line() -> None:
    with pytest.raises(ResultsError, match="give paper or slides") as error:
        rendering.arranged(figure(), "poster")
    assert "\n" not in str(error.value)


def test_the_command_offers_the_styles_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    for style in rendering.STYLES:
        assert run_study.parser().parse_args(["analyze", "x", "--style", style]).style == style
    assert run_study.parser().parse_args(["analyze", "x"]).style == "paper"
    with pytest.raises(SystemExit):
        run_study.parser().parse_args(["analyze", "x", "--style", "poster"])
    assert "poster" in capsys.readouterr().err
