"""The thresholds of sensitivity pruning: set once from the dense layers, carried on as data."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from pruning.errors import PruningError
from pruning.patterns import Setting, by_layer
from pruning.prunables import prunable


def sensitivity_thresholds(
    model: nn.Module,
    s: Setting,
    *,
    only: Iterable[str] | None = None,
    skip: Iterable[str] = (),
) -> dict[str, float]:
    """Return the threshold s * sigma of every prunable layer of a dense `model`.

    `s` is one number, a list in the order of the layers, or numbers by name pattern. Take them
    before the first pruning, keep them (they are plain numbers), and give them to every pruning:
    `allocation={"name": "threshold", "thresholds": ...}`.

    Source: Han et al. 2015, "Learning both Weights and Connections", section 3.
    """
    return layer_thresholds(prunable(model, only=only, skip=skip), s)


@torch.no_grad()
def layer_thresholds(params: Mapping[str, Tensor], s: Setting) -> dict[str, float]:
    """Return s * sigma for each layer, sigma being the standard deviation of its signed weights.

    The deviation is the unbiased one, as in the pruner of Distiller.
    """
    factors = by_layer(s, list(params), "s")
    found = {}
    for name, weight in params.items():
        if factors[name] < 0:
            raise PruningError(f"s of layer {name!r} is {factors[name]}, below zero")
        if weight.numel() < 2:
            raise PruningError(f"layer {name!r} has one weight, so no standard deviation")
        found[name] = factors[name] * float(weight.double().std())
    return found
