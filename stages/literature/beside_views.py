"""Show our results beside published ones: a table for the report and a picture for each net."""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from stages.literature.beside import RECODED, SERIES, alike, check
from stages.literature.lookup import canonical, plain
from stages.literature.verdict import NOT_COMPARABLE, SELECTIONS, summarise

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = "osD^vP*X<>hd"
THEIRS = "0.35"
COLOURS = ("#1b6ca8", "#d1602d", "#3c8d5a", "#8a4f9e", "#b5302f", "#b08d1a", "#17807a", "#d45b9c")
ASIDE = 1.01
"""The factor between the densities at which two of our lines are drawn."""

SPREAD = 10
"""Accuracy points below our best network from which on a network counts as collapsed, if it also
lies below the outer fence of Tukey 1977: three quartile ranges below the first quartile."""

TICKS = (0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)


def to_markdown(table: "pd.DataFrame", *, without: Collection[str] = ()) -> str:
    """Write a table of `beside` for a report, in percent and accuracy points.

    Columns named in `without` are left out.
    """
    import pandas as pd

    if len(table):
        shown = pd.DataFrame([_cells(line) for line in table.itertuples()])
        shown = shown.drop(columns=list(without))
        text = shown.to_markdown(index=False, disable_numparse=True)
    else:
        text = "No published row to compare with."
    return f"{text}\n"


def picture(results: "pd.DataFrame", rows: "pd.DataFrame") -> "Figure":
    """Draw, for each net of ours, accuracy in percent against sparsity (by log density).

    Where our pixels differ from the published ones, the changes from the own dense nets instead.

    Ours as coloured lines, mean with its 95 % interval, moved aside by a hundredth of the density
    from one to the next, or their bars would lie on one another; published figures as grey points
    with 2 sd where they give them: full where first-hand, hollow where not, one mark for each
    paper. Rows of another kind of sparsity or without an accuracy are left out, and networks that
    collapsed lie below the axis.
    """
    from matplotlib.figure import Figure

    check(results)
    nets: list[Any] = list(results.groupby(["dataset", "model", "sparsity_kind"], sort=False))
    figure = Figure(figsize=(9, 5 * max(len(nets), 1)), layout="constrained")
    axes = figure.subplots(max(len(nets), 1), 1, squeeze=False)[:, 0]
    for place, ((dataset, model, kind), ours) in zip(axes, nets, strict=False):
        drops = plain(dataset).endswith(RECODED)
        theirs: list[Any] = [row for row in rows.itertuples() if _drawn(ours.iloc[0], row, drops)]
        _draw_theirs(place, theirs, drops)
        _draw_ours(place, ours, drops)
        title = f"{canonical(model, [row.model for row in theirs])} on {dataset}"
        _finish(place, title, kind, _lowest(ours, drops))
        if drops:
            place.set_ylabel("change in accuracy from the own dense net in points")
    return figure


def _drawn(ours: Any, row: Any, drops: bool) -> bool:
    figure = row.pruned_acc - (row.baseline_acc if drops else 0)
    numbers = math.isfinite(figure) and math.isfinite(row.sparsity)
    return (
        numbers and alike(ours.dataset, ours.model, row) and ours.sparsity_kind == row.sparsity_kind
    )


def _draw_theirs(axes: "Axes", rows: list[Any], drops: bool) -> None:
    papers = list(dict.fromkeys(_cited(row) for row in rows))
    for index, paper in enumerate(papers):
        mark = MARKS[index % len(MARKS)]
        axes.plot([], [], mark, color=THEIRS, label=paper)
        for row in (row for row in rows if _cited(row) == paper):
            axes.errorbar(
                1 - row.sparsity,
                row.pruned_acc - (row.baseline_acc if drops else 0),
                yerr=2 * row.acc_std if row.acc_std > 0 else None,
                fmt=mark,
                color=THEIRS,
                markerfacecolor=THEIRS if row.first_hand else "none",
                capsize=2,
                alpha=0.8,
            )


