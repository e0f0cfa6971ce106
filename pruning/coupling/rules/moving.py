"""Operations that move positions about: ids move with them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from pruning.coupling.trace import Call, Resize, Trace
from pruning.coupling.tracks import FIXED, Ids, Track, Weight, merged, reshape, varying

Rule: TypeAlias = Callable[[Trace, Call], Any]


def same(trace: Trace, call: Call) -> Track:
    """Return the input: the operation changes no value."""
    return trace.activate(_input(call))


def _input(call: Call) -> Any:
    return call.args["self"] if "self" in call.args else call.args["input"]


def reshaped(trace: Trace, call: Call) -> Track:
    """Return ids after view, reshape, flatten or unflatten: a channel becomes several features."""
    return _reshaped(trace, trace.activate(_input(call)), call.shape)


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
    track = trace.activate(_input(call))
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
    track = trace.activate(_input(call))
    dim = call.args["dim"] % (len(track.shape) + 1)
    return Track(call.shape, tuple(np.expand_dims(layer, dim) for layer in track.layers))


def squeezed(trace: Trace, call: Call) -> Track:
    """Return ids without the dimensions of size 1 that were taken out."""
    track = trace.activate(_input(call))
    return Track(
        call.shape,
        tuple(reshape(layer, track.shape, call.shape) for layer in track.layers),
    )


def expanded(trace: Trace, call: Call) -> Track:
    """Return ids repeated along dimensions of size 1, which then are of a fixed size."""
    track = trace.activate(_input(call))
    pad = (1,) * (len(call.shape) - len(track.shape))
    return Track(call.shape, tuple(layer.reshape(pad + layer.shape) for layer in track.layers))


def selected(trace: Trace, call: Call) -> Track:
    """Return ids at one position of a dimension, such as the queries of (queries, keys, values)."""
    track = trace.activate(_input(call))
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
    track = trace.activate(_input(call))
    dim = call.args["dim"] % len(track.shape)
    return [_taken(trace, track, dim, index) for index in range(track.shape[dim])]


def sliced(trace: Trace, call: Call) -> Track:
    """Return ids between two positions, whose bounds are numbers: a slice of channels pins them."""
    args = call.args
    track = trace.activate(_input(call))
    dim = args["dim"] % len(track.shape)
    if call.shape == track.shape:
        return track
    return Track(call.shape, trace.freeze(track, (dim,)).layers)


def split(trace: Trace, call: Call) -> list[Track]:
    """Return ids of each part; parts of one size keep one size, others pin what is split."""
    track = trace.activate(_input(call))
    dim = int(call.args.get("dim", 0)) % len(track.shape)
    sizes = [shape[dim] for shape in call.shapes]
    if len(set(sizes)) > 1:
        track = trace.freeze(track, (dim,))
    parts: list[list[Ids]] = [[] for _ in sizes]
    for layer in track.layers:
        if layer.shape[dim] == 1:
            pieces = [layer] * len(sizes)
        else:
            pieces = np.split(layer, np.cumsum(sizes)[:-1], axis=dim)
            _balance(trace, pieces, dim)
        for part, piece, shape in zip(parts, pieces, call.shapes, strict=True):
            trace.resizes.append(Resize(trace.module, trace.operation, piece, shape))
            part.append(piece)
    return [Track(s, tuple(part)) for s, part in zip(call.shapes, parts, strict=True)]


def _balance(trace: Trace, pieces: Sequence[Ids], dim: int) -> None:
    """Ask for the same number of channels in each piece of a split."""
    if len(varying(pieces[0])) > 1:
        for piece in pieces[1:]:
            trace.tie(pieces[0], piece)
    elif varying(pieces[0]) == (dim,):
        trace.balances.append(tuple(piece.reshape(-1) for piece in pieces))
    else:
        for piece in pieces:
            trace.pin(piece)


def concatenated(trace: Trace, call: Call) -> Track:
    """Return ids one after the other; along other dimensions the tensors' channels are tied."""
    given = [trace.activate(item) for item in call.args["tensors"]]
    tracks = [track for track in given if track.shape != (0,)]
    dim = int(call.args.get("dim", 0)) % len(call.shape)
    lying = [_lying(trace, track, dim) for track in tracks]
    layers = []
    if any(layer is not None for layer in lying):
        pieces = [
            _fixed(track, dim) if layer is None else layer
            for track, layer in zip(tracks, lying, strict=True)
        ]
        layers.append(np.concatenate(pieces, axis=dim))
    across = [_across(track, dim) for track in tracks]
    shape = [*call.shape]
    shape[dim] = 1
    layers += trace.pointwise(across, shape, "all").layers
    return Track(call.shape, tuple(layers))


