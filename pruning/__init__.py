"""Prune neural networks: tensors in, tensors out.

The names below are loaded when first used, so that a look at the package costs no import of torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruning import catalogue
    from pruning.coupling.choosing import group_masks
    from pruning.coupling.groups import channels
    from pruning.coupling.scoring import group_scores, whole
    from pruning.enforcement import enforced
    from pruning.errors import PruningError
    from pruning.evidence import Evidence, classification
    from pruning.group_pruning import prune_groups
    from pruning.network import Network, load, save
    from pruning.prunables import prunable
    from pruning.pruner import LayerCollapse, prune, score
    from pruning.reinitialisation import reinitialise
    from pruning.rewind import Snapshot, capture, restore
    from pruning.rounds import round_sparsities
    from pruning.shrinking.budget import sparsity_for
    from pruning.shrinking.shrink_network import shrink, shrink_plan
    from pruning.training import evaluate, fit

_HOMES = {
    "coupling.choosing": ("group_masks",),
    "coupling.groups": ("channels",),
    "coupling.scoring": ("group_scores", "whole"),
    "enforcement": ("enforced",),
    "errors": ("PruningError",),
    "evidence": ("Evidence", "classification"),
    "group_pruning": ("prune_groups",),
    "network": ("Network", "load", "save"),
    "prunables": ("prunable",),
    "pruner": ("LayerCollapse", "prune", "score"),
    "reinitialisation": ("reinitialise",),
    "rewind": ("Snapshot", "capture", "restore"),
    "rounds": ("round_sparsities",),
    "shrinking.budget": ("sparsity_for",),
    "shrinking.shrink_network": ("shrink", "shrink_plan"),
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
    "channels",
    "classification",
    "enforced",
    "evaluate",
    "fit",
    "group_masks",
    "group_scores",
    "load",
    "prunable",
    "prune",
    "prune_groups",
    "reinitialise",
    "restore",
    "round_sparsities",
    "save",
    "score",
    "shrink",
    "shrink_plan",
    "sparsity_for",
    "whole",
]


def __getattr__(name: str) -> Any:
    if name == "catalogue":
        return importlib.import_module("pruning.catalogue")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"pruning.{module}"), name)
    raise AttributeError(f"module 'pruning' has no attribute {name!r}")
