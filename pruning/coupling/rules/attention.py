"""Attention: its heads go whole, queries, keys and values together."""

import numpy as np

from pruning.coupling.notes import Call
from pruning.coupling.steps import Attention
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import Ids, Track


def scaled_dot_product(trace: Trace, call: Call) -> Track | None:
    """Follow attention over (..., heads, length, depth): the depth is fixed, heads are free."""
    if call.args.get("enable_gqa"):
        return None
    tracks = [trace.activate(call.args[key]) for key in ("query", "key", "value")]
    heads = [_heads(trace, track) for track in tracks]
    mask = call.args.get("attn_mask")
    trace.pin_track(mask)
    if any(head is None for head in heads):
        for head in heads:
            if head is not None:
                trace.pin(head)
        return Track(call.shape)
    queries, keys, values = np.broadcast_arrays(*(np.asarray(head) for head in heads))
    outs = trace.fresh(values.shape)
    for side in (queries, keys, values):
        trace.tie(side, outs)
    trace.steps.append(Attention(queries, keys, values, outs))
    return Track(call.shape, (outs,))


def _heads(trace: Trace, track: Track) -> Ids | None:
    """Return the one layer that lies along the heads, or None."""
    layers = trace.freeze(track, (-1, -2)).layers
    if len(layers) == 1:
        return layers[0]
    for layer in layers:
        trace.pin(layer)
    return None
