"""May a pruned weight come back: hold masks through any training loop, from outside the model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools

Masked = list[tuple[nn.Parameter, Tensor]]

ZERO_PRESERVING = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
)
"""Optimizers that work on each weight alone and map (weight, gradient, state) = 0 to 0.

Under these, masked gradients are enough once weights and state are clean, weight decay included,
which makes enforcement three times cheaper. Not so Adagrad (its state may start above zero),
Adafactor, LBFGS or Muon (they mix weights): what is not listed is cleaned after every step.
"""


@contextmanager
def enforced(
    model: nn.Module, optimizer: torch.optim.Optimizer, masks: Mapping[str, Tensor]
) -> Iterator[None]:
    """Keep every pruned weight at zero while any loop trains `model` with `optimizer`.

    On entry the pruned weights and the optimizer's state at their places become zero: momentum from
    before would revive them. Their gradients are zeroed as they arrive, so that clipping sees the
    sparse network only; after each step of an optimizer that is not known to keep zeros at zero,
    weights and state are zeroed again. On exit every pruned weight is checked, and `PruningError`
    raised where one is not zero. The model's names, module hooks and `deepcopy` are untouched.
    """
    mask_tools.apply(model, masks)
    params = dict(model.named_parameters(remove_duplicate=False))
    masked = [(params[n], m.to(params[n].device, params[n].dtype)) for n, m in masks.items()]
    _clean(optimizer, masked)
    handles = [
        p.register_post_accumulate_grad_hook(_masking(m))  # type: ignore[no-untyped-call]
        for p, m in masked
    ]
    if type(optimizer) not in ZERO_PRESERVING:
        handles.append(optimizer.register_step_post_hook(lambda *_: _clean(optimizer, masked)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    mask_tools.verify(model, masks)


def _masking(mask: Tensor) -> Callable[[Tensor], None]:
    def mask_gradient(parameter: Tensor) -> None:
        if parameter.grad is not None:
            parameter.grad.mul_(mask)

    return mask_gradient


@torch.no_grad()
def _clean(optimizer: torch.optim.Optimizer, masked: Masked) -> None:
    for parameter, mask in masked:
        parameter.mul_(mask)
        for value in _state_of(optimizer, parameter).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value.mul_(mask)


def _state_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Any]:
    # `state` is a defaultdict: asking for an absent key would create it.
    state: dict[str, Any] = optimizer.state.get(parameter, {})
    return state
