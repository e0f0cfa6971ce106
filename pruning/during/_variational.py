"""Weights as normal distributions: how noisy each is, what that costs, how an output spreads."""

import torch
from torch import Tensor, nn
from torch.nn import functional

K1, K2, K3 = 0.63576, 1.87320, 1.48695
"""The constants of the fit to the divergence from the log-uniform prior."""

LIMIT = 8.0
"""Log alpha counts within [-LIMIT, LIMIT] only."""

NOISY: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The layers whose output's variance is known."""

_LEAST_SQUARE, _LEAST_SPREAD = 1e-30, 1e-8


def squares(mean: Tensor) -> Tensor:
    """Return the squares of the means, in float32 or finer, and never 0, so that all divide by it.

    >>> squares(torch.tensor([2.0, 0.0]))
    tensor([4.0000e+00, 1.0000e-30])
    """
    wide = torch.promote_types(mean.dtype, torch.float32)
    return mean.to(wide).square().clamp_min_(_LEAST_SQUARE)


def divergence_slope(alpha: Tensor) -> Tensor:
    """Return the slope of each weight's divergence from the prior by its log alpha: never above 0.

    Source: Molchanov et al. 2017, equation 14, differentiated; 0 where log alpha is at its limits.

    >>> divergence_slope(torch.tensor([-20.0, 0.0, 20.0]))
    tensor([-0.0000, -0.3591, -0.0000])
    """
    rise = alpha.mul(K3).add_(K2).sigmoid_()
    rise.addcmul_(rise, rise, value=-1)  # in place: these passes are a good part of a step
    slope = alpha.neg().sigmoid_().mul_(-0.5).add_(rise, alpha=-K1 * K3)
    return slope.mul_(alpha.abs().lt_(LIMIT))


def output_deviation(layer: nn.Module, inputs: Tensor, log_variance: Tensor) -> Tensor:
    """Return the standard deviation of a layer's output over its weights' distributions.

    Source: Kingma et al. 2015, "Variational Dropout and the Local Reparameterization Trick",
    equation 6. `layer` is one of `NOISY`. Computed in the precision of `log_variance` under
    autocast too: squares and small variances leave the range of float16.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        energy, variance = inputs.to(log_variance.dtype).square(), log_variance.exp()
        if isinstance(layer, nn.Linear):
            spread = functional.linear(energy, variance)
        else:
            assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            spread = layer._conv_forward(energy, variance, None)
        return spread.add(_LEAST_SPREAD).sqrt()  # the root has no slope at 0
