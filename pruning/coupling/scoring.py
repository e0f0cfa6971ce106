"""Scores of whole groups, and masks that take all that dies with a filter."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pruning.coupling.flow import kept_masks
from pruning.coupling.groups import Groups
from pruning.coupling.removal import removable
from pruning.errors import PruningError, unknown
from pruning.types import Masks, Scores

HOWS = ("sum", "mean", "max")
"""How the scores of a group's members become its score."""


def group_scores(scores: Mapping[str, Tensor], groups: Groups, how: str = "sum") -> Scores:
    """Return the scores with each piece's score replaced by the score of its whole group.

    A piece is a slice along the one dimension in which its score is longer than 1, as filters
    (O, 1, 1, 1) are. All members of a group so have one score, and a layer-wise or global
    allocation takes them together. Pinned pieces keep their own. Raises `PruningError` for scores
    of a finer granularity and for an unknown `how`.
    """
    total = totals(scores, groups, how)[0]
    found = {}
    for name, score in scores.items():
        label = groups.labels(name, piece_dim(name, score))
        value = np.where(groups.classes.pinned[label], _flat(score), total[label])
        found[name] = torch.from_numpy(value).to(score).reshape(score.shape)
    return found


def totals(
    scores: Mapping[str, Tensor], groups: Groups, how: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return each class's score, and of how many pieces; with it count those that it requires."""
    if how not in HOWS:
        raise unknown("how", how, HOWS)
    total = np.full(groups.classes.count, -np.inf if how == "max" else 0.0)
    counts = np.zeros(groups.classes.count)
    add = np.maximum if how == "max" else np.add
    for name, score in scores.items():
        label = groups.labels(name, piece_dim(name, score))
        add.at(total, label, _flat(score))
        np.add.at(counts, label, 1)
    own_total, own_counts = total.copy(), counts.copy()
    for label in np.unique(groups.classes.requires[0]):
        for after in groups.dying(int(label))[1:]:
            total[label] = add(total[label], own_total[after])
            counts[label] += own_counts[after]
    return (total / np.maximum(counts, 1) if how == "mean" else total), counts


def _flat(score: Tensor) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = score.detach().double().cpu().reshape(-1).numpy()
    return found


def piece_dim(name: str, score: Tensor) -> int:
    """Return the dimension along which a score tells pieces apart."""
    dims = [dim for dim, size in enumerate(score.shape) if size > 1]
    if len(dims) > 1:
        raise PruningError(
            f"scores of layer {name!r} have shape {tuple(score.shape)}: only pieces along one "
            "dimension form groups; coarsen them to granularity 'filter' or 'channel'"
        )
    return dims[0] if dims else 0


def whole(masks: Mapping[str, Tensor], groups: Groups, *, consumers: bool = False) -> Masks:
    """Return the masks extended by what dies with the filters and channels that they take whole.

    A masked filter with a bias, or a norm's shift behind it, still puts out a constant, which no
    shrinking can remove exactly. For each class of channels that may go once those are zero too,
    the returned masks also take its biases, norm scales and shifts and all other parameters that
    make it; where a residual partner stays, nothing is added. `consumers=True` takes the next
    layers' inputs as well: then the masks are exactly what `shrink` removes. Only masks decide,
    no weights are looked at.
    """
    going = removable(groups, masks, kept_masks(groups.trace.shapes, masks))
    return without(groups, going, masks, consumers=consumers)


def without(
    groups: Groups,
    going: npt.NDArray[np.bool_],
    masks: Mapping[str, Tensor] | None = None,
    *,
    consumers: bool = False,
) -> Masks:
    """Return masks that also take the slices of the classes that go."""
    found = dict(masks or {})
    for name in groups.parameters:
        shape = groups.trace.shapes[name]
        for dim in range(len(shape)) if consumers else sorted(groups.trace.makes.get(name, ())):
            gone = torch.from_numpy(going[groups.labels(name, dim)])
            if not gone.any():
                continue
            mask = found.get(name)
            fresh = torch.ones(shape, dtype=torch.bool) if mask is None else mask.clone()
            dies = gone.reshape([-1 if d == dim else 1 for d in range(len(shape))])
            found[name] = fresh & ~dies.to(fresh.device)
    return found
