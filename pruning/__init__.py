"""Prune neural networks: tensors in, tensors out.

The names below are loaded when first used, so that a look at the package costs no import of torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruning import catalogue
    from pruning.enforcement import enforced
    from pruning.errors import PruningError
    from pruning.evidence import Evidence, classification
    from pruning.network import Network, load, save
    from pruning.prunable import prunable
    from pruning.pruner import LayerCollapse, prune, score
    from pruning.reinitialisation import reinitialise
    from pruning.rewind import Snapshot, capture, restore
    from pruning.rounds import round_sparsities
    from pruning.training import evaluate, fit

_HOMES = {
    "enforcement": ("enforced",),
    "errors": ("PruningError",),
    "evidence": ("Evidence", "classification"),
    "network": ("Network", "load", "save"),
    "prunable": ("prunable",),
    "pruner": ("LayerCollapse", "prune", "score"),
    "reinitialisation": ("reinitialise",),
    "rewind": ("Snapshot", "capture", "restore"),
    "rounds": ("round_sparsities",),
    "training": ("evaluate", "fit"),
}

__all__ = [
    "Evidence",
    "LayerCollapse",
    "Network",
    "PruningError",
    "Snapshot",
    "capture",
    "catalogue",
    "classification",
    "enforced",
    "evaluate",
    "fit",
    "load",
    "prunable",
    "prune",
    "reinitialise",
    "restore",
    "round_sparsities",
    "save",
    "score",
]


def __getattr__(name: str) -> Any:
    if name == "catalogue":
        return importlib.import_module("pruning.catalogue")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"pruning.{module}"), name)
    raise AttributeError(f"module 'pruning' has no attribute {name!r}")
