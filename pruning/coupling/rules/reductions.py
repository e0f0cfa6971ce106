"""Pooling, resampling, means, softmax: what happens along some dimensions and not along others."""

from collections.abc import Iterable
from typing import Any

import torch

from pruning.coupling.notes import Call
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import Track, Weight


def spatial(trace: Trace, call: Call) -> Track | list[Track]:
    """Follow pooling and resampling of each channel by itself, which leaves zeros zero."""
    track = trace.activate(call.args["self" if "self" in call.args else "input"])
    rank = next(int(d) for d in "123" if f"{d}d" in call.operation)
    track = trace.freeze(track, range(-rank, 0))
    results = [Track(shape, track.layers) for shape in call.shapes]
    return results if len(results) > 1 else results[0]


def reduced(trace: Trace, call: Call) -> Track | list[Track]:
    """Follow a mean, sum or maximum over some dimensions; zeros stay zero."""
    track = trace.activate(call.args["self"])
    rank = len(track.shape)
    dims = {dim % rank for dim in _dims(call.args.get("dim"), rank)}
    track = trace.freeze(track, dims)
    kept = [dim for dim in range(rank) if dim not in dims]
    results = []
    for shape in call.shapes:
        if len(shape) == rank:
            results.append(Track(shape, track.layers))
        else:
            layers = (layer.reshape([layer.shape[d] for d in kept]) for layer in track.layers)
            results.append(Track(shape, tuple(layers)))
    return results if len(results) > 1 else results[0]


def _dims(given: Any, rank: int) -> Iterable[int]:
    if given is None or given == []:
        return range(rank)
    return [given] if isinstance(given, int) else given


def moment(trace: Trace, call: Call) -> Track | list[Track]:
    """Follow a product, logsumexp or another statistic whose zero at zero is not known."""
    found = reduced(trace, call)
    if isinstance(found, list):
        return [trace.pointwise([each], each.shape, "never") for each in found]
    return trace.pointwise([found], call.shape, "never")


def normalised(trace: Trace, call: Call) -> Track:
    """Follow a softmax along one dimension: nothing may leave it."""
    track = trace.activate(call.args["self"])
    frozen = trace.freeze(track, (call.args["dim"],))
    return trace.pointwise([frozen], call.shape, "never")


def accumulated(trace: Trace, call: Call) -> Track:
    """Follow a cumulative sum along one dimension, or a flip of some."""
    track = trace.activate(call.args["self"])
    dims = call.args["dims"] if "dims" in call.args else [call.args["dim"]]
    return trace.freeze(track, dims)


def made(_: Trace, call: Call) -> Track:
    """Return a tensor that the forward makes itself, of fixed size."""
    return Track(call.shape, blank="zeros" in call.operation)


def pointwise(trace: Trace, call: Call) -> Track:
    """Follow a function of each position; a function of one tensor that keeps zeros keeps ids."""
    given = [item for item in call.args.values() if isinstance(item, Track | Weight)]
    tracks = [trace.activate(item) for item in given]
    if len(tracks) == 1 and tracks[0].shape == call.shape and call.is_zero_at_zero():
        return tracks[0]
    if not any(track.layers for track in tracks):
        return Track(call.shape)
    if call.operation in ("mul", "mul_", "multiply"):
        return trace.pointwise(tracks, call.shape, "any")
    if call.operation in ("div", "div_", "divide", "true_divide") and len(tracks) == 2:
        return trace.pointwise(tracks, call.shape, "first")
    return trace.pointwise(tracks, call.shape, "all" if call.is_zero_at_zero() else "never")


def gated(trace: Trace, call: Call) -> Track:
    """Follow a gated linear unit: each value goes with its gate."""
    track = trace.activate(call.args["self"])
    dim = call.args["dim"] % len(track.shape)
    half = track.shape[dim] // 2
    values, gates = [], []
    for layer in track.layers:
        sides = [layer, layer]
        if layer.shape[dim] > 1:
            sides = [layer.take(range(at, at + half), axis=dim) for at in (0, half)]
        values.append(sides[0])
        gates.append(sides[1])
    parts = [Track(call.shape, tuple(side)) for side in (values, gates)]
    return trace.pointwise(parts, call.shape, "any")


def has_pointwise_tag(target: Any) -> bool:
    """Return whether torch itself says that the operation acts on each position alone."""
    return torch.Tag.pointwise in getattr(target, "tags", ())
