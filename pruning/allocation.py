"""Who pays for the budget: every public function here is an allocation.

Each takes scores, the parameters, the sparsity and which pieces are still alive, and returns masks
over the pieces (in the scores' shapes) that keep exactly the number of pieces it says.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from pruning.errors import PruningError
from pruning.scores import AnyScores
from pruning.selection import keep_largest, kept_count


def global_(
    scores: AnyScores,
    params: Mapping[str, Tensor],
    sparsity: float,
    alive: Mapping[str, Tensor],
    *,
    min_keep: int = 0,
) -> dict[str, Tensor]:
    """One ranking over all layers; `min_keep` pieces of every layer stay whatever they score.

    Source: Frankle & Carbin 2019, section 3 and appendix I (global pruning of deeper networks).

    Keeps round(pieces * (1 - sparsity)) in all. Raises `PruningError` where `min_keep` asks for
    more than that.
    """
    count = kept_count(sum(score.numel() for score in scores.values()), sparsity)
    if min_keep == 0:
        return keep_largest(scores, count, alive=alive)
    taken: dict[str, Tensor] = {}
    for name, score in scores.items():
        reserve = min(min_keep, int(alive[name].sum()) if name in alive else score.numel())
        taken |= keep_largest({name: score}, reserve, alive=alive)
    rest = count - sum(int(mask.sum()) for mask in taken.values())
    if rest < 0:
        raise PruningError(
            f"sparsity {sparsity} keeps {count} pieces, fewer than min_keep {min_keep} of each "
            f"of the {len(scores)} layers asks for"
        )
    open_ = {name: alive.get(name, torch.ones_like(mask)) & ~mask for name, mask in taken.items()}
    chosen = keep_largest(scores, rest, alive=open_)
    return {name: mask | taken[name] for name, mask in chosen.items()}


def layerwise(
    scores: AnyScores,
    params: Mapping[str, Tensor],
    sparsity: float,
    alive: Mapping[str, Tensor],
    *,
    min_keep: int = 0,
) -> dict[str, Tensor]:
    """Every layer ranked alone at the same sparsity.

    Source: Han et al. 2015; Frankle & Carbin 2019, section 2 (layer-wise pruning).

    Keeps max(round(pieces * (1 - sparsity)), min_keep) of each layer.
    """
    densities = {name: kept_count(score.numel(), sparsity) for name, score in scores.items()}
    return _by_layer(scores, densities, alive, min_keep)


def _by_layer(
    scores: AnyScores, counts: Mapping[str, int], alive: Mapping[str, Tensor], min_keep: int
) -> dict[str, Tensor]:
    masks: dict[str, Tensor] = {}
    for name, score in scores.items():
        count = max(counts[name], min(min_keep, score.numel()))
        try:
            masks |= keep_largest({name: score}, count, alive=alive)
        except PruningError as error:
            raise PruningError(f"layer {name!r}: {error}") from None
    return masks
