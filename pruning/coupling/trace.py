"""The ledger of a walk through a graph: ids, ties, pins, steps, and what shapes ask for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pruning.coupling.flow import Step
from pruning.coupling.notes import Grouped, Padding, Reason, Resize
from pruning.coupling.steps import Blank, Bundle, Pointwise, Sink, Source, Zero
from pruning.coupling.tracks import (
    FIXED,
    Ids,
    Track,
    Weight,
    aligned,
    along,
    first,
    spread,
    varying,
)


@dataclass
class Trace:
    """What a walk has found so far."""

    shapes: Mapping[str, tuple[int, ...]]
    selectable: frozenset[str] = frozenset()
    numbers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    module: str = ""
    operation: str = ""
    steps: list[Step] = field(default_factory=list)
    ties: list[tuple[Ids, Ids]] = field(default_factory=list)
    pins: list[tuple[Ids, Reason]] = field(default_factory=list)
    links: dict[str, tuple[Ids, Ids]] = field(default_factory=dict)
    rectangles: list[Ids] = field(default_factory=list)
    grouped: list[Grouped] = field(default_factory=list)
    balances: list[tuple[Ids, ...]] = field(default_factory=list)
    paddings: list[Padding] = field(default_factory=list)
    group_norms: dict[str, Ids] = field(default_factory=dict)
    widths: dict[str, Ids] = field(default_factory=dict)
    resizes: list[Resize] = field(default_factory=list)
    dims: dict[str, tuple[Ids, ...]] = field(default_factory=dict)
    makes: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Hand out ids for every slice of every parameter and buffer."""
        for name, shape in self.shapes.items():
            self.dims[name] = tuple(self.fresh((size,)) for size in shape)

    def fresh(self, shape: Sequence[int]) -> Ids:
        """Return new ids in an array of `shape`."""
        size = int(np.prod(shape, dtype=np.int64))
        ids = np.arange(self.count, self.count + size, dtype=np.int64).reshape(tuple(shape))
        self.count += size
        return ids

    def tie(self, left: Ids, right: Ids) -> None:
        """Let two arrays of ids, broadcast to each other, go together position by position."""
        left, right = (side.reshape(-1) for side in np.broadcast_arrays(left, right))
        fixed = (left == FIXED) | (right == FIXED)
        if fixed.any():
            stuck = np.maximum(left, right)[fixed]
            self.pins.append((stuck, Reason(self.operation, self.module)))
            left, right = left[~fixed], right[~fixed]
        self.ties.append((left, right))

    def ids(self, weight: Weight, dim: int) -> Ids:
        """Return the ids of a weight's slices along a dimension."""
        ids = self.dims[weight.name][dim]
        return ids if dim else ids[weight.rows]

    def make(self, weight: Weight, dim: int, outs: Ids) -> None:
        """Let the slices of a parameter along `dim` make the channels `outs`."""
        self.tie(self.ids(weight, dim), outs)
        self.makes.setdefault(weight.name, set()).add(dim)

    def pin(self, ids: Ids, operation: str = "") -> None:
        """Keep these channels for good, and take them as needed."""
        self.pins.append((ids.reshape(-1), Reason(operation or self.operation, self.module)))
        self.steps.append(Sink(ids))

    def activate(self, value: Track | Weight) -> Track:
        """Return a tensor's track; a parameter's carries one layer a dimension longer than 1."""
        if isinstance(value, Track):
            return value
        layers = []
        for dim, size in enumerate(value.shape):
            if size > 1:
                outs = self.fresh((size,))
                self.make(value, dim, outs)
                self.steps.append(Source(value, dim, outs))
                layers.append(spread(outs, dim, len(value.shape)))
        return Track(value.shape, tuple(layers))

    def freeze(self, track: Track, dims: Iterable[int]) -> Track:
        """Return the track with sizes along `dims` that stay as they are.

        Channels that lie along `dims` alone are pinned; those that lie along others too are
        bundled over `dims`.
        """
        rank = len(track.shape)
        frozen = {dim % rank for dim in dims} if rank else set()
        layers = (self._frozen(layer, frozen) for layer in track.layers)
        return Track(track.shape, tuple(layer for layer in layers if layer is not None))

    def _frozen(self, layer: Ids, frozen: set[int]) -> Ids | None:
        found = set(varying(layer))
        inside = found & frozen
        if not inside:
            return layer
        if inside == found:
            self.pin(layer)
            return None
        heads = first(layer, inside)
        if heads.size == 1:
            self.pin(layer)
            return None
        outs = self.fresh(heads.shape)
        self.tie(layer, outs)
        self.steps.append(Bundle(layer, outs))
        return outs

    def pin_track(self, value: Any) -> None:
        """Pin every channel of a tensor, a weight or a nest of them."""
        if isinstance(value, Weight):
            for dim in range(len(value.shape)):
                self.pin(self.ids(value, dim))
        elif isinstance(value, Track):
            for layer in value.layers:
                self.pin(layer)
        elif isinstance(value, list | tuple):
            for item in value:
                self.pin_track(item)

    def padding(self, around: Sequence[int]) -> tuple[Ids, Ids]:
        """Return ids for channels of zeros before and after others.

        They may go where the module that adds them holds each count in an attribute of its own.
        """
        sides = [at for at in (0, 1) if around[at]]
        held = [
            [
                name
                for name, value in self.numbers.get(self.module, {}).items()
                if value == around[at]
            ]
            for at in sides
        ]
        names = [*dict.fromkeys(name for each in held for name in each)]
        found = [np.full(count, FIXED, dtype=np.int64) for count in around]
        if len(names) == len(sides) and all(held):
            for at in sides:
                found[at] = self.fresh((around[at],))
                self.steps.append(Blank(found[at]))
                self.resizes.append(Resize(self.module, self.operation, found[at], (around[at],)))
            ids = tuple(found[at] for at in sides)
            self.paddings.append(Padding(self.module, tuple(names), ids))
        return found[0], found[1]

    def channel(self, track: Track, dim: int) -> Ids:
        """Return the ids along one dimension, whose positions go one by one, and freeze the rest.

        All are `FIXED` where the tensor's channels do not lie there.
        """
        dim %= len(track.shape)
        others = [d for d in range(len(track.shape)) if d != dim]
        layers = self.freeze(track, others).layers
        if not layers:
            return np.full(track.shape[dim], FIXED, dtype=np.int64)
        return along(layers[0], dim)

    def pointwise(self, tracks: Sequence[Track], shape: Sequence[int], rule: Zero) -> Track:
        """Return the result of a function of each position; operands that meet are tied."""
        rank = len(shape)
        operands = [aligned(track, rank) for track in tracks]
        layers = (self._meet(operands, cluster, rule) for cluster in _clusters(operands) if cluster)
        return Track(tuple(shape), tuple(layer for layer in layers if layer is not None))

    def _meet(
        self, operands: Sequence[Track], cluster: list[tuple[int, Ids]], rule: Zero
    ) -> Ids | None:
        """Return the layer in which the layers of a cluster, by operand, are tied."""
        dims = {dim for _, layer in cluster for dim in varying(layer)}
        frozen: set[int] = set()
        for at, operand in enumerate(operands):
            covered = {d for i, layer in cluster if i == at for d in varying(layer)}
            frozen |= {dim for dim in dims - covered if operand.shape[dim] > 1}
        solid = [(at, self._frozen(layer, frozen)) for at, layer in cluster]
        living = [(at, layer) for at, layer in solid if layer is not None]
        if not living or len(living) < len(solid):
            for _, layer in living:
                self.pin(layer)
            return None
        outs = self.fresh(np.broadcast_shapes(*(layer.shape for _, layer in living)))
        for _, layer in living:
            self.tie(outs, layer)
        parts = [tuple(layer for i, layer in living if i == at) for at in range(len(operands))]
        self.steps.append(Pointwise(tuple(parts), outs, rule))
        return outs


def _clusters(operands: Sequence[Track]) -> list[list[tuple[int, Ids]]]:
    """Return the layers, with their operand's position, grouped by shared dimensions."""
    clusters: list[tuple[set[int], list[tuple[int, Ids]]]] = []
    for at, operand in enumerate(operands):
        for layer in operand.layers:
            dims, members = set(varying(layer)), [(at, layer)]
            rest = []
            for other_dims, other in clusters:
                if other_dims & dims:
                    dims, members = dims | other_dims, other + members
                else:
                    rest.append((other_dims, other))
            clusters = [*rest, (dims, members)]
    return [members for _, members in clusters]
