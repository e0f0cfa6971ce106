"""Groups: which slices of which parameters live or die together."""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np
from torch import Tensor, nn

from pruning.coupling.copies import Example
from pruning.coupling.exporting import export
from pruning.coupling.notes import Reason
from pruning.coupling.resolve import Classes, reasons, resolve
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import Flags, Ids
from pruning.coupling.walk import numbers, selectable, walk
from pruning.errors import PruningError


@dataclass(frozen=True)
class Member:
    """Positions along one dimension of a parameter or buffer."""

    name: str
    dim: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """What goes together; `index` is its place among all groups."""

    index: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Pinned:
    """Channels of a layer that stay, and the first operation that holds them."""

    parameter: str
    channels: int
    of: int
    reason: Reason


class Groups(Sequence[Group]):
    """All groups of a network that may go, in the order of the network; `pinned` says what may not.

    Made by `channels`. Holds no tensors of the model, only names, shapes and ids.
    """

    def __init__(self, trace: Trace, classes: Classes, parameters: Sequence[str]) -> None:
        """Number the classes that are free; `parameters` are the names that masks may hold."""
        self.trace = trace
        self.parameters = tuple(parameters)
        self.classes = classes
        self.free: Ids = np.flatnonzero(~classes.pinned)

    def __len__(self) -> int:
        """Return the number of groups that may go."""
        return len(self.free)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | Sequence[Group]:
        """Return a group with all that must go when it goes."""
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        found: dict[tuple[str, int], list[int]] = defaultdict(list)
        for label in self.dying(int(self.free[index])):
            for name, dim, positions in self._members.get(label, ()):
                found[name, dim] += positions
        members = (Member(n, d, tuple(sorted(at))) for (n, d), at in found.items())
        return Group(int(index) % len(self), tuple(members))

    def __iter__(self) -> Iterator[Group]:
        """Iterate over all groups."""
        return (self[at] for at in range(len(self)))

    def dying(self, label: int) -> list[int]:
        """Return a class and all classes that must go before it can."""
        found, waiting = [label], [label]
        while waiting:
            for after in self._required.get(waiting.pop(), ()):
                if after not in found:
                    found.append(after)
                    waiting.append(after)
        return found

    def labels(self, name: str, dim: int) -> Ids:
        """Return the class of every position along a dimension of a parameter or buffer.

        Raises `PruningError` for a name that is not the network's.
        """
        known = self.trace.aliases.get(name, name)
        if known not in self.trace.dims:
            raise PruningError(f"the groups are of a network without a parameter {name!r}")
        return self.classes.label[self.trace.dims[known][dim]]

    @cached_property
    def _required(self) -> Mapping[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for before, after in zip(*self.classes.requires, strict=True):
            found[int(before)].append(int(after))
        return found

    @cached_property
    def _members(self) -> Mapping[int, list[tuple[str, int, list[int]]]]:
        found: dict[int, list[tuple[str, int, list[int]]]] = defaultdict(list)
        for name, dims in self.trace.dims.items():
            for dim, ids in enumerate(dims):
                label = self.classes.label[ids]
                order = np.argsort(label, kind="stable")
                cuts = np.flatnonzero(np.diff(label[order])) + 1
                for positions in np.split(order, cuts):
                    if positions.size and not self.classes.pinned[label[positions[0]]]:
                        found[int(label[positions[0]])].append((name, dim, positions.tolist()))
        return found

    @cached_property
    def pinned(self) -> tuple[Pinned, ...]:
        """What stays whole or in part, by the parameter that makes it, with its reason."""
        why = reasons(self.trace, self.classes)
        found = []
        for name, ids in self.trace.widths.items():
            label = self.classes.label[ids]
            stuck = label[self.classes.pinned[label]]
            reason = next((why[at] for at in stuck if why[at]), None)
            if reason is not None:
                found.append(Pinned(name, stuck.size, label.size, reason))
        return tuple(found)

    def pin(self, ids: Ids, reason: Reason) -> "Groups":
        """Return the groups with the classes of these ids pinned as well."""
        trace = copy.copy(self.trace)
        trace.pins = [*trace.pins, (ids.reshape(-1), reason)]
        pinned: Flags = self.classes.pinned.copy()
        pinned[self.classes.label[ids]] = True
        return Groups(trace, replace(self.classes, pinned=pinned), self.parameters)


def channels(model: nn.Module, example_inputs: Example) -> Groups:
    """Return the groups of channels that live or die together in `model`.

    Channel ids are followed through the graph that torch.export makes of the model in eval mode on
    `example_inputs`: one tensor, a tuple of positional or a mapping of keyword arguments. Where
    training runs through more of the model (auxiliary heads), that graph is followed as well. An
    operation that is not known pins its channels. The model is left as it is. Raises
    `PruningError` for inputs that do not fit and for a model that cannot be exported.
    """
    named: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    named.update(model.named_buffers(remove_duplicate=False))
    names: dict[int, str] = {}
    for name, tensor in named.items():
        names.setdefault(id(tensor), name)
    shapes = {name: tuple(named[name].shape) for name in names.values()}
    aliases = {name: names[id(tensor)] for name, tensor in named.items()}
    trace = Trace(shapes, selectable(model), numbers(model), aliases)
    exported = export(model, example_inputs)
    walk(trace, exported, aliases)
    if _unread(exported.graph):
        walk(trace, export(model, example_inputs, training=True), aliases)
    return Groups(trace, resolve(trace), [name for name, _ in model.named_parameters()])


def _unread(graph: object) -> bool:
    """Return whether a parameter is not read in a graph."""
    nodes = getattr(graph, "nodes", ())
    return any(n.op == "placeholder" and n.name.startswith("p_") and not n.users for n in nodes)
