"""A dry run: what a pruning would match and take, before anything is written."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from pruning.granularity import any_kept, piece_shape
from pruning.layouts import layouts
from pruning.prunables import prunable
from pruning.pruner import LayerCollapse, prune
from pruning.types import Masks


@dataclass(frozen=True)
class Planned:
    """What one layer would lose."""

    layer: str
    shape: tuple[int, ...]
    pieces: int
    """Weights, vectors, kernels, filters or channels, as the granularity says."""
    pieces_kept: int
    weights: int
    kept: int

    @property
    def sparsity(self) -> float:
        """The fraction of the layer's weights that would go."""
        return 1 - self.kept / self.weights

    @property
    def dies(self) -> bool:
        """Whether the layer would lose everything."""
        return self.kept == 0


def plan(
    model: nn.Module,
    sparsity: float | None = None,
    *,
    granularity: str = "weight",
    only: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    **choices: Any,
) -> list[Planned]:
    """Return what each matched layer would lose if `prune` were called with the same arguments.

    A layer that would die is said in its row and is no warning here. Raises `PruningError` as
    `prune` does.
    """
    chosen: dict[str, Any] = {"only": only if only is None else tuple(only), "skip": tuple(skip)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapse)
        masks = prune(model, sparsity, granularity=granularity, **chosen, **choices)
    return losses(model, {name: masks[name] for name in prunable(model, **chosen)}, granularity)


def losses(model: nn.Module, masks: Masks, granularity: str) -> list[Planned]:
    """Return what each layer loses by masks of its prunable parameters."""
    params = dict(model.named_parameters())
    places = layouts(model, {name: params[name] for name in masks})
    rows = []
    for name, mask in masks.items():
        shape = piece_shape(tuple(mask.shape), granularity, places[name], name=name)
        flags = any_kept(mask, shape)
        counts = flags.numel(), int(flags.sum()), mask.numel(), int(mask.sum())
        rows.append(Planned(name, tuple(mask.shape), *counts))
    return rows
