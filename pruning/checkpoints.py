"""Weights that others have trained: state_dicts in safetensors or torch files, no code run."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.errors import PruningError, first_line
from pruning.tensors import read_tensors

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under which of these a training script's file usually keeps the state_dict."""


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state_dict of a file: .safetensors, or what torch.save wrote of tensors alone.

    The second is read with `weights_only`, which builds tensors and containers and runs no code. A
    state_dict under a usual name is found, and a prefix "module." that all names share is dropped.
    Raises `PruningError` for a file that is absent, truncated, foreign, or more than tensors.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = first_line(error)
        raise PruningError(f"{path}: no readable state_dict: {reason}") from None
    return _plain(_unwrapped(found), path)


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Give `model` the weights of a state_dict, all of them; `PruningError` names what differs."""
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in state.items()}
    differing = [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]
    if differing:
        name = differing[0]
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        raise PruningError(
            f"{where}: not of this {type(model).__name__}: {name!r} has shape {theirs.get(name)} "
            f"there, {own.get(name)} in the model{more}"
        )
    model.load_state_dict(dict(state))


def _unwrapped(found: Any) -> Any:
    if isinstance(found, Mapping):
        for name in WRAPPERS:
            if isinstance(found.get(name), Mapping):
                return found[name]
    return found


def _plain(found: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(found, Mapping) or not found:
        raise PruningError(f"{path}: holds {type(found).__name__}, expected a state_dict")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise PruningError(
                f"{path}: holds {type(value).__name__} under {name!r}, expected a state_dict of "
                f"tensors, by itself or under {', '.join(WRAPPERS)}"
            )
    parallel = all(name.startswith("module.") for name in found)
    return {name.removeprefix("module.") if parallel else name: t for name, t in found.items()}
