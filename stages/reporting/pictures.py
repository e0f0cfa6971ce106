"""The pictures of a study: accuracy against sparsity, density by layer, one-shot and iterative."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.reporting.summary import DENSE, paired

COLOURS = ("#1b6ca8", "#d1602d", "#7a7a7a", "#3c8d5a", "#8a4f9e", "#b5302f", "#b08d1a", "#4b5563")
MARKERS = "os^Dv<>P"


def accuracy(summary: pd.DataFrame, iterative: Sequence[str], path: Path) -> None:
    """Draw test accuracy against sparsity, mean and standard deviation over the folds."""
    figure, axes = _figure()
    dense = summary[summary["experiment"] == DENSE].iloc[0]
    mean, sd = 100 * dense["test_accuracy"], 100 * dense["test_accuracy_sd"]
    axes.axhline(mean, color="black", linewidth=1, linestyle=":", label="dense")
    axes.axhspan(mean - sd, mean + sd, color="black", alpha=0.07, linewidth=0)
    experiments = [name for name in summary["experiment"].unique() if name != DENSE]
    for index, name in enumerate(experiments):
        rows = summary[summary["experiment"] == name]
        axes.errorbar(
            _places(rows["sparsity"]),
            100 * rows["test_accuracy"],
            100 * rows["test_accuracy_sd"].fillna(0),
            label=name,
            capsize=3,
            **_style(index, dashed=name not in iterative),
        )
    _sparsity_axis(axes, summary.loc[summary["experiment"] != DENSE, "sparsity"])
    axes.set_ylabel("test accuracy in %, mean ± sd over the folds")
    axes.legend(frameon=False, loc="best")
    _save(figure, path)


def densities(layers: pd.DataFrame, path: Path) -> None:
    """Draw what is left of each layer at the last round, one bar an experiment."""
    last = _matrices(layers[layers["round"] == layers["round"].max()])
    names, experiments = list(last["layer"].unique()), list(last["experiment"].unique())
    figure, axes = _figure(width=max(6.4, 1.0 + 0.4 * len(names)))
    width = 0.8 / len(experiments)
    for index, experiment in enumerate(experiments):
        rows = last[last["experiment"] == experiment]
        kept = rows.groupby("layer", sort=False)[["kept", "weights"]].sum()
        density = (100 * kept["kept"] / kept["weights"]).reindex(names)
        places = [
            place + (index - (len(experiments) - 1) / 2) * width for place in range(len(names))
        ]
        axes.bar(places, density, width, label=experiment, color=COLOURS[index % len(COLOURS)])
    axes.set_xticks(range(len(names)), [name.removesuffix(".weight") for name in names])
    if len(names) > 6:
        axes.tick_params(axis="x", rotation=60)
    axes.set_ylabel(f"weights left in the layer in %, round {int(last['round'].max())}")
    axes.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(3, len(experiments))
    )
    _save(figure, path)


def _matrices(layers: pd.DataFrame) -> pd.DataFrame:
    """Leave out the norms and biases that go with filters: their density is that of the filters."""
    wide = layers["shape"].astype(str).str.contains("x")
    return layers[wide] if wide.any() else layers


def iterative_minus_one_shot(
    results: pd.DataFrame, iterative: Sequence[str], one_shot: Sequence[str], path: Path
) -> None:
    """Draw by how much each iterative experiment beats each one-shot one, paired by fold."""
    figure, axes = _figure()
    axes.axhline(0, color="black", linewidth=1, linestyle=":")
    pairs = [(ours, theirs) for ours in iterative for theirs in one_shot]
    for index, (ours, theirs) in enumerate(pairs):
        places, means, spread = [], [], []
        for n, rows in results[results["experiment"] == ours].groupby("round"):
            other = results[(results["experiment"] == theirs) & (results["round"] == n)]
            mean, low, _ = paired(_by_fold(rows), _by_fold(other))
            places.append(rows["sparsity"].mean())
            means.append(100 * mean)
            spread.append(0.0 if low != low else 100 * (mean - low))
        label = f"{ours} minus {theirs}"
        style = _style(index, dashed=False)
        axes.errorbar(_places(pd.Series(places)), means, spread, label=label, capsize=3, **style)
    _sparsity_axis(axes, results.loc[results["experiment"] != DENSE, "sparsity"])
    axes.set_ylabel("test accuracy in points, mean and 95 % interval")
    axes.legend(frameon=False, loc="best")
    _save(figure, path)


def sensitivity(table: pd.DataFrame, path: Path) -> None:
    """Draw validation accuracy against the sparsity of one layer alone, without recovery."""
    figure, axes = _figure()
    for index, (layer, rows) in enumerate(table.groupby("layer", sort=False)):
        curve = rows.groupby("sparsity")["validation_accuracy"].agg(["mean", "std"])
        name = str(layer).removesuffix(".weight")
        spread = 100 * curve["std"].fillna(0)
        style = _style(index, dashed=index // len(COLOURS) % 2 == 1)
        axes.errorbar(
            100 * curve.index, 100 * curve["mean"], spread, label=name, capsize=3, **style
        )
    axes.set_xlabel("sparsity of this layer alone in %")
    axes.set_ylabel("validation accuracy in %, mean ± sd")
    layers = table["layer"].nunique()
    if layers > len(COLOURS):
        columns = -(-layers // 30)
        figure.set_figwidth(6.4 + 1.6 * columns)
        figure.legend(frameon=False, loc="outside right upper", fontsize=6, ncols=columns)
    else:
        axes.legend(frameon=False, loc="best")
    _save(figure, path)


def _by_fold(rows: pd.DataFrame) -> pd.Series:
    return rows.set_index("fold")["test_accuracy"]


def _figure(width: float = 6.4) -> tuple[Figure, Axes]:
    matplotlib.use("agg")
    figure = Figure(figsize=(width, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(index: int, *, dashed: bool) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": "--" if dashed else "-",
        "markersize": 5,
    }


def _places(sparsity: pd.Series) -> pd.Series:
    """Spread the high sparsities out: what is left, on a logarithmic axis that falls."""
    return 100 * (1 - sparsity)


def _sparsity_axis(axes: Axes, sparsities: pd.Series) -> None:
    axes.set_xscale("log")
    axes.invert_xaxis()
    marks = sorted({round(float(100 * value), 2) for value in sparsities})
    spread = [mark for i, mark in enumerate(marks) if len(marks) <= 9 or i % 2 == 0]
    axes.set_xticks([100 - mark for mark in spread], [f"{mark:g}" for mark in spread])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("sparsity in % (the axis is logarithmic in what is left)")


def _save(figure: Figure, path: Path) -> None:
    # No version in the metadata: the same results give the same bytes.
    figure.savefig(path, metadata={"Software": None})
