"""Normalisations: by constants, within groups, or over the channels themselves."""

import numpy as np

from pruning.coupling.notes import Call
from pruning.coupling.steps import Scaling
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import Ids, Track, Weight, spread, varying


def batch_norm(trace: Trace, call: Call) -> Track | None:
    """Follow a batch norm: its output channels are linked to its input's.

    Input channels cannot go without the output's. Where the input is read elsewhere too, as in a
    pre-activation network, the output may go alone: the norm then selects its input channels.
    """
    track = trace.activate(call.args["input"])
    size = track.shape[1]
    names = [call.args[key] for key in ("weight", "bias", "running_mean", "running_var")]
    if not all(isinstance(name, Weight | None) for name in names):
        return None
    ins = trace.channel(track, 1)
    outs = trace.fresh((size,))
    for weight in names:
        if weight is not None:
            trace.make(weight, 0, outs)
    scale, shift, centre = names[:3]
    trace.steps.append(Scaling(ins, outs, scale, shift, centre))
    known = scale or centre
    owner = known.name.rpartition(".")[0] if known else ""
    if owner in trace.selectable and owner not in trace.links:
        trace.links[owner] = (ins, outs)
        trace.widths.setdefault(known.label if known else owner, outs)
    else:
        trace.tie(ins, outs)
        trace.tie(*trace.links.get(owner, (ins, outs)))
    return Track(call.shape, (spread(outs, 1, len(call.shape)),) if size > 1 else ())


def group_norm(trace: Trace, call: Call) -> Track | None:
    """Follow a group norm: a group is normalised by itself, so that groups go whole."""
    track = trace.activate(call.args["input"])
    groups, size = int(call.args["num_groups"]), track.shape[1]
    ids = trace.channel(track, 1).reshape(groups, -1)
    frozen = trace.freeze(Track(ids.shape, (ids,)), (1,)).layers
    if not frozen:
        return Track(call.shape)
    ins = np.broadcast_to(frozen[0], ids.shape).reshape(-1)
    trace.group_norms[_owner(call)] = frozen[0].reshape(-1)
    return _scaled(trace, call, ins, size)


def _owner(call: Call) -> str:
    weight = call.args["weight"]
    return weight.name.rpartition(".")[0] if isinstance(weight, Weight) else call.module


def instance_norm(trace: Trace, call: Call) -> Track | None:
    """Follow an instance norm, which normalises every channel by itself."""
    if call.args["running_mean"] is not None:
        return None
    track = trace.activate(call.args["input"])
    return _scaled(trace, call, trace.channel(track, 1), track.shape[1])


def _scaled(trace: Trace, call: Call, ins: Ids, size: int) -> Track | None:
    weights = [call.args["weight"], call.args["bias"]]
    if not all(isinstance(weight, Weight | None) for weight in weights):
        return None
    outs = trace.fresh((size,))
    trace.tie(ins, outs)
    for weight in weights:
        if weight is not None:
            trace.make(weight, 0, outs)
    trace.steps.append(Scaling(ins, outs, weights[0], weights[1], None))
    return Track(call.shape, (spread(outs, 1, len(call.shape)),))


def layer_norm(trace: Trace, call: Call) -> Track:
    """Pin the channels that are normalised together: their statistics change with their number."""
    track = trace.activate(call.args["input"])
    rank = len(track.shape)
    dims = set(range(rank - len(call.args["normalized_shape"]), rank))
    alone = [layer for layer in track.layers if dims.issuperset(varying(layer))]
    for layer in alone:
        trace.pin(layer)
    others = tuple(layer for layer in track.layers if not dims.issuperset(varying(layer)))
    frozen = trace.freeze(Track(track.shape, others), dims).layers
    # Pinned channels keep their ids, so that all that meets them later tells the same reason.
    track = Track(track.shape, (*frozen, *alone))
    for key in ("weight", "bias"):
        trace.pin_track(call.args.get(key))
    return trace.pointwise([track], call.shape, "never")


def prelu(trace: Trace, call: Call) -> Track | None:
    """Follow a leaky rectifier whose slope may be one a channel."""
    track, weight = trace.activate(call.args["self"]), call.args["weight"]
    if not isinstance(weight, Weight):
        return None
    if weight.shape[0] > 1:
        trace.tie(trace.ids(weight, 0), trace.channel(track, 1))
    else:
        trace.pin(trace.ids(weight, 0))
    return track
