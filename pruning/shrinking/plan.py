"""The plan of a shrunk network: which positions of which tensors stay, as plain data."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.coupling.flow import kept_values
from pruning.coupling.groups import Groups
from pruning.coupling.removal import removable, rounded
from pruning.coupling.tracks import Flags
from pruning.errors import PruningError
from pruning.shrinking.adapters import adapted

Plan: TypeAlias = dict[str, Any]
"""{"format": 1, "kept": {tensor: {dim: [positions]}}, "modules": {path: settings}}, all JSON.

A module's settings are "select" (the input channels that a norm reads), "heads" (the count and
depth of an attention's heads) and "numbers" (whole numbers that it holds as attributes).
"""

Number: TypeAlias = tuple[str, str, int]
"""A module's path, one of its attributes, and the whole number that it gets."""

FORMAT = 1


def plan_for(
    model: nn.Module, masks: Mapping[str, Tensor], groups: Groups, round_to: int = 1
) -> tuple[Plan, Flags]:
    """Return the plan that removes all that `masks` take whole, and the classes that go."""
    check(masks, round_to)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    going = removable(groups, masks, kept_values(tensors, masks))
    going = rounded(groups, going, round_to)
    return describe(model, groups, going), going


def check(masks: Mapping[str, Tensor], round_to: int) -> None:
    """Refuse a layer masked whole and a senseless multiple."""
    if round_to < 1:
        raise PruningError(f"round_to {round_to!r}: give a whole number from 1 on")
    lost = [name for name in mask_tools.collapsed(masks) if masks[name].ndim > 1]
    if lost:
        raise PruningError(
            f"layer {', '.join(lost)} is masked whole (layer collapse): it cannot be shrunk to "
            "nothing; keep some of its weights"
        )


def describe(model: nn.Module, groups: Groups, going: Flags) -> Plan:
    """Return the plan without the classes that go."""
    kept: dict[str, dict[str, list[int]]] = {}
    for name, dims in groups.trace.dims.items():
        for dim in range(len(dims)):
            gone = going[groups.labels(name, dim)]
            if gone.any():
                kept.setdefault(name, {})[str(dim)] = np.flatnonzero(~gone).tolist()
    numbers = [*_groups_left(groups, going), *_paddings_left(groups, going)]
    modules: dict[str, dict[str, Any]] = {**_selections(groups, going), **adapted(model, kept)}
    for path, name, value in numbers:
        modules.setdefault(path, {}).setdefault("numbers", {})[name] = value
    return {"format": FORMAT, "kept": kept, "modules": modules}


def _groups_left(groups: Groups, going: Flags) -> Iterator[Number]:
    """Yield how many groups the grouped convolutions and group norms are left with."""
    label = groups.classes.label
    for grouped in groups.trace.grouped:
        if grouped.weight in groups.classes.whole_groups:
            left = int((~going[label[grouped.ins]]).any(axis=1).sum())
            if left < len(grouped.ins):
                yield grouped.weight.rpartition(".")[0], "groups", left
    for owner, ids in groups.trace.group_norms.items():
        left = int((~going[label[ids]]).sum())
        if left < ids.size:
            yield owner, "num_groups", left


def _selections(groups: Groups, going: Flags) -> dict[str, dict[str, Any]]:
    """Return which of its input channels a norm reads, where not all of them.

    Source: Liu et al. 2017, section 4 (channel selection before pre-activation blocks).
    """
    found = {}
    label = groups.classes.label
    for owner, (ins, outs) in groups.trace.links.items():
        read = ~going[label[outs]][~going[label[ins]]]
        if not read.all():
            found[owner] = {"select": np.flatnonzero(read).tolist()}
    return found


def _paddings_left(groups: Groups, going: Flags) -> Iterator[Number]:
    """Yield how many channels of zeros are left to add."""
    for padding in groups.trace.paddings:
        for name, ids in zip(padding.attributes, padding.ids, strict=True):
            left = int((~going[groups.classes.label[ids]]).sum())
            if left < ids.size:
                yield padding.module, name, left
