"""One training loop for dense, pruned and rewound networks alike."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning.errors import PruningError, first_line, unknown

Hook: TypeAlias = Callable[[int, Tensor], None]
"""Called after each step with the number of steps done and the batch's loss."""

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}

COMPILING = ("default", "reduce-overhead", "max-autotune")
"""The modes of `torch.compile`."""

CHECK_EVERY = 25
"""Steps between two looks at the loss on an accelerator, where each look waits for the device."""


class Diverged(PruningError):
    """The loss became NaN or infinite."""

    def __init__(self, step: int, loss: float) -> None:
        """Remember the step and the loss that it gave."""
        super().__init__(f"the loss became {loss} at step {step}")
        self.step = step
        self.loss = loss

    def __reduce__(self) -> tuple[type["Diverged"], tuple[int, float]]:
        """Cross process borders with both values."""
        return type(self), (self.step, self.loss)


def fit(
    model: nn.Module,
    batches: Iterator[Any],
    optimizer: torch.optim.Optimizer,
    loss: Callable[[nn.Module, Any], Tensor],
    *,
    steps: int,
    start: int = 0,
    lr: Callable[[int], float] | None = None,
    clip: float | None = None,
    precision: str = "float32",
    compile: str | None = None,
    gradients: Callable[[nn.Module], None] | None = None,
    hooks: Sequence[Hook] = (),
) -> None:
    """Train `model` from step `start` up to step `steps`; `batches` begins with step `start`'s.

    `lr(step)` is the learning rate of a step, `clip` bounds the gradients' norm, `precision` is
    float32, or bfloat16 or float16 for autocast (float16 with loss scaling), `compile` a mode of
    `torch.compile` for the model as it trains. `gradients` may change a step's gradients before
    they are clipped. Raises `Diverged` when the loss is NaN or infinite, before that step changes
    anything on the CPU.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if compile is not None and compile not in COMPILING:
        raise unknown("way to compile", compile, COMPILING)
    device = next(model.parameters()).device.type
    scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
    model.train()
    called: Any = model if compile is None else torch.compile(model, mode=compile, dynamic=False)
    for step in range(start, steps):
        if lr is not None:
            _set_learning_rate(optimizer, lr(step))
        batch = _next(batches, step, steps)
        optimizer.zero_grad()
        with _autocast(device, precision), _heeding_hooks(compile):
            value = _loss(loss, called, batch, step)
        waits = device != "cpu" and step + 1 < steps
        _check_finite(value, step, every=CHECK_EVERY if waits else 1)
        scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        if gradients is not None:
            gradients(model)
        if clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        for hook in hooks:
            hook(step + 1, value.detach())


def every(steps: int, hook: Hook) -> Hook:
    """Return a hook that calls `hook` after every `steps` steps."""

    def periodic(step: int, loss: Tensor) -> None:
        if step % steps == 0:
            hook(step, loss)

    return periodic


def at(steps: Collection[int], hook: Hook) -> Hook:
    """Return a hook that calls `hook` after each of the given steps."""

    def sometimes(step: int, loss: Tensor) -> None:
        if step in steps:
            hook(step, loss)

    return sometimes


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and at the end each of its modules back in its own."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Return mean cross entropy and accuracy in [0, 1] over (images, labels) batches, in eval mode.

    The training mode of each of the model's modules is put back.
    """
    loss, right, count = 0.0, 0, 0
    with evaluating(model):
        for images, labels in batches:
            output = model(images)
            loss += nn.functional.cross_entropy(output, labels, reduction="sum").item()
            right += int((output.argmax(1) == labels).sum())
            count += labels.numel()
    if count == 0:
        raise PruningError("no batches to evaluate on")
    return loss / count, right / count


def _next(batches: Iterator[Any], step: int, steps: int) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise PruningError(f"the batches ended at step {step} of {steps}") from None


def _loss(
    loss: Callable[[nn.Module, Any], Tensor], model: nn.Module, batch: Any, step: int
) -> Tensor:
    """Return the loss of a batch; tell in one line what the model says of one that it refuses."""
    try:
        return loss(model, batch)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, PruningError):
            raise
        sizes = [str(tuple(x.shape)) for x in tree_leaves(batch) if isinstance(x, Tensor)]
        reason = first_line(error)
        name = type(getattr(model, "_orig_mod", model)).__name__  # not that of torch.compile
        raise PruningError(
            f"{name} cannot train on the batch of step {step}, {', '.join(sizes)}: {reason}"
        ) from error


def _set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device, dtype=dtype)


def _heeding_hooks(compile: str | None) -> AbstractContextManager[Any]:
    """Keep what was compiled of one model from another of its class that has other hooks."""
    if compile is None:
        return nullcontext()
    return torch._dynamo.config.patch(skip_nnmodule_hook_guards=False)  # type: ignore[no-any-return]


def _check_finite(value: Tensor, step: int, *, every: int) -> None:
    if step % every == 0:
        number = float(value.detach())
        if not math.isfinite(number):
            raise Diverged(step, number)
