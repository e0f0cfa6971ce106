"""What is a piece: from one score a weight to one score a vector, kernel, filter or channel."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pruning import semi_structured
from pruning.errors import PruningError, unknown
from pruning.layouts import PLAIN, Layout
from pruning.scores import AnyScore, AnyScores, as_tensor

GRANULARITIES: Mapping[str, Callable[[int, Layout], Sequence[int]]] = {
    "weight": lambda _, __: (),
    "vector": lambda ndim, _: range(2, ndim)[-1:],
    "column": lambda ndim, _: range(2, ndim)[-2:-1],
    "kernel": lambda ndim, _: range(2, ndim),
    "filter": lambda ndim, layout: [dim for dim in range(ndim) if dim != layout.output],
    "channel": lambda ndim, layout: [dim for dim in range(ndim) if dim != layout.input],
}
"""The dimensions of a weight that lie within one piece; "N:M" is a pattern of single weights."""

REDUCTIONS: Mapping[str, Callable[[Tensor, tuple[int, ...]], Tensor]] = {
    "sum": lambda score, dims: score.sum(dims, keepdim=True),
    "mean": lambda score, dims: score.mean(dims, keepdim=True),
    "max": lambda score, dims: score.amax(dims, keepdim=True),
}
"""How the scores within a piece become the piece's score."""


def check(granularity: str, reduce: str = "sum") -> None:
    """Refuse a granularity or a reduction that is none."""
    if granularity not in GRANULARITIES and semi_structured.parse(granularity) is None:
        raise unknown("granularity", granularity, [*GRANULARITIES, "N:M such as 2:4"])
    if reduce not in REDUCTIONS:
        raise unknown("reduction", reduce, REDUCTIONS)


def piece_shape(
    shape: tuple[int, ...], granularity: str, layout: Layout = PLAIN, *, name: str = ""
) -> tuple[int, ...]:
    """Return the shape of a layer's scores at `granularity`, ones along what lies in a piece.

    >>> piece_shape((8, 3, 5, 5), "filter"), piece_shape((8, 3, 5, 5), "vector")
    ((8, 1, 1, 1), (8, 3, 5, 1))
    """
    check(granularity)
    dims = _inner_dims(shape, granularity, layout, name)
    return tuple(1 if dim in dims else size for dim, size in enumerate(shape))


def coarsen(
    scores: AnyScores,
    params: Mapping[str, Tensor],
    granularity: str,
    *,
    reduce: str = "sum",
    layouts: Mapping[str, Layout] | None = None,
) -> AnyScores:
    """Return one score a piece: scores shaped as their parameter become (O, 1, 1, 1) for filters.

    Scores that already have the asked shape stay. `sum` makes magnitude the L1 norm of a piece;
    `mean` lets pieces of different sizes compete in one ranking. A vector is a row of a kernel, a
    column a column of it; where there is no kernel, as in a linear layer, each is one weight. A
    linear layer's filter is one neuron's row. Transposed convolutions and embeddings have outputs
    along dimension 1: `layouts` says so.
    """
    check(granularity, reduce)
    where = layouts or {}
    return {
        name: _coarsen(name, score, params[name], granularity, reduce, where.get(name, PLAIN))
        for name, score in scores.items()
    }


def expand(masks: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return masks over pieces as masks in their parameters' shapes."""
    return {name: mask.expand(params[name].shape).contiguous() for name, mask in masks.items()}


def alive(masks: Mapping[str, Tensor], scores: AnyScores) -> dict[str, Tensor]:
    """Return which pieces, in the scores' shapes, still hold a kept weight under `masks`."""
    return {
        name: any_kept(masks[name], tuple(score.shape))
        for name, score in scores.items()
        if name in masks
    }


def any_kept(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return which pieces, of the scores' `shape`, hold a kept weight."""
    dims = [
        d for d, (whole, part) in enumerate(zip(mask.shape, shape, strict=True)) if part < whole
    ]
    return torch.any(mask, dim=dims, keepdim=True) if dims else mask


def _coarsen(
    name: str, score: AnyScore, parameter: Tensor, granularity: str, reduce: str, layout: Layout
) -> AnyScore:
    wanted = piece_shape(tuple(parameter.shape), granularity, layout, name=name)
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


def _inner_dims(
    shape: tuple[int, ...], granularity: str, layout: Layout, name: str
) -> Sequence[int]:
    if granularity not in GRANULARITIES:
        return ()
    if granularity == "channel" and len(shape) <= layout.input:
        raise PruningError(f"layer {name!r} of shape {shape} has no input dimension, so no channel")
    crossed = granularity == ("channel" if layout.output == 0 else "filter")
    if crossed and layout.groups > 1:
        return _grouped_dims(shape, granularity, layout, name)
    return GRANULARITIES[granularity](len(shape), layout)


def _grouped_dims(
    shape: tuple[int, ...], granularity: str, layout: Layout, name: str
) -> Sequence[int]:
    """Dimensions of a piece that runs along the dimension that each group counts anew."""
    if shape[0] == layout.groups and shape[1] == 1:
        return range(1, len(shape))
    raise PruningError(
        f"layer {name!r}: with {layout.groups} groups a {granularity} is no slice of the weight "
        f"{shape}; choose weight, vector, column, kernel or "
        f"{'filter' if granularity == 'channel' else 'channel'}"
    )
