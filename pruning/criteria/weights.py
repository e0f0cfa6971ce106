"""Criteria that look at the weights alone."""

import torch
from torch import Tensor, nn

from pruning.evidence import Evidence
from pruning.scores import AnyScores, Elementwise
from pruning.types import Params


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
