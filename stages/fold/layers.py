"""The table of what each layer lost, and the facts about masks that every stage reports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pruning import masks as mask_tools
from stages.files import write_table

COLUMNS = ("layer", "shape", "weights", "kept", "sparsity")


def write(masks: Mapping[str, Tensor], folder: Path) -> None:
    """Write layers.csv."""
    rows = [
        (row.layer, "x".join(map(str, row.shape)), row.weights, row.kept, row.sparsity)
        for row in mask_tools.layers(masks)
    ]
    write_table(folder / "layers.csv", COLUMNS, rows)


def facts(masks: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return sparsity, weights kept and weights up for pruning."""
    return {
        "sparsity": mask_tools.sparsity(masks),
        "weights_kept": mask_tools.kept(masks),
        "weights": sum(mask.numel() for mask in masks.values()),
    }
