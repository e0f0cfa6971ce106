"""Criteria that look at what a layer's outputs become after its activation."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from pruning.errors import PruningError
from pruning.evidence import Evidence
from pruning.layouts import Layout, layouts
from pruning.neighbours import (
    JOINS,
    NORMALISATIONS,
    OUTPUT_DIM,
    POOLS,
    VIEWS,
    Place,
    nearest,
    operation,
    output_place,
    trace,
    uses,
)
from pruning.probing import first_batches, named, undisturbed
from pruning.types import Params, Scores

_RECTIFIERS = {"relu", "relu6", "threshold", "hardswish", "hardsigmoid"}
_CLAMPS = {"clamp", "clamp_min", "hardtanh"}
_SMOOTH = {
    *("gelu", "silu", "mish", "elu", "selu", "celu", "softplus", "sigmoid", "tanh", "prelu"),
    *("leaky_relu", "hardtanh", "hardshrink", "softshrink", "log_sigmoid"),
}
_Totals = dict[str, tuple[Tensor, int]]


def apoz(
    model: nn.Module, params: Params, evidence: Evidence, *, batches: int | None = None
) -> Scores:
    """One minus the average percentage of zeros of each filter's activations.

    Source: Hu et al. 2016, "Network Trimming", equation 1.

    Zeros are counted after the activation that follows the layer, over all examples, positions and
    `batches`. Undefined for activations without exact zeros (GELU, SiLU) and for layers that no
    activation follows: skip them. Scores are per filter; the paper's cut at mean + 1 sigma of a
    layer is left to the allocation.
    """
    totals = _measured(model, params, evidence, "apoz", _has_zeros, _nonzeros, batches)
    return _per_filter(model, params, totals)


def mean_activation(
    model: nn.Module, params: Params, evidence: Evidence, *, batches: int | None = None
) -> Scores:
    """Mean of each filter's activations.

    Source: Molchanov et al. 2017, "Pruning Convolutional Neural Networks", section 2.2.

    Taken after the activation that follows the layer, over all examples, positions and `batches`;
    filters with the highest mean are kept (the pruner of Distiller drops them).
    """
    totals = _measured(model, params, evidence, "mean_activation", _is_activation, _value, batches)
    return _per_filter(model, params, totals)


def _has_zeros(node: fx.Node) -> bool:
    if operation(node) in _CLAMPS:
        return len(node.args) > 1 and bool(node.args[1] == 0)
    return operation(node) in _RECTIFIERS


def _is_activation(node: fx.Node) -> bool:
    return operation(node) in _SMOOTH or _has_zeros(node)


def _nonzeros(activation: Tensor) -> Tensor:
    return activation.ne(0).sum(0, dtype=torch.float64)


def _value(activation: Tensor) -> Tensor:
    return activation.sum(0, dtype=torch.float64)


def _measured(
    model: nn.Module,
    params: Params,
    evidence: Evidence,
    method: str,
    wanted: Callable[[fx.Node], bool],
    measure: Callable[[Tensor], Tensor],
    limit: int | None,
) -> _Totals:
    """Return for each layer the sum of `measure` over its activations, by filter, and the count."""
    totals: _Totals = {}
    graphs: dict[tuple[Any, ...], fx.GraphModule] = {}
    for batch in first_batches(evidence, method, limit):
        inputs = evidence.inputs(batch)
        # An exported graph is made for one set of shapes: a smaller last batch has its own.
        key = tuple(getattr(leaf, "shape", leaf) for leaf in tree_leaves(inputs))
        if key not in graphs:
            graph = trace(model, evidence, batch, method)
            for name, parameter in params.items():
                for place in _places(graph, name, parameter, method, wanted):
                    _record(graph, place, name, measure, totals)
            graph.recompile()
            graphs[key] = graph
        with undisturbed(model, evidence.generator), torch.no_grad(), named(method, model):
            run = graphs[key]
            run(**inputs) if isinstance(inputs, Mapping) else run(*inputs)
    return totals


def _places(
    graph: fx.GraphModule,
    name: str,
    parameter: Tensor,
    method: str,
    wanted: Callable[[fx.Node], bool],
) -> list[Place]:
    """Return where the activations after a layer are, one for each time the layer is used."""
    found, stops = [], dict[str, None]()
    for node in uses(graph, parameter):
        start = output_place(node)
        if start is None:
            raise PruningError(
                f"criterion {method!r}: the weight of layer {name!r} goes into {operation(node)}; "
                f"activations are known after {', '.join(OUTPUT_DIM)}: skip the layer"
            )
        place, ends = nearest(start, wanted, VIEWS | POOLS | NORMALISATIONS | JOINS)
        stops |= dict.fromkeys(ends)
        found += [place] if place else []
    if not found:
        kind = "with exact zeros " if method == "apoz" else ""
        raise PruningError(
            f"criterion {method!r}: layer {name!r} is followed by {', '.join(stops) or 'nothing'},"
            f" not by an activation {kind}that it could count: skip the layer"
        )
    return found


def _record(
    graph: fx.GraphModule,
    place: Place,
    name: str,
    measure: Callable[[Tensor], Tensor],
    totals: _Totals,
) -> None:
    """Add to `graph` a node that measures the channels of `place` whenever it runs."""

    def record(activation: Tensor) -> None:
        mine = activation.narrow(place.dim, place.start, place.count).movedim(place.dim, -1)
        flat = mine.reshape(-1, place.count)
        value, seen = totals.get(name, (0, 0))
        totals[name] = (measure(flat) + value, len(flat) + seen)

    with graph.graph.inserting_after(place.node):
        graph.graph.call_function(record, (place.node,))


def _per_filter(model: nn.Module, params: Params, totals: _Totals) -> Scores:
    places = layouts(model, params)
    return {
        name: _along_outputs(name, parameter, places[name], totals[name][0] / totals[name][1])
        for name, parameter in params.items()
    }


def _along_outputs(name: str, parameter: Tensor, layout: Layout, values: Tensor) -> Tensor:
    if len(values) != parameter.shape[layout.output]:
        raise PruningError(
            f"layer {name!r} has {len(values)} output channels in {layout.groups} groups, which "
            f"are no slices of its weight {tuple(parameter.shape)}"
        )
    shape = [1] * parameter.ndim
    shape[layout.output] = -1
    return values.reshape(shape)
