"""Keep exactly so many of the highest scores, ties by position, without sorting or copying all."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor

import torch
from torch import Tensor

from pruning.comparing import above, at_least, chosen, count, places
from pruning.errors import PruningError
from pruning.scores import BLOCK, AnyScore, AnyScores, blocks, sample

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
        kept.copy_(above(block, threshold))
        if ties:
            equal = places(block, threshold)[:ties]
            kept[equal] = True
            ties -= equal.numel()
    return mask, ties


def _threshold(scores: AnyScores, kept: int, alive: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """Return the `kept`-th largest score and how many scores equal to it are still kept."""
    over, between = 0, torch.empty(0)
    bracket = _bracket(scores, kept, alive)
    if bracket is not None:
        over, between = _split(scores, alive, bracket)
    if not over < kept <= over + between.numel():
        # No sample, or one that misled (many ties, a sorted layer): rank everything, exactly.
        everything = [
            part for n, score in scores.items() for _, part in blocks(score, alive.get(n))
        ]
        over, between = 0, torch.cat(everything)
    rank = kept - over
    # One element, not a scalar: torch would round a scalar to the precision of what it meets.
    threshold = between.kthvalue(between.numel() - rank + 1, keepdim=True).values
    return threshold, rank - int((between > threshold).sum())


@dataclass(frozen=True)
class _Bracket:
    """Two scores around the threshold (None: no bound), and room for what lies between them."""

    low: Tensor | None
    high: Tensor | None
    room: Tensor


def _bracket(scores: AnyScores, kept: int, alive: Mapping[str, Tensor]) -> _Bracket | None:
    """Guess a bracket from an evenly spaced sample, None where there are too few scores for one."""
    total = sum(score.numel() for score in scores.values())
    stride = total // SAMPLE
    if stride < 4:
        return None
    taken = [sample(score, stride, alive.get(name)) for name, score in scores.items()]
    ranked = torch.cat(taken).sort(descending=True)[0]
    size = ranked.numel()
    rank, share = kept * size // total, kept / total
    # Six standard deviations of the rank that the threshold has in the sample.
    margin = 6 * int((size * share * (1 - share)) ** 0.5) + 8
    high = ranked[rank - margin, None] if rank >= margin else None
    low = ranked[rank + margin, None] if rank + margin < size else None
    return _Bracket(low, high, ranked.new_empty(min(total, 4 * margin * stride)))


def _split(scores: AnyScores, alive: Mapping[str, Tensor], bracket: _Bracket) -> tuple[int, Tensor]:
    """Return how many scores exceed the bracket, and those within; none where they overflow it.

    They are gathered in one buffer: many small tensors between the blocks would keep the memory of
    each block from being used for the next.
    """
    over = within = 0
    for name, score in scores.items():
        for _, block in blocks(score, alive.get(name)):
            inside = torch.ones_like(block, dtype=torch.bool)
            if bracket.low is not None:
                inside = at_least(block, bracket.low)
            if bracket.high is not None:
                higher = above(block, bracket.high)
                over += count(higher)
                inside ^= higher
            part = chosen(block, inside)
            if within + part.numel() > bracket.room.numel():
                return 0, bracket.room[:0]
            bracket.room[within : within + part.numel()] = part
            within += part.numel()
    return over, bracket.room[:within]
