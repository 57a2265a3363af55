"""Figures through what their axes hold, never through pixels; tables are made up."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from analysis import figures
from analysis.data import genotypes
from analysis.errors import ResultsError
from analysis.figures import cells, palette
from analysis.figures.layout import png
from analysis.figures.study import Study
from tests.analysis.clashes import clashes
from tests.analysis.figure_frames import make
from tests.analysis.test_genotypes import DARTS_V2, NB201

pytestmark = pytest.mark.usefixtures("no_global_state")
Tables = Mapping[str, pd.DataFrame]
SETTINGS = ["independent", "placebo", "transition"]


@pytest.fixture(scope="module")
def tables() -> Tables:
    return make(benchmark=True)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def colour(tables: Tables, setting: str) -> str:
    return Study(tables).looks[setting]["color"]


def test_every_figure_of_a_study_is_named_and_drawn(tables: Tables) -> None:
    names = figures.names(tables)
    assert {name for name, _, _ in names} == set(figures.FIGURES)
    assert ("transitions", "transition", "normal") in names
    assert ("transitions", "independent", "normal") not in names
    assert ("frequencies", None, "normal") in names
    for name, setting, cell in names:
        figure = figures.draw(tables, name, setting, cell)
        assert figure.axes, name
        assert clashes(figure) == [], name
        texts = [t for t in figure.findobj(Text) if t.get_text().strip()]
        assert min(t.get_fontsize() for t in texts) >= 7, name  # readable at half size
        found = figures.FIGURES[name]
        assert found.title
        assert "\n" not in found.title
        assert set(found.tables) <= set(tables)
    assert plt.get_fignums() == []


def test_darts_has_its_figures_for_both_cell_kinds() -> None:
    names = figures.names(make(darts=True, seeds=3, epochs=2))
    for name in ("operations", "transitions", "cell"):
        assert [(s, c) for n, s, c in names if n == name and s == "transition"] == [
            ("transition", "normal"),
            ("transition", "reduce"),
        ]
    assert [c for n, _, c in names if n == "frequencies"] == ["normal", "reduce"]


def test_what_is_not_there_is_one_line(tables: Tables) -> None:
    with pytest.raises(ResultsError, match=r"no figure 'pie': there are ladder, matrices"):
        figures.draw(tables, "pie")
    with pytest.raises(ResultsError, match="there are placebo normal, transition normal"):
        figures.draw(tables, "transitions", "independent")
    with pytest.raises(ResultsError, match="in table tuning: no rows of it"):
        figures.draw({**tables, "tuning": pd.DataFrame()}, "tuning_history")
    with pytest.raises(ResultsError, match="give paper or slides"):
        figures.draw(tables, "ladder", style="poster")


@pytest.mark.parametrize("missing", [None, pd.DataFrame()])
def test_without_its_table_a_figure_is_not_available(tables: Tables, missing: object) -> None:
    for name, found in figures.FIGURES.items():
        rest = {k: v for k, v in tables.items() if k != found.tables[0]}
        if missing is not None:
            rest[found.tables[0]] = missing
        assert found.each(tables), name
        assert not found.each(rest), name
    assert figures.names({}) == []


def test_a_setting_has_one_colour_in_all_figures(tables: Tables) -> None:
    of = {setting: colour(tables, setting) for setting in SETTINGS}
    assert len(set(of.values())) == 3
    # lines over epochs
    for name in ("accuracy_over_epochs", "loss_over_epochs"):
        drawn = figures.draw(tables, name)
        for ax, setting in zip(drawn.axes, SETTINGS, strict=True):
            assert {to_hex(line.get_color()) for line in ax.lines} == {of[setting]}
    for name in ("dynamics", "profiles", "stability_over_epochs"):
        handles = figures.draw(tables, name).legends[0].legend_handles[:3]
        assert [to_hex(h.get_color()) for h in handles] == list(of.values())
    # the strip beside the clustered runs, in the order of the tree's leaves
    drawn = figures.draw(tables, "similarity")
    strip = {to_hex(c) for c in drawn.axes[1].images[0].get_array().reshape(-1, 3)}
    assert strip == set(of.values())
    # bars, and lines of the ladder
    (ax,) = figures.draw(tables, "genotype_counts").axes
    assert {to_hex(bar.get_facecolor()) for bar in ax.patches} == set(of.values())
    for ax, setting in zip(figures.draw(tables, "ladder").axes, SETTINGS[1:], strict=True):
        assert {to_hex(line.get_color()) for line in ax.lines} == {of[setting]}
    for name in ("accuracy", "stability", "transfer"):
        for ax in figures.draw(tables, name).axes:
            points = [c for c in ax.collections if c.get_label() == "one seed"]
            assert {to_hex(c) for p in points for c in p.get_edgecolor()} <= set(of.values())


def test_many_settings_have_colours_of_their_own_and_some_are_shown() -> None:
    many = make((*tuple((f"s{i}", "transition") for i in range(29)), ("control", "placebo")), 3,
                epochs=2)  # fmt: skip
    looks = Study(many).looks
    assert len({look["color"] for look in looks.values()}) == 30
    for name in ("accuracy", "stability", "dynamics", "seeds_needed", "genotype_counts"):
        drawn = figures.draw(many, name)
        assert "only 24 of 30 settings" in drawn.get_suptitle(), name
    rows = [t.get_text() for t in figures.draw(many, "stability").axes[0].get_yticklabels()]
    assert rows == [*(f"s{i} (n=3)" for i in range(23)), "control (n=3)"]
    lines = legend(figures.draw(many, "stability_over_epochs"))
    assert len([x for x in lines if "(n=3)" in x]) == 24
    shown, _, remark = Study(many).shown(many["settings"], 2, "s7")
    assert (shown, remark) == (["s7", "control"], "only 2 of 30 settings")


def test_the_ladder_has_a_line_for_every_seed_and_their_mean(tables: Tables) -> None:
    figure = figures.draw(tables, "ladder")
    steps = ["d_start", "d_columns", "d_full"]
    for ax, setting in zip(figure.axes, SETTINGS[1:], strict=True):
        rows = tables["transfer"].query("setting == @setting")
        thin = [line for line in ax.lines if line.get_marker() == "o"]
        (mean,) = [line for line in ax.lines if line.get_label() == "mean over seeds"]
        np.testing.assert_array_equal([x.get_ydata() for x in thin], rows[steps].to_numpy())
        np.testing.assert_allclose(mean.get_ydata(), rows[steps].mean())
        assert mean.get_linewidth() > 2 * thin[0].get_linewidth()
        hollow = [to_hex(line.get_markerfacecolor()) == "#ffffff" for line in thin]
        assert hollow == [False, False, False, True]
        assert ax.get_title() == f"{setting}\n(n=4)"
        means = rows[steps].mean()
        assert [t.get_text() for t in ax.get_xticklabels()] == [
            f"{name}\n{means[column]:.3f}"
            for name, column in zip(("start", "columns", "full"), steps, strict=True)
        ]
    assert "smaller is better" in figure.axes[0].get_ylabel()


def test_the_ladder_pools_cell_kinds_and_always_has_the_primary_setting() -> None:
    settings = (*tuple((f"s{i}", "transition") for i in range(9)), ("control", "placebo"))
    tables = make(settings, 3, darts=True, epochs=1)
    tables["verdict"]["primary"] = tables["verdict"]["setting"] == "s8"
    figure = figures.draw(tables, "ladder")
    titles = [ax.get_title().split("\n")[0] for ax in figure.axes]
    assert titles == ["s0", "s1", "s2", "s3", "s8", "control"]
    first = tables["transfer"].query("run_id == 's0/seed 1'")
    assert len(first) == 2
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata()[2], first["d_full"].mean())


def test_curves_have_their_numbers(tables: Tables) -> None:
    figure = figures.draw(tables, "accuracy_over_epochs")
    assert [ax.get_title() for ax in figure.axes] == [f"{s} (n=4)" for s in SETTINGS]
    frame = tables["trajectories"].query("setting == 'placebo' and quantity == 'valid_accuracy'")
    (line,) = [x for x in figure.axes[1].lines if x.get_linestyle() == "-"]
    np.testing.assert_array_equal(line.get_ydata(), frame["estimate"])
    assert len(figure.axes[1].lines) == len(figure.axes[1].collections) == 3
    assert legend(figure) == ["training accuracy", "relaxed accuracy on holdout",
                              "derived accuracy on holdout"]  # fmt: skip
    bands = [c.get_paths()[0].vertices[:, 1] for ax in figure.axes for c in ax.collections]
    assert max(b.max() for b in bands) <= 1  # intervals of accuracies end at what is possible
    shown = tables["trajectories"].query("quantity in ('valid_accuracy', 'train_accuracy')")
    assert shown["high"].max() > 1


def test_chance_is_drawn_where_it_is_known(tables: Tables) -> None:
    figure = figures.draw(tables, "stability_over_epochs")
    for ax in figure.axes:
        dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
        assert len(dotted) == (3 if "Jaccard" in ax.get_title() else 0)
        for line in dotted:
            assert set(line.get_ydata()) == {0.15}
    assert legend(figure)[-1] == "by chance"


def test_operations_have_one_panel_per_edge(tables: Tables) -> None:
    figure = figures.draw(tables, "operations", "transition")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["outer edge 0→1", "outer edge 0→2", "inner edge 1→2", "outer edge 0→3",
                      "inner edge 1→3", "inner edge 2→3"]  # fmt: skip
    frame = tables["operation_probabilities"].query(
        "setting == 'transition' and source == 1 and target == 2 and operation == 'skip_connect'"
    )
    line = figure.axes[2].lines[1]
    np.testing.assert_array_equal(line.get_ydata(), frame["mean"])
    assert to_hex(line.get_color()) == palette.operation_colour("skip_connect")
    assert "n=4" in figure.get_suptitle()


def test_genotype_bars_add_up_to_the_runs(tables: Tables) -> None:
    (ax,) = figures.draw(tables, "genotype_counts").axes
    assert [bar.get_width() for bar in ax.patches] == [2, 1, 1] * 3
    assert [t.get_text().strip() for t in ax.texts if "distinct" in t.get_text()] == [
        "3 distinct of 4"
    ] * 3


def test_similarity_is_ordered_by_average_linkage(tables: Tables) -> None:
    figure = figures.draw(tables, "similarity")
    frame = tables["similarity"]
    ends = (["setting", "seed"], ["other_setting", "other_seed"])
    runs = list(dict.fromkeys(run for end in ends for run in map(tuple, frame[end].to_numpy())))
    want = np.eye(len(runs))
    for a, s, b, t, x in frame.itertuples(index=False):
        want[runs.index((a, s)), runs.index((b, t))] = x
        want[runs.index((b, t)), runs.index((a, s))] = x
    order = leaves_list(linkage(squareform(1 - want), "average"))
    np.testing.assert_allclose(figure.axes[2].images[0].get_array(), want[np.ix_(order, order)])
    labels = [t.get_text() for t in figure.axes[2].get_yticklabels()]
    assert labels == [runs[k][1] for k in order]
    strip = [to_hex(c) for c in figure.axes[1].images[0].get_array()[:, 0]]
    assert strip == [colour(tables, runs[k][0]) for k in order]
    assert figure.get_suptitle() == "n=12 runs of 3 settings"


def test_runs_that_are_all_alike_are_drawn_without_a_warning(tables: Tables) -> None:
    alike = {"similarity": tables["similarity"].assign(similarity=1.0)}
    with warnings.catch_warnings(action="error"):
        figures.draw({**tables, **alike}, "similarity")


def test_frequencies_and_profiles_have_their_numbers(tables: Tables) -> None:
    figure = figures.draw(tables, "frequencies")
    frame = tables["operation_choices"].query("setting == 'transition'")
    drawn = figure.axes[2].images[0].get_array()
    np.testing.assert_allclose(drawn, frame["share"].to_numpy().reshape(6, 5))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()][2] == "1→2 inner"
    frame = tables["profiles"].query("setting == 'placebo'")
    line = figures.draw(tables, "profiles").axes[0].lines[1]
    np.testing.assert_array_equal(line.get_ydata(), frame["share"])


def test_the_most_frequent_cell_is_drawn(tables: Tables) -> None:
    figure = figures.draw(tables, "cell", "transition")
    frame = tables["genotypes"].query("setting == 'transition' and part == 'normal'")
    cell = genotypes.parse(frame["code"].iloc[0])["normal"]
    drawn = [t.get_text() for t in figure.axes[0].texts]
    assert drawn[:6] and sorted(drawn) == sorted(  # noqa: PT018
        [*"0123", *(palette.operation_name(e.operation) for e in cell.edges)]
    )
    assert "2 of 4 runs (seed 0)" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        (NB201, ["0", "1", "2", "3"]),
        (DARTS_V2, ["$c_{k-2}$", "$c_{k-1}$", "0", "1", "2", "3", "$c_k$"]),
    ],
)
def test_a_cell_has_all_nodes_and_labelled_edges(text: str, nodes: list[str]) -> None:
    cell = genotypes.parse(text)["normal"]
    (ax,) = cells.cell_figure(cell, "title with $ sign").axes
    drawn = [t.get_text() for t in ax.texts]
    operations = [palette.operation_name(e.operation) for e in cell.edges]
    assert sorted(drawn) == sorted([*nodes, *operations])
    arrows = [p for p in ax.patches if isinstance(p, FancyArrowPatch) and p.get_zorder() == 2]
    dashed = [p for p in arrows if p.get_linestyle() not in ("solid", "-")]
    assert len(arrows) == len(cell.edges)
    assert len(dashed) == sum(e.source < cell.inputs for e in cell.edges)
    assert sorted(to_hex(p.get_edgecolor()) for p in arrows) == sorted(
        palette.operation_colour(e.operation) for e in cell.edges
    )


def test_labels_of_cells_overlap_neither_each_other_nor_nodes() -> None:
    rng = np.random.default_rng(0)
    names = ["sep_conv_3x3", "skip_connect", "max_pool_3x3"]
    drawn = [genotypes.parse(DARTS_V2)["reduce"], genotypes.parse(NB201)["normal"]]
    for _ in range(4):
        pairs = [
            (str(rng.choice(names)), int(s))
            for target in range(2, 6)
            for s in rng.choice(target, 2, replace=False)
        ]
        text = f"Genotype(normal={pairs}, normal_concat=range(2, 6))"
        drawn.append(genotypes.parse(text)["normal"])
    assert [clashes(cells.cell_figure(cell, "title")) for cell in drawn] == [[]] * len(drawn)


ODD = "$x_1$ <b> & $ " + "key=value " * 12
TEXTS = ("ladder", "matrices", "stability", "controls", "accuracy_over_epochs", "frequencies",
         "transitions", "cell", "genotype_counts")  # fmt: skip
STUDIES = {
    "small": lambda: make(benchmark=True),
    "darts": lambda: make(darts=True, seeds=6, epochs=2),
    "odd names": lambda: make(tuple((f"{ODD}{m}", m) for m in ("placebo", "transition")), epochs=2),
    "one seed": lambda: make((("only one", "transition"),), seeds=1),
}


def test_long_names_in_slides_leave_room_for_all_texts() -> None:
    tables = make(((ODD, "placebo"), (f"{ODD} too", "transition")), epochs=2)
    found = {name: clashes(figures.draw(tables, name, style="slides")) for name in TEXTS}
    assert {name: of for name, of in found.items() if of} == {}


@pytest.mark.slow
@pytest.mark.parametrize("style", figures.STYLES)
@pytest.mark.parametrize("study", STUDIES)
def test_no_text_is_cut_or_meets_another(study: str, style: str) -> None:
    tables = STUDIES[study]()
    last = tables["settings"]["setting"].iloc[-1]
    found = {
        (name, cell): clashes(figures.draw(tables, name, setting, cell, style))
        for name, setting, cell in figures.names(tables)
        if setting in (None, last) and cell != "reduce"
    }
    assert len(found) > 15
    assert {key: of for key, of in found.items() if of} == {}


def test_a_clash_and_a_cut_text_are_found() -> None:
    figure = Figure(figsize=(3, 2))
    figure.text(0.1, 0.5, "one text")
    figure.text(0.2, 0.5, "another")
    figure.text(0.9, 0.1, "beyond the border")
    assert clashes(figure) == [("one text", "another"), ("beyond the border",)]


def test_figures_of_others_stay_as_they_are(tables: Tables) -> None:
    mine = plt.figure()
    try:
        figures.draw(tables, "similarity")
        assert plt.get_fignums() == [mine.number]
    finally:
        plt.close(mine)


def test_long_names_are_cut_so_that_their_ends_show() -> None:
    name = "transition " + " ".join(f"key{i}=value" for i in range(20))
    text = palette.wrapped(f"{name} last=$5", 34, 2)
    assert [len(line) <= 34 for line in text.replace(r"\$", "$").split("\n")] == [True, True]
    assert text.startswith("transition key0=value")
    assert text.endswith(r"last=\$5")
    assert palette.wrapped("short") == "short"


def test_operations_have_colours_of_their_own_within_a_space() -> None:
    darts = ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3"]
    darts += ["sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "noise"]
    nb201 = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    for space in (darts, nb201):
        assert len({palette.operation_colour(o) for o in space}) == len(space)
    assert palette.operation_colour("new_op") == palette.operation_colour("new_op")


def test_a_figure_becomes_a_picture(tables: Tables) -> None:
    assert len(png(figures.draw(tables, "stability"), 50)) > 1000
