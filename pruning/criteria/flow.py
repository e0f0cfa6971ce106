"""The criterion that needs no data: how much signal flows through each weight."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
    values = _absolute(model, params, normalisation)
    wanted = [values[name] for name in params]
    inputs = _ones(evidence, model)
    args, kwargs = ((), dict(inputs)) if isinstance(inputs, Mapping) else (tuple(inputs), {})
    skipped = normalisation == "identity"
    with named("synflow", model), undisturbed(model, evidence.generator), _linear(model, skipped):
        output = functional_call(model, values, args, kwargs)
        flow = torch.stack([leaf.sum() for leaf in tree_leaves(output) if _is_float(leaf)]).sum()
        slopes = torch.autograd.grad(flow, wanted, allow_unused=True, materialize_grads=True)
    own = _unshared(slopes)
    return {name: _product(name, params[name], g) for name, g in zip(params, own, strict=True)}


def _unshared(slopes: Iterable[Tensor]) -> list[Tensor]:
    """Return the slopes, copied where autograd gave one memory to several, as for a + b."""
    seen, found = set[int](), []
    for slope in slopes:
        memory = slope.untyped_storage().data_ptr()
        found.append(slope.clone() if memory in seen else slope)
        seen.add(memory)
    return found


def _product(name: str, weight: Tensor, slope: Tensor) -> Tensor:
    """Return |weight * slope| in the memory of the slope, a part at a time to stay in the cache."""
    score, factors = slope.contiguous(), weight.detach().reshape(-1)
    flat = score.view(-1)
    for start in range(0, flat.numel(), BLOCK):
        part = flat[start : start + BLOCK].mul_(factors[start : start + BLOCK]).abs_()
        if not bool(part.amax().isfinite()):
            raise PruningError(f"criterion 'synflow' overflows float64 in layer {name!r}")
    return score


@torch.no_grad()
def _absolute(model: nn.Module, params: Params, normalisation: str) -> dict[str, Tensor]:
    """Return parameters and buffers in float64, of which only `params` have gradients.

    Parameters and, with `normalisation` eval, what normalising layers hold are absolute values;
    with `identity` nothing reads what these hold, so it is left out unless it is scored itself.
    """
    skipped: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, NORMALISATIONS) and normalisation == "identity":
            skipped.update(key for key, _ in module.named_parameters(name))
            skipped.update(key for key, _ in module.named_buffers(name))
    skipped -= set(params)
    values: dict[str, Tensor] = {
        name: _double(parameter, absolute=True).requires_grad_(name in params)
        for name, parameter in model.named_parameters()
        if name not in skipped
    }
    for name, module in model.named_modules():
        for key, buffer in module.named_buffers(name, recurse=False):
            if buffer.is_floating_point() and key not in skipped:
                absolute = isinstance(module, NORMALISATIONS) and normalisation == "eval"
                values[key] = _double(buffer, absolute=absolute)
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
    """Return a copy, even of what is in double precision already, a part at a time as above."""
    if not tensor.is_contiguous():
        copy = tensor.detach().to(torch.float64, copy=True)
        return copy.abs_() if absolute else copy
    copy = torch.empty_like(tensor, dtype=torch.float64)
    flat, source = copy.view(-1), tensor.detach().view(-1)
    for start in range(0, flat.numel(), BLOCK):
        part = flat[start : start + BLOCK].copy_(source[start : start + BLOCK])
        if absolute:
            part.abs_()
    return copy


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
