"""Scores and masks of whole groups, and masks that take all that dies with a filter."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pruning.coupling.flow import kept_masks
from pruning.coupling.groups import Groups
from pruning.coupling.removal import removable
from pruning.coupling.tracks import Ids
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
    if how not in HOWS:
        raise unknown("how", how, HOWS)
    totals, counts = _totals(scores, groups, how)
    if how == "mean":
        totals = totals / np.maximum(counts, 1)
    found = {}
    for name, score in scores.items():
        label = groups.labels(name, _piece_dim(name, score))
        value = np.where(groups.classes.pinned[label], _flat(score), totals[label])
        found[name] = torch.from_numpy(value).to(score).reshape(score.shape)
    return found


def _totals(
    scores: Mapping[str, Tensor], groups: Groups, how: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return each class's summed (or largest) score, with all that must go before it."""
    total = np.full(groups.classes.count, -np.inf if how == "max" else 0.0)
    counts = np.zeros(groups.classes.count)
    add = np.maximum if how == "max" else np.add
    for name, score in scores.items():
        label = groups.labels(name, _piece_dim(name, score))
        add.at(total, label, _flat(score))
        np.add.at(counts, label, 1)
    own_total, own_counts = total.copy(), counts.copy()
    for label in np.unique(groups.classes.requires[0]):
        for after in groups.dying(int(label))[1:]:
            total[label] = add(total[label], own_total[after])
            counts[label] += own_counts[after]
    return total, counts


def _flat(score: Tensor) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = score.detach().double().cpu().reshape(-1).numpy()
    return found


def _piece_dim(name: str, score: Tensor) -> int:
    dims = [dim for dim, size in enumerate(score.shape) if size > 1]
    if len(dims) > 1:
        raise PruningError(
            f"scores of layer {name!r} have shape {tuple(score.shape)}: only pieces along one "
            "dimension form groups; coarsen them to granularity 'filter' or 'channel'"
        )
    return dims[0] if dims else 0


def group_masks(
    scores: Mapping[str, Tensor],
    groups: Groups,
    sparsity: float,
    *,
    how: str = "mean",
    scope: str = "layerwise",
    min_keep: int = 1,
) -> Masks:
    """Return masks that take the lowest scoring groups whole, with all that dies with them.

    `scope="layerwise"` takes the fraction `sparsity` of the groups of each set of coupled layers,
    rounded down; "global" ranks all groups of the network together (use `how="mean"`, as coupled
    sets differ in size). At least `min_keep` groups of each set stay; ties by position.
    """
    if scope not in ("layerwise", "global"):
        raise unknown("scope", scope, ("layerwise", "global"))
    if not 0 <= sparsity < 1:
        raise PruningError(f"sparsity {sparsity!r} is outside [0, 1)")
    totals, counts = _totals(scores, groups, how)
    score = totals / np.maximum(counts, 1) if how == "mean" else totals
    candidates = (counts > 0) & ~groups.classes.pinned
    family = _families(groups, scores)
    going = np.zeros(groups.classes.count, dtype=bool)
    ranked = np.lexsort((np.arange(score.size), score))
    ranked = ranked[candidates[ranked]]
    budget = {
        int(f): int(sparsity * (family[ranked] == f).sum() + 1e-9) for f in set(family[ranked])
    }
    if scope == "global":
        budget = {f: int((family[ranked] == f).sum()) for f in budget}
        ranked = ranked[: int(sparsity * ranked.size + 1e-9)]
    for f, most in budget.items():
        members = ranked[family[ranked] == f]
        limit = min(most, int((candidates & (family == f)).sum()) - min_keep)
        going[members[: max(limit, 0)]] = True
    layers = [groups.labels(name, _piece_dim(name, each)) for name, each in scores.items()]
    _spare(going, layers, score, min_keep)
    return _taken(groups, _with_required(groups, going))


def _spare(
    going: npt.NDArray[np.bool_],
    layers: Sequence[Ids],
    score: npt.NDArray[Any],
    min_keep: int,
) -> None:
    """Put back, in place, the best groups of a layer that would keep fewer than `min_keep`."""
    for label in layers:
        found = np.unique(label)
        lacking = min_keep - int((~going[found]).sum())
        if lacking > 0:
            gone = found[going[found]]
            going[gone[np.argsort(-score[gone], kind="stable")[:lacking]]] = False


def _with_required(groups: Groups, going: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the classes that go, and those that must go before them."""
    before, after = groups.classes.requires
    going = going.copy()
    while (late := going[before] & ~going[after]).any():
        going[after[late]] = True
    return going


def _families(groups: Groups, scores: Mapping[str, Tensor]) -> npt.NDArray[np.int64]:
    """Return for every class the first class of the set of coupled layers that it belongs to."""
    family = np.arange(groups.classes.count, dtype=np.int64)
    slices = [groups.labels(name, _piece_dim(name, score)) for name, score in scores.items()]
    slices = [label[~groups.classes.pinned[label]] for label in slices]
    changed = True
    while changed:
        changed = False
        for label in slices:
            if label.size and (family[label] != (low := family[label].min())).any():
                family[label] = low
                changed = True
    return family


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
    return _taken(groups, going, masks, consumers=consumers)


def _taken(
    groups: Groups,
    going: npt.NDArray[np.bool_],
    masks: Mapping[str, Tensor] | None = None,
    *,
    consumers: bool = False,
) -> Masks:
    """Return masks without the slices of the classes that go."""
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
