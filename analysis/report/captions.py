"""What stands beneath every figure: its alternative text and a caption that says what to see."""

from __future__ import annotations

from analysis.compute.study import Computed
from analysis.compute.summary import ARCHITECTURE_MOVED, TRANSITION_MOVED, SettingSummary
from analysis.report.narrative import interval, listed

_TABLE = {
    "stability": "stability",
    "headline": "comparisons",
    "controls": "comparisons",
    "similarity": "similarity",
    "stability_over_epochs": "trajectories",
    "seeds_needed": "seeds_needed",
    "profiles": "profiles",
    "accuracy_stability": "stability",
}
_STABILITY = {
    "stability": (
        "Agreement and stability of every setting with 95% intervals and chance values.",
        "Stability over seeds ({n}): estimates with 95% intervals, beside what chance gives. Look "
        "for intervals that leave the chance value out. Divergences are better when smaller, all "
        "others when larger. High dependence stability of a frozen or an identity start is built "
        "in; what was learned is in the panel of that name, and only its difference to the "
        "placebo, below, speaks for the dependence.",
    ),
    "headline": (
        "Differences of learned dependence stability to the controls with 95% intervals.",
        "The headline: learned dependence stability of each setting minus that of its controls "
        "({n}), paired by seed, with the jackknife's 95% interval. Right of the line: what is "
        "learned comes out again more than where nothing can flow. An interval across the line "
        "decides nothing; its width says what these seeds could have seen.",
    ),
    "controls": (
        "Differences of dependence stability to the controls with 95% intervals.",
        "Dependence stability minus that of the controls ({n}), paired by seed. Frozen matrices "
        "are the same in every seed where they start from the identity, so a difference below 0 "
        "to them says that learning moves seeds apart.",
    ),
    "similarity": (
        "Similarity of the edge probabilities of every two runs, clustered.",
        "Similarity of every two runs: 1 minus the mean divergence (bits) of their edge "
        "probabilities, ordered by average linkage. Look for blocks: if they follow the colours "
        "of the settings, settings differ more than seeds; if not, the seed decides.",
    ),
    "stability_over_epochs": (
        "Agreement and stability over epochs, one line per setting and cell kind.",
        "When dependence forms and when it becomes reproducible ({n}; bands are 95% intervals "
        "where few lines are shown). Epoch −1 is the start. A stability that is high from the "
        "start is the start's; one that rises is learned or brought by the optimiser.",
    ),
    "seeds_needed": (
        "Width of the 95% intervals against the number of seeds.",
        "Interval width against the number of seeds: measured by subsampling up to the seeds "
        "that are there (quartiles as a band), projected beyond (dashed). Read off how many "
        "seeds a difference as small as you care about would take.",
    ),
    "profiles": (
        "Share of runs above each accuracy, one line per setting.",
        "Performance profiles ({n}): the share of runs above each accuracy, with 95% bands where "
        "few are shown. A line above another everywhere: better at every quantile. Crossing "
        "lines: one setting is better at its best, the other at its worst. Steps far left are "
        "collapsed runs.",
    ),
    "accuracy_stability": (
        "Accuracy against stability, one point per setting.",
        "Accuracy against dependence stability ({n}), both with 95% intervals. Look for whether "
        "the settings that come out again are also the accurate ones; a handful of settings is "
        "no correlation.",
    ),
}


def _n(computed: Computed) -> str:
    counts = sorted({s.n for s in computed.summaries})
    return f"n={counts[0]}" if len(counts) == 1 else f"n={counts[0]} to {counts[-1]}"


def _means(computed: Computed, quantity: str) -> str:
    """`setting 0.612 [0.590, 0.634]; ...`, for readers who do not see the figure."""
    items = [f"{s.setting}: {interval(s.estimates[quantity])}" for s in computed.summaries]
    return "; ".join(items[:12]) + ("; and more in the table" if len(items) > 12 else "")


