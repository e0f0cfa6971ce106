"""A penalty beside the loss, by its gradient: added in every step, whatever loop trains."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pruning.errors import PruningError


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
    def add(stepping: torch.optim.Optimizer) -> None:
        # Fused optimizers undo the loss scaling of float16 within their step, so after this.
        factor = getattr(stepping, "grad_scale", None)
        for parameter, gradient in gradients():
            if parameter.grad is not None:
                parameter.grad.add_(gradient if factor is None else gradient * factor)

    handle = when_computed(optimizer, add)
    try:
        yield
    finally:
        handle.remove()


def when_computed(
    optimizer: torch.optim.Optimizer, act: Callable[[torch.optim.Optimizer], None]
) -> RemovableHandle:
    """Call `act(optimizer)` in every step once its gradients are there and before it uses them.

    That is before the step, or within it, after the closure by which many loops compute them there.
    Raises `PruningError` where an optimizer calls that more than once a step.
    """

    def before(stepping: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        own, *given = args
        closure = given[0] if given else kwargs.get("closure")
        if closure is None:
            act(stepping)
            return None
        then = _followed(closure, act, stepping)
        return ((own, then, *given[1:]), kwargs) if given else (args, {**kwargs, "closure": then})

    return optimizer.register_step_pre_hook(before)


def _followed(
    closure: Callable[[], Any],
    act: Callable[[torch.optim.Optimizer], None],
    optimizer: torch.optim.Optimizer,
) -> Callable[[], Any]:
    called = False

    def computing() -> Any:
        nonlocal called
        if called:
            raise PruningError(
                f"{type(optimizer).__name__} computes gradients several times a step, which "
                f"nothing that changes them once a step can follow; choose another optimizer"
            )
        called = True
        value = closure()
        act(optimizer)
        return value

    return computing
