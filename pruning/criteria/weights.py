"""Criteria that look at the weights alone."""

import torch
from torch import Tensor, nn

from pruning.evidence import Evidence
from pruning.layouts import layouts
from pruning.scores import AnyScores, Elementwise
from pruning.types import Params, Scores


def magnitude(model: nn.Module, params: Params, evidence: Evidence) -> AnyScores:
    """Absolute value of each weight; summed over a piece it is the piece's L1 norm.

    Source: Han et al. 2015, "Learning both Weights and Connections", section 3; as the L1 norm of
    filters Li et al. 2017, section 3.1.
    """
    return {name: Elementwise(weight.detach(), torch.abs) for name, weight in params.items()}


def lp_norm(model: nn.Module, params: Params, evidence: Evidence, *, p: float = 2.0) -> AnyScores:
    """p-th power of each weight's absolute value; summed over a piece it ranks as its Lp norm.

    Source: He et al. 2018, "Soft Filter Pruning", equation 2.
    The p-th root is left out: it changes no ranking.
    """

    def power(weight: Tensor) -> Tensor:
        return weight.abs().pow(p)

    return {name: Elementwise(weight.detach(), power) for name, weight in params.items()}


def random(model: nn.Module, params: Params, evidence: Evidence) -> AnyScores:
    """Uniform noise for each weight: the control that every method has to beat.

    Source: the control of Gale et al. 2019, "The State of Sparsity", and of most papers since.
    """
    return {
        name: torch.rand(weight.shape, generator=evidence.generator).to(weight.device)
        for name, weight in params.items()
    }


def fpgm(model: nn.Module, params: Params, evidence: Evidence) -> Scores:
    """Sum of a filter's distances to all filters of its layer: those near the median go first.

    Source: He et al. 2019, "Filter Pruning via Geometric Median", equation 6.

    Filters pruned before count as the zeros that they are, as in the authors' code. Scores are per
    filter, in the shape (O, 1, 1, 1).
    """
    places = layouts(model, params)
    scores = {}
    for name, parameter in params.items():
        weight, dim = parameter.detach(), places[name].output
        filters = weight.movedim(dim, 0).reshape(weight.shape[dim], -1)
        # The shortcut by a matrix product cancels digits just where filters are alike.
        distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")
        shape = [-1 if d == dim else 1 for d in range(weight.ndim)]
        scores[name] = distances.sum(1).reshape(shape)
    return scores


def lamp(model: nn.Module, params: Params, evidence: Evidence) -> Scores:
    """Each squared weight over the sum of those in its layer that are not smaller.

    Source: Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning", equation 5.

    The largest weight of every layer scores 1, so that a global ranking never empties a layer.
    Equal weights are put in the order of their position, as in the paper's index map.
    """
    return {name: _lamp(weight.detach()) for name, weight in params.items()}


def _lamp(weight: Tensor) -> Tensor:
    squares, order = weight.flatten().double().square().sort(stable=True)
    remaining = squares.flip(0).cumsum(0).flip(0)
    shares = torch.where(remaining > 0, squares / remaining, 0.0)
    return torch.empty_like(shares).scatter_(0, order, shares).reshape(weight.shape)
