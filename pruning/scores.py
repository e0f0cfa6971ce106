"""Scores a block at a time, so that ranking every weight of a network copies none of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from pruning.errors import PruningError

BLOCK = 1 << 17
"""Elements in a block: half a megabyte of float32, which stays in the cache."""


@dataclass(frozen=True)
class Elementwise:
    """The scores `function(weight)` of single weights, computed only where they are looked at."""

    weight: Tensor
    function: Callable[[Tensor], Tensor]

    @property
    def shape(self) -> torch.Size:
        """The weight's shape: one score a weight."""
        return self.weight.shape

    def numel(self) -> int:
        """Return the number of scores."""
        return self.weight.numel()

    def tensor(self) -> Tensor:
        """Return all scores at once."""
        return self.function(self.weight)


AnyScore: TypeAlias = Tensor | Elementwise
AnyScores: TypeAlias = Mapping[str, AnyScore]


def materialise(scores: AnyScores) -> dict[str, Tensor]:
    """Return plain tensors for all `scores`."""
    return {name: as_tensor(score) for name, score in scores.items()}


def as_tensor(score: AnyScore) -> Tensor:
    """Return one layer's scores as a tensor."""
    return score.tensor() if isinstance(score, Elementwise) else score


def blocks(score: AnyScore, alive: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
    """Yield (offset, scores) over the flattened scores; where not `alive` the score is -inf."""
    flat = score.weight.flatten() if isinstance(score, Elementwise) else score.flatten()
    flags = None if alive is None else alive.flatten()
    for start in range(0, flat.numel(), BLOCK):
        block = flat[start : start + BLOCK]
        if isinstance(score, Elementwise):
            block = score.function(block)
        if flags is not None:
            block = block.masked_fill(~flags[start : start + BLOCK], -torch.inf)
        yield start, block


def sample(score: AnyScore, stride: int, alive: Tensor | None = None) -> Tensor:
    """Return every `stride`-th of the flattened scores; where not `alive` the score is -inf."""
    flat = score.weight.flatten() if isinstance(score, Elementwise) else score.flatten()
    taken = flat[::stride]
    if isinstance(score, Elementwise):
        taken = score.function(taken)
    return taken if alive is None else taken.masked_fill(~alive.flatten()[::stride], -torch.inf)


def check_scores(scores: AnyScores, params: Mapping[str, Tensor], criterion: str) -> None:
    """Refuse scores that miss a layer, do not broadcast to it, or cannot be ranked."""
    if not isinstance(scores, Mapping):
        kind = type(scores).__name__
        raise PruningError(f"criterion {criterion!r} returned a {kind}, not scores by layer name")
    for name, parameter in params.items():
        if name not in scores:
            raise PruningError(f"criterion {criterion!r} returned no score for layer {name!r}")
        shape = tuple(scores[name].shape)
        fits = len(shape) == parameter.ndim and all(
            mine in (1, theirs) for mine, theirs in zip(shape, parameter.shape, strict=True)
        )
        if not fits:
            expected = f"{tuple(parameter.shape)} or ones in its place"
            raise PruningError(
                f"criterion {criterion!r} returned shape {shape} for layer {name!r}; "
                f"expected {expected}"
            )
        _check_values(scores[name], name, criterion)
    foreign = [name for name in scores if name not in params]
    if foreign:
        raise PruningError(f"criterion {criterion!r} scored {foreign[0]!r}, which is not prunable")


def _check_values(score: AnyScore, name: str, criterion: str) -> None:
    values = score.weight if isinstance(score, Elementwise) else score
    if not values.is_floating_point():
        raise PruningError(
            f"criterion {criterion!r} returned {values.dtype} for layer {name!r}, not floats"
        )
    for _, block in blocks(score):
        if bool(block.sum() > -torch.inf):
            continue  # so it holds neither; a sum costs less than the least
        # NaN is the least of all; -inf is how pieces that are no longer alive are ranked.
        least = block.amin()
        if not bool(least > -torch.inf):
            what = "NaN" if bool(least.isnan()) else "-inf"
            raise PruningError(f"criterion {criterion!r} returned {what} for layer {name!r}")
