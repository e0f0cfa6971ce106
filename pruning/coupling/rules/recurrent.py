"""LSTM, GRU and plain recurrent layers: a hidden unit is a row of each gate and a column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pruning.coupling.flow import Flow
from pruning.coupling.notes import Call
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import Flags, Ids, Track, Weight, spread

GATES = {"lstm": (4, 2), "gru": (3, 2), "rnn_tanh": (1, 0), "rnn_relu": (1, 0)}
"""Gates of a cell, and which of them makes the state: a unit whose is zero stays at zero."""


@dataclass(frozen=True)
class Recurrent:
    """One direction of one layer; `units` are its hidden units, `outs` what it puts out."""

    gates: int
    maker: int
    weights: tuple[Weight, Weight]
    biases: tuple[Weight, ...]
    projection: Weight | None
    ins: Ids
    units: Ids
    outs: Ids
    positions: int

    def inputs(self) -> Sequence[Ids]:
        """Return the input features."""
        return (self.ins,)

    def zeros(self, flow: Flow) -> None:
        """Mark the units that start at zero and are never given anything."""
        biases = () if flow.holdings.masked_dies else self.biases
        alive = [
            flow.holdings.slices(weight, 0).reshape(self.gates, -1)[self.maker]
            for weight in (*self.weights, *biases)
        ]
        flow.zero[self.units] = ~np.any(alive, axis=0)
        if self.projection:
            flow.zero[self.outs] = ~flow.holdings.slices(self.projection, 0)

    def needs(self, flow: Flow) -> None:
        """Need the units that reach a needed output in any number of steps, and their inputs."""
        columns = [self._columns(flow, weight) for weight in self.weights]
        project = flow.holdings.kernels(self.projection) if self.projection else None
        out: Flags = flow.need[self.outs].copy()
        units: Flags = np.zeros(self.units.size, dtype=bool)
        while True:
            reached = out if project is None else np.logical_or.reduce(project[out], axis=0)
            again = np.logical_or.reduce(columns[1][reached], axis=0)
            if (units == reached).all() and not (again & ~out).any():
                break
            units, out = reached, out | again
        flow.need[self.units[units]] = True
        flow.need[self.outs[out]] = True
        flow.need[self.ins[columns[0][units].any(axis=0)]] = True

    def _columns(self, flow: Flow, weight: Weight) -> Flags:
        """Return (units, columns): which unit reads which column of a weight in any gate."""
        kernels = flow.holdings.kernels(weight)
        read: Flags = np.logical_or.reduce(kernels.reshape(self.gates, -1, kernels.shape[1]))
        return read


def recurrent(trace: Trace, call: Call) -> list[Track] | None:
    """Follow all layers and directions of nn.LSTM, nn.GRU or nn.RNN on padded sequences."""
    args = call.args
    weights, initial = args["params"], args["hx"]
    both, layers = bool(args["bidirectional"]), int(args["num_layers"])
    if not all(isinstance(weight, Weight) for weight in weights) or "data" in args:
        return None
    states = initial if isinstance(initial, list | tuple) else [initial]
    track = trace.activate(args["input"])
    directions = 1 + both
    per = len(weights) // (layers * directions)
    hidden: list[Ids] = []
    outs: list[Ids] = []
    ins = trace.channel(track, -1)
    positions = track.shape[0] * track.shape[1] if len(track.shape) == 3 else track.shape[0]
    for layer in range(layers):
        found = []
        for direction in range(directions):
            start = (layer * directions + direction) * per
            step = _layer(trace, call, weights[start : start + per], ins, positions)
            found.append(step)
        hidden += [step.units for step in found]
        outs += [step.outs for step in found]
        ins = np.concatenate([step.outs for step in found])
    _constrain(trace, states, hidden, outs)
    rank = len(call.shapes[0])
    return [Track(call.shapes[0], (spread(ins, rank - 1, rank),)), *_finals(call, (outs, hidden))]


def _layer(
    trace: Trace, call: Call, weights: Sequence[Weight], ins: Ids, positions: int
) -> Recurrent:
    gates, maker = GATES[call.operation]
    projection = weights[-1] if len(weights) in (3, 5) else None
    units = trace.fresh((weights[0].shape[0] // gates,))
    outs = trace.fresh((projection.shape[0],)) if projection else units
    biases = weights[2:4] if len(weights) >= 4 else []
    for weight in (*weights[:2], *biases):
        trace.make(weight, 0, np.tile(units, gates))
    trace.tie(trace.ids(weights[0], 1), ins)
    trace.tie(trace.ids(weights[1], 1), outs)
    if projection:
        trace.tie(trace.ids(projection, 1), units)
        trace.make(projection, 0, outs)
        trace.widths.setdefault(projection.label, outs)
    step = Recurrent(
        gates,
        maker,
        (weights[0], weights[1]),
        tuple(biases),
        projection,
        ins,
        units,
        outs,
        positions,
    )
    trace.steps.append(step)
    trace.widths.setdefault(weights[0].label, units)
    return step


def _constrain(trace: Trace, states: Sequence[Any], hidden: list[Ids], outs: list[Ids]) -> None:
    """Keep one hidden size for all layers; states that come from outside pin it."""
    if len(hidden) > 1:
        trace.balances.append(tuple(hidden))
    if outs[0] is not hidden[0] and len(outs) > 1:
        trace.balances.append(tuple(outs))
    if not all(isinstance(state, Track) and state.blank for state in states):
        for ids in (*hidden, *outs):
            trace.pin(ids, f"{trace.operation} with a given initial state")
        trace.pin_track(list(states))


def _finals(call: Call, states: Sequence[list[Ids]]) -> list[Track]:
    """Return the final states (layers, batch, units): each layer has its own ids."""
    found = []
    for shape, ids in zip(call.shapes[1:], states, strict=False):
        layer = np.stack(ids).reshape(len(ids), *(1,) * (len(shape) - 2), -1)
        found.append(Track(shape, (layer,)))
    return found
