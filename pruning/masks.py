"""Masks: which weights stay. Boolean, by parameter name, True means kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pruning.errors import PruningError


@dataclass(frozen=True)
class Layer:
    """One row of the table of what each layer lost."""

    layer: str
    shape: tuple[int, ...]
    weights: int
    kept: int

    @property
    def sparsity(self) -> float:
        """The fraction of the layer's weights that is pruned."""
        return 1 - self.kept / self.weights


def dense(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return masks that keep everything."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in params.items()}


def check(masks: Mapping[str, Tensor], model: nn.Module, *, where: str = "masks") -> None:
    """Refuse masks that do not fit `model`: a foreign name, another shape, not boolean."""
    params = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        if name not in params:
            raise PruningError(f"{where}: the model has no parameter {name!r}; it has {[*params]}")
        if mask.shape != params[name].shape:
            raise PruningError(
                f"{where}: mask {name!r} has shape {tuple(mask.shape)}, "
                f"its parameter {tuple(params[name].shape)}"
            )
        if mask.dtype != torch.bool:
            raise PruningError(f"{where}: mask {name!r} is {mask.dtype}, expected torch.bool")


def by_first_name(
    model: nn.Module, masks: Mapping[str, Tensor], *, where: str = "masks"
) -> dict[str, Tensor]:
    """Return masks by each parameter's first name, on its device; those of a tied one are joined.

    Raises `PruningError` for masks that `check` refuses.
    """
    check(masks, model, where=where)
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    params = dict(model.named_parameters(remove_duplicate=False))
    found: dict[str, Tensor] = {}
    for name, mask in masks.items():
        known, moved = first[id(params[name])], mask.to(params[name].device)
        found[known] = found[known] & moved if known in found else moved
    return found


@torch.no_grad()
def apply(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero every pruned weight of `model`, in place."""
    check(masks, model)
    params = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        params[name].masked_fill_(~mask.to(params[name].device), 0)


@torch.no_grad()
def verify(model: nn.Module, masks: Mapping[str, Tensor], *, where: str = "model") -> None:
    """Refuse a model in which a pruned weight is not exactly zero."""
    check(masks, model, where=where)
    params = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        alive = int(torch.count_nonzero(params[name].masked_fill(mask.to(params[name].device), 0)))
        if alive:
            raise PruningError(f"{where}: {alive} pruned weights of layer {name!r} are not zero")


def sparsity(masks: Mapping[str, Tensor]) -> float:
    """Return the fraction of the prunable weights that the masks prune."""
    total = sum(mask.numel() for mask in masks.values())
    return 1 - kept(masks) / total if total else 0.0


def kept(masks: Mapping[str, Tensor]) -> int:
    """Return the number of weights that stay."""
    return sum(int(mask.sum()) for mask in masks.values())


def layers(masks: Mapping[str, Tensor]) -> list[Layer]:
    """Return what each layer lost, in the order of the masks."""
    return [
        Layer(name, tuple(mask.shape), mask.numel(), int(mask.sum()))
        for name, mask in masks.items()
    ]


def collapsed(masks: Mapping[str, Tensor]) -> list[str]:
    """Return the layers that lost everything (layer collapse)."""
    return [name for name, mask in masks.items() if not bool(mask.any())]


def pack(mask: Tensor) -> Tensor:
    """Return the mask as bits, eight weights a byte, first weight in the highest bit.

    >>> pack(torch.tensor([[True, False, True], [False, False, True]]))
    tensor([164], dtype=torch.uint8)
    """
    return torch.from_numpy(np.packbits(mask.detach().cpu().numpy().reshape(-1)))


def unpack(bits: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the mask of `shape` that `pack` made these bits of.

    Raises `PruningError` where the bits are too few or too many for the shape.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if bits.dtype != torch.uint8 or bits.numel() != (count + 7) // 8:
        raise PruningError(
            f"{bits.numel()} bytes of {bits.dtype} are not the bits of a mask of {tuple(shape)}"
        )
    flat = np.unpackbits(bits.numpy(), count=count)
    return torch.from_numpy(flat.astype(bool).reshape(tuple(shape)))
