"""Operations that cut tensors into parts, lay them side by side, or put zeros around them."""

from collections.abc import Sequence

import numpy as np

from pruning.coupling.notes import Call, Resize
from pruning.coupling.rules.moving import given_input
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import FIXED, Ids, Track, Weight, varying


def sliced(trace: Trace, call: Call) -> Track | Weight:
    """Return ids between two positions, whose bounds are numbers: a slice of channels pins them."""
    given, args = given_input(call), call.args
    if isinstance(given, Weight) and args["dim"] == 0 and args.get("step", 1) == 1:
        start = int(args.get("start") or 0) % given.shape[0]
        return _runs(trace, given, [start], [call.shape[0]])[0]
    track = trace.activate(given)
    dim = args["dim"] % len(track.shape)
    if call.shape == track.shape:
        return track
    return Track(call.shape, trace.freeze(track, (dim,)).layers)


def split(trace: Trace, call: Call) -> Sequence[Track | Weight]:
    """Return ids of each part; parts of one size keep one size, others pin what is split."""
    given = given_input(call)
    dim = int(call.args.get("dim", 0)) % len(given.shape)
    sizes = [shape[dim] for shape in call.shapes]
    if isinstance(given, Weight) and dim == 0:
        return _runs(trace, given, np.cumsum([0, *sizes[:-1]]).tolist(), sizes)
    track = trace.activate(given)
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


def _runs(
    trace: Trace, weight: Weight, starts: Sequence[int], sizes: Sequence[int]
) -> list[Weight]:
    """Return runs of a parameter's first dimension; runs of one size keep one size."""
    runs = [weight.run(start, size) for start, size in zip(starts, sizes, strict=True)]
    pieces = [trace.ids(run, 0) for run in runs]
    for run, piece in zip(runs, pieces, strict=True):
        trace.resizes.append(Resize(trace.module, trace.operation, piece, run.shape))
    if len(runs) > 1 and len(set(sizes)) == 1:
        trace.balances.append(tuple(pieces))
    return runs


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
    track = trace.activate(given_input(call))
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
