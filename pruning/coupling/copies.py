"""Copies of a model that share its tensors, and how it is called."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn

Example: TypeAlias = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]
"""What the model is called with: one tensor, positional arguments, or keyword arguments."""


def arguments(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return example inputs as positional and keyword arguments."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, tuple | list) else (example,)), {}


def skeleton(model: nn.Module, replacements: Mapping[int, Tensor] | None = None) -> nn.Module:
    """Return a copy of the modules that shares the tensors, but for replacements by `id`."""
    tensors = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    return copy.deepcopy(model, memo | dict(replacements or {}))


def runnable(model: nn.Module, replacements: Mapping[int, Tensor] | None = None) -> nn.Module:
    """Return a skeleton in eval mode with buffers of its own, which a forward may write into."""
    own: dict[int, Tensor] = {id(buffer): buffer.detach().clone() for buffer in model.buffers()}
    return skeleton(model, own | dict(replacements or {})).eval()


@contextmanager
def watched(model: nn.Module) -> Iterator[list[str]]:
    """Keep a list of the modules that are running, outermost first; hooks stay until the end."""
    running: list[str] = []

    def leave(*_: Any) -> None:
        running.pop()

    handles = []
    for name, module in model.named_modules():
        enter = partial(_enter, running, name)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


def _enter(running: list[str], name: str, *_: Any) -> None:
    running.append(name)
