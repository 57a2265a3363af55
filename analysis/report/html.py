"""Tables on the page: frames, chosen and formatted, as HTML by pandas."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd
from markupsafe import Markup, escape

from analysis.compute.settings import CHARACTERISTICS
from analysis.quantities import DEFINITIONS, HEADLINE, label_of, used
from analysis.report import text
from analysis.report.sentences import Frames, compared
from analysis.statistics.inference import SIGNIFICANT, holm
from analysis.statistics.transfer import SHARES

KEYS = ["setting", "cell"]

SHOWN = sorted(used("page"), key=lambda quantity: not quantity.endswith("_transfer"))
"""Quantities of a setting that the page has columns of, the headline first."""


def table(frame: pd.DataFrame, file: str = "", most: int = 60) -> Markup:
    """A frame as an HTML table, its first column as headings; numbers to four digits.

    Columns that are quantities are explained on hover. file: the table that has all rows, of
    which `most` are shown.
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
    opening = '<div class="scroll" tabindex="0" role="group" aria-label="table">'
    return Markup(f"{opening}{body}</div>{note}")


def _heading(column: str) -> str:
    known, words = column in DEFINITIONS, escape(label_of(column))
    return f'<abbr title="{escape(DEFINITIONS[column].meaning)}">{words}</abbr>' if known else words


def explained(sentence: str) -> Markup:
    """A sentence whose shares of transfer have their formulas on hover, where they first stand."""
    found = str(escape(sentence))
    for name in SHARES:
        pattern = re.compile(label_of(name), re.IGNORECASE)
        mark = f'<abbr title="{escape(DEFINITIONS[name].meaning)}">\\g<0></abbr>'
        found = pattern.sub(mark, found, count=1)
    return Markup(found)


def settings(tables: Frames) -> tuple[Markup, str]:
    """What distinguishes the settings as columns; what they share is said once."""
    frame = tables["settings"]
    texts = frame[["model", "trainable", *CHARACTERISTICS]].map(text.plain)
    kinds = {str(c): sorted(set(texts[c]) - {text.DASH}) for c in texts}
    varied = [c for c, k in kinds.items() if len(k) > 1 or len(frame) == 1]
    shared = {c.replace("_", " "): k[0] for c, k in kinds.items() if k and c not in varied}
    shown = pd.concat([frame["setting"], texts[varied], frame[["runs", "diverged"]]], axis=1)
    return table(shown, "settings"), text.plain(shared) if shared else ""


def movement(tables: Frames) -> Markup:
    """How far every setting moved, with what is remarked upon it."""
    names = ("architecture_displacement", "transition_displacement", "dependence_strength")
    shown = _means(tables["settings"], dict.fromkeys(names, 3))
    return table(shown.assign(remarks=tables["settings"]["remarks"]), "settings")


def accuracy(tables: Frames) -> Markup:
    """Accuracies, genotypes and collapse of every setting."""
    frame = tables["settings"]
    digits = {"valid_accuracy": 3, "derived_accuracy": 3}
    digits |= {"benchmark_test": 2} if "benchmark_test" in compared(frame) else {}
    shown = _means(frame, digits).assign(
        distinct_genotypes=frame["distinct_genotypes"],
        collapse_rate=list(map(text.collapsed, frame.to_dict("records"))),
    )
    more = _means(frame, {"skip_connections": 1, "inner_edges_kept": 1})
    return table(shown.join(more.iloc[:, 2:]))


def _means(frame: pd.DataFrame, digits: Mapping[str, int]) -> pd.DataFrame:
    """Means with intervals of every setting; digits: quantity to those behind the point."""
    rows = frame.to_dict("records")
    found = {q: [text.of_row(row, q, k, short=True) for row in rows] for q, k in digits.items()}
    return frame[["setting", "n"]].assign(**found)


def stability(tables: Frames) -> tuple[Markup, bool]:
    """A row per setting and cell kind, a column per quantity; whether any entry is marked.

    A dagger marks p < 0.05 against chance beside an interval that holds the chance value: these
    very seeds agree, but other seeds may not.
    """
    frame = tables["stability"]
    frame = frame[frame["quantity"].isin(SHOWN)] if len(frame) else frame
    if frame.empty:
        return Markup(""), False
    holds = frame["null_mean"].between(frame["low"], frame["high"])
    marked = (frame["p_value"] < SIGNIFICANT) & holds
    texts = [text.of_row(row, digits=2, short=True) for row in frame.to_dict("records")]
    frame = frame.assign(shown=texts + marked.map({True: " †", False: ""}))
    wide = frame.pivot_table("shown", KEYS, "quantity", aggfunc="first", sort=False)
    wide = wide[[q for q in SHOWN if q in wide and (wide[q] != text.DASH).any()]]
    wide.insert(0, "n", frame.groupby(KEYS, sort=False)["seeds"].max())
    return table(wide.reset_index(), "stability"), bool(marked.any())


