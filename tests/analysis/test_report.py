"""The report: self-contained, escaped, honest; tables and figures beside it."""

import base64
import io
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

import analysis
from analysis import figures
from analysis.report import write
from analysis.report.write import slugs
from tests.analysis.conftest import ODD
from tests.analysis.synthetic import Setting, Study, write_study


class Page(HTMLParser):
    """What a test asks of a page: its tags with attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> out of order"

    def handle_data(self, data):
        if not self._open or self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(folder: Path, out: Path) -> Page:
    path = analysis.write_report(folder, out)
    assert path == out / "report.html"
    return Page(Path(path).read_text(encoding="utf-8"))


@pytest.fixture
def words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without figures, for what is read of their text: drawing takes most of the time."""
    monkeypatch.setattr(write, "_pictures", lambda *_: [])


@pytest.fixture(scope="module")
def nb201_out(nb201: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "report"
    report(nb201, out)
    return out


@pytest.fixture(scope="module")
def nb201_page(nb201_out: Path) -> Page:
    return Page((nb201_out / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ragged_page(ragged_out: Path) -> Page:
    return Page((ragged_out / "report.html").read_text(encoding="utf-8"))


def test_every_image_is_an_embedded_png_with_a_description(
    nb201_page: Page, nb201_out: Path
) -> None:
    images = nb201_page.all("img")
    names = figures.names(analysis.read_tables(nb201_out))
    assert len(images) == len(names) > 20
    for image in images:
        head, data = str(image["src"]).split(",", 1)
        assert head == "data:image/png;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.format == "PNG"
        assert len(str(image["alt"])) > 20


def test_under_every_figure_stand_its_table_and_its_call(nb201_page: Page, nb201_out: Path) -> None:
    tables = analysis.read_tables(nb201_out)
    asked = figures.names(tables)
    assert nb201_page.text.count("Drawn from tables/") == len(asked)
    for name, setting, cell in asked:
        options = "".join(f", {k}={v!r}" for k, v in (("setting", setting), ("cell", cell)) if v)
        call = f'analysis.figure(analysis.read_tables("{nb201_out}"), "{name}"{options})'
        assert call in nb201_page.words


@pytest.mark.parametrize("page", ["nb201_page", "ragged_page"])
def test_nothing_on_the_page_leaves_it(page: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(page)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
        assert not any(name.startswith("on") for name in attributes)
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for link in page.all("a"):
        assert str(link["href"]).removeprefix("#") in anchors


def test_styles_ask_for_nothing_either(nb201_out: Path) -> None:
    html = (nb201_out / "report.html").read_text(encoding="utf-8")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_the_page_is_whole(nb201_page: Page) -> None:
    assert nb201_page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for attributes in nb201_page.all("h2")]
    assert ids == [
        "question",
        "summary",
        "transfer",
        "stability",
        "controls",
        "movement",
        "epochs",
        "genotypes",
        "accuracy",
        "seeds",
        "variance",
        "design",
        "details",
        "limits",
        "reproduce",
    ]
    for words in (
        "12 runs are here, all that were planned. They are of 3 settings, 4 runs each.",
        "1 run diverged (counted, and left out of every mean and figure): “placebo” (seed 2).",
        "reconstruction of ITNAS (arXiv 2011.14525), whose authors published no code",
        "no number on this page is presented as matching the paper",
        "python 3.11.2, torch 2.13.0",
        "0" * 40,
        "python run_study.py analyze",
    ):
        assert words in nb201_page.text


def test_odd_names_are_escaped_and_have_files_of_their_own(
    ragged_page: Page, ragged_out: Path
) -> None:
    assert ODD in ragged_page.text
    assert ODD.upper() in ragged_page.text
    assert not ragged_page.all("script")
    # Both names have the same slug; each has its two cell kinds all the same.
    for kind in ("cell", "operations", "transitions"):
        assert len(list((ragged_out / "figures").glob(f"{kind}-*.png"))) == 4
    settings = pd.read_csv(ragged_out / "tables" / "settings.csv")
    assert sorted(settings["setting"]) == sorted([ODD, ODD.upper()])


def test_a_folder_without_study_file_and_epoch_minus_one_is_read(ragged_page: Page) -> None:
    assert "This folder has no study.yaml" in ragged_page.text
    assert "does not say how many runs were planned" in ragged_page.text


def test_no_conclusion_is_drawn_from_what_hardly_moved(ragged_page: Page) -> None:
    said = (
        f"No conclusion is drawn from “{ODD}” (hardly moved: mean architecture displacement 0.050"
    )
    assert said in ragged_page.text
    accuracy = ragged_page.text.split("Mean derived accuracy runs")
    assert len(accuracy) == 1  # there is only one setting left, so nothing is compared
    assert f"Derived accuracy of “{ODD.upper()}”" in ragged_page.text


def test_tables_hold_the_numbers(nb201: Path, nb201_out: Path) -> None:
    results = analysis.load(nb201)
    settings = pd.read_csv(nb201_out / "tables" / "settings.csv").set_index("setting")
    runs = results.runs[results.runs["status"] != "diverged"]
    for name, group in runs.groupby("setting"):
        row = settings.loc[name]
        assert row["derived_accuracy_mean"] == pytest.approx(group["derived_accuracy"].mean())
        assert row["n"] == row["derived_accuracy_n"] == len(group)
    matrices = pd.read_csv(nb201_out / "tables" / "transition_matrices.csv")
    assert len(matrices) == 2 * 4 * 25
    sums = matrices.groupby(["setting", "predecessor_source", "source", "target", "row"])
    np.testing.assert_allclose(sums["mean"].sum(), 1, atol=1e-6)
    operations = pd.read_csv(nb201_out / "tables" / "operation_probabilities.csv")
    assert len(operations) == 3 * 6 * 5 * 6
    genotypes = pd.read_csv(nb201_out / "tables" / "genotypes.csv")
    assert genotypes.query("part == 'whole'")["count"].sum() == 11
    trajectories = pd.read_csv(nb201_out / "tables" / "trajectories.csv")
    assert {"dependence_stability", "valid_accuracy"} <= set(trajectories["quantity"])
    links = pd.read_csv(nb201_out / "tables" / "links.csv")
    assert len(links) == 2 * 4
    words = pd.read_csv(nb201_out / "tables" / "data_dictionary.csv")
    assert words["meaning"].str.len().gt(3).all()


def test_figures_beside_the_page_are_those_on_it(nb201_out: Path, nb201_page: Page) -> None:
    embedded = {str(image["src"]).split(",", 1)[1] for image in nb201_page.all("img")}
    files = list((nb201_out / "figures").glob("*.png"))
    assert {base64.b64encode(f.read_bytes()).decode() for f in files} == embedded
    vectors = (nb201_out / "figures").glob("*.svg")
    assert {f.stem for f in vectors} == {f.stem for f in files}


def test_every_table_has_both_forms(nb201_out: Path) -> None:
    tables = list((nb201_out / "tables").glob("*.csv"))
    assert len(tables) >= 6
    for csv in tables:
        text, arrow = pd.read_csv(csv), pq.read_table(csv.with_suffix(".parquet"))
        assert (arrow.column_names, arrow.num_rows) == (list(text.columns), len(text))


def test_a_style_changes_the_figures_and_no_number(
    nb201: Path, nb201_out: Path, tmp_path: Path
) -> None:
    analysis.write_report(nb201, tmp_path, style="slides", details=0)
    for table in (nb201_out / "tables").glob("*.csv"):
        assert (tmp_path / "tables" / table.name).read_bytes() == table.read_bytes()
    drawn = list((tmp_path / "figures").iterdir())
    assert len(drawn) > 20  # those of the study, not of each setting: they take long
    for figure in drawn:
        assert (nb201_out / "figures" / figure.name).read_bytes() != figure.read_bytes()


def test_an_unknown_style_is_refused_before_anything_is_written(
    nb201: Path, tmp_path: Path
) -> None:
    with pytest.raises(analysis.ResultsError, match="'poster' is unknown") as error:
        analysis.write_report(nb201, tmp_path / "out", style="poster")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("words_only")
def test_an_incomplete_study_says_so(nb201: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(nb201, tmp_path / "copy"))
    for shard in sorted((copy / "runs").glob("*.parquet")):
        if pq.read_table(shard)["setting"][0].as_py() == "independent":
            shard.unlink()
    page = report(copy, tmp_path / "out")
    assert "The study is incomplete: 8 of 12 planned runs are here." in page.text
    assert "4 of 12 planned runs are missing." in page.text


def test_one_backend_is_not_told(nb201_page: Page) -> None:
    assert "mixes backends" not in nb201_page.text


@pytest.mark.usefixtures("words_only")
def test_mixed_backends_are_told(tmp_path: Path) -> None:
    backends = ("compiled avx512", "compiled avx512", "torch mixed", None)  # None: older runs
    write_study(tmp_path / "s", Study(settings=[Setting("only")], backends=backends))
    text = report(tmp_path / "s", tmp_path / "out").text
    assert "This study mixes backends: compiled avx512 (2 runs) and torch mixed (1 run)." in text


def test_one_seed_shows_that_it_has_no_interval(tmp_path: Path) -> None:
    write_study(tmp_path / "s", Study(settings=[Setting("independent", "independent")], seeds=[3]))
    page = report(tmp_path / "s", tmp_path / "out")
    assert "(too few seeds for an interval)" not in page.text.split("Movement")[0]
    assert "one run says nothing about stability" in page.text
    assert "nan" not in page.text.lower().split()


def test_a_study_in_which_every_run_diverged_has_a_report(tmp_path: Path) -> None:
    diverged = [("a", seed) for seed in range(2)]
    study = Study(settings=[Setting("a")], seeds=range(2), epochs=3, diverged=diverged)
    write_study(tmp_path / "s", study)
    page = report(tmp_path / "s", tmp_path / "out")
    assert "No conclusion is drawn from “a” (every run diverged; n=0)." in page.text
    assert "every run diverged." in page.text


def test_a_tuning_study_reports_its_best_trial(tuned: Path, tmp_path: Path) -> None:
    page = report(tuned, tmp_path)
    assert "Trial 1 is the best of 5 by shrunken mean: mean derived accuracy" in page.text
    assert "1 are infeasible: a run diverged, or it hardly moved." in page.text
    assert "What follows is about the runs of trial 1 alone" in page.text
    assert "no setting ran on fresh seeds: this lead is not confirmed." in page.text
    assert "Importance of parameters: too few trials (4 of 20)." in page.text
    trials = pd.read_csv(tmp_path / "tables" / "tuning.csv")
    assert trials["trial"].tolist() == [0, 1, 2, 3, 4]
    # The settings shown are the best trial's, with its rates.
    assert "0.002" in page.text
    assert pd.read_csv(tmp_path / "tables" / "settings.csv")["runs"].tolist() == [2]


def test_without_trajectories_only_the_ends_are_read(nb201: Path, tmp_path: Path) -> None:
    analysis.write_report(nb201, tmp_path, trajectories=False, details=1)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "The epochs between the first and the last were not read" in page.text
    assert "2 more settings are not drawn one by one" in page.text
    assert pd.read_csv(tmp_path / "tables" / "trajectories.csv").empty
    stability = pd.read_csv(tmp_path / "tables" / "stability.csv")
    settling = stability[stability["quantity"] == "settling_epoch"]
    assert (settling["note"].str.startswith("the epochs between were not read")).all()


@pytest.mark.usefixtures("words_only")
def test_the_verdict_stands_first_with_its_numbers(tmp_path: Path) -> None:
    write_study(tmp_path / "a", Study(seeds=range(5), noise=2.0, epochs=3))
    page = report(tmp_path / "a", tmp_path / "out")
    verdict = pd.read_csv(tmp_path / "out" / "tables" / "verdict.csv").iloc[0]
    first = page.text.index("“transition”:")
    assert first < page.text.index("The question")
    told = page.text[first : first + 600]
    assert f"Dependence transfer {verdict['dependence_transfer']:.2f}" in told.replace(
        "-0.00", "0.00"
    )
    assert "n=5 seeds" in told
    write_study(tmp_path / "b", Study(settings=[Setting("a", "independent", trainable=None)]))
    page = report(tmp_path / "b", tmp_path / "out2")
    assert "The question is not asked." in page.text


def test_any_figure_is_made_again_from_the_written_tables(nb201_out: Path) -> None:
    tables = analysis.read_tables(nb201_out)
    for name, setting, cell in figures.names(tables):
        figure = analysis.figure(tables, name, setting=setting, cell=cell)
        assert figure.axes, name
    page = (nb201_out / "report.html").read_text(encoding="utf-8")
    assert "analysis.figure(analysis.read_tables(" in page
    with pytest.raises(analysis.ResultsError, match="holds no tables"):
        analysis.read_tables(nb201_out / "figures")


def test_the_default_place_works_for_a_uri(tmp_path: Path) -> None:
    study = Study(settings=[Setting("a")], seeds=range(2), epochs=3, short=[("a", 1)])
    write_study(tmp_path, study)
    path = analysis.write_report(tmp_path.as_uri(), details=0)
    assert path == f"{tmp_path.as_uri()}/report/report.html"
    page = Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert "1 run stopped early (the last epoch reached counts): “a” (seed 1)" in page.text
    # A report inside the study folder is no part of the study.
    assert len(analysis.load(tmp_path).runs) == 2


def test_a_place_that_cannot_be_written_is_one_line(darts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(analysis.ResultsError, match="cannot be written") as error:
        analysis.write_report(darts, tmp_path / "file")
    assert "\n" not in str(error.value)


def test_slugs_are_plain_and_unique() -> None:
    odd = ["Transition init=identity", "transition  init identity", "∅", "../../etc/passwd"]
    plain = ["transition-init-identity", "transition-init-identity-2", "setting", "etc-passwd"]
    assert list(slugs(odd).items()) == list(zip(odd, plain, strict=True))
    assert len(slugs(["x" * 300])["x" * 300]) <= 63
