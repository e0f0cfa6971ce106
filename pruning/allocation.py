"""Who pays for the budget: every public function here is an allocation.

Each takes scores, the parameters, the sparsity and which pieces are still alive, and returns masks
over the pieces (in the scores' shapes) that keep exactly the number of pieces it says. `min_keep`
and `max_sparsity` are guards: a number for every layer, a list, or numbers by name pattern.
"""

from collections.abc import Mapping, Sequence
from math import floor

import torch
from torch import Tensor

from pruning.budgets import between, floors, living, proportional
from pruning.errors import PruningError, unknown
from pruning.patterns import Setting, by_layer
from pruning.scores import AnyScores, blocks
from pruning.selection import keep_largest, kept_count
from pruning.thresholds import layer_thresholds

UNBUDGETED = ("per_layer", "threshold")
"""Allocations that bring their own targets: they look at no overall sparsity and reach none."""


def global_(
    scores: AnyScores,
    params: Mapping[str, Tensor],
    sparsity: float | None,
    alive: Mapping[str, Tensor],
    *,
    min_keep: Setting = 0,
    max_sparsity: Setting = 1.0,
) -> dict[str, Tensor]:
    """One ranking over all layers; what the guards ask for stays whatever it scores.

    Source: Frankle & Carbin 2019, section 3 and appendix I (global pruning of deeper networks).

    Keeps round(pieces * (1 - sparsity)) in all. Raises `PruningError` where the guards ask for
    more than that, and where fewer are alive.

    >>> a, b = torch.tensor([4.0, 1.0, 3.0]), torch.tensor([0.2, 0.5])
    >>> global_({"a": a, "b": b}, {}, 0.4, {})
    {'a': tensor([True, True, True]), 'b': tensor([False, False])}
    """
    count = kept_count(sum(score.numel() for score in scores.values()), sparsity)
    reserves = floors(scores, alive, min_keep, max_sparsity)
    rest = count - sum(reserves.values())
    if rest < 0:
        most = max(reserves, key=lambda name: reserves[name])
        raise PruningError(
            f"keeps {count} pieces, but min_keep {min_keep} and max_sparsity {max_sparsity} ask "
            f"for {sum(reserves.values())}, {reserves[most]} of them in layer {most!r}"
        )
    if rest == count:
        return keep_largest(scores, count, alive=alive)
    taken = _by_layer(scores, reserves, alive)
    open_ = {name: alive.get(name, torch.ones_like(mask)) & ~mask for name, mask in taken.items()}
    chosen = keep_largest(scores, rest, alive=open_)
    return {name: mask | taken[name] for name, mask in chosen.items()}


def layerwise(
    scores: AnyScores,
    params: Mapping[str, Tensor],
    sparsity: float | None,
    alive: Mapping[str, Tensor],
    *,
    min_keep: Setting = 0,
    max_sparsity: Setting = 1.0,
) -> dict[str, Tensor]:
    """Every layer ranked alone at the same sparsity.

    Source: Han et al. 2015; Frankle & Carbin 2019, section 2 (layer-wise pruning).

    Keeps max(round(pieces * (1 - sparsity)), guard) of each layer. Raises `PruningError` where
    fewer of a layer are alive.

    >>> a, b = torch.tensor([4.0, 1.0, 3.0]), torch.tensor([0.2, 0.5])
    >>> layerwise({"a": a, "b": b}, {}, 0.4, {})
    {'a': tensor([ True, False,  True]), 'b': tensor([False,  True])}
    """
    guards = floors(scores, alive, min_keep, max_sparsity)
    counts = {
        name: max(kept_count(score.numel(), sparsity), guards[name])
        for name, score in scores.items()
    }
    return _by_layer(scores, counts, alive)


def erk(
    scores: AnyScores,
    params: Mapping[str, Tensor],
    sparsity: float | None,
    alive: Mapping[str, Tensor],
    *,
    min_keep: Setting = 0,
    max_sparsity: Setting = 1.0,
) -> dict[str, Tensor]:
    """Erdős-Rényi-Kernel: each layer's density proportional to the sum of its dimensions / product.

    Source: Evci et al. 2020, "Rigging the Lottery", section 3; the formula is that of jaxpruner.

    A layer that would keep more than all of it is dense and the others are solved again, as in
    jaxpruner; a layer at a guard likewise. Keeps exactly round(pieces * (1 - sparsity)) in all:
    the papers leave the rounding of the layers open. Raises `PruningError` where the guards ask for
    more than that, and where fewer are alive.

    >>> layers = {"large": torch.ones(10, 10), "small": torch.ones(2, 10)}  # 20 / 100, 12 / 20
    >>> {name: int(mask.sum()) for name, mask in erk(layers, layers, 0.8, {}).items()}
    {'large': 15, 'small': 9}
    """
    names = list(scores)
    pieces = {name: score.numel() for name, score in scores.items()}
    shares = [pieces[name] * sum(params[name].shape) / params[name].numel() for name in names]
    lows, highs = floors(scores, alive, min_keep, max_sparsity), living(scores, alive)
    total = kept_count(sum(pieces.values()), sparsity)
    counts = proportional(shares, total, [*lows.values()], [*highs.values()])
    return _by_layer(scores, dict(zip(names, counts, strict=True)), alive)