def _draw_ours(axes: "Axes", ours: "pd.DataFrame", drops: bool) -> None:
    styles = ("-", "--", ":", "-.")
    lines: list[Any] = list(ours.groupby(SERIES, sort=False))
    for index, (_, series) in enumerate(lines):
        # Folds reach slightly different sparsities: their k-th networks make the k-th point.
        step = series.groupby("fold")["sparsity"].rank(method="first")
        value = series["accuracy"] - (series["dense_accuracy"] if drops else 0)
        series = series.assign(value=100 * value)
        points = [
            (g["sparsity"].mean(), summarise(list(g["value"]))) for _, g in series.groupby(step)
        ]
        means = [sample.mean for _, sample in points]
        halves = [0 if sample.n == 1 else sample.mean - sample.low for _, sample in points]
        aside = ASIDE ** (index - (len(lines) - 1) / 2)
        axes.errorbar(
            [(1 - sparsity) * aside for sparsity, _ in points],
            means,
            yerr=halves,
            fmt=styles[index // len(COLOURS) % len(styles)],
            marker=".",
            color=COLOURS[index % len(COLOURS)],
            linewidth=1.6,
            capsize=3,
            zorder=5,
            label=f"ours: {series['experiment'].iloc[0]} (n = {max(s.n for _, s in points)})",
        )


def _lowest(ours: "pd.DataFrame", drops: bool) -> float | None:
    """Return where to cut the axis, so that networks which collapsed do not flatten the others."""
    values = ours["accuracy"] - (ours["dense_accuracy"] if drops else 0)
    means = 100 * values.groupby([ours["experiment"], ours["sparsity"]]).mean()
    first, third = means.quantile([0.25, 0.75])
    good = means[means > min(means.max() - SPREAD, first - 3 * (third - first))]
    return float(good.min() - 0.5) if len(good) < len(means) else None


def _finish(axes: "Axes", title: str, kind: str, lowest: float | None) -> None:
    axes.set_xscale("log")
    right, left = axes.get_xlim()
    axes.set_xlim(left, right)
    ticks = [tick for tick in TICKS if right <= 1 - tick <= left]
    axes.set_xticks([1 - tick for tick in ticks], [f"{100 * tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel=f"sparsity in % of {kind}", ylabel="accuracy in %", title=title)
    if lowest is not None:
        highest = axes.dataLim.y1
        axes.set_ylim(lowest, highest + 0.05 * (highest - lowest))
    axes.grid(alpha=0.3)
    axes.legend(
        fontsize="small",
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        title="full: first-hand; hollow: not",
    )


def _cited(row: Any) -> str:
    return f"{row.paper.split(' et al')[0].split(',')[0][:28]} {row.year}"


def _cells(line: Any) -> dict[str, str]:
    return {
        "ours": f"{line.experiment} ({line.our_method})",
        "net": f"{line.model}, {line.dataset}",
        "theirs": f"{line.method}; {_cited(line)} [{line.evidence}]",
        "sparsity": _amount(line),
        "their dense -> pruned": _pair(line.their_dense, line.their_accuracy, line.their_sd),
        "our dense -> pruned": _pair(line.our_dense, line.our_accuracy, line.our_sd),
        "n": str(line.n),
        "our 95 %": _interval(line.low, line.high),
        "their drop": _points(line.their_drop),
        "our drop": f"{_points(line.our_drop, line.drop_sd)} "
        f"{_interval(line.drop_low, line.drop_high)}".strip(),
        "chosen by": SELECTIONS[line.selection],
        "judged by": f"{line.judged} ± {line.band:.2f}",
        "verdict": _verdict(line),
    }


def _points(value: float, sd: float = math.nan) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if math.isnan(sd) else f"{value:.2f} ± {sd:.2f}"


def _pair(dense: float, pruned: float, sd: float) -> str:
    return f"{_points(dense)} -> {_points(pruned, sd)}"


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"[{low:.2f}, {high:.2f}]"


def _amount(line: Any) -> str:
    amount = f"{100 * line.sparsity:.4g} % of {line.sparsity_kind}"
    if math.isnan(line.sparsity):
        return f"not given ({line.sparsity_kind})"
    if not line.interpolated:
        return amount
    return f"{amount} (interpolated, {100 * line.our_low:.4g} to {100 * line.our_high:.4g} %)"


def _verdict(line: Any) -> str:
    if line.verdict != NOT_COMPARABLE:
        return f"**{line.verdict}**"
    numbers = f" (by the numbers: {line.by_numbers})" if line.by_numbers else ""
    own = "" if line.by_numbers == NOT_COMPARABLE else numbers
    return f"**{line.verdict}**{own}: {line.reason}"
