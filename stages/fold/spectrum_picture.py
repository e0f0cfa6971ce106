"""A histogram of singular values, one panel a layer, one line a moment."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor

from stages.reporting.pictures import COLOURS

BINS_A_DECADE = 12


def draw(found: Mapping[str, Mapping[str, Tensor]], path: Path) -> None:
    """Draw singular values by moment and layer, on a logarithmic axis with the zeros counted."""
    matplotlib.use("agg")
    layers = list(next(iter(found.values())))
    columns = min(3, len(layers))
    height = ceil(len(layers) / columns)
    size = (max(6.4, 3.6 * columns), 3.0 * height + 1.0)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(height, columns, squeeze=False).flatten()
    for axes, layer in zip(grid, layers, strict=False):
        _panel(axes, layer, {moment: spectra[layer] for moment, spectra in found.items()})
    for axes in grid[len(layers) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=len(labels), loc="outside upper center")
    figure.savefig(path, metadata={"Software": None})


def _panel(axes: Axes, layer: str, spectra: Mapping[str, Tensor]) -> None:
    """Draw one layer: shares of its singular values; what is zero stands in the title."""
    values = {moment: found.flatten().double().numpy() for moment, found in spectra.items()}
    largest = max(float(found.max()) for found in values.values()) or 1.0
    floor = 1e-6 * largest  # below it a singular value is zero but for rounding
    least = min(float(v[v > floor].min(initial=largest)) for v in values.values())
    decades = np.floor(np.log10(least)), np.ceil(np.log10(largest * 1.001))
    edges = np.logspace(*decades, 1 + round(BINS_A_DECADE * (decades[1] - decades[0])))
    for index, (moment, found) in enumerate(values.items()):
        counted = found[found > floor]
        shares = np.full(len(counted), 100 / len(found))
        style = {"color": COLOURS[index % len(COLOURS)], "linewidth": 1.4}
        axes.hist(counted, edges, weights=shares, histtype="step", label=moment, **style)
    zeros = [100 * float((found <= floor).mean()) for found in values.values()]
    told = ", ".join(f"{share:.0f}" for share in zeros)
    axes.set_title(f"{layer}\nzero: {told} %" if any(zeros) else layer, fontsize=9)
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("singular value", fontsize=8)
    axes.set_ylabel("share in %", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
