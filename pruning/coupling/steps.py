"""The steps of a trace: when their outputs are zero and which of their inputs matter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pruning.coupling.flow import Flow
from pruning.coupling.tracks import Flags, Ids, Weight

Zero = Literal["all", "any", "first", "never"]
"""A pointwise result is zero where all, any or the first of the operands are; or never."""


@dataclass(frozen=True)
class Source:
    """A parameter or buffer used as an activation: `outs` are its slices along `dim`."""

    weight: Weight
    dim: int
    outs: Ids

    def inputs(self) -> Sequence[Ids]:
        """Return nothing: a parameter reads no activation."""
        return ()

    def zeros(self, flow: Flow) -> None:
        """Mark the slices that hold only zeros."""
        flow.zero[self.outs] = ~flow.holdings.slices(self.weight, self.dim)

    def needs(self, flow: Flow) -> None:
        """Need nothing."""


@dataclass(frozen=True)
class Blank:
    """Channels of zeros that the forward itself adds."""

    outs: Ids

    def inputs(self) -> Sequence[Ids]:
        """Return nothing: zeros read no activation."""
        return ()

    def zeros(self, flow: Flow) -> None:
        """Mark all of them."""
        flow.zero[self.outs] = True

    def needs(self, flow: Flow) -> None:
        """Need nothing."""


@dataclass(frozen=True)
class Pointwise:
    """A function of each position; an operand is the layers that meet in `outs`, or none."""

    operands: tuple[tuple[Ids, ...], ...]
    outs: Ids
    rule: Zero

    def inputs(self) -> Sequence[Ids]:
        """Return all operands' layers."""
        return [layer for operand in self.operands for layer in operand]

    def _zero(self, flow: Flow) -> list[Flags]:
        shape = self.outs.shape
        return [
            np.any([np.broadcast_to(flow.zero[ids], shape) for ids in operand], axis=0)
            if operand
            else np.zeros(shape, dtype=bool)
            for operand in self.operands
        ]

    def zeros(self, flow: Flow) -> None:
        """Mark by the rule of the function."""
        if self.rule == "never":
            return
        zero = self._zero(flow)
        if self.rule == "first":
            flow.zero[self.outs] = zero[0]
        else:
            flow.zero[self.outs] = np.all(zero, 0) if self.rule == "all" else np.any(zero, 0)

    def needs(self, flow: Flow) -> None:
        """Need every operand of a needed output, but no factor of a zero."""
        wanted = flow.need[self.outs]
        zero = self._zero(flow) if self.rule in ("any", "first") else []
        for at, operand in enumerate(self.operands):
            needed = wanted
            others = [*range(len(self.operands))] if self.rule == "any" else [0]
            for other in others:
                if zero and other != at:
                    needed = needed & ~zero[other]
            for layer in operand:
                flow.need[np.broadcast_to(layer, needed.shape)[needed]] = True


@dataclass(frozen=True)
class Product:
    """A linear map or convolution by a weight (O, I / groups, *kernel).

    A transposed one has (I, O / groups, *kernel). `positions` counts how often every weight
    multiplies on the example inputs: MACs = positions * weights.
    """

    weight: Weight
    bias: Weight | None
    ins: Ids
    outs: Ids
    groups: int
    transposed: bool
    positions: int

    def inputs(self) -> Sequence[Ids]:
        """Return the input channels."""
        return (self.ins,)

    def _kernels(self, flow: Flow) -> Flags:
        """Return which kernels (groups, O / groups, I / groups) may be non-zero."""
        kernels = flow.holdings.kernels(self.weight)
        if self.transposed:
            return kernels.reshape(self.groups, -1, kernels.shape[1]).swapaxes(1, 2)
        return kernels.reshape(self.groups, -1, kernels.shape[1])

    def zeros(self, flow: Flow) -> None:
        """Mark the outputs whose whole filter and bias are zero."""
        alive = self._kernels(flow).any(axis=2).reshape(-1)
        flow.zero[self.outs] = ~(alive | flow.holdings.shift(self.bias, alive.size))

    def needs(self, flow: Flow) -> None:
        """Need the inputs that a needed output multiplies by something."""
        kernels = self._kernels(flow)
        wanted = flow.need[self.outs].reshape(self.groups, -1)
        if self.groups == 1:
            needed = kernels[0][wanted[0]].any(axis=0)
        else:
            needed = (kernels & wanted[:, :, None]).any(axis=1).reshape(-1)
        flow.need[self.ins[needed]] = True