def study(name: str, computed: Computed) -> tuple[str, str]:
    """Alternative text and caption of one of the study's own figures."""
    n = f"{_n(computed)} runs per setting"
    if name == "accuracy":
        return (
            f"Derived accuracy per setting. {_means(computed, 'derived_accuracy')}",
            f"Accuracy at the last epoch ({n}). Each dot is one seed, in the same order in every "
            "row; the diamond is the mean with its 95% t interval. Look first at how far seeds of "
            "one setting lie apart: settings whose intervals overlap widely are not separated by "
            "these seeds. Relaxed is the supernet with all operations mixed; derived is the "
            "genotype's single path with the supernet's shared weights, so a large gap between "
            "the two means that the mixture was far from a decision. Dots in two clusters hint "
            "at collapse.",
        )
    if name == "displacement":
        return (
            f"Displacement per setting. {_means(computed, 'architecture_displacement')}",
            f"How far the architecture and the transition matrices moved from their start ({n}): "
            "mean total variation distance over edges, and over rows of T. Settings left of the "
            f"dashed line ({ARCHITECTURE_MOVED:g} for edges, {TRANSITION_MOVED:g} for matrices) "
            "hardly moved; whatever else is seen of them is noise or their start.",
        )
    if name == "genotype_counts":
        return (
            "Distinct genotypes per setting: "
            + "; ".join(f"{s.setting}: {len(s.genotypes)} of {s.n}" for s in computed.summaries),
            f"Derived genotypes ({n}). Each bar is one setting, each piece one distinct genotype "
            "with the number of runs that derived it. Many light pieces: every seed went its own "
            "way. One dark piece: all seeds agree, which is a finding only if the setting moved.",
        )
    if name == "accuracy_over_epochs":
        return (
            "Training, relaxed and derived accuracy over epochs, one panel per setting.",
            f"Accuracy over epochs: mean and 95% t interval over seeds ({n}). Look for whether "
            "the derived accuracy has caught up with the relaxed one, and whether curves have "
            "flattened; a curve still rising at the right was stopped, not finished.",
        )
    if name == "loss_over_epochs":
        return (
            "Training and relaxed holdout loss over epochs, one panel per setting.",
            f"Cross-entropy over epochs: mean and 95% t interval over seeds ({n}). Look for "
            "holdout loss that rises while training loss falls.",
        )
    if name == "dynamics":
        return (
            "Entropy, displacements and dependence strength over epochs, one line per setting.",
            f"How the architecture forms: means over seeds ({n}), with 95% t intervals where at "
            "most six settings are shown. Look for when entropy starts to fall and whether it has "
            "settled: high final entropy means that no operation was clearly chosen. Dependence "
            "strength is 0 by definition for independent and placebo settings.",
        )
    if name in _STABILITY:
        alt, caption = _STABILITY[name]
        return f"{alt} Numbers: tables/{_TABLE[name]}.csv", caption.format(n=n)
    if name.startswith("frequencies_"):
        cell = name.removeprefix("frequencies_")
        return (
            f"How often each operation is chosen on each edge of the {cell} cell, by setting.",
            f"Chosen operations, {cell} cell ({n}; at most six settings). One dark square per row: "
            "all seeds choose the same operation on that edge. A column that is dark throughout: "
            "one operation everywhere, which is collapse rather than agreement on edges.",
        )
    if name == "tuning_history":
        return (
            "Objective of every tuning trial and the best so far.",
            "Optimisation history. Each dot is one trial's mean derived accuracy over its fixed "
            "seeds, the line is the best so far. Look at how much dots differ at similar rates: "
            "steps of the line smaller than that are noise.",
        )
    if name == "tuning_rates":
        return (
            "Objective of every tuning trial against each learning rate.",
            "Objective against each tuned rate (logarithmic axis). Look for a range that is good "
            "throughout rather than for the single best dot; a best dot at the border asks for a "
            "wider range.",
        )
    raise KeyError(name)


def operations(summary: SettingSummary, cell: str) -> tuple[str, str]:
    """Texts of the operation probabilities of one setting and cell kind."""
    return (
        f"Operation probabilities of every edge of the {cell} cell over epochs, "
        f"setting {summary.setting}.",
        f"Operation probabilities, {cell} cell (mean ± one standard deviation over seeds, "
        f"n={summary.n}). Narrow bands that separate: seeds agree on the operation. Wide or "
        "overlapping bands: the choice depends on the seed. Outer edges have logits of their "
        "own, inner edges take theirs from their predecessors. Dashed operations have no "
        "parameters.",
    )


def transitions(summary: SettingSummary, cell: str) -> tuple[str, str]:
    """Texts of the transition matrices of one setting and cell kind."""
    frozen = " The matrices of this setting are frozen." if summary.trainable is False else ""
    return (
        f"Mean transition matrices of the {cell} cell at the last epoch, setting "
        f"{summary.setting}.",
        f"Transition matrices at the last epoch, {cell} cell (mean and, beneath, standard "
        f"deviation over seeds, n={summary.n}). A row says what the inner edge prefers if its "
        "predecessor chose that operation. Equal rows: the predecessor does not matter. A "
        "strong diagonal may be no more than an identity start. Marked links are reproducible "
        "beyond chance (Holm-corrected over links): the rows as they are, or what was learned. "
        f"w is the predecessor's attention weight.{frozen}",
    )


def cell(summary: SettingSummary, kind: str) -> tuple[str, str, str]:
    """Title, alternative text and caption of the drawing of the most frequent cell."""
    counts = summary.cells[kind]
    top = counts[0]
    of = f"{len(top.run_ids)} of {summary.n} runs"
    labels = listed([summary.run_labels[r] for r in top.run_ids[:6]])
    if len(top.run_ids) == 1 and summary.n > 1:
        what = f"All {summary.n} {kind} cells differ; this one of them is from {labels}."
    elif len(top.run_ids) == 1:
        what = f"The {kind} cell of the one run ({labels})."
    else:
        more = "" if len(top.run_ids) <= 6 else f" and {len(top.run_ids) - 6} more"
        equals = sum(len(c.run_ids) == len(top.run_ids) for c in counts)
        tie = f" (one of {equals} equally frequent ones)" if equals > 1 else ""
        what = f"The most frequent {kind} cell{tie}: {of} ({labels}{more})."
    if top.cells[kind].inputs == 1 and any(e.operation == "none" for e in top.cells[kind].edges):
        what += " An edge labelled none carries nothing."
    title = f"{summary.setting} · {kind} cell · {of}"
    return title, f"Drawing of a {kind} cell of {summary.setting}: {top.text}", what
