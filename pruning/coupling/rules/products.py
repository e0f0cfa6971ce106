"""Linear maps, convolutions, embeddings, and products of two activations."""

from collections.abc import Sequence
from typing import Any

from pruning.coupling.notes import Call, Grouped
from pruning.coupling.steps import Product, Source
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import Ids, Track, Weight, elements, spread


def linear(trace: Trace, call: Call) -> Track | None:
    """Follow y = x W' + b with W (O, I), along the last dimension."""
    return _linear(trace, call.args["input"], call.args["weight"], call.args["bias"])


def addmm(trace: Trace, call: Call) -> Track | None:
    """Follow b + x W with W (I, O) a parameter, as transformers' Conv1D has it."""
    weight = call.args["mat2"]
    if call.args.get("beta", 1) != 1 or call.args.get("alpha", 1) != 1:
        return None
    return _linear(trace, call.args["mat1"], weight, call.args["self"], transposed=True)


def _linear(
    trace: Trace, given: Any, weight: Any, bias: Any, *, transposed: bool = False
) -> Track | None:
    if not isinstance(weight, Weight) or not isinstance(bias, Weight | None):
        return None
    track = trace.activate(given)
    rank = len(track.shape)
    ins = trace.channel(track, -1)
    outs = _product(
        trace, weight, bias, ins, transposed=transposed, positions=elements(track.shape[:-1])
    )
    shape = (*track.shape[:-1], weight.shape[1 if transposed else 0])
    return Track(shape, (spread(outs, rank - 1, rank),) if outs.size > 1 else ())


def convolution(trace: Trace, call: Call) -> Track | None:
    """Follow a convolution of 1 to 3 dimensions, plain, grouped or depthwise."""
    return _convolution(trace, call, transposed=False)


def transposed_convolution(trace: Trace, call: Call) -> Track | None:
    """Follow a transposed convolution, whose weight is (I, O / groups, *kernel)."""
    return _convolution(trace, call, transposed=True)


def _convolution(trace: Trace, call: Call, *, transposed: bool) -> Track | None:
    weight, bias = call.args["weight"], call.args["bias"]
    if not isinstance(weight, Weight) or not isinstance(bias, Weight | None):
        return None
    track = trace.activate(call.args["input"])
    rank = len(call.shape)
    channel = rank - len(weight.shape) + 1
    spatial = track.shape if transposed else call.shape
    positions = elements(spatial) // spatial[channel]
    outs = _product(
        trace,
        weight,
        bias,
        trace.channel(track, channel),
        groups=call.args["groups"],
        transposed=transposed,
        positions=positions,
    )
    return Track(call.shape, (spread(outs, channel, rank),) if outs.size > 1 else ())


def _product(
    trace: Trace,
    weight: Weight,
    bias: Weight | None,
    ins: Ids,
    *,
    groups: int = 1,
    transposed: bool = False,
    positions: int,
) -> Ids:
    """Return the output channels of a weight that meets the channels `ins`."""
    rows, columns = trace.ids(weight, 0), trace.ids(weight, 1)
    width = weight.shape[1] * groups if transposed else weight.shape[0]
    outs = trace.fresh((width,))
    if groups > 1:
        _groups(trace, weight, ins, outs, groups, transposed)
    else:
        trace.make(weight, 1 if transposed else 0, outs)
        trace.tie(rows if transposed else columns, ins)
    if bias is not None:
        trace.make(bias, 0, outs)
    trace.steps.append(Product(weight, bias, ins, outs, groups, transposed, positions))
    trace.widths.setdefault(weight.label, outs)
    if outs.size == 1:
        trace.pin(outs)
    return outs


def _groups(
    trace: Trace, weight: Weight, ins: Ids, outs: Ids, groups: int, transposed: bool
) -> None:
    """Tie depthwise channels; leave to the end how wider groups shrink."""
    columns = trace.ids(weight, 1)
    trace.make(weight, 0, ins if transposed else outs)
    by_group = ins.reshape(groups, -1)
    if by_group.shape[1] == 1:
        trace.tie(by_group, outs.reshape(groups, -1))
    trace.grouped.append(Grouped(weight.name, by_group, outs.reshape(groups, -1), columns))