@dataclass(frozen=True)
class Scaling:
    """A normalisation by constants or within a channel, then a scale and a shift a channel.

    `centre` is the running mean: a channel that is zero leaves as a constant unless it is 0.
    """

    ins: Ids
    outs: Ids
    scale: Weight | None
    shift: Weight | None
    centre: Weight | None

    def inputs(self) -> Sequence[Ids]:
        """Return the channels before it."""
        return (self.ins,)

    def zeros(self, flow: Flow) -> None:
        """Mark where scale and shift are zero, or input, mean and shift."""
        shift = flow.holdings.shift(self.shift, self.outs.size)
        flat = flow.zero[self.ins]
        dies = flow.holdings.masked_dies and self.scale is not None
        if self.centre is not None and not dies:
            flat = flat & ~flow.holdings.slices(self.centre, 0)
        flow.zero[self.outs] = (flat | ~self._scale(flow)) & ~shift

    def _scale(self, flow: Flow) -> Flags:
        if self.scale is None:
            return np.ones(self.outs.size, dtype=bool)
        return flow.holdings.slices(self.scale, 0)

    def needs(self, flow: Flow) -> None:
        """Need the inputs that are not multiplied by zero."""
        flow.need[self.ins[flow.need[self.outs] & self._scale(flow)]] = True


@dataclass(frozen=True)
class Attention:
    """Softmax attention by head: zero where the values are, which then need no query or key."""

    queries: Ids
    keys: Ids
    values: Ids
    outs: Ids

    def inputs(self) -> Sequence[Ids]:
        """Return queries, keys and values."""
        return (self.queries, self.keys, self.values)

    def zeros(self, flow: Flow) -> None:
        """Mark the heads with zero values."""
        flow.zero[self.outs] = flow.zero[self.values]

    def needs(self, flow: Flow) -> None:
        """Need the values of needed heads, and their queries and keys unless the values are 0."""
        wanted = flow.need[self.outs]
        flow.need[self.values[wanted]] = True
        scored = wanted & ~flow.zero[self.values]
        flow.need[self.queries[scored]] = True
        flow.need[self.keys[scored]] = True


@dataclass(frozen=True)
class Bundle:
    """Channels that from here on go as one: zero if all are, all needed if the bundle is."""

    ins: Ids
    outs: Ids

    def inputs(self) -> Sequence[Ids]:
        """Return the channels of all bundles."""
        return (self.ins,)

    def zeros(self, flow: Flow) -> None:
        """Mark the bundles of which every channel is zero."""
        dims = tuple(d for d, size in enumerate(self.outs.shape) if size < self.ins.shape[d])
        flow.zero[self.outs] = flow.zero[self.ins].all(axis=dims, keepdims=True)

    def needs(self, flow: Flow) -> None:
        """Need every channel of a needed bundle."""
        flow.need[self.ins[np.broadcast_to(flow.need[self.outs], self.ins.shape)]] = True


@dataclass(frozen=True)
class Sink:
    """What leaves the network, or enters an operation that is not understood."""

    ins: Ids

    def inputs(self) -> Sequence[Ids]:
        """Return what leaves."""
        return (self.ins,)

    def zeros(self, flow: Flow) -> None:
        """Produce nothing."""

    def needs(self, flow: Flow) -> None:
        """Need everything."""
        flow.need[self.ins] = True
