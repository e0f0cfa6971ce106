"""Operations that move positions about: ids move with them."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from pruning.coupling.notes import Call, Resize
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import Ids, Track, Weight, merged, reshape, varying

Rule: TypeAlias = Callable[[Trace, Call], Any]


def same(trace: Trace, call: Call) -> Track:
    """Return the input: the operation changes no value."""
    return trace.activate(given_input(call))


def given_input(call: Call) -> Any:
    """Return what an operation moves, under either of the names that torch gives it."""
    return call.args["self"] if "self" in call.args else call.args["input"]


def reshaped(trace: Trace, call: Call) -> Track:
    """Return ids after view, reshape, flatten or unflatten: a channel becomes several features."""
    return _reshaped(trace, trace.activate(given_input(call)), call.shape)


def _reshaped(trace: Trace, track: Track, shape: tuple[int, ...]) -> Track:
    stuck = {at for mixed in merged(track, shape) for at in mixed}
    layers = []
    for at, layer in enumerate(track.layers):
        if at in stuck:
            trace.pin(layer)
            continue
        moved = reshape(layer, track.shape, shape)
        if len(varying(moved)) > 1:
            trace.rectangles.append(moved)
        trace.resizes.append(Resize(trace.module, trace.operation, moved, shape))
        layers.append(moved)
    return Track(shape, tuple(layers))


def permuted(trace: Trace, call: Call) -> Track:
    """Return ids with their dimensions in another order: permute, transpose, t, movedim."""
    track = trace.activate(given_input(call))
    order = _order(call, len(track.shape))
    return Track(
        tuple(track.shape[d] for d in order),
        tuple(layer.transpose(order) for layer in track.layers),
    )


def _order(call: Call, rank: int) -> list[int]:
    args = call.args
    if "dims" in args:
        return [int(d) % rank for d in args["dims"]]
    if "source" in args:
        # An array whose sizes are its dimensions' numbers tells where each one went.
        numbered = np.broadcast_to(0, [*range(1, rank + 1)])
        return [
            size - 1 for size in np.moveaxis(numbered, args["source"], args["destination"]).shape
        ]
    one, other = next(
        ((args[a], args[b]) for a, b in (("dim0", "dim1"), ("axis0", "axis1")) if a in args),
        (-1, -2) if rank > 1 else (0, 0),
    )
    order = list(range(rank))
    order[one], order[other] = order[other], order[one]
    return order


def unsqueezed(trace: Trace, call: Call) -> Track:
    """Return ids with a dimension of size 1 put in."""
    track = trace.activate(given_input(call))
    dim = call.args["dim"] % (len(track.shape) + 1)
    return Track(call.shape, tuple(np.expand_dims(layer, dim) for layer in track.layers))


def squeezed(trace: Trace, call: Call) -> Track:
    """Return ids without the dimensions of size 1 that were taken out."""
    track = trace.activate(given_input(call))
    return Track(
        call.shape,
        tuple(reshape(layer, track.shape, call.shape) for layer in track.layers),
    )


def expanded(trace: Trace, call: Call) -> Track:
    """Return ids repeated along dimensions of size 1, which then are of a fixed size."""
    track = trace.activate(given_input(call))
    pad = (1,) * (len(call.shape) - len(track.shape))
    return Track(call.shape, tuple(layer.reshape(pad + layer.shape) for layer in track.layers))


def selected(trace: Trace, call: Call) -> Track:
    """Return ids at one position of a dimension, such as the queries of (queries, keys, values)."""
    track = trace.activate(given_input(call))
    dim = call.args["dim"] % len(track.shape)
    return _taken(trace, track, dim, call.args["index"])


def _taken(trace: Trace, track: Track, dim: int, index: int) -> Track:
    layers = []
    for layer in track.layers:
        if varying(layer) == (dim,):
            trace.pin(layer)
            continue
        at = index if layer.shape[dim] > 1 else 0
        layers.append(layer.take([at], axis=dim).squeeze(axis=dim))
    return Track(track.shape[:dim] + track.shape[dim + 1 :], tuple(layers))


def unbound(trace: Trace, call: Call) -> list[Track]:
    """Return ids at every position of a dimension."""
    track = trace.activate(given_input(call))
    dim = call.args["dim"] % len(track.shape)
    return [_taken(trace, track, dim, index) for index in range(track.shape[dim])]


def rolled(trace: Trace, call: Call) -> Track:
    """Return ids shifted with their positions; the number of channels then is fixed."""
    track = trace.activate(given_input(call))
    dims = call.args.get("dims") or range(len(track.shape))
    return trace.freeze(track, [dims] if isinstance(dims, int) else dims)


def repeated(trace: Trace, call: Call) -> Track:
    """Return ids of a tensor repeated along its dimensions."""
    track = trace.activate(given_input(call))
    times = [int(n) for n in call.args["repeats" if "repeats" in call.args else "dims"]]
    rank = len(call.shape)
    times = [1] * (rank - len(times)) + times
    pad = (1,) * (rank - len(track.shape))
    layers = []
    for layer in (layer.reshape(pad + layer.shape) for layer in track.layers):
        counts = [n if size > 1 else 1 for n, size in zip(times, layer.shape, strict=True)]
        layers.append(np.tile(layer, counts))
    return Track(call.shape, tuple(layers))


def pixels_shuffled(trace: Trace, call: Call) -> Track:
    """Return ids after pixel shuffle: r * r input channels become one output channel."""
    track = trace.activate(given_input(call))
    factor = int(call.args["upscale_factor"])
    ids = trace.channel(track, -3).reshape(-1, factor * factor)
    return Track(call.shape, _bundled(trace, ids, len(call.shape)))


def _bundled(trace: Trace, ids: Ids, rank: int) -> tuple[Ids, ...]:
    """Return the layer of channels that each came from one row of `ids`."""
    bundles = trace.freeze(Track(ids.shape, (ids,)), (1,)).layers
    shape = [len(ids) if d == rank - 3 else 1 for d in range(rank)]
    return tuple(layer.reshape(shape) for layer in bundles)


def pixels_unshuffled(trace: Trace, call: Call) -> Track:
    """Return ids after pixel unshuffle: a channel becomes r * r channels."""
    track = trace.activate(given_input(call))
    ids = np.repeat(trace.channel(track, -3), int(call.args["downscale_factor"]) ** 2)
    shape = [ids.size if d == len(call.shape) - 3 else 1 for d in range(len(call.shape))]
    return Track(call.shape, (ids.reshape(shape),))


def channels_shuffled(trace: Trace, call: Call) -> Track:
    """Return ids after a channel shuffle, where each group loses the same positions."""
    track = trace.activate(given_input(call))
    groups = int(call.args["groups"])
    ids = trace.channel(track, 1).reshape(groups, -1)
    trace.rectangles.append(ids)
    trace.resizes.append(Resize(trace.module, trace.operation, ids, ids.shape))
    shape = [ids.size if d == 1 else 1 for d in range(len(call.shape))]
    return Track(call.shape, (ids.T.reshape(shape),))


def indexed(trace: Trace, call: Call) -> Track | None:
    """Return ids of a table read at given positions of its first dimension."""
    track = trace.activate(given_input(call))
    indices = call.args["indices"]
    if len(indices) != 1 or not isinstance(indices[0], Track | Weight):
        return None
    added = len(indices[0].shape)
    layers = [
        layer.reshape((1,) * added + layer.shape[1:]) for layer in trace.freeze(track, (0,)).layers
    ]
    return Track(call.shape, tuple(layers))
