"""Criteria that look at how the loss answers to the weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from pruning.errors import PruningError, unknown
from pruning.evidence import Evidence
from pruning.granularity import GRANULARITIES, coarsen
from pruning.layouts import layouts
from pruning.probing import differentiable, first_batches, gradients, named, total, undisturbed
from pruning.scores import materialise
from pruning.types import Params, Scores


def snip(
    model: nn.Module, params: Params, evidence: Evidence, *, batches: int | None = None
) -> Scores:
    """How much the loss feels the removal of each weight, |w * gradient| summed over all batches.

    Source: Lee et al. 2019, "SNIP: Single-shot Network Pruning", equation 6.

    The absolute value is taken after the sum over `batches` (None: all), as in the authors' code;
    taken before it would rank noise. Evaluation mode, as there. The paper's division by the sum
    of all scores is left out: it changes no ranking. The paper scores biases too; here what is
    prunable is chosen by `only`.
    """
    gradient = total(gradients(model, params, evidence, "snip", limit=batches))
    return {name: (params[name].detach() * gradient[name]).abs_() for name in params}


def gradient_ranked(
    model: nn.Module, params: Params, evidence: Evidence, *, batches: int | None = None
) -> Scores:
    """w * gradient with its sign, as Distiller ranks: the smallest, most negative, goes first.

    Source: the gradient-ranked filter pruner of Distiller, after Molchanov et al. 2017, equation 8.

    Distiller looks at the gradient of the last batch alone; here it is summed over `batches`. When
    w goes the loss changes by -w * gradient to first order: Distiller's sign, kept here, removes
    what raises the loss most. Use `taylor` or `snip` for the size of the change.
    """
    gradient = total(gradients(model, params, evidence, "gradient_ranked", limit=batches))
    return {name: params[name].detach() * gradient[name] for name in params}


def taylor(
    model: nn.Module,
    params: Params,
    evidence: Evidence,
    *,
    gate: str = "weight",
    batches: int | None = None,
) -> Scores:
    """Squared first-order change of the loss, (w * gradient)^2, averaged over batches.

    Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equation 8.

    `gate` is the piece whose change is squared: for `weight` a filter's score is the sum of its
    weights' squares, for `filter` (the paper's gates) the square of their sum.
    """
    if gate not in GRANULARITIES:
        raise unknown("gate", gate, GRANULARITIES, "criterion 'taylor'")
    places, scores = layouts(model, params), dict[str, Tensor]()
    seen = 0
    for gradient in gradients(model, params, evidence, "taylor", limit=batches):
        change = {name: params[name].detach() * gradient[name] for name in params}
        gated = materialise(coarsen(change, params, gate, layouts=places))
        squares = {name: value.square() for name, value in gated.items()}
        scores = {name: squares[name] + scores.get(name, 0) for name in squares}
        seen += 1
    return {name: score / seen for name, score in scores.items()}


def obd(
    model: nn.Module, params: Params, evidence: Evidence, *, batches: int | None = None
) -> Scores:
    """Second-order rise of the loss, w^2 h / 2, the curvature h being the diagonal Fisher.

    Source: LeCun et al. 1990, "Optimal Brain Damage", equation 5; h as in Theis et al. 2018.

    h is the mean over `batches` (None: all) of the squared gradient of each (the empirical
    Fisher); the paper takes the Gauss-Newton diagonal. For a gradient by example, give batches
    of one.
    """
    fisher: dict[str, Tensor] = {}
    seen = 0
    for gradient in gradients(model, params, evidence, "obd", limit=batches):
        fisher = {name: g.square() + fisher.get(name, 0) for name, g in gradient.items()}
        seen += 1
    return {name: params[name].detach().square() * h / (2 * seen) for name, h in fisher.items()}


def grasp(
    model: nn.Module,
    params: Params,
    evidence: Evidence,
    *,
    temperature: float = 200.0,
    training: bool = True,
    batches: int | None = None,
) -> Scores:
    """How much each weight holds up the gradient flow, w * (Hessian @ gradient).

    Source: Wang et al. 2020, "Picking Winning Tickets Before Training", equation 8 and algorithm 2.

    The paper removes the highest of -w * Hg; here higher means keep, so the sign is turned. The
    model's output is divided by `temperature`, and BatchNorm runs in training mode (its statistics
    are put back), as in the authors' code. That code draws the linear layers anew before scoring;
    the paper does not say so, and neither do we.
    """
    if not temperature > 0:
        raise PruningError(f"criterion 'grasp': temperature {temperature!r} is not above 0")
    hook = model.register_forward_hook(lambda _, __, out: _cooled(out, temperature))
    try:
        known = gradients(model, params, evidence, "grasp", limit=batches, training=training)
        flow = _hessian_product(
            model, params, evidence, total(known), limit=batches, training=training
        )
    finally:
        hook.remove()
    return {name: params[name].detach() * flow[name] for name in params}


def _cooled(output: Any, temperature: float) -> Any:
    """Divide every floating-point tensor of an output, whatever it is packed in."""

    def cool(leaf: Any) -> Any:
        floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf / temperature if floating else leaf

    return tree_map(cool, output)


def _hessian_product(
    model: nn.Module,
    params: Params,
    evidence: Evidence,
    vector: dict[str, Tensor],
    *,
    limit: int | None,
    training: bool,
) -> dict[str, Tensor]:
    """Return the product of the loss' Hessian, summed over the batches, with `vector`."""
    wanted = differentiable(params, "grasp")
    fixed = [vector[name] for name in params]
    result = [torch.zeros_like(parameter) for parameter in wanted]
    with undisturbed(model, evidence.generator, training=training), named("grasp", model):
        for batch in first_batches(evidence, "grasp", limit):
            loss = evidence.loss(model, batch)
            slopes = torch.autograd.grad(
                loss, wanted, create_graph=True, allow_unused=True, materialize_grads=True
            )
            inner = torch.stack([(g * v).sum() for g, v in zip(slopes, fixed, strict=True)]).sum()
            if not inner.requires_grad:
                continue  # the loss is piecewise linear in the weights: no curvature
            parts = torch.autograd.grad(inner, wanted, allow_unused=True, materialize_grads=True)
            result = [old + new for old, new in zip(result, parts, strict=True)]
    return dict(zip(params, result, strict=True))
