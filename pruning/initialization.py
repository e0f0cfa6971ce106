"""Fresh weights: every public function here fills one weight in place from a generator."""

from math import sqrt

import torch
from torch import Tensor, nn

from pruning.errors import unknown

TRUNCATION = 0.87962566103423978
"""Standard deviation of a standard normal cut off at two: dividing by it restores the scale."""


def own(weight: Tensor, generator: torch.Generator) -> None:
    """Leave what the layer's own `reset_parameters` drew.

    Source: PyTorch's layers (Kaiming uniform with a = sqrt(5) for linear layers and convolutions).
    """


def variance_scaling(
    weight: Tensor,
    generator: torch.Generator,
    *,
    scale: float = 1.0,
    fan: str = "in",
    distribution: str = "truncated",
) -> None:
    """Zero mean and variance scale / fan, fan being in, out or avg of both.

    Source: He et al. 2015 (scale 2, in), Glorot & Bengio 2010 (scale 1, avg), LeCun (scale 1, in).

    `distribution` is normal, truncated (at two standard deviations, rescaled to keep the variance,
    as TensorFlow does) or uniform.
    """
    fans = dict(zip(("in", "out"), _fans(weight), strict=True))
    fans["avg"] = (fans["in"] + fans["out"]) / 2
    if fan not in fans:
        raise unknown("fan", fan, fans)
    deviation = sqrt(scale / max(1.0, fans[fan]))
    if distribution == "normal":
        nn.init.normal_(weight, 0.0, deviation, generator=generator)
    elif distribution == "truncated":
        std = deviation / TRUNCATION
        nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator=generator)
    elif distribution == "uniform":
        bound = sqrt(3) * deviation
        nn.init.uniform_(weight, -bound, bound, generator=generator)
    else:
        raise unknown("distribution", distribution, ("normal", "truncated", "uniform"))


def kaiming(weight: Tensor, generator: torch.Generator) -> None:
    """Normal with variance 2 / fan in, for layers before a ReLU.

    Source: He et al. 2015, "Delving Deep into Rectifiers", equation 10.
    """
    variance_scaling(weight, generator, scale=2.0, fan="in", distribution="normal")


def orthogonal(weight: Tensor, generator: torch.Generator, *, gain: float = 1.0) -> None:
    """Rows (or columns, the fewer) of the flattened weight orthonormal, times `gain`.

    Source: Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning".
    """
    nn.init.orthogonal_(weight, gain, generator=generator)


def _fans(weight: Tensor) -> tuple[float, float]:
    field = weight[0, 0].numel() if weight.ndim > 2 else 1
    return float(weight.shape[1] * field), float(weight.shape[0] * field)
