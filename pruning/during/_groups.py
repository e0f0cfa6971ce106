"""The groups in which an optimizer holds the weights up for pruning."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


def groups_of(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter]
) -> Iterator[tuple[int, dict[str, Any], list[str]]]:
    """Yield each group that holds some of the weights: its number, its settings, their names."""
    for number, group in enumerate(optimizer.param_groups):
        members = {id(parameter) for parameter in group["params"]}
        names = [name for name, weight in weights.items() if id(weight) in members]
        if names:
            yield number, settings(group), names


def settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return all of a group but its parameters."""
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}