def embedding(trace: Trace, call: Call) -> Track | None:
    """Follow rows read from a table (V, E): its columns are the channels."""
    weight, indices = call.args["weight"], call.args["indices"]
    if not isinstance(weight, Weight) or not isinstance(indices, Track):
        return None
    outs = trace.fresh((weight.shape[1],))
    trace.make(weight, 1, outs)
    trace.pin(trace.ids(weight, 0))
    trace.steps.append(Source(weight, 1, outs))
    trace.widths.setdefault(weight.label, outs)
    rank = len(call.shape)
    return Track(call.shape, (spread(outs, rank - 1, rank),))


def matmul(trace: Trace, call: Call) -> Track | None:
    """Follow the product of two activations over batches, or of one with a parameter."""
    left, right = (call.args[key] for key in _sides(call))
    if isinstance(right, Weight) and len(right.shape) == 2:
        return _linear(trace, left, right, None, transposed=True)
    return contraction(trace, *_labelled(trace, left, right), call.shape)


def _sides(call: Call) -> tuple[str, str]:
    pairs = (("self", "mat2"), ("self", "other"), ("self", "tensor2"))
    return next(pair for pair in pairs if pair[1] in call.args)


def batched(trace: Trace, call: Call) -> Track | None:
    """Follow baddbmm: a product over batches added to a tensor."""
    left, right = call.args["batch1"], call.args["batch2"]
    product = contraction(trace, *_labelled(trace, left, right), call.shape)
    if product is None:
        return None
    added = trace.activate(call.args["self"])
    return trace.pointwise([added, product], call.shape, "all")


def _labelled(trace: Trace, left: Any, right: Any) -> tuple[list[Track], list[str], str]:
    """Return the tracks of a matmul with a letter a dimension, and the result's letters."""
    tracks = [trace.activate(left), trace.activate(right)]
    ranks = [len(track.shape) for track in tracks]
    batch = "abcdefgh"[: max(0, max(ranks) - 2)]
    own = ["mk" if ranks[0] > 1 else "k", "kn" if ranks[1] > 1 else "k"]
    letters = [
        batch[len(batch) - max(0, rank - 2) :] + end for rank, end in zip(ranks, own, strict=True)
    ]
    result = batch + ("m" if ranks[0] > 1 else "") + ("n" if ranks[1] > 1 else "")
    return tracks, letters, result


def einsum(trace: Trace, call: Call) -> Track | None:
    """Follow an einsum without ellipsis or repeated letters within one operand."""
    equation = str(call.args["equation"]).replace(" ", "")
    if "->" not in equation or "." in equation:
        return None
    given, result = equation.split("->")
    letters = given.split(",")
    if any(len(set(each)) < len(each) for each in letters):
        return None
    tracks = [trace.activate(item) for item in call.args["tensors"]]
    return contraction(trace, tracks, letters, result, call.shape)


def contraction(
    trace: Trace,
    tracks: Sequence[Track],
    letters: Sequence[str],
    result: str,
    shape: Sequence[int],
) -> Track:
    """Return a sum over the letters that the result lacks; along those all sizes are kept.

    A channel that lies along a summed letter alone is pinned, as the scale of such sums often
    depends on their length; one that lies along a head as well goes with its head.
    """
    laid = []
    for track, own in zip(tracks, letters, strict=True):
        summed = [d for d, letter in enumerate(own) if letter not in result]
        laid.append(_laid(trace.freeze(track, summed), own, result))
    return trace.pointwise(laid, shape, "any")


def _laid(track: Track, own: str, result: str) -> Track:
    """Return the track with the dimensions of the result, of size 1 where it has none."""
    kept = [d for d, letter in enumerate(own) if letter in result]
    order = sorted(kept, key=lambda d: result.index(own[d]))
    sizes = {own[d]: track.shape[d] for d in kept}
    layers = []
    for layer in track.layers:
        found = {own[d]: layer.shape[d] for d in kept}
        moved = layer.transpose([*order, *(d for d in range(layer.ndim) if d not in order)])
        layers.append(moved.reshape([found.get(letter, 1) for letter in result]))
    return Track(tuple(sizes.get(letter, 1) for letter in result), tuple(layers))
