"""Masks that take whole groups, the lowest scoring first."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pruning.coupling.groups import Groups
from pruning.coupling.removal import rounded
from pruning.coupling.scoring import piece_dim, totals, without
from pruning.coupling.tracks import Flags, Ids
from pruning.errors import unknown
from pruning.selection import kept_count
from pruning.types import Masks

SCOPES = ("layerwise", "global")


def group_masks(
    scores: Mapping[str, Tensor],
    groups: Groups,
    sparsity: float,
    *,
    how: str = "mean",
    scope: str = "layerwise",
    min_keep: int = 1,
    round_to: int = 1,
) -> Masks:
    """Return masks that take the lowest scoring groups whole, with all that dies with them.

    Scores are those of pieces along one dimension, as for `group_scores`; groups without a score
    stay. "layerwise" takes the fraction `sparsity` of each set of groups that lie in the same
    layers, "global" of all groups of the network together (then scores should not depend on a
    layer's size). Counts are rounded to the nearest; at least `min_keep` groups of every layer
    stay; ties go by position. With `round_to` every layer keeps the nearest multiple of it that it
    can: where fewer are to stay the lowest scoring go as well, where more are to stay the best of
    those that would go do not; likewise the parts of a split keep as many each. So all that the
    masks take can be removed. Raises `PruningError` for an unknown choice or sparsity.
    """
    if scope not in SCOPES:
        raise unknown("scope", scope, SCOPES)
    score, counts = totals(scores, groups, how)
    candidates = np.flatnonzero((counts > 0) & ~groups.classes.pinned)
    layers = [groups.labels(name, piece_dim(name, each)) for name, each in scores.items()]
    family = np.zeros(groups.classes.count, dtype=np.int64)
    if scope == "layerwise":
        family = _families(layers, groups.classes.count)
    going = np.zeros(groups.classes.count, dtype=bool)
    for one in np.unique(family[candidates]):
        members = candidates[family[candidates] == one]
        count = members.size - kept_count(members.size, sparsity)
        going[members[np.argsort(score[members], kind="stable")[:count]]] = True
    _spare(going, layers, score, min_keep)
    if round_to > 1:
        _thin(groups, going, candidates[np.argsort(score[candidates], kind="stable")], round_to)
        _spare(going, layers, score, min_keep)
    going = _with_required(groups, going)
    if round_to > 1 or groups.trace.balances:
        going = rounded(groups, going, round_to, score)
    return without(groups, going)


def _families(layers: Sequence[Ids], count: int) -> npt.NDArray[np.int64]:
    """Return a number for every class that two classes share if they lie in the same layers."""
    family = np.zeros(count, dtype=np.int64)
    for label in layers:
        found = np.unique(label)
        _, among = np.unique(family[found], return_inverse=True)
        family[found] = family.max() + 1 + among
    return family


def _spare(going: Flags, layers: Sequence[Ids], score: npt.NDArray[Any], min_keep: int) -> None:
    """Put back, in place, the best groups of a layer that would keep fewer than `min_keep`."""
    for label in layers:
        found = np.unique(label)
        lacking = min_keep - int((~going[found]).sum())
        if lacking > 0:
            gone = found[going[found]]
            going[gone[np.argsort(-score[gone], kind="stable")[:lacking]]] = False


def _thin(groups: Groups, going: Flags, ranked: Ids, round_to: int) -> None:
    """Take, in place, the lowest `ranked` groups of layers a little above a multiple."""
    every = (groups.classes.label[ids] for ids in groups.trace.widths.values())
    found = [label for label in every if going[label].any()]
    # What is wanted is settled before any layer takes from another that it is coupled to.
    wanted = [max(int((~going[label]).sum() / round_to + 0.5), 1) * round_to for label in found]
    for label, least in zip(found, wanted, strict=True):
        positions = np.bincount(label, minlength=going.size)
        surplus = int((~going[label]).sum()) - least
        for group in ranked[(positions[ranked] > 0) & ~going[ranked]]:
            if surplus <= 0:
                break
            if positions[group] <= surplus:
                going[group] = True
                surplus -= int(positions[group])


def _with_required(groups: Groups, going: Flags) -> Flags:
    """Return the classes that go, and those that must go before them."""
    before, after = groups.classes.requires
    going = going.copy()
    while (late := going[before] & ~going[after]).any():
        going[after[late]] = True
    return going