def per_layer(
    scores: AnyScores,
    params: Mapping[str, Tensor],
    sparsity: float | None,
    alive: Mapping[str, Tensor],
    *,
    ratios: Setting,
    rest: float = 0.0,
    rounding: str = "nearest",
    min_keep: Setting = 0,
    max_sparsity: Setting = 1.0,
) -> dict[str, Tensor]:
    """Every layer at its own sparsity: a list in their order, or by name pattern.

    Source: Li et al. 2017, section 4 (one ratio a stage, sensitive layers skipped).

    A layer that no pattern matches has the sparsity `rest`. The ratios are the target: an overall
    sparsity is not looked at. `rounding` of what a layer keeps is nearest, or down: the published
    counts of Li et al. come out exactly with the latter. Raises `PruningError` for a ratio outside
    [0, 1], and where fewer of a layer are alive.

    >>> a, b = torch.tensor([4.0, 1.0, 3.0]), torch.tensor([0.2, 0.5])
    >>> per_layer({"a": a, "b": b}, {}, None, {}, ratios={"a": 0.7})
    {'a': tensor([ True, False, False]), 'b': tensor([True, True])}
    """
    if rounding not in ("nearest", "down"):
        raise unknown("rounding", rounding, ("nearest", "down"))
    found = by_layer(ratios, list(scores), "ratios", default=rest)
    guards = floors(scores, alive, min_keep, max_sparsity)
    counts = {}
    for name, score in scores.items():
        if not 0 <= found[name] <= 1:
            raise PruningError(f"ratio of layer {name!r} is {found[name]}, outside [0, 1]")
        exact = score.numel() * (1 - found[name])
        # The nearest to a product such as 10 * (1 - 0.9), just below 1, is what is meant by it.
        wanted = floor(exact + 0.5) if rounding == "nearest" else floor(round(exact, 6))
        counts[name] = max(wanted, guards[name])
    return _by_layer(scores, counts, alive)


def interpolated(
    scores: AnyScores,
    params: Mapping[str, Tensor],
    sparsity: float | None,
    alive: Mapping[str, Tensor],
    *,
    ratios: Sequence[Setting],
    min_keep: Setting = 0,
    max_sparsity: Setting = 1.0,
) -> dict[str, Tensor]:
    """Every layer at its own sparsity, which rises with the overall one through given points.

    Source: Dong et al. 2017, "Layer-wise Optimal Brain Surgeon", appendix (layer shares of each of
    two stages); reading between them is this project's own.

    `ratios` are the points, each as in `per_layer` but for all layers: at the overall sparsity of a
    point every layer has just that ratio, between two points all have gone the same part of the
    way; the dense network and the empty one are points too. Keeps exactly
    round(pieces * (1 - sparsity)) in all. Raises `PruningError` for a point at which a layer has
    more than at the one before, and where guards or what is alive do not allow the counts.

    >>> a, b = torch.tensor([4.0, 1.0, 3.0, 2.0]), torch.tensor([0.2, 0.5, 0.1, 0.3])
    >>> points = [{"a": 0.0, "b": 0.5}, {"a": 0.5, "b": 0.75}]
    >>> for sparsity in (0.25, 0.625):
    ...     masks = interpolated({"a": a, "b": b}, {}, sparsity, {}, ratios=points)
    ...     print([int(mask.sum()) for mask in masks.values()])
    [4, 2]
    [2, 1]
    """
    pieces = {name: score.numel() for name, score in scores.items()}
    total = kept_count(sum(pieces.values()), sparsity)
    # Never quite nothing, so that a layer can take what guards or pruned pieces keep from others.
    shares = [max(share, 1e-9) for share in between(ratios, pieces, total)]
    lows, highs = floors(scores, alive, min_keep, max_sparsity), living(scores, alive)
    counts = proportional(shares, total, [*lows.values()], [*highs.values()])
    return _by_layer(scores, dict(zip(scores, counts, strict=True)), alive)


def threshold(
    scores: AnyScores,
    params: Mapping[str, Tensor],
    sparsity: float | None,
    alive: Mapping[str, Tensor],
    *,
    s: Setting = 1.0,
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Every score above s times the standard deviation of its layer's weights stays: no target.

    Source: Han et al. 2015, section 3 (the "sensitivity" of a layer, its quality parameter s).

    `thresholds` are those of the first pruning (`pruning.thresholds.sensitivity_thresholds`), which
    later rounds go on using; without them they are taken from the weights as they are. A threshold
    is in the unit of a weight: use `magnitude`, and `reduce: mean` for larger pieces. Raises
    `PruningError` for a layer without a threshold, and for one weight, which has no deviation.

    >>> weight = torch.tensor([4.0, -1.0, 1.0, -4.0])  # the deviation is sqrt(34 / 3) = 3.4
    >>> threshold({"a": weight.abs()}, {"a": weight}, None, {})
    {'a': tensor([ True, False, False,  True])}
    """
    cut = layer_thresholds(params, s) if thresholds is None else thresholds
    masks = {}
    for name, score in scores.items():
        if name not in cut:
            raise PruningError(f"no threshold for layer {name!r}; there are {sorted(cut)}")
        kept = torch.cat([block > cut[name] for _, block in blocks(score, alive.get(name))])
        masks[name] = kept.reshape(score.shape)
    return masks


def _by_layer(
    scores: AnyScores, counts: Mapping[str, int], alive: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    masks: dict[str, Tensor] = {}
    for name, score in scores.items():
        try:
            masks |= keep_largest({name: score}, counts[name], alive=alive)
        except PruningError as error:
            raise PruningError(f"layer {name!r}: {error}") from None
    return masks
