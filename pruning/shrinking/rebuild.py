"""From a plan and a model to the shrunk network: the same modules over smaller tensors."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pruning.errors import PruningError
from pruning.masks import by_first_name
from pruning.shrinking.adapters import adapt, resize
from pruning.shrinking.plan import FORMAT, Plan


def apply_plan(
    model: nn.Module, plan: Plan, *, masks: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Return a copy of `model` that holds only what the plan keeps; the model is left as it is.

    Modules keep their classes, but for norms that select channels and attention with fewer heads,
    which become subclasses or stand-ins; parameters keep their names. `masks` zero what they prune
    of the kept weights. Raises `PruningError` for a plan of another model.
    """
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    _check(model, plan, tensors)
    masks = by_first_name(model, masks or {})
    memo: dict[int, Any] = {}
    for name, tensor in tensors.items():
        kept = plan["kept"].get(name, {})
        mask = masks.get(name)
        if kept or mask is not None:
            memo[id(tensor)] = _smaller(tensor, kept, mask)
    shrunk = copy.deepcopy(model, memo)
    for path, settings in plan["modules"].items():
        adapt(shrunk.get_submodule(path), settings)
    for module in shrunk.modules():
        resize(module)
    return shrunk


def keep(plan: Plan, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the plan keeps of tensors by parameter name, such as masks or scores."""
    found = {}
    for name, tensor in tensors.items():
        cut = tensor
        for dim, positions in plan["kept"].get(name, {}).items():
            cut = cut.index_select(int(dim), torch.tensor(positions, device=tensor.device))
        found[name] = cut
    return found


@torch.no_grad()
def _smaller(tensor: Tensor, kept: Mapping[str, Sequence[int]], mask: Tensor | None) -> Tensor:
    found = tensor.detach()
    # The dimension that loses most goes first: less is copied in between.
    shares = sorted(kept, key=lambda dim: len(kept[dim]) / tensor.shape[int(dim)])
    for dim in shares:
        positions = torch.tensor(kept[dim], device=tensor.device)
        found = found.index_select(int(dim), positions)
        mask = mask if mask is None else mask.index_select(int(dim), positions)
    if mask is not None:
        found = found.masked_fill(~mask, 0)
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        found = found.contiguous(memory_format=torch.channels_last)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(found, requires_grad=tensor.requires_grad)
    return found


def _check(model: nn.Module, plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    if plan.get("format") != FORMAT:
        raise PruningError(f"plan: format {plan.get('format')!r}, expected {FORMAT}")
    kind = type(model).__name__
    for name, dims in plan["kept"].items():
        if name not in tensors:
            raise PruningError(f"plan: {kind} has no parameter or buffer {name!r}")
        shape = tuple(tensors[name].shape)
        for dim, positions in dims.items():
            if (
                int(dim) >= len(shape)
                or not 0 <= min(positions) <= max(positions) < shape[int(dim)]
            ):
                raise PruningError(
                    f"plan: keeps {len(positions)} positions up to {max(positions)} of dimension "
                    f"{dim} of {name!r}, whose shape is {shape}"
                )
    modules = dict(model.named_modules())
    for path in plan["modules"]:
        if path not in modules:
            raise PruningError(f"plan: {kind} has no module {path!r}")
