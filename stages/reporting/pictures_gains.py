"""The picture of what was gained: test accuracy against measured latency."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.reporting.pictures import COLOURS

FORMS: Mapping[str, Mapping[str, Any]] = {
    "masked": {"marker": "x", "linestyle": "none"},
    "shrunk": {"marker": "o", "linestyle": "-"},
    "ONNX": {"marker": "D", "linestyle": "none"},
}
"""How the forms of a network are drawn; the shrunk ones of all rounds are joined."""


def latency(folders: Mapping[str, Path], path: Path) -> None:
    """Draw the gains folders of experiments, by name: a panel for each batch size."""
    tables = {name: pd.read_csv(folder / "latency.csv") for name, folder in folders.items()}
    sizes = sorted({size for table in tables.values() for size in table["batch"]})
    matplotlib.use("agg")
    figure = Figure(figsize=(1.6 + 3.9 * len(sizes), 4.2), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False, sharey=True)[0]
    for axes, size in zip(panels, sizes, strict=True):
        for index, (name, table) in enumerate(tables.items()):
            _experiment(axes, name, table[table["batch"] == size], index)
        threads = ", ".join(str(n) for n in sorted({n for t in tables.values() for n in t.threads}))
        axes.set_title(f"batch {size}, threads: {threads}", fontsize=10)
        axes.set_xlabel("time of a forward in ms, median and quartiles")
        # Room for the medians; on a busy machine an upper quartile would leave them none.
        longest = max(t.loc[t["batch"] == size, "median_ms"].max() for t in tables.values())
        axes.set_xlim(0, 1.3 * longest)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test accuracy in %")
    panels[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, metadata={"Software": None})


def _experiment(axes: Axes, name: str, table: pd.DataFrame, index: int) -> None:
    """Draw one experiment's networks; its dense one in black."""
    for form, marker in (("dense", "*"), ("dense ONNX", "P")):
        rows = table[table["network"] == form]
        label = form if index == 0 and len(rows) else "_"
        _points(
            axes, rows, {"marker": marker, "markersize": 9, "linestyle": "none"}, "black", label
        )
    colour = COLOURS[index % len(COLOURS)]
    for form, style in FORMS.items():
        rows = table[table["network"] == form].sort_values("round")
        if len(rows):
            label = f"{name}, {'shrunk, by round' if form == 'shrunk' else form}"
            _points(axes, rows, style, colour, label)
    for row in table[table["network"] == "shrunk"].to_dict("records"):
        place = (row["median_ms"], 100 * row["test_accuracy"])
        offset = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(str(row["round"]), place, color=colour, **offset)


def _points(
    axes: Axes, rows: pd.DataFrame, style: Mapping[str, Any], colour: str, label: str = "_"
) -> None:
    middle = rows["median_ms"]
    spread = [middle - rows["low_ms"], rows["high_ms"] - middle]
    accuracy = 100 * rows["test_accuracy"]
    axes.errorbar(middle, accuracy, xerr=spread, color=colour, label=label, capsize=2, **style)
