"""Fresh weights: every public function here fills one weight in place from a generator."""

from math import sqrt

import torch
from torch import Tensor, nn

from pruning.errors import PruningError, unknown

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
    as TensorFlow does) or uniform. Fan in is dimension 1 times the field, as in `torch.nn.init`: a
    transposed convolution's two fans are swapped.
    """
    if not scale > 0:
        raise PruningError(f"scale {scale!r} of the variance is not above 0")
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


def delta_orthogonal(weight: Tensor, generator: torch.Generator, *, gain: float = 1.0) -> None:
    """Orthonormal columns at the centre of each kernel, zero elsewhere: norms pass unchanged.

    Source: Xiao et al. 2018, "Dynamical Isometry and a Mean Field Theory of CNNs", algorithm 1.

    A matrix has no kernel and becomes orthogonal. Raises `PruningError` for a convolution of more
    inputs than outputs, whose columns cannot be orthonormal, and for an even kernel, which has no
    centre.
    """
    if weight.ndim == 2:
        orthogonal(weight, generator, gain=gain)
        return
    outputs, inputs, *field = weight.shape
    if inputs > outputs:
        raise PruningError(f"delta_orthogonal needs inputs <= outputs, not {inputs} > {outputs}")
    if any(size % 2 == 0 for size in field):
        raise PruningError(f"delta_orthogonal needs a centre, which a kernel of {field} has not")
    with torch.no_grad():
        weight.zero_()
        matrix = torch.empty(outputs, inputs, dtype=weight.dtype, device=weight.device)
        orthogonal(matrix, generator, gain=gain)
        centre = weight
        for size in field:
            centre = centre.select(2, size // 2)
        centre.copy_(matrix)


def _fans(weight: Tensor) -> tuple[float, float]:
    if weight.ndim < 2:
        raise PruningError(
            f"a weight of shape {tuple(weight.shape)} has no fan: needs 2 dimensions"
        )
    field = weight[0, 0].numel() if weight.ndim > 2 else 1
    return float(weight.shape[1] * field), float(weight.shape[0] * field)
