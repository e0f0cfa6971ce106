"""What masks remove: the classes that are zero or unneeded wherever they are carried."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pruning.coupling.flow import Holdings, settle
from pruning.coupling.groups import Groups
from pruning.coupling.tracks import FIXED, Flags, Ids
from pruning.errors import PruningError


def removable(groups: Groups, masks: Mapping[str, Tensor], holdings: Holdings) -> Flags:
    """Return for every class whether it may go exactly.

    It may if a mask takes a whole slice of one of its parameters, it is not pinned, all that must
    go first may go, and every tensor that carries it is zero there or influences no output.
    """
    trace, classes = groups.trace, groups.classes
    neutral = [ids for dims in trace.dims.values() for ids in dims]
    flow = settle(trace.steps, trace.count, neutral, holdings)
    stays = np.zeros(classes.count, dtype=bool)
    stays[classes.label[flow.need & ~flow.zero]] = True
    may = _touched(groups, masks) & ~stays & ~classes.pinned
    return closed(groups, may)


def closed(groups: Groups, may: Flags) -> Flags:
    """Return `may` without the classes that require one that stays."""
    before, after = groups.classes.requires
    may = may.copy()
    while True:
        stuck = may[before] & ~may[after]
        if not stuck.any():
            return may
        may[before[stuck]] = False


def _touched(groups: Groups, masks: Mapping[str, Tensor]) -> Flags:
    """Return the classes of which a mask takes at least one whole slice."""
    touched = np.zeros(groups.classes.count, dtype=bool)
    for name, mask in masks.items():
        kept = mask.detach().cpu()
        for dim in range(kept.ndim):
            others = [d for d in range(kept.ndim) if d != dim]
            gone = ~(kept.any(dim=others) if others else kept).numpy()
            touched[groups.labels(name, dim)[gone]] = True
    before, after = groups.classes.requires
    touched[after] |= touched[before]
    touched[before] |= touched[after]
    return touched


def rounded(
    groups: Groups,
    going: Flags,
    round_to: int = 1,
    score: npt.NDArray[Any] | None = None,
) -> Flags:
    """Return which classes go so that shapes fit: equal parts of a split, multiples of `round_to`.

    Where too many would go the first of them stay, masked; with a `score` for every class those
    that score best. A layer that would lose every channel is a `PruningError`.
    """
    widths = groups.trace.widths
    for name, ids in widths.items():
        if _gone(groups, going, ids).all():
            raise PruningError(
                f"layer {name!r} loses all of its {ids.size} channels (layer collapse): "
                "it cannot be shrunk to nothing; keep some of them"
            )
    while True:
        before = int(going.sum())
        for parts in groups.trace.balances:
            kept = [int((~_gone(groups, going, ids)).sum()) for ids in parts]
            for ids in parts:
                going = _put_back(groups, going, ids, max(kept), score)
        for ids in widths.values() if round_to > 1 else ():
            kept_count = int((~_gone(groups, going, ids)).sum())
            wanted = min(ids.size, -(-kept_count // round_to) * round_to)
            going = _put_back(groups, going, ids, wanted, score)
        if int(going.sum()) == before:
            return going


def _gone(groups: Groups, going: Flags, ids: Ids) -> Flags:
    found: Flags = going[groups.classes.label[ids]] & (ids != FIXED)
    return found


def _put_back(
    groups: Groups, going: Flags, ids: Ids, wanted: int, score: npt.NDArray[Any] | None
) -> Flags:
    """Return `going` less the first (or best) classes of `ids` until `wanted` of them are kept."""
    going = going.copy()
    labels = groups.classes.label[ids]
    if score is not None:
        labels = labels[np.argsort(-score[labels], kind="stable")]
    for label in labels:
        if int((~_gone(groups, going, ids)).sum()) >= wanted:
            break
        going[label] = False
    return closed(groups, going)
