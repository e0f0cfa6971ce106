"""A penalty beside the loss, by its gradient: added in every step, whatever loop trains."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def penalised(
    optimizer: torch.optim.Optimizer,
    gradients: Callable[[], Iterable[tuple[nn.Parameter, Tensor]]],
) -> Iterator[None]:
    """Add `gradients()`, by parameter, to the loss's own before each step of `optimizer`.

    Once a step, however many backward passes it has, and after clipping. A parameter without a
    gradient gets none.
    """

    @torch.no_grad()
    def add(stepping: torch.optim.Optimizer, *_: Any) -> None:
        # Fused optimizers undo the loss scaling of float16 within their step, so after this.
        factor = getattr(stepping, "grad_scale", None)
        for parameter, gradient in gradients():
            if parameter.grad is not None:
                parameter.grad.add_(gradient if factor is None else gradient * factor)

    handle = optimizer.register_step_pre_hook(add)
    try:
        yield
    finally:
        handle.remove()
