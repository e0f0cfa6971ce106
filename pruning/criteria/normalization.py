"""Criteria that look at the scales of the normalisation next to a layer."""

from torch import Tensor, fx, nn

from pruning.errors import PruningError, unknown
from pruning.evidence import Evidence
from pruning.layouts import Layout, layouts
from pruning.neighbours import (
    POOLS,
    VIEWS,
    before,
    nearest,
    operation,
    output_place,
    parameter_of,
    trace,
    uses,
)
from pruning.probing import first_batches
from pruning.types import Params, Scores

_POINTWISE = {"relu", "relu6", "silu", "gelu", "hardswish", "hardtanh", "leaky_relu", "sigmoid"}


def bn_scale(
    model: nn.Module, params: Params, evidence: Evidence, *, side: str = "after"
) -> Scores:
    """Absolute scale |gamma| of the BatchNorm next to a layer, for network slimming.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming".

    `side: after` scores the filters of a layer that a BatchNorm follows, for `granularity: filter`;
    `side: before` the input channels of a layer that one precedes, for `granularity: channel`: the
    channel selection of pre-activation networks (PreResNet, DenseNet), whose layers go on reading
    what they select from an unpruned sum. The paper's global threshold is `allocation: global`.
    """
    if side not in ("after", "before"):
        raise unknown("side", side, ("after", "before"), "criterion 'bn_scale'")
    batch = first_batches(evidence, "bn_scale", 1)[0]
    graph = trace(model, evidence, batch, "bn_scale")
    if not any(operation(node) == "batch_norm" for node in graph.graph.nodes):
        raise PruningError(f"criterion 'bn_scale' needs BatchNorm; {type(model).__name__} has none")
    scales = {name: _scale(graph, parameter, side) for name, parameter in params.items()}
    missing = [name for name, scale in scales.items() if scale is None]
    if missing:
        verb = "follows" if side == "after" else "precedes"
        raise PruningError(
            f"criterion 'bn_scale': no BatchNorm with a scale {verb} layer {', '.join(missing)}: "
            "skip it, or set `side`"
        )
    places = layouts(model, params)
    return {
        name: _along(name, params[name], places[name], scale.detach().abs(), side)
        for name, scale in scales.items()
        if scale is not None
    }


def _scale(graph: fx.GraphModule, parameter: Tensor, side: str) -> Tensor | None:
    """Return the gamma of the BatchNorm right after or before the first use of a weight."""
    for node in uses(graph, parameter):
        place = output_place(node)
        if place is None:
            continue
        if side == "after":
            found, _ = nearest(place, _is_batch_norm, VIEWS)
            norm = found.node if found else None
        else:
            ahead = before(node, VIEWS | POOLS | _POINTWISE)
            norm = next((other for other in ahead if _is_batch_norm(other)), None)
        if norm is not None and len(norm.args) > 1:
            return parameter_of(graph, norm.args[1])
    return None


def _is_batch_norm(node: fx.Node) -> bool:
    return operation(node) == "batch_norm"


def _along(name: str, parameter: Tensor, layout: Layout, scale: Tensor, side: str) -> Tensor:
    dim = layout.output if side == "after" else layout.input
    if len(scale) != parameter.shape[dim]:
        raise PruningError(
            f"criterion 'bn_scale': {len(scale)} scales do not fit layer {name!r} of shape "
            f"{tuple(parameter.shape)} along dimension {dim}"
        )
    shape = [1] * parameter.ndim
    shape[dim] = -1
    return scale.reshape(shape)
