"""The Markdown report: a person who opens nothing else understands the result."""

from collections.abc import Mapping

import pandas as pd

from stages.params import Params
from stages.reporting import wording
from stages.reporting.summary import CONFIDENCE, DENSE

Chosen = Mapping[str, tuple[int, str]]
"""By experiment: the round whose network it hands on, and the folder of that network."""

ROUNDING, OF_THE_REST = 0.5, 0.05
"""Points of sparsity, and the share of what is to stay, by which pieces larger than a weight may
miss what was asked for."""


def markdown(
    params: Params, summary: pd.DataFrame, chosen: Chosen, sanity: str = "", papers: str = ""
) -> str:
    """Return the report of a study; `sanity` says whether methods beat their own controls.

    `papers` is the section that sets the study beside published results, if it has one.
    """
    parts = [
        f"# {params.study}: pruning compared",
        _setting(params, summary),
        wording.training(params),
        wording.experiments(params),
        "## What came out",
        _findings(params, summary),
        table(summary, params.control),
        _legend(params, summary),
        "## Accuracy against sparsity",
        "![test accuracy against sparsity](accuracy.png)",
        "Solid: iterative, each round starts from the round before. Dashed: one-shot, each round "
        "starts from the dense network, or a control of another. Bars: one standard deviation over "
        "the folds.",
        *_iterative_part(params),
        "## What is left of each layer",
        "![density of each layer at the last round](layers.png)",
        *(["## Sanity checks", sanity] if sanity else []),
        *([papers] if papers else []),
        "## The networks handed on",
        _handed_on(summary, chosen),
    ]
    return "\n\n".join(parts) + "\n"


def table(summary: pd.DataFrame, control: str | None) -> str:
    """Return the table of results as Markdown."""
    shown = pd.DataFrame(
        {
            "experiment": summary["experiment"],
            "round": summary["round"],
            "sparsity %": (100 * summary["sparsity"]).map("{:.2f}".format),
            "test accuracy %": [_mean_sd(row) for _, row in summary.iterrows()],
            "before recovery %": [_points(value) for value in summary["before_recovery"]],
            "minus dense": [_interval(row, "to_dense", DENSE) for _, row in summary.iterrows()],
        }
    )
    if control:
        against = [_interval(row, "to_control", control) for _, row in summary.iterrows()]
        shown[f"minus {control}"] = against
    return shown.to_markdown(index=False, disable_numparse=True)


def _setting(params: Params, summary: pd.DataFrame) -> str:
    networks = int(summary["folds"].max())
    folds, repeats = params.cross_validation.folds, params.cross_validation.repeats
    dealt = f"{folds} folds" if folds > 1 else "one split"
    dealt += f", dealt {repeats} times" if repeats > 1 else ""
    return (
        f"`{params.model.factory}` on {params.data.name}; for each experiment and round "
        f"{networks} {'network' if networks == 1 else 'networks'}, one a fold ({dealt}). "
        f"Each network is trained on its fold's training part; whatever was chosen was chosen on "
        f"its validation part; the test set, which no fold sees, was read once for each network."
    )


def _findings(params: Params, summary: pd.DataFrame) -> str:
    lines = []
    for n in sorted(set(summary["round"]) - {0}):
        rows = summary[summary["round"] == n].sort_values("test_accuracy", ascending=False)
        best = rows.iloc[0]
        line = (
            f"- {_aim(params, n, best)} **{best['experiment']}** is ahead "
            f"with {_mean_sd(best)} %, {_words(best['to_dense'], best, 'to_dense', DENSE)}"
        )
        if params.control and best["experiment"] != params.control:
            line += f", {_words(best['to_control'], best, 'to_control', params.control)}"
        lines.append(line + ".")
    return "\n".join(lines)


def _aim(params: Params, n: int, row: pd.Series) -> str:
    """Return what a round was to reach, in words: its budget, or its sparsity.

    Where it reached another sparsity, as methods without a target do, that one and both.
    """
    target = params.round(n).target
    if target is not None:
        return f"With {target} left at most"
    asked, reached = 100 * row["target_sparsity"], 100 * row["sparsity"]
    if abs(reached - asked) > min(ROUNDING, OF_THE_REST * (100 - asked)):
        return f"At {reached:.2f} % sparsity (asked for: {asked:g} %)"
    return f"At {asked:g} % sparsity"


def _words(difference: float, row: pd.Series, column: str, other: str) -> str:
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    side = "above" if difference >= 0 else "below"
    text = f"{abs(100 * difference):.2f} points {side} {other}"
    if low != low:
        return f"{text} (one fold: no interval)"
    sure = "" if low > 0 or high < 0 else ", which may be chance"
    return f"{text} [{100 * low:+.2f}, {100 * high:+.2f}]{sure}"


def _legend(params: Params, summary: pd.DataFrame) -> str:
    folds = int(summary["folds"].max())
    text = (
        f"Accuracies are mean ± standard deviation over {folds} folds. *Before recovery* is the "
        f"validation accuracy right after pruning. *Minus dense* is the difference to the dense "
        f"network of the same fold in points, with its {100 * CONFIDENCE:.0f} % t interval over "
        f"the folds"
    )
    if params.control:
        text += f"; *minus {params.control}* the same to the control at the same sparsity"
    return text + (
        ". An interval that contains 0 may be chance; as folds share training images, an interval "
        "is rather too narrow than too wide."
    )


def _iterative_part(params: Params) -> list[str]:
    if not (params.iterative and set(params.one_shot) - {params.control}):
        return []
    return [
        "## Iterative against one-shot",
        "![iterative minus one-shot](iterative.png)",
        "Above the line the iterative experiment is better, fold by fold; bars are 95 % intervals.",
    ]


def _handed_on(summary: pd.DataFrame, chosen: Chosen) -> str:
    lines = [
        "For each experiment the sparsest round whose mean validation accuracy is within one point "
        "of the dense network's (else the round of best validation accuracy), and of its folds the "
        "one with the best validation accuracy:",
        "",
    ]
    for experiment, (n, folder) in chosen.items():
        row = summary[(summary["experiment"] == experiment) & (summary["round"] == n)].iloc[0]
        lines.append(
            f"- {experiment}: round {n}, sparsity {100 * row['sparsity']:.2f} %, `{folder}`"
        )
    return "\n".join(lines)


def _mean_sd(row: pd.Series) -> str:
    sd = row["test_accuracy_sd"]
    return _points(row["test_accuracy"]) + ("" if sd != sd else f" ± {100 * sd:.2f}")


def _points(value: float) -> str:
    return "" if value != value else f"{100 * value:.2f}"


def _interval(row: pd.Series, column: str, itself: str) -> str:
    mean, low, high = (row[name] for name in (column, f"{column}_low", f"{column}_high"))
    if mean != mean or row["experiment"] == itself:
        return ""
    return f"{100 * mean:+.2f}" + ("" if low != low else f" [{100 * low:+.2f}, {100 * high:+.2f}]")
