"""Masked weights on disk without their zeros: the kept values, and a bit a weight for where."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pruning import masks as mask_tools
from pruning.errors import PruningError, first_line
from pruning.tensors import read_tensors, write_tensors


def write_compressed(path: Path, state: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Write a state_dict into one safetensors file, of masked tensors only what is kept.

    For a masked NAME the file has NAME with the kept values in order, NAME/mask with a bit a weight
    and NAME/shape; every other tensor is whole. Raises `PruningError` where the file cannot be
    written and for a mask without its tensor.
    """
    parts = dict(state)
    for name, mask in masks.items():
        if name not in state:
            raise PruningError(f"{path}: there is no tensor {name!r} for the mask of that name")
        parts[name] = state[name].detach().cpu()[mask.cpu()]
        parts[f"{name}/mask"] = mask_tools.pack(mask.cpu())
        parts[f"{name}/shape"] = torch.tensor(mask.shape)
    write_tensors(path, parts)


def read_compressed(path: Path) -> dict[str, Tensor]:
    """Return the state_dict of a file, pruned weights zero; `PruningError` for another file."""
    parts = read_tensors(path)
    found = {name: tensor for name, tensor in parts.items() if "/" not in name}
    for name in [each.removesuffix("/mask") for each in parts if each.endswith("/mask")]:
        try:
            mask = mask_tools.unpack(parts[f"{name}/mask"], parts[f"{name}/shape"].tolist())
            whole = torch.zeros(mask.shape, dtype=found[name].dtype)
            whole[mask] = found[name]
        except (KeyError, RuntimeError, IndexError, PruningError) as error:
            reason = first_line(error)
            raise PruningError(f"{path}: {name!r} is no compressed tensor: {reason}") from None
        found[name] = whole
    return found
