"""Comparisons of a block of scores, on the CPU by NumPy: there they are ten times as fast."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

# Both compare at the precision of the finer of the two, as the value is an array and no scalar.

COMMON = (torch.float32, torch.float64, torch.float16)
"""The types that NumPy knows too."""


def above(block: Tensor, value: Tensor) -> Tensor:
    """Return where `block` is greater than the one element of `value`."""
    array = _array(block)
    return block > value if array is None else torch.from_numpy(array > _array(value))


def at_least(block: Tensor, value: Tensor) -> Tensor:
    """Return where `block` is greater than or equal to the one element of `value`."""
    array = _array(block)
    return block >= value if array is None else torch.from_numpy(array >= _array(value))


def places(block: Tensor, value: Tensor) -> Tensor:
    """Return the positions at which `block` equals the one element of `value`, in order."""
    array = _array(block)
    if array is None:
        return (block == value).nonzero().flatten()
    return torch.from_numpy(np.flatnonzero(array == _array(value)))


def chosen(block: Tensor, flags: Tensor) -> Tensor:
    """Return the elements of `block` where `flags` is set."""
    array = _array(block)
    return block[flags] if array is None else torch.from_numpy(array[flags.numpy()])


def count(flags: Tensor) -> int:
    """Return how many `flags` are set."""
    if flags.device.type != "cpu":
        return int(flags.sum())
    return int(np.count_nonzero(flags.numpy()))


def _array(block: Tensor) -> Any:
    """Return the same memory as an array, None where NumPy has no such thing."""
    if block.device.type != "cpu" or block.dtype not in COMMON:
        return None
    return block.detach().numpy()
