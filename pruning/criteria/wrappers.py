"""Criteria made of another criterion: set on one scale, or turned upside down."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pruning.choices import Choice, name_of, resolve
from pruning.errors import unknown
from pruning.evidence import Evidence
from pruning.scores import check_scores, materialise
from pruning.types import Params, Scores

_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda score: score.abs().mean(),
    "l2": lambda score: score.square().sum().sqrt(),
    "max": lambda score: score.abs().max(),
    "std": lambda score: score.std(unbiased=False),
}


def normalised(
    model: nn.Module,
    params: Params,
    evidence: Evidence,
    *,
    of: Choice = "magnitude",
    by: str = "l2",
) -> Scores:
    """Another criterion's scores, each layer's divided by their size, so that layers compare.

    Source: Molchanov et al. 2017, section 2.2 ("normalization": l2 by layer).

    `by` is l2, mean, max or std of the layer's scores; a layer of zeros stays so.
    """
    if by not in _SCALES:
        raise unknown("by", by, _SCALES, "criterion 'normalised'")
    found = _inner(model, params, evidence, of)
    sizes = {name: _SCALES[by](score) for name, score in found.items()}
    return {n: torch.where(sizes[n] > 0, score / sizes[n], 0.0) for n, score in found.items()}


def inverted(
    model: nn.Module, params: Params, evidence: Evidence, *, of: Choice = "magnitude"
) -> Scores:
    """Another criterion's scores with the sign turned: the control that keeps what it would prune.

    Source: Frankle et al. 2021, "Pruning Neural Networks at Initialization", section 5 (inversion).

    So it is with `reduce` sum or mean. Under max a piece's best weight speaks for it, which is
    another one after the turn.
    """
    return {name: -score for name, score in _inner(model, params, evidence, of).items()}


def _inner(model: nn.Module, params: Params, evidence: Evidence, of: Choice) -> Scores:
    scores = resolve("criterion", of)(model, params, evidence)
    check_scores(scores, params, name_of(of))
    return materialise(scores)
