"""Tables on the page: frames, chosen and formatted, as HTML by pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from analysis.compute.settings import CHARACTERISTICS
from analysis.quantities import DEFINITIONS, HEADLINE, label_of
from analysis.report import text
from analysis.statistics.inference import holm

MOST_ROWS = 60
"""Rows of a table on the page; the files beside it have all of them."""

SIGNIFICANT = 0.05
Frames = Mapping[str, pd.DataFrame]

SHOWN = (
    HEADLINE, "column_transfer", "operation_agreement", "edge_agreement", "probability_divergence",
    "dependence_stability", "learned_dependence_stability", "link_specificity",
    "attention_agreement", "dobrushin_coefficient",
)  # fmt: skip
"""Quantities of a setting that the page has columns of."""


def table(frame: pd.DataFrame, file: str = "", most: int = MOST_ROWS) -> Markup:
    """A frame as an HTML table, its first column as headings; numbers to four digits.

    Columns that are quantities are explained on hover. file: the table that has all rows.
    """
    if frame.empty:
        return Markup("")
    texts = frame.head(most).map(text.plain)
    # pandas escapes every text; headings are escaped here, since those explained are markup.
    body = texts.to_html(index=False, header=False, border=0, escape=True, na_rep=text.DASH)
    head = "".join(f'<th scope="col">{_heading(str(c))}</th>' for c in texts.columns)
    body = body.replace("<tbody>", f"<thead><tr>{head}</tr></thead><tbody>", 1)
    more = len(frame) - most
    note = f"<p class='note'>{more} more rows in tables/{escape(file)}.csv.</p>" if more > 0 else ""
    return Markup(
        '<div class="scroll" tabindex="0" role="group" aria-label="table">' + body + "</div>" + note
    )


def _heading(column: str) -> str:
    known = DEFINITIONS.get(column)
    if known is None:
        return str(escape(column.replace("_", " ")))
    return f'<abbr title="{escape(known.meaning)}">{escape(label_of(column))}</abbr>'


def settings(tables: Frames) -> tuple[Markup, str]:
    """What distinguishes the settings as columns; what they share is said once."""
    frame = tables["settings"]
    texts = frame[["model", "trainable", *CHARACTERISTICS]].map(text.plain)
    kinds = {str(c): sorted(set(texts[c]) - {text.DASH}) for c in texts}
    shared = {c.replace("_", " "): k[0] for c, k in kinds.items() if len(k) == 1}
    varied = [c for c in map(str, texts) if len(kinds[c]) > 1]
    if len(frame) == 1:
        varied, shared = list(texts.columns), {}
    shown = pd.concat([frame["setting"], texts[varied], frame[["runs", "diverged"]]], axis=1)
    return table(shown, "settings"), text.plain(shared) if shared else ""


def movement(tables: Frames) -> Markup:
    """How far every setting moved, with what is remarked upon it."""
    names = ("architecture_displacement", "transition_displacement", "dependence_strength")
    return table(_means(tables, names, {"remarks": tables["settings"]["remarks"]}), "settings")


def accuracy(tables: Frames) -> Markup:
    """Accuracies, genotypes and collapse of every setting."""
    frame = tables["settings"]
    names = ["valid_accuracy", "derived_accuracy"]
    names += ["benchmark_test"] * bool((frame["benchmark_test_n"] > 0).any())
    collapsed = [text.collapsed(row) for row in frame.to_dict("records")]
    more = {"distinct_genotypes": frame["distinct_genotypes"], "collapse_rate": collapsed}
    shown = _means(tables, names, more)
    return table(
        shown.join(_means(tables, ("skip_connections", "inner_edges_kept"), {}, 1).iloc[:, 2:])
    )


def _means(
    tables: Frames, names: Sequence[str], more: Mapping[str, Any], digits: int = 3
) -> pd.DataFrame:
    frame = tables["settings"]
    found = frame[["setting", "n"]].copy()
    for name in names:
        rows = frame.to_dict("records")
        places = 2 if name == "benchmark_test" else digits
        found[name] = [text.of_row(r, name, places, short=True) for r in rows]
    return found.assign(**more)


def stability(tables: Frames) -> tuple[Markup, bool]:
    """A row per setting and cell kind, a column per quantity; whether any entry is marked.

    A dagger marks p < 0.05 against chance beside an interval that holds the chance value: these
    very seeds agree, but other seeds may not.
    """
    frame = tables["stability"]
    frame = frame[frame["quantity"].isin(SHOWN)] if len(frame) else frame
    if frame.empty:
        return Markup(""), False
    against = frame["null_mean"].fillna(np.nan)
    holds = (frame["low"] <= against) & (against <= frame["high"])
    marked = (frame["p_value"] < SIGNIFICANT) & holds
    frame = frame.assign(shown=[
        text.of_row(row, digits=2, short=True) + " †" * bool(mark)
        for row, mark in zip(frame.to_dict("records"), marked, strict=True)
    ])  # fmt: skip
    keys = ["setting", "cell"]
    n = frame.groupby(keys, sort=False)["seeds"].max().rename("n")
    wide = frame.pivot_table("shown", keys, "quantity", aggfunc="first", sort=False)
    wide = wide[[q for q in SHOWN if q in wide and (wide[q] != text.DASH).any()]]
    return table(n.to_frame().join(wide).reset_index(), "stability"), bool(marked.any())


def controls(tables: Frames) -> Markup:
    """Differences to the controls in the quantities that the page tells; Holm over these rows."""
    frame, settings = tables["comparisons"], tables["settings"]
    benchmark = bool((settings["benchmark_test_n"] > 0).any())
    wanted = ["column_transfer", HEADLINE, "operation_agreement", "edge_agreement"]
    wanted.append("benchmark_test" if benchmark else "derived_accuracy")
    chosen = frame[frame["quantity"].isin(wanted) & (frame["seeds"] > 0)]
    if chosen.empty:
        return Markup("")
    chosen = chosen.assign(order=chosen["quantity"].map(wanted.index)).sort_values(
        "order", kind="stable"
    )
    shown = pd.DataFrame({
        "difference": chosen["setting"] + " − " + chosen["reference"],
        "quantity": [label_of(q) for q in chosen["quantity"]], "cell": chosen["cell"],
        "estimate": _estimates(chosen, "difference"),
        "p": chosen["p_value"].map(_p),
        "p (Holm over this table)": list(map(_p, holm(chosen["p_value"]))),
        "P(improvement)": chosen["probability_of_improvement"].map(text.number),
        "n": chosen["seeds"],
    })  # fmt: skip
    return table(shown, "comparisons")


def _estimates(frame: pd.DataFrame, name: str, digits: int = 3) -> list[str]:
    numbers = zip(frame[name], frame["low"], frame["high"], strict=True)
    return [text.estimate(*x, digits, short=True) for x in numbers]


def _p(p: float) -> str:
    return text.p_value(p).removeprefix("p = ") if p == p else text.DASH


def seeds(needed: pd.DataFrame) -> Markup:
    """Rough ranges of seeds for the quantities that are told."""
    told = needed[needed["told"]] if len(needed) else needed
    rows = [
        {
            "setting": row["setting"], "cell": row["cell"], "quantity": label_of(row["quantity"]),
            "for": f"{row['goal']} {row['target']:.3g}",
            "seeds, roughly": text.seed_range(row["seeds_low"], row["seeds_high"]),
            "seeds here": row["seeds_here"],
        }
        for row in told.to_dict("records")
    ]  # fmt: skip
    return table(pd.DataFrame(rows), "seeds_needed")


def variance(frame: pd.DataFrame) -> Markup:
    """Shares of variance: a row per quantity and cell kind, a column per source."""
    if "share" not in frame or frame["share"].isna().all():
        return Markup("")
    shown = frame.assign(text=[
        f"{share:.0%}" + (f" [{low:.0%},\u00a0{high:.0%}]" if np.isfinite(low) else "")
        if np.isfinite(share) else text.DASH
        for share, low, high in zip(frame["share"], frame["low"], frame["high"], strict=True)
    ])  # fmt: skip
    shown["quantity"] = [label_of(q, unit=False) for q in shown["quantity"]]
    wide = shown.pivot_table(
        "text", ["quantity", "cell", "runs"], "source", aggfunc="first", sort=False
    )
    return table(wide.reset_index(), "variance")


def reliability(frame: pd.DataFrame) -> Markup:
    """How reliable the mean matrices are; quartiles over splits are told in words."""
    if frame.empty:
        return Markup("")
    parts = {"matrix": "the matrices", "learned": "what was learned", "link": "a link's own part"}
    spread = [
        f"{text.number(low)} to {text.number(high)}"
        for low, high in zip(frame["low"], frame["high"], strict=True)
    ]
    shown = frame.assign(of=frame["part"].map(parts), quartiles=spread)
    for name in ("correlation", "reliability"):
        shown[name] = frame[name].map(text.number)
    columns = ["setting", "cell", "of", "correlation", "reliability", "quartiles", "seeds"]
    return table(shown[columns], "reliability")


def genotypes(frame: pd.DataFrame) -> Markup:
    """The three most frequent genotypes of every setting."""
    whole = frame[frame["part"] == "whole"].groupby("setting", sort=False).head(3)
    count = whole["count"].astype(str) + " of " + whole["n"].astype(str)
    shown = whole.assign(count=count)[["setting", "count", "genotype", "runs"]]
    return table(shown, "genotypes")


def trials(frame: pd.DataFrame) -> Markup:
    """The ten best trials of a tuning study."""
    best = frame.dropna(subset="objective").sort_values("objective", ascending=False).head(10)
    return table(best.drop(columns=["best_so_far", "diverged"]), "tuning")


def excerpt(frame: pd.DataFrame, file: str) -> Markup:
    """The first rows of the table that a figure is drawn from."""
    return table(frame, file, 8)
