"""What comes after and before a layer, found in the exported graph and never by a name."""

import io
import logging
import operator
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from pruning.errors import PruningError, first_line
from pruning.evidence import Evidence
from pruning.probing import undisturbed

OUTPUT_DIM: Mapping[str, int] = {
    **dict.fromkeys(("linear", "embedding"), -1),
    **{f"conv{kind}{d}d": -1 - d for d in (1, 2, 3) for kind in ("", "_transpose")},
}
"""Operations that are a layer, with the dimension of their output that counts output channels."""

KEEP_WEIGHT = {"to", "_to_copy", "contiguous", "clone", "detach", "alias"}
VIEWS = {
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone"),
    *("detach", "alias", "to", "_to_copy", "dropout", "feature_dropout", "alpha_dropout"),
    *("permute", "transpose"),
}
"""Operations that change no value in evaluation mode, only where it lies."""

POOLS = {
    *(f"{kind}_pool{d}d" for kind in ("max", "avg", "adaptive_avg") for d in (1, 2, 3)),
    *("mean", "pad", "constant_pad_nd", "upsample_nearest2d", "upsample_bilinear2d"),
}
"""Operations that act on each channel alone."""

NORMALISATIONS = {"batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"}
JOINS = {"add", "sub", "mul", "div", "cat"}
"""Operations that bring channels together with others."""


@dataclass(frozen=True)
class Place:
    """A layer's output channels in a tensor of the graph: `count` along `dim` from `start` on."""

    node: fx.Node
    dim: int
    start: int
    count: int


def trace(model: nn.Module, evidence: Evidence, batch: Any, method: str) -> fx.GraphModule:
    """Return the graph of `model` in evaluation mode on one batch, in ATen operations.

    Its parameters are those of `model`. Raises `PruningError` where it cannot be exported.
    """
    inputs = evidence.inputs(batch)
    args, kwargs = ((), dict(inputs)) if isinstance(inputs, Mapping) else (tuple(inputs), {})
    with undisturbed(model, evidence.generator), _quiet():
        try:
            graph: fx.GraphModule = torch.export.export(model, args, kwargs).module()
        except Exception as error:  # whatever the model's code or the exporter raises
            reason = first_line(error)
            raise PruningError(
                f"criterion {method!r} follows the graph of the model, but torch.export cannot "
                f"export {type(model).__name__}: {reason}"
            ) from error
    return graph


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what export warns, logs and prints of its own workings: nobody here can act on it."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def operation(node: fx.Node) -> str:
    """Return the short name of what a node does, in-place or not: relu, conv2d, output."""
    if node.op != "call_function":
        return node.op
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet)).rstrip("_")


def parameter_of(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """Return the parameter or buffer that a node fetches, None for any other node."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    found = operator.attrgetter(str(node.target))(graph)
    return found if isinstance(found, Tensor) else None


def uses(graph: fx.GraphModule, parameter: Tensor) -> list[fx.Node]:
    """Return the operations that compute with `parameter`, one for each time it is used."""
    found: dict[fx.Node, None] = {}
    waiting = [node for node in graph.graph.nodes if parameter_of(graph, node) is parameter]
    while waiting:
        for user in waiting.pop().users:
            if operation(user) in KEEP_WEIGHT:
                waiting.append(user)
            else:
                found[user] = None
    return [*found]


def output_place(node: fx.Node) -> Place | None:
    """Return where the output channels of a layer's operation lie, None where that is unknown."""
    if operation(node) not in OUTPUT_DIM:
        return None
    shape = _shape(node)
    dim = len(shape) + OUTPUT_DIM[operation(node)]
    return Place(node, dim, 0, shape[dim])


def nearest(
    place: Place, wanted: Callable[[fx.Node], bool], through: set[str]
) -> tuple[Place | None, list[str]]:
    """Return the nearest place after `place` at an operation that is `wanted`.

    Goes `through` the operations named, along all their users, nearest first; the second value
    names the operations at which it had to stop.
    """
    waiting, seen, stops = deque([place]), {place.node}, dict[str, None]()
    while waiting:
        here = waiting.popleft()
        for user in here.node.users:
            if user in seen:
                continue
            seen.add(user)
            known = wanted(user) or operation(user) in through
            moved = _carried(here, user) if known else None
            if moved is None:
                stops[operation(user)] = None
            elif wanted(user):
                return moved, [*stops]
            else:
                waiting.append(moved)
    return None, [*stops]


def before(node: fx.Node, through: set[str]) -> Iterator[fx.Node]:
    """Yield what feeds the first input of `node`, back `through` the operations named."""
    while node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
        yield node
        if operation(node) not in through:
            return


def _carried(place: Place, user: fx.Node) -> Place | None:
    """Return where the channels of `place` lie in the result of `user`."""
    shape, result = _shape(place.node), _shape(user)
    name = operation(user)
    if name == "cat":
        return _joined(place, user, len(shape))
    if name in ("permute", "transpose"):
        order = _order(user, len(shape))
        return Place(user, order.index(place.dim), place.start, place.count)
    ahead, size = prod(shape[: place.dim]), shape[place.dim]
    for dim, length in enumerate(result):
        if length == size and prod(result[:dim]) == ahead:
            return Place(user, dim, place.start, place.count)
    return None


def _joined(place: Place, user: fx.Node, ndim: int) -> Place:
    args: Any = user.args
    parts, dim = args[0], args[1] % ndim if len(args) > 1 else 0
    start = place.start
    if dim == place.dim:
        for part in parts:
            if part is place.node:
                break
            start += _shape(part)[dim]
    return Place(user, place.dim, start, place.count)


def _order(user: fx.Node, ndim: int) -> list[int]:
    args: Any = user.args
    if operation(user) == "permute":
        return [dim % ndim for dim in args[1]]
    order = [*range(ndim)]
    first, second = args[1] % ndim, args[2] % ndim
    order[first], order[second] = order[second], order[first]
    return order


def _shape(node: fx.Node) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()
