"""Criteria that look at how signals travel from input to output."""

import torch
from torch import Tensor, nn

from pruning.evidence import Evidence
from pruning.jacobian import first_examples
from pruning.jacobian import jacobian as _jacobian_of
from pruning.probing import differentiable, first_batches, named, undisturbed
from pruning.types import Params, Scores


def jacobian(
    model: nn.Module,
    params: Params,
    evidence: Evidence,
    *,
    batches: int | None = 1,
    examples: int | None = 16,
) -> Scores:
    """How much the singular values of the input-output Jacobian change when a weight goes.

    Source: this project's own; the quantity is that of Lee et al. 2020, "A Signal Propagation
    Perspective for Pruning", section 3.

    To first order: the sum over the spectrum of |w * d sigma / dw|, each singular value averaged
    over the first `examples` of a batch. Costs two backward passes for each output of the network.
    """
    wanted = differentiable(params, "jacobian")
    scores = {name: torch.zeros_like(parameter) for name, parameter in params.items()}
    with undisturbed(model, evidence.generator), named("jacobian", model):
        for batch in first_batches(evidence, "jacobian", batches):
            inputs = first_examples(evidence.inputs(batch), examples)
            spectrum = torch.linalg.svdvals(_jacobian_of(model, inputs, create_graph=True)).mean(0)
            for value in spectrum:
                slopes = torch.autograd.grad(
                    value, wanted, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                _add_changes(scores, params, slopes)
    return scores


def _add_changes(scores: Scores, params: Params, slopes: tuple[Tensor, ...]) -> None:
    for name, slope in zip(params, slopes, strict=True):
        scores[name] += (params[name].detach() * slope).abs_()