def transfer(tables: Frames) -> Markup:
    """Means over seeds behind the headline: bits, what p_q does, choices, tabular accuracies."""
    frame = tables["transfer"]
    if frame.empty:
        return Markup("")
    numbers = frame.drop(columns=["run_id", "seed_weights", "seed", "form", "factor"])
    of = numbers.groupby(KEYS, sort=False)
    shown = of.mean().dropna(axis=1, how="all").map(lambda x: text.number(x, 3))
    shown.insert(0, "n", of.size())
    return table(shown.reset_index(), "transfer")


def controls(tables: Frames) -> Markup:
    """Differences to the controls in the quantities that the page tells; Holm over these rows."""
    frame = tables["comparisons"]
    accuracy, *agreements = compared(tables["settings"])
    wanted = ["column_transfer", HEADLINE, *agreements, accuracy]
    chosen = frame[frame["quantity"].isin(wanted) & (frame["seeds"] > 0)]
    if chosen.empty:
        return Markup("")
    order = chosen["quantity"].map(wanted.index).argsort(kind="stable")
    chosen = chosen.iloc[order].rename(columns={"difference": "estimate"})
    shown = pd.DataFrame({
        "difference": chosen["setting"] + " − " + chosen["reference"],
        "quantity": chosen["quantity"].map(label_of), "cell": chosen["cell"],
        "estimate": [text.of_row(row, short=True) for row in chosen.to_dict("records")],
        "p": chosen["p_value"].map(_p),
        "p (Holm over this table)": list(map(_p, holm(chosen["p_value"]))),
        "P(improvement)": chosen["probability_of_improvement"].map(text.number),
        "n": chosen["seeds"],
    })  # fmt: skip
    return table(shown, "comparisons")


def _p(p: float) -> str:
    return text.p_value(p).removeprefix("p = ") if p == p else text.DASH


def seeds(needed: pd.DataFrame) -> Markup:
    """Rough ranges of seeds for the quantities that are told."""
    rows = [
        {
            "setting": row["setting"], "cell": row["cell"], "quantity": label_of(row["quantity"]),
            "for": f"{row['goal']} {row['target']:.3g}",
            "seeds, roughly": text.seed_range(row["seeds_low"], row["seeds_high"]),
            "seeds here": row["seeds_here"],
        }
        for row in needed.to_dict("records") if row["told"]
    ]  # fmt: skip
    return table(pd.DataFrame(rows), "seeds_needed")


def variance(frame: pd.DataFrame) -> Markup:
    """Shares of variance: a row per quantity and cell kind, a column per source."""
    if "share" not in frame or frame["share"].isna().all():
        return Markup("")
    shown = frame.assign(
        text=[text.share(*row) for row in frame[["share", "low", "high"]].to_numpy(float)],
        quantity=[label_of(q, unit=False) for q in frame["quantity"]],
    )
    keys = ["quantity", "cell", "runs"]
    wide = shown.pivot_table("text", keys, "source", aggfunc="first", sort=False)
    return table(wide.reset_index(), "variance")


def genotypes(frame: pd.DataFrame) -> Markup:
    """The three most frequent genotypes of every setting."""
    whole = frame[frame["part"] == "whole"].groupby("setting", sort=False).head(3)
    count = whole["count"].astype(str) + " of " + whole["n"].astype(str)
    return table(whole.assign(count=count)[["setting", "count", "genotype", "runs"]], "genotypes")


def trials(frame: pd.DataFrame) -> Markup:
    """The ten best trials of a tuning study, by shrunken mean."""
    best = frame[frame["feasible"].astype(bool)].sort_values("shrunken", ascending=False).head(10)
    about = [
        "best_so_far",
        "state",
        "feasible",
        "diverged",
        "mean",
        "against",
        "incumbent",
        "incumbent_merit",
    ]
    return table(best.drop(columns=about), "tuning")
