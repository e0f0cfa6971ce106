"""Sanity checks: what a method has to beat to have found anything."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pruning import semi_structured
from pruning.granularity import piece_shape
from pruning.layouts import PLAIN, Layout


def shuffle(
    masks: Mapping[str, Tensor],
    generator: torch.Generator,
    *,
    granularity: str = "weight",
    layouts: Mapping[str, Layout] | None = None,
) -> dict[str, Tensor]:
    """Return `masks` with the pieces of each layer in random order: same counts, other places.

    Whole pieces move, so filters stay filters; of an N:M pattern the groups of M move.

    Source: Frankle et al. 2021, "Pruning Neural Networks at Initialization", section 5 (shuffling);
    Su et al. 2020, "Sanity-Checking Pruning Methods", section 3 (layerwise rearrange).
    """
    where = layouts or {}
    return {
        name: _shuffled(name, mask, generator, granularity, where.get(name, PLAIN))
        for name, mask in masks.items()
    }


def _shuffled(
    name: str, mask: Tensor, generator: torch.Generator, granularity: str, layout: Layout
) -> Tensor:
    pattern = semi_structured.parse(granularity)
    if pattern is not None:
        return _shuffled_groups(mask, generator, pattern[1], layout)
    pieces = piece_shape(tuple(mask.shape), granularity, layout, name=name)
    inside = [
        d for d, (part, whole) in enumerate(zip(pieces, mask.shape, strict=True)) if part < whole
    ]
    outside = [d for d in range(mask.ndim) if d not in inside]
    order = [*outside, *inside]
    moved = mask.permute(order)
    rows = moved.reshape(torch.Size(pieces).numel(), -1)
    back = sorted(range(mask.ndim), key=lambda d: order[d])
    return _permuted(rows, generator).reshape(moved.shape).permute(back).contiguous()


def _shuffled_groups(
    mask: Tensor, generator: torch.Generator, group: int, layout: Layout
) -> Tensor:
    rows = semi_structured.rows(mask, layout).clone()
    whole = rows.shape[1] // group * group
    groups = rows[:, :whole].reshape(-1, group)
    rows[:, :whole] = _permuted(groups, generator).reshape(len(rows), whole)
    return semi_structured.unrows(rows, mask.shape, layout)


def _permuted(rows: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(rows), generator=generator, device=generator.device)
    return rows[order.to(rows.device)]
