"""Keep exactly so many of the highest scores, ties by position, without sorting or copying all."""

from collections.abc import Mapping
from math import floor

import torch
from torch import Tensor

from pruning.errors import PruningError
from pruning.scores import BLOCK, AnyScore, AnyScores, blocks

SAMPLE = 1 << 16
"""Scores sampled to bracket the threshold; what falls between is then ranked exactly."""


def kept_count(pieces: int, sparsity: float | None) -> int:
    """Return how many of `pieces` stay at `sparsity`, rounded to the nearest, halves up.

    >>> [kept_count(1000, s) for s in (0.0, 0.9, 0.95)], kept_count(3, 0.5)
    ([1000, 100, 50], 2)
    """
    if sparsity is None:
        raise PruningError("no sparsity given, and only per_layer and threshold do without")
    if not 0 <= sparsity < 1:
        raise PruningError(f"sparsity {sparsity!r} is outside [0, 1)")
    return floor(pieces * (1 - sparsity) + 0.5)


def keep_largest(
    scores: AnyScores, count: int, *, alive: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return boolean masks in the scores' shapes that keep the `count` largest of all scores.

    Equal scores are kept in the order of the mapping and then of position. Pieces that are not
    `alive` never compete. Raises `PruningError` if fewer than `count` are alive.
    """
    flags = alive or {}
    living = sum(
        int(flags[name].sum()) if name in flags else score.numel() for name, score in scores.items()
    )
    if count > living:
        raise PruningError(f"cannot keep {count} pieces: only {living} are left")
    if count == 0:
        return {name: _empty(score) for name, score in scores.items()}
    threshold, ties = _threshold(scores, count, flags)
    masks = {}
    for name, score in scores.items():
        masks[name], ties = _mask(score, flags.get(name), threshold, ties)
    return masks


def _empty(score: AnyScore) -> Tensor:
    device = score.device if isinstance(score, Tensor) else score.weight.device
    return torch.zeros(tuple(score.shape), dtype=torch.bool, device=device)


def _mask(
    score: AnyScore, alive: Tensor | None, threshold: Tensor, ties: int
) -> tuple[Tensor, int]:
    """Return the mask of all above `threshold` and the first `ties` at it, and the ties left."""
    mask = _empty(score)
    flat = mask.view(-1)
    for start, block in blocks(score, alive):
        kept = flat[start : start + BLOCK]
        torch.gt(block, threshold, out=kept)
        if ties:
            equal = (block == threshold).nonzero().flatten()[:ties]
            kept[equal] = True
            ties -= equal.numel()
    return mask, ties


def _threshold(scores: AnyScores, count: int, alive: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """Return the `count`-th largest score and how many scores equal to it are still kept."""
    low, high = _bracket(scores, count, alive)
    above, between = _split(scores, alive, low, high)
    if not above < count <= above + between.numel():
        # The sample misled (many ties, or a sorted layer): rank everything, exactly.
        above, between = _split(scores, alive, None, None)
    rank = count - above
    # One element, not a scalar: torch would round a scalar to the precision of what it meets.
    threshold = between.kthvalue(between.numel() - rank + 1, keepdim=True).values
    return threshold, rank - int((between > threshold).sum())


def _bracket(
    scores: AnyScores, count: int, alive: Mapping[str, Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """Guess two scores that lie around the threshold, from an evenly spaced sample."""
    total = sum(score.numel() for score in scores.values())
    stride = total // SAMPLE
    if stride < 4:
        return None, None
    sample = torch.cat(
        [
            block[(-start) % stride :: stride]
            for name, score in scores.items()
            for start, block in blocks(score, alive.get(name))
        ]
    ).sort(descending=True)[0]
    rank = count * sample.numel() // total
    # Six standard deviations of a sampled rank at its widest: half the square root of the sample.
    margin = 3 * int(sample.numel() ** 0.5) + 1
    high = sample[rank - margin, None] if rank >= margin else None
    low = sample[rank + margin, None] if rank + margin < sample.numel() else None
    return low, high


def _split(
    scores: AnyScores, alive: Mapping[str, Tensor], low: Tensor | None, high: Tensor | None
) -> tuple[int, Tensor]:
    """Return how many scores exceed `high`, and those from `low` to `high`."""
    above, between = 0, []
    for name, score in scores.items():
        for _, block in blocks(score, alive.get(name)):
            inside = block >= low if low is not None else torch.ones_like(block, dtype=torch.bool)
            if high is not None:
                over = block > high
                above += int(over.sum())
                inside &= ~over
            between.append(block[inside])
    return above, torch.cat(between)
