"""The criterion that needs no data: how much signal flows through each weight."""

import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves, tree_map

from pruning.errors import PruningError, unknown
from pruning.evidence import Evidence
from pruning.probing import first_batches, named, undisturbed
from pruning.scores import BLOCK
from pruning.types import Params, Scores

NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

HUGE = 1 << 21
"""Bytes from which on memory of its own is worth asking for: a huge page of x86 and of ARM."""


def synflow(
    model: nn.Module, params: Params, evidence: Evidence, *, normalisation: str = "identity"
) -> Scores:
    """Synaptic flow, |w * dR/dw| with R the sum of outputs of the network of |w| fed with ones.

    Source: Tanaka et al. 2020, "Pruning neural networks without any data", algorithm 1.

    Prune with `rounds: 100` and `schedule: geometric` for the paper's algorithm. Of the evidence
    only the shape of the first batch's inputs is used; integer inputs (tokens) stay, as no token is
    "one". In float64: float32 overflows on ResNet-56. `normalisation: identity` takes normalising
    layers out, which is what BatchNorm in eval mode is at initialisation; `eval` leaves them in
    with absolute values of all they hold, as the authors' code does.
    """
    if normalisation not in ("identity", "eval"):
        raise unknown("normalisation", normalisation, ("identity", "eval"), "criterion 'synflow'")
    inputs = _ones(evidence, model)
    args, kwargs = ((), dict(inputs)) if isinstance(inputs, Mapping) else (tuple(inputs), {})
    skipped = normalisation == "identity"
    with named("synflow", model), undisturbed(model, evidence.generator), _linear(model, skipped):
        return _scores(model, params, normalisation, args, kwargs)


def _scores(
    model: nn.Module,
    params: Params,
    normalisation: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    apart: bool = False,
) -> dict[str, Tensor]:
    """Return |w * dR/dw| by layer, in the memory of the float64 copies unless `apart`.

    A score is made as its slope arrives, so that one slope's memory serves the next. A network that
    also reads a weight aside from its gradient may need its copy until later: torch notices that it
    has changed, and everything is done again with the scores in memory of their own.
    """
    values = _absolute(model, params, normalisation)
    scores: dict[str, Tensor] = {}
    for name in params:
        hook = _scoring(name, scores, apart=apart)
        values[name].register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
    output = functional_call(model, values, args, kwargs)
    flow = torch.stack([leaf.sum() for leaf in tree_leaves(output) if _is_float(leaf)]).sum()
    try:
        flow.backward()  # type: ignore[no-untyped-call]
    except RuntimeError:
        if apart:
            raise
        return _scores(model, params, normalisation, args, kwargs, apart=True)
    return {
        name: scores[name] if name in scores else torch.zeros_like(weight, dtype=torch.float64)
        for name, weight in params.items()  # a weight that the output never meets has zero
    }


def _scoring(name: str, scores: dict[str, Tensor], *, apart: bool) -> Callable[[Tensor], None]:
    """Return the hook that makes the score of layer `name` of its copy and the copy's slope."""

    def keep_score(copy: Tensor) -> None:
        slope, copy.grad = copy.grad, None
        if slope is not None:
            weight = copy.detach()
            scores[name] = _product(name, weight.clone() if apart else weight, slope)

    return keep_score


def _product(name: str, weight: Tensor, slope: Tensor) -> Tensor:
    """Return |weight * slope| in the memory of the weight, a part at a time as in `_double`."""
    flat, slopes = weight.view(-1), slope.reshape(-1)
    for start in range(0, flat.numel(), BLOCK):
        part = flat[start : start + BLOCK].mul_(slopes[start : start + BLOCK]).abs_()
        # A sum is finite only if all of its parts are, and it is found sooner than the largest.
        if not bool(part.sum().isfinite()) and not bool(part.amax().isfinite()):
            raise PruningError(f"criterion 'synflow' overflows float64 in layer {name!r}")
    return weight


@torch.no_grad()
def _absolute(model: nn.Module, params: Params, normalisation: str) -> dict[str, Tensor]:
    """Return parameters and buffers in float64, of which only `params` have gradients.

    Parameters and, with `normalisation` eval, what normalising layers hold are absolute values;
    with `identity` nothing reads what these hold, so it is left out unless it is scored itself.
    """
    skipped = normalisation == "identity"
    layers = {name for name, module in model.named_modules() if isinstance(module, NORMALISATIONS)}

    def normalising(name: str) -> bool:
        return name.rpartition(".")[0] in layers

    values: dict[str, Tensor] = {
        name: _double(parameter, absolute=True).requires_grad_(name in params)
        for name, parameter in model.named_parameters()
        if name in params or not (skipped and normalising(name))
    }
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and not (skipped and normalising(name)):
            values[name] = _double(buffer, absolute=normalising(name))
    return values


@contextmanager
def _linear(model: nn.Module, skipped: bool) -> Iterator[None]:
    """Let the normalising layers of `model` pass signals on as they are, if they are `skipped`."""
    layers = [layer for layer in model.modules() if skipped and isinstance(layer, NORMALISATIONS)]
    own = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(_passed, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            del layer.forward
            if forward is not None:
                layer.forward = forward  # type: ignore[method-assign]


def _double(tensor: Tensor, *, absolute: bool) -> Tensor:
    """Return a contiguous copy in float64, made a part at a time, which stays in the cache."""
    copy, source = _room(tensor), tensor.detach().reshape(-1)
    flat = copy.view(-1)
    for start in range(0, flat.numel(), BLOCK):
        part = flat[start : start + BLOCK].copy_(source[start : start + BLOCK])
        if absolute:
            part.abs_()
    return copy


def _room(tensor: Tensor) -> Tensor:
    """Return memory for `tensor` in float64; much of it in huge pages where the system has them.

    The first touch of small pages of new memory takes longer than the copy.
    """
    size = tensor.numel() * torch.float64.itemsize
    if size < HUGE or tensor.device.type != "cpu" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(tensor.shape, dtype=torch.float64, device=tensor.device)
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        room.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(room, dtype=torch.float64).view(tensor.shape)


def _passed(layer: nn.Module, signal: Tensor, *_: Any) -> Tensor:
    """Return the signal that reaches a layer: of a shrunk network's, the channels that it reads."""
    selected = getattr(layer, "selected", None)
    return signal if selected is None else signal.index_select(1, selected)


def _ones(evidence: Evidence, model: nn.Module) -> Any:
    """Return inputs of ones: of one example, unless dimension 0 may be something else."""
    inputs = evidence.inputs(first_batches(evidence, "synflow", 1)[0])
    sizes = {leaf.shape[:1] for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)}
    recurrent = (nn.RNNBase, nn.RNNCellBase)
    single = len(sizes) == 1 and not any(isinstance(m, recurrent) for m in model.modules())

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        example = leaf[:1] if single and leaf.ndim else leaf
        return torch.ones_like(example, dtype=torch.float64) if _is_float(example) else example

    return tree_map(one, inputs)


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
