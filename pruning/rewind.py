"""Snapshots of training, and going back to one: weights, optimizer and schedule."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.errors import PruningError

COUNTS = ("step", "mu_product")
"""What torch's optimizers count for a parameter, by the names under which they remember it."""


@dataclass(frozen=True)
class Snapshot:
    """Where training stood after `step` steps.

    `model` is its state_dict; `optimizer` holds the optimizer's tensors by
    "parameter name/state key". Both are copies: later training does not reach them.
    """

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]


def capture(model: nn.Module, optimizer: torch.optim.Optimizer | None, step: int) -> Snapshot:
    """Return a copy of all state of `model` and `optimizer` after `step` steps."""
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return Snapshot(step, state, {} if optimizer is None else _optimizer_state(model, optimizer))


@torch.no_grad()
def restore(
    model: nn.Module,
    snapshot: Snapshot,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> int:
    """Put `model`, and `optimizer` where given, back to `snapshot`; return the step to go on from.

    A kept weight equals its snapshot bit for bit, a pruned one is zero. The schedule resumes by
    itself when training goes on from the returned step. Raises `PruningError` where the snapshot is
    another model's.

    Source: Frankle et al. 2019, "Stabilizing the Lottery Ticket Hypothesis" (rewinding to step k).
    """
    _check(model, snapshot)
    model.load_state_dict(dict(snapshot.model))
    if masks:
        mask_tools.apply(model, masks)
    if optimizer is not None:
        _restore_optimizer(model, optimizer, snapshot.optimizer)
    return snapshot.step


def placed(
    value: Tensor, parameter: Tensor, optimizer: torch.optim.Optimizer, key: str = ""
) -> Tensor:
    """Return a copy of a parameter's optimizer state, read from a file, where it belongs.

    That is with the parameter, but for the counts of steps that Adam and its kin keep on the CPU.
    The state of a parameter that is a single number is told from them by its `key`.
    """
    flags = ("fused", "capturable")  # under which the counts too are where the parameters are
    together = any(group.get(flag) for group in optimizer.param_groups for flag in flags)
    count = not value.ndim and (parameter.ndim > 0 or key in COUNTS)
    return value.to(value.device if count and not together else parameter.device, copy=True)


def _optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    flat = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                flat[f"{name}/{key}"] = value.detach().clone()
            elif value is not None:
                raise PruningError(f"optimizer state {key!r} of {name!r} is no tensor: {value!r}")
    return flat


def _restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]
) -> None:
    params = dict(model.named_parameters())
    optimizer.state.clear()
    for path, value in state.items():
        name, _, key = path.rpartition("/")
        if name not in params:
            raise PruningError(f"snapshot has optimizer state for {name!r}, the model does not")
        optimizer.state[params[name]][key] = placed(value, params[name], optimizer, key)


def _check(model: nn.Module, snapshot: Snapshot) -> None:
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in snapshot.model.items()}
    for name in {**own, **theirs}:
        if own.get(name) != theirs.get(name):
            raise PruningError(
                f"the snapshot of step {snapshot.step} is of another model: {name!r} has shape "
                f"{theirs.get(name)} there, {own.get(name)} here"
            )
