"""A user's own arrays become checked tensors, or are refused with what is wrong and where."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pruning.errors import PruningError


def pixels(images: Any, what: str) -> Tensor:
    """Return uint8 images (N, C, H, W) on the CPU of uint8, or of floats in [0, 1].

    Floats are rounded to the nearest of 256 levels; (N, H, W) gets one channel. `what` names the
    images in the `PruningError` that NaN, infinity and values out of range raise.
    """
    tensor = _tensor(images, what)
    if tensor.ndim not in (3, 4) or tensor.numel() == 0:
        expected = "expected at least one image, as (N, C, H, W) or (N, H, W)"
        raise PruningError(f"{what} have shape {tuple(tensor.shape)}; {expected}")
    if tensor.is_floating_point():
        tensor = _quantised(tensor, what)
    if tensor.dtype != torch.uint8:
        raise PruningError(f"{what} are {tensor.dtype}; choose from torch.uint8, floats in [0, 1]")
    return tensor if tensor.ndim == 4 else tensor.unsqueeze(1)


def targets(labels: Any, what: str) -> Tensor:
    """Return int64 labels (N,) on the CPU of any integers."""
    tensor = _tensor(labels, what)
    if tensor.ndim != 1 or tensor.dtype.is_floating_point or tensor.dtype == torch.bool:
        got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        raise PruningError(f"{what} are {got}; expected one integer an image, (N,)")
    return tensor.long()


def check_pairs(images: Tensor, labels: Tensor, classes: Sequence[str], what: str) -> None:
    """Refuse lengths that differ and labels that name no class."""
    if len(images) != len(labels):
        raise PruningError(f"{len(images)} {what} have {len(labels)} labels")
    wrong = ((labels < 0) | (labels >= len(classes))).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        value = f"label {int(labels[first])} of {what}[{first}]"
        raise PruningError(
            f"{value} is outside 0 to {len(classes) - 1}, the {len(classes)} classes"
        )


def check_learnable(labels: Tensor, classes: Sequence[str]) -> None:
    """Refuse data of a single class, and classes without a sample."""
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    present = [name for name, count in zip(classes, counts, strict=True) if count]
    if len(present) < 2:
        raise PruningError(f"all {len(labels)} samples are of one class, {present[0]!r}")
    if len(present) < len(classes):
        absent = [name for name in classes if name not in present]
        raise PruningError(f"class {absent[0]!r} has no sample among the {len(labels)}")


def numbered_classes(labels: Tensor) -> tuple[str, ...]:
    """Return the names "0", "1", ... up to the largest of `labels`."""
    largest = int(labels.max()) if len(labels) else 0
    if largest >= len(labels):
        raise PruningError(f"label {largest} is too large for {len(labels)} samples of every class")
    return tuple(str(number) for number in range(largest + 1))


def _tensor(values: Any, what: str) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch warns of arrays that it could write to but must not
    try:
        return torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise PruningError(f"{what} cannot become a tensor: {error}") from error


def _quantised(images: Tensor, what: str) -> Tensor:
    broken = (~images.isfinite()).nonzero()
    if len(broken):
        count = f"{len(broken)} of {images.numel()} values are NaN or infinite"
        raise PruningError(f"{what}: {count}, the first at index {tuple(broken[0].tolist())}")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise PruningError(f"{what} reach from {low:g} to {high:g}; floats must lie in [0, 1]")
    return images.float().mul(255).round().to(torch.uint8)
