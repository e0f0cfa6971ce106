"""The criterion that needs no data: how much signal flows through each weight."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves, tree_map

from pruning.errors import PruningError, unknown
from pruning.evidence import Evidence
from pruning.probing import first_batches, named, undisturbed
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
    with named("synflow", model):
        linear = _linearised(model, params, normalisation)
        inputs = _ones(evidence, model)
        weights = dict(linear.named_parameters())
        wanted = [weights[name] for name in params]
        with undisturbed(linear, evidence.generator):
            output = linear(**inputs) if isinstance(inputs, Mapping) else linear(*inputs)
            flow = torch.stack([leaf.sum() for leaf in tree_leaves(output) if _is_float(leaf)])
            slopes = torch.autograd.grad(
                flow.sum(), wanted, allow_unused=True, materialize_grads=True
            )
    scores = {n: w.detach().mul_(g).abs_() for n, w, g in zip(params, wanted, slopes, strict=True)}
    for name, score in scores.items():
        if not bool(score.isfinite().all()):
            raise PruningError(f"criterion 'synflow' overflows float64 in layer {name!r}")
    return scores


@torch.no_grad()
def _linearised(model: nn.Module, params: Params, normalisation: str) -> nn.Module:
    """Return a copy in float64 with absolute values, of which only `params` have gradients."""
    linear = copy.deepcopy(model).double()
    for name, parameter in linear.named_parameters():
        parameter.abs_().requires_grad_(name in params)
    for module in linear.modules():
        if not isinstance(module, NORMALISATIONS):
            continue
        if normalisation == "identity":
            module.forward = _first  # type: ignore[method-assign]
        for buffer in module.buffers(recurse=False):
            buffer.abs_()
    return linear


def _first(signal: Tensor, *_: Any) -> Tensor:
    return signal


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
