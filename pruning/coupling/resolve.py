"""From ties to classes: the connected components of the ids, with what shapes ask for on top."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from pruning.coupling.notes import Grouped, Reason
from pruning.coupling.trace import Trace
from pruning.coupling.tracks import FIXED, Flags, Ids, first, varying


@dataclass(frozen=True)
class Classes:
    """The class of every id, which classes are pinned, and who needs whom gone first.

    `label[id]` numbers classes from 0 in the order of the network; `requires` lists pairs of
    classes (a, b): a can go only if b does. `whole_groups` names the grouped convolutions that
    lose whole groups; the others lose the same position of each group.
    """

    label: Ids
    count: int
    pinned: Flags
    requires: tuple[Ids, Ids]
    whole_groups: frozenset[str]


def resolve(trace: Trace) -> Classes:
    """Return the classes of a finished walk.

    Adds the ties that shapes ask for: channels laid out over several dimensions must leave a
    rectangle, and the groups of a grouped convolution must stay of one size.
    """
    _link(trace)
    label = _components(trace)
    whole = [grouped.weight for grouped in trace.grouped if _tie_groups(trace, grouped, label)]
    if trace.grouped:
        label = _components(trace)
    while sum(_tie_rectangle(trace, ids, label) for ids in trace.rectangles):
        label = _components(trace)
    count = int(label.max(initial=-1)) + 1
    pinned = np.zeros(count, dtype=bool)
    for ids, _ in trace.pins:
        pinned[label[ids]] = True
    pinned[label[FIXED]] = True
    pinned |= _inert(trace, label, count)
    left, right = _gathered([*trace.links.values()])
    pairs = np.unique(np.stack([label[left], label[right]]), axis=1)
    pairs = pairs[:, (pairs[0] != pairs[1]) & (pairs[0] != label[FIXED])]
    return Classes(label, count, pinned, (pairs[0], pairs[1]), frozenset(whole))


def reasons(trace: Trace, classes: Classes) -> list[Reason | None]:
    """Return for every class the first operation that pinned it."""
    found: list[Reason | None] = [None] * classes.count
    for ids, reason in trace.pins:
        for label in np.unique(classes.label[ids]):
            found[label] = found[label] or reason
    return found


def _gathered(pairs: Sequence[tuple[Ids, Ids]]) -> tuple[Ids, Ids]:
    if not pairs:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _components(trace: Trace) -> Ids:
    """Return the component of every id, numbered in the order of their first ids."""
    left, right = _gathered(trace.ties)
    graph = coo_array((np.ones(left.size, dtype=bool), (left, right)), (trace.count, trace.count))
    _, label = connected_components(graph, directed=False)
    highest = np.maximum.accumulate(label)
    if label[0] != 0 or bool((label[1:] > highest[:-1] + 1).any()):
        _, starts, back = np.unique(label, return_index=True, return_inverse=True)
        rank = np.empty_like(starts)
        rank[np.argsort(starts)] = np.arange(starts.size)
        label = rank[back]
    found: Ids = label.astype(np.int64)
    return found


def _link(trace: Trace) -> None:
    """Tie a norm to the channels it reads where nothing else reads them; link it elsewhere."""
    uses = np.zeros(trace.count, dtype=np.int64)
    for step in trace.steps:
        for ids in step.inputs():
            uses[ids] += 1  # once, however often an id is among them
    for ins, outs in trace.links.values():
        alone = (uses[ins] <= 1) & (ins != FIXED)
        trace.tie(ins[alone], outs[alone])


def _tie_groups(trace: Trace, grouped: Grouped, label: Ids) -> bool:
    """Tie the channels of a grouped convolution; return whether whole groups go.

    The same position of each group goes where the inputs are tied across groups already, as
    before a channel shuffle; else groups stay as wide as they are and go whole.
    """
    ins, outs, columns = grouped.ins, grouped.outs, grouped.columns
    if ins.shape[1] == 1:
        return True
    if bool((label[ins] == label[ins[:1]]).all()):
        trace.tie(ins, ins[:1])
        trace.tie(outs, outs[:1])
        if columns.size == ins.shape[1]:
            trace.tie(columns, ins[0])
        else:
            trace.tie(columns, outs[0])
        return False
    trace.tie(ins, ins[:, :1])
    trace.tie(outs, ins[:, :1])
    trace.pins.append((columns, Reason("conv with groups", grouped.weight.rpartition(".")[0])))
    return True


def _tie_rectangle(trace: Trace, ids: Ids, label: Ids) -> bool:
    """Tie ids that lie over several dimensions, unless any kept ones leave a rectangle already.

    All but the last dimension along which the classes differ are tied; returns whether any was.
    """
    classes = label[ids]
    differ = [dim for dim in varying(ids) if bool((classes != first(classes, (dim,))).any())]
    if len(differ) < 2:
        return False
    trace.tie(ids, first(ids, differ[:-1]))
    return True


def _inert(trace: Trace, label: Ids, count: int) -> Flags:
    """Return the classes that hold parameters only: nothing is known of their use."""
    own = np.zeros(trace.count, dtype=bool)
    for dims in trace.dims.values():
        for ids in dims:
            own[ids] = True
    active = np.zeros(count, dtype=bool)
    active[label[~own]] = True
    return ~active
