"""Data-parallel training of one network by processes that `torchrun` started: one batch, shared.

Each rank holds the whole network and computes its part of every global batch; what the ranks'
gradients say together is the gradient of the whole batch, so that training goes as in one process
up to the order of float additions. Batch normalisation sees its own rank's part of the batch, as
in torch's DistributedDataParallel; its running statistics are averaged.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pruning.errors import PruningError
from pruning.types import Masks


@contextmanager
def group(device: str = "cpu") -> Iterator[None]:
    """Join the processes that torchrun started, by gloo on the CPU and by NCCL elsewhere."""
    dist.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return which process this is: 0 without torchrun, and for the one that writes and logs."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """Return how many processes train together: 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def part(batch: Any) -> Any:
    """Return this rank's part of a batch: tensors, or tuples, lists and mappings of them.

    A batch that is not divisible gives the first ranks one sample more. Raises `PruningError` where
    a batch has fewer samples than there are ranks.
    """
    if isinstance(batch, Tensor):
        if len(batch) < processes():
            raise PruningError(f"{len(batch)} samples in a batch do not feed {processes()} ranks")
        return batch.tensor_split(processes())[rank()]
    if isinstance(batch, Mapping):
        return {name: part(value) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(part(value) for value in batch)
    return batch


def shared(
    loss: Callable[[nn.Module, Any], Tensor],
) -> Callable[[nn.Module, Any], Tensor]:
    """Return the mean loss of the global batch, whose gradient is this rank's share of it.

    `loss` gives the mean over the samples of a batch. The value is the same on every rank, so that
    all stop together when it diverges; `add_gradients` completes the gradient.
    """

    def whole(model: nn.Module, batch: Any) -> Tensor:
        mine = part(batch)
        here = loss(model, mine) * (_samples(mine) / _samples(batch))
        total = here.detach().clone()
        dist.all_reduce(total)
        return here + (total - here.detach())

    return whole


@torch.no_grad()
def add_gradients(model: nn.Module) -> None:
    """Replace each gradient by its sum over the ranks, in one message.

    Masked gradients stay masked: a sum of zeros is zero. A parameter without a gradient on some
    rank must have none on any.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, summed in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(summed.view_as(gradient))


def total(count: int, device: torch.device) -> int:
    """Return the sum of the ranks' counts: `count` itself without torchrun."""
    if processes() == 1:
        return count
    summed = torch.tensor(count, device=device)
    dist.all_reduce(summed)
    return int(summed)


@torch.no_grad()
def average_buffers(model: nn.Module) -> None:
    """Give every rank the mean of the ranks' float buffers: the running statistics."""
    for buffer in model.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer.div_(processes())


def broadcast_masks(masks: Mapping[str, Tensor]) -> Masks:
    """Return rank 0's masks; the names and shapes must be those of every rank."""
    same_names(masks)
    sent = {name: mask.to(torch.uint8) for name, mask in masks.items()}
    for bits in sent.values():
        dist.broadcast(bits, src=0)
    return {name: bits.bool() for name, bits in sent.items()}


def same_names(tensors: Mapping[str, Tensor]) -> None:
    """Raise `PruningError` where the ranks' tensors differ in name, shape or type."""
    mine = [(name, tuple(value.shape), str(value.dtype)) for name, value in tensors.items()]
    found: list[Any] = [None] * processes()
    dist.all_gather_object(found, mine)
    for other, theirs in enumerate(found):
        if theirs != found[0]:
            odd = next((a or b for a, b in _pairs(found[0], theirs) if a != b), None)
            raise PruningError(f"rank {other} differs from rank 0: {odd and odd[0]!r}")


def check_equal(tensors: Mapping[str, Tensor]) -> None:
    """Raise `PruningError` on every rank, naming the first tensor that is not bit for bit rank 0's.

    NaNs count as equal to themselves.
    """
    same_names(tensors)
    for name, value in tensors.items():
        first = value.detach().clone().contiguous()
        dist.broadcast(first, src=0)
        differs = torch.tensor(0 if _same(first, value) else 1 + rank(), device=value.device)
        dist.all_reduce(differs, op=dist.ReduceOp.MAX)
        if worst := int(differs):
            raise PruningError(f"rank {worst - 1} differs from rank 0 in {name!r}")


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _pairs(one: list[Any], other: list[Any]) -> Iterator[tuple[Any, Any]]:
    length = max(len(one), len(other))
    padded = (side + [None] * (length - len(side)) for side in (one, other))
    return zip(*padded, strict=True)


def _samples(batch: Any) -> int:
    if isinstance(batch, Tensor):
        return len(batch)
    values = batch.values() if isinstance(batch, Mapping) else batch
    return next(_samples(value) for value in values if isinstance(value, Tensor))
