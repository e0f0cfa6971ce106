"""The walk: every operation of a graph in its order, each by its rule."""

import operator
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from pruning.coupling.exporting import Exported
from pruning.coupling.notes import Call
from pruning.coupling.rules.table import rule_of
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import Track, Weight


def selectable(model: nn.Module) -> frozenset[str]:
    """Return the paths of the batch norms, which can select their input channels."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return frozenset(
        name for name, module in model.named_modules() if type(module) in kinds and name
    )


def numbers(model: nn.Module) -> dict[str, dict[str, int]]:
    """Return the whole numbers that each module holds as attributes, by its path."""
    return {
        path: {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, int) and not isinstance(value, bool) and not name.startswith("_")
        }
        for path, module in model.named_modules()
    }


def walk(trace: Trace, exported: Exported, aliases: Mapping[str, str]) -> None:
    """Follow the channels through a graph; `aliases` gives tied parameters their first name."""
    values: dict[fx.Node, Any] = {}
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            values[node] = _placeholder(node, exported, aliases)
        elif node.op == "call_function":
            values[node] = _call(trace, node, values)
            _mutate(trace, node, values)
        elif node.op == "output":
            trace.operation, trace.module = "output", ""
            trace.pin_track(fx.map_arg(node.args[0], values.get))
        else:
            values[node] = None


def _placeholder(node: fx.Node, exported: Exported, aliases: Mapping[str, str]) -> Any:
    found = node.meta.get("val")
    if not isinstance(found, Tensor):
        return found
    shape = tuple(int(size) for size in found.shape)
    if node.name in exported.names:
        name = exported.names[node.name]
        return Weight(aliases.get(name, name), shape)
    return Track(shape)


def _call(trace: Trace, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    if node.target is operator.getitem:
        source, index = cast("tuple[fx.Node, int]", node.args)
        found = values[source]
        return found[index] if isinstance(found, list | tuple) else found
    operation = _operation(node)
    trace.operation, trace.module = operation, _module(node)
    args = fx.map_arg(_arguments(node), lambda n: values[n])
    shapes = _shapes(node.meta.get("val"))
    call = Call(operation, args, shapes, trace.module, lambda: _keeps_zero(node, args))
    rule = rule_of(operation, node.target)
    found = rule(trace, call) if rule and shapes else None
    return _unknown(trace, call, node) if found is None else found


def _unknown(trace: Trace, call: Call, node: fx.Node) -> Any:
    """Pin all channels that enter an operation without a rule; its results are fixed."""
    trace.pin_track(list(call.args.values()))
    tracks = [Track(shape) for shape in call.shapes]
    if isinstance(node.meta.get("val"), list | tuple):
        return tracks
    return tracks[0] if tracks else None


def _mutate(trace: Trace, node: fx.Node, values: dict[fx.Node, Any]) -> None:
    """Let an in-place operation's argument stand for its result from here on.

    Where the argument is a view, whose base others still read, both are pinned: what the base
    holds from now on is not followed.
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return
    for spec, arg in zip(node.target._schema.arguments, node.args, strict=False):
        if spec.alias_info is None or not spec.alias_info.is_write or not isinstance(arg, fx.Node):
            continue
        base = arg
        while _is_view(base):
            base = base.args[0]  # type: ignore[assignment]
            if len(base.users) > 1:
                trace.pin_track([values[base], values[arg], values[node]])
        values[arg] = values[node]


def _is_view(node: fx.Node) -> bool:
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return False
    infos = [spec.alias_info for spec in target._schema.returns]
    return any(info is not None and not info.is_write for info in infos) and isinstance(
        node.args[0] if node.args else None, fx.Node
    )


def _operation(node: fx.Node) -> str:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.partition("::")[2]
    return getattr(target, "__name__", str(target))


def _module(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = [*stack.values()][-1][0] if stack else ""
    return str(path).partition("@")[0]


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a node by the names that torch gives them."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {str(at): arg for at, arg in enumerate(node.args)} | dict(node.kwargs)
    specs = node.target._schema.arguments
    named = {spec.name: spec.default_value for spec in specs if spec.has_default_value()}
    named.update(zip((spec.name for spec in specs), node.args, strict=False))
    named.update(node.kwargs)
    return named


def _shapes(found: Any) -> tuple[tuple[int, ...], ...]:
    leaves = found if isinstance(found, list | tuple) else [found]
    try:
        return tuple(
            tuple(int(size) for size in leaf.shape) for leaf in leaves if isinstance(leaf, Tensor)
        )
    except Exception:  # a size that depends on values has no number
        return ()


def _keeps_zero(node: fx.Node, args: Mapping[str, Any]) -> bool:
    """Return whether the operation gives zero where all its tensors are, by trying it."""
    given = {
        name: torch.zeros(()) if isinstance(value, Track | Weight) else value
        for name, value in args.items()
        if name not in ("device", "layout", "memory_format")
    }
    try:
        with torch.no_grad():
            return bool((node.target(**given) == 0).all())  # type: ignore[operator]
    except (RuntimeError, TypeError, ValueError):
        return False
