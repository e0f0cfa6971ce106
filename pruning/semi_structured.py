"""N:M patterns: of every M weights in a row along the input, at most N stay."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from pruning.errors import PruningError
from pruning.layouts import PLAIN, Layout
from pruning.scores import AnyScore, AnyScores, as_tensor


def parse(granularity: str) -> tuple[int, int] | None:
    """Return (N, M) of a granularity such as "2:4", None where it is none of that kind.

    Raises `PruningError` unless 0 < N < M.
    """
    match = re.fullmatch(r"(\d+):(\d+)", granularity)
    if match is None:
        return None
    kept, group = int(match[1]), int(match[2])
    if not 0 < kept < group:
        raise PruningError(f"granularity {granularity!r} keeps {kept} of {group}; need 0 < N < M")
    return kept, group


def competitors(
    scores: AnyScores,
    pattern: tuple[int, int],
    layouts: Mapping[str, Layout],
    alive: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return which weights may stay: the N best living ones of each group, ties by position.

    The groups lie where torch's semi-structured kernels want them: along the flattened inputs
    (I * kH * kW) of each output. A last group of fewer than M weights keeps at most N too.

    Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks", section 3 (2:4).
    """
    return {
        name: _best(score, pattern, layouts.get(name, PLAIN), alive.get(name))
        for name, score in scores.items()
    }


def rows(weight: Tensor, layout: Layout) -> Tensor:
    """Return `weight` with one row for each output, the inputs that it sums over along it.

    A transposed convolution has a row for each output and place in the kernel.
    """
    if layout.output == 0:
        return weight.reshape(1, -1) if weight.ndim < 2 else weight.flatten(1)
    return weight.movedim(layout.input, -1).flatten(0, -2)


def unrows(matrix: Tensor, shape: torch.Size, layout: Layout) -> Tensor:
    """Return the weight of `shape` that `rows` made this matrix of."""
    if layout.output == 0:
        return matrix.reshape(shape)
    moved = torch.empty(shape, device="meta").movedim(layout.input, -1).shape
    return matrix.reshape(moved).movedim(-1, layout.input).contiguous()


def _best(
    score: AnyScore, pattern: tuple[int, int], layout: Layout, alive: Tensor | None
) -> Tensor:
    kept, group = pattern
    ranked = as_tensor(score)
    if alive is not None:
        ranked = ranked.masked_fill(~alive, -torch.inf)
    matrix = rows(ranked, layout)
    width = matrix.shape[1]
    padded = functional.pad(matrix, (0, -width % group), value=-torch.inf)
    groups = padded.reshape(len(padded), -1, group)
    order = groups.argsort(dim=2, descending=True, stable=True)
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, order[..., :kept], True)
    found = unrows(mask.flatten(1)[:, :width], ranked.shape, layout)
    return found if alive is None else found & alive