def _lying(trace: Trace, track: Track, dim: int) -> Ids | None:
    """Return the ids that lie along `dim`, frozen along all others."""
    for layer in track.layers:
        if layer.shape[dim] > 1:
            others = [d for d in range(layer.ndim) if d != dim]
            frozen = trace.freeze(Track(track.shape, (layer,)), others).layers
            return frozen[0] if frozen else None
    return None


def _across(track: Track, dim: int) -> Track:
    """Return what does not lie along `dim`, of a tensor one position long there."""
    shape = tuple(1 if d == dim else size for d, size in enumerate(track.shape))
    return Track(shape, tuple(layer for layer in track.layers if layer.shape[dim] == 1))


def _fixed(track: Track, dim: int) -> Ids:
    shape = [track.shape[dim] if d == dim else 1 for d in range(len(track.shape))]
    return np.full(shape, FIXED, dtype=np.int64)


def stacked(trace: Trace, call: Call) -> Track:
    """Return ids of tensors laid along a new dimension: position by position they are tied."""
    tracks = [trace.activate(item) for item in call.args["tensors"]]
    dim = int(call.args.get("dim", 0)) % len(call.shape)
    tied = trace.pointwise(tracks, tracks[0].shape, "all")
    return Track(call.shape, tuple(np.expand_dims(layer, dim) for layer in tied.layers))


def padded(trace: Trace, call: Call) -> Track:
    """Return ids with fixed positions around them; nothing but a constant pad keeps channels."""
    track = trace.activate(_input(call))
    pads = [int(p) for p in call.args["pad"]]
    layers = []
    for layer in track.layers:
        found: Ids | None = layer
        for at in range(len(pads) // 2):
            dim = layer.ndim - 1 - at
            around = pads[2 * at : 2 * at + 2]
            if found is not None and any(around) and found.shape[dim] > 1:
                found = _padded(trace, call, track, found, dim, around)
        if found is not None:
            layers.append(found)
    result = Track(call.shape, tuple(layers))
    return trace.pointwise([result], call.shape, "never") if call.args.get("value") else result


def _padded(
    trace: Trace, call: Call, track: Track, layer: Ids, dim: int, around: list[int]
) -> Ids | None:
    others = [d for d in range(layer.ndim) if d != dim]
    constant = call.args.get("mode", "constant") == "constant"
    dims = others if constant and min(around) >= 0 else range(layer.ndim)
    frozen = trace.freeze(Track(track.shape, (layer,)), dims).layers
    if not frozen:
        return None
    before, after = trace.padding(around)
    shape = [-1 if d == dim else 1 for d in range(layer.ndim)]
    return np.concatenate([before.reshape(shape), frozen[0], after.reshape(shape)], axis=dim)


def rolled(trace: Trace, call: Call) -> Track:
    """Return ids shifted with their positions; the number of channels then is fixed."""
    track = trace.activate(_input(call))
    dims = call.args.get("dims") or range(len(track.shape))
    return trace.freeze(track, [dims] if isinstance(dims, int) else dims)


def repeated(trace: Trace, call: Call) -> Track:
    """Return ids of a tensor repeated along its dimensions."""
    track = trace.activate(_input(call))
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
    track = trace.activate(_input(call))
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
    track = trace.activate(_input(call))
    ids = np.repeat(trace.channel(track, -3), int(call.args["downscale_factor"]) ** 2)
    shape = [ids.size if d == len(call.shape) - 3 else 1 for d in range(len(call.shape))]
    return Track(call.shape, (ids.reshape(shape),))


def channels_shuffled(trace: Trace, call: Call) -> Track:
    """Return ids after a channel shuffle, where each group loses the same positions."""
    track = trace.activate(_input(call))
    groups = int(call.args["groups"])
    ids = trace.channel(track, 1).reshape(groups, -1)
    trace.rectangles.append(ids)
    trace.resizes.append(Resize(trace.module, trace.operation, ids, ids.shape))
    shape = [ids.size if d == 1 else 1 for d in range(len(call.shape))]
    return Track(call.shape, (ids.T.reshape(shape),))


def indexed(trace: Trace, call: Call) -> Track | None:
    """Return ids of a table read at given positions of its first dimension."""
    track = trace.activate(_input(call))
    indices = call.args["indices"]
    if len(indices) != 1 or not isinstance(indices[0], Track | Weight):
        return None
    added = len(indices[0].shape)
    layers = [
        layer.reshape((1,) * added + layer.shape[1:]) for layer in trace.freeze(track, (0,)).layers
    ]
    return Track(call.shape, tuple(layers))
