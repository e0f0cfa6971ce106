"""What is a piece: from one score a weight to one score a vector, kernel, filter or channel."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pruning.errors import PruningError, unknown
from pruning.scores import AnyScore, AnyScores, as_tensor

REDUCED_DIMS: Mapping[str, Callable[[int], tuple[int, ...]]] = {
    "weight": lambda _: (),
    "vector": lambda ndim: (ndim - 1,),
    "column": lambda ndim: (ndim - 2,),
    "kernel": lambda ndim: tuple(range(2, ndim)),
    "filter": lambda ndim: tuple(range(1, ndim)),
    "channel": lambda ndim: (0, *range(2, ndim)),
}
"""The dimensions of a weight (O, I, H, W) or (O, I) that lie within one piece."""

REDUCTIONS: Mapping[str, Callable[[Tensor, tuple[int, ...]], Tensor]] = {
    "sum": lambda score, dims: score.sum(dims, keepdim=True),
    "mean": lambda score, dims: score.mean(dims, keepdim=True),
    "max": lambda score, dims: score.amax(dims, keepdim=True),
}
"""How the scores within a piece become the piece's score."""


def piece_shape(shape: tuple[int, ...], granularity: str) -> tuple[int, ...]:
    """Return the shape of a layer's scores at `granularity`, ones along what lies in a piece.

    >>> piece_shape((8, 3, 5, 5), "filter"), piece_shape((8, 3, 5, 5), "vector")
    ((8, 1, 1, 1), (8, 3, 5, 1))
    """
    if granularity not in REDUCED_DIMS:
        raise unknown("granularity", granularity, REDUCED_DIMS)
    dims = REDUCED_DIMS[granularity](len(shape))
    return tuple(1 if dim in dims else size for dim, size in enumerate(shape))


def coarsen(
    scores: AnyScores, params: Mapping[str, Tensor], granularity: str, *, reduce: str = "sum"
) -> AnyScores:
    """Return one score a piece: scores shaped as their parameter become (O, 1, 1, 1) for filters.

    Scores that already have the asked shape stay. `sum` makes magnitude the L1 norm of a piece;
    `mean` lets pieces of different sizes compete in one ranking. A vector is the last dimension of
    a kernel, a kernel its two spatial ones; a linear layer's filter is one neuron's row.
    """
    if reduce not in REDUCTIONS:
        raise unknown("reduction", reduce, REDUCTIONS)
    return {
        name: _coarsen(name, score, tuple(params[name].shape), granularity, reduce)
        for name, score in scores.items()
    }


def expand(masks: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return masks over pieces as masks in their parameters' shapes."""
    return {name: mask.expand(params[name].shape).contiguous() for name, mask in masks.items()}


def alive(masks: Mapping[str, Tensor], scores: AnyScores) -> dict[str, Tensor]:
    """Return which pieces, in the scores' shapes, still hold a kept weight under `masks`."""
    return {
        name: _any(masks[name], tuple(score.shape))
        for name, score in scores.items()
        if name in masks
    }


def _any(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    dims = [
        d for d, (whole, part) in enumerate(zip(mask.shape, shape, strict=True)) if part < whole
    ]
    return torch.any(mask, dim=dims, keepdim=True) if dims else mask


def _coarsen(
    name: str, score: AnyScore, shape: tuple[int, ...], granularity: str, reduce: str
) -> AnyScore:
    wanted = piece_shape(shape, granularity)
    given = tuple(score.shape)
    if given == wanted:
        return score
    if any(have == 1 < want for have, want in zip(given, wanted, strict=True)):
        raise PruningError(
            f"layer {name!r}: scores of shape {given} are coarser than granularity {granularity!r},"
            f" which needs {wanted}"
        )
    dims = tuple(d for d, (have, want) in enumerate(zip(given, wanted, strict=True)) if want < have)
    return REDUCTIONS[reduce](as_tensor(score), dims)
