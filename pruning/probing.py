"""Look at a model's gradients without a trace: mode, buffers and `.grad` stay as they were."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pruning.errors import PruningError, first_line
from pruning.evidence import Evidence
from pruning.randomness import seeded


def _no_loss(model: nn.Module, batch: Any) -> Tensor:
    raise PruningError(f"no evidence for {type(model).__name__}, asked for a loss on {batch!r}")


def _no_inputs(batch: Any) -> tuple[Any, ...]:
    raise PruningError(f"no evidence, asked for the inputs of {batch!r}")


def no_evidence() -> Evidence:
    """Return the evidence of a criterion that looks at the weights alone: no batch, seed 0."""
    return Evidence((), _no_loss, _no_inputs)


def first_batches(
    evidence: Evidence, method: str, limit: int | None = None, *, axis: str = "criterion"
) -> Sequence[Any]:
    """Return the first `limit` batches (None: all); refuse evidence that has none."""
    if limit is not None and limit < 1:
        raise PruningError(f"{axis} {method!r}: batches {limit!r} is not a count of at least 1")
    if not len(evidence.batches):
        raise PruningError(f"{axis} {method!r} needs data: give `evidence` with batches")
    return evidence.batches[:limit]


@contextmanager
def undisturbed(
    model: nn.Module, generator: torch.Generator, *, training: bool = False
) -> Iterator[None]:
    """Run a model in another mode, with gradients, then put back its modes and its buffers.

    Dropout draws from `generator`'s next number; attention takes the path that has second
    derivatives; recurrent layers do without cuDNN, which has no gradient for them in eval mode.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()] if training else []
    model.train(training)
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if any(isinstance(module, nn.RNNBase) for module in model.modules()):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            if training:
                stack.enter_context(seeded(model, generator))
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


@contextmanager
def named(
    method: str, model: nn.Module, *, axis: str = "criterion", doing: str = "score"
) -> Iterator[None]:
    """Tell a failure inside the model in one line that names the method and the model."""
    try:
        yield
    except PruningError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        reason = first_line(error)
        kind = type(model).__name__
        raise PruningError(f"{axis} {method!r} cannot {doing} {kind}: {reason}") from error


def gradients(
    model: nn.Module,
    params: Mapping[str, Tensor],
    evidence: Evidence,
    method: str,
    *,
    limit: int | None = None,
    training: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Yield the gradient of the loss for each batch; a weight that the loss never meets has zero.

    In eval mode unless `training`. Raises `PruningError` for evidence without batches and a
    frozen weight.
    """
    wanted = differentiable(params, method)
    with undisturbed(model, evidence.generator, training=training), named(method, model):
        for batch in first_batches(evidence, method, limit):
            loss = evidence.loss(model, batch)
            found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
            yield dict(zip(params, found, strict=True))


def differentiable(params: Mapping[str, Tensor], method: str) -> list[Tensor]:
    """Return the parameters; refuse one that is frozen."""
    for name, parameter in params.items():
        if not parameter.requires_grad:
            raise PruningError(
                f"criterion {method!r} needs a gradient, but layer {name!r} is frozen "
                "(requires_grad=False)"
            )
    return [*params.values()]


def total(parts: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the sum over all parts, by name."""
    result: dict[str, Tensor] = {}
    for part in parts:
        result = {name: part[name] + result[name] for name in part} if result else part
    return result
