"""Approximate dynamical isometry: the kept weights of each layer as orthogonal as they can be."""

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.errors import PruningError
from pruning.prunables import prunable

LOOK_EVERY = 25
"""Steps between two looks at the loss: on an accelerator each look waits for the device."""


@torch.no_grad()
def enforce_isometry(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    *,
    steps: int = 10_000,
    lr: float = 0.1,
    patience: int | None = None,
    tolerance: float = 1e-3,
) -> list[float]:
    """Lessen the sum of ||V V^T - I||_F over all layers, in place, by kept weights alone.

    Source: Lee et al. 2020, "A Signal Propagation Perspective for Pruning Neural Networks at
    Initialization", section 4: `steps` steps of plain gradient descent at a fixed `lr`, no data,
    the norms neither squared nor weighted.

    V is a layer's masked weight unfolded by `flatten(1)`: a convolution's (O, I * height * width).
    A layer without a mask takes part whole. Returns the sum before each step, then the last one.
    `patience` stops early once so many steps have not lessened the least sum by `tolerance` of
    itself: at a fixed `lr` the norms end up swinging just above their floor, which is sqrt(outputs
    - inputs) for a layer of more outputs than inputs. Raises `PruningError` where the sum is not
    finite, with the layer's name.
    """
    if steps < 0 or not lr > 0:
        raise PruningError(f"isometry: steps {steps} must not be below 0, lr {lr} be above 0")
    if patience is not None and patience < 1:
        raise PruningError(f"isometry: patience {patience} is not a count of at least 1")
    kept = mask_tools.by_first_name(model, masks)
    mask_tools.apply(model, kept)
    weights = {name: weight.data for name, weight in prunable(model).items()}
    sums: list[Tensor] = []
    for step in range(steps):
        norms = [_descend(weight, kept.get(name), lr) for name, weight in weights.items()]
        sums.append(torch.stack(norms).sum())
        if step % LOOK_EVERY == 0:
            _check_finite(list(weights), norms, step)
            if patience is not None and _plateau(sums, patience, tolerance):
                break
    norms = [_norm(weight) for weight in weights.values()]
    _check_finite(list(weights), norms, len(sums))
    return [*torch.stack([*sums, torch.stack(norms).sum()]).tolist()]


def isometry_gap(weight: Tensor) -> float:
    """Return ||V V^T - I||_F of a weight unfolded by `flatten(1)`: 0 for orthonormal rows.

    >>> round(isometry_gap(torch.eye(3) * 2), 4)  # the three squares are 4, not 1
    5.1962
    """
    return float(_norm(weight.detach()))


def _norm(weight: Tensor) -> Tensor:
    matrix = weight.flatten(1)
    return _residual(matrix)[1]


def _residual(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smaller of V V^T - I and V^T V - I, and the norm of the first.

    The squares of the two norms differ by the number of outputs less that of inputs.
    """
    outputs, inputs = matrix.shape
    gram = matrix @ matrix.T if outputs <= inputs else matrix.T @ matrix
    gram.diagonal().sub_(1)
    return gram, (gram.square().sum() + max(outputs - inputs, 0)).sqrt()


def _descend(weight: Tensor, mask: Tensor | None, lr: float) -> Tensor:
    """Take one step on one layer's norm, in place, and return the norm before it."""
    matrix = weight.flatten(1)
    gram, norm = _residual(matrix)
    product = gram @ matrix if matrix.shape[0] <= matrix.shape[1] else matrix @ gram
    # At norm 0 the product is 0 too: a subgradient.
    gradient = (product * (2 / norm.clamp(min=1e-12))).view_as(weight)
    weight.sub_(gradient if mask is None else gradient * mask, alpha=lr)
    return norm


def _plateau(sums: list[Tensor], patience: int, tolerance: float) -> bool:
    if len(sums) <= patience:
        return False
    values = torch.stack(sums)
    return bool(values[-patience:].min() > values[:-patience].min() * (1 - tolerance))


def _check_finite(names: list[str], norms: list[Tensor], step: int) -> None:
    for name, norm in zip(names, norms, strict=True):
        if not isfinite(float(norm)):
            raise PruningError(
                f"isometry: the norm of layer {name!r} is {float(norm)} at step {step}; lower lr"
            )
