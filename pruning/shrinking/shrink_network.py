"""Shrink: a smaller network that puts out what the masked one does, proven before it returns."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from pruning.coupling.exporting import Example
from pruning.coupling.groups import Groups, channels
from pruning.coupling.trace import Reason, Resize
from pruning.coupling.tracks import Flags
from pruning.errors import PruningError
from pruning.shrinking import check
from pruning.shrinking.plan import Plan, plan_for
from pruning.shrinking.rebuild import apply_plan


def shrink(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    example_inputs: Example,
    *,
    round_to: int = 1,
    groups: Groups | None = None,
) -> nn.Module:
    """Return a copy of `model` without the channels, heads and units that `masks` take whole.

    With a removed channel goes all that lives or dies with it; what is only partly masked stays,
    with zeros. A channel goes where the masked network carries zero or where nothing reads it: a
    masked filter with a bias or a norm's shift behind it goes if those are masked too (`whole`).
    `round_to` keeps channel counts on multiples. `groups` saves the search for them when many masks
    of one model are tried. On the example and on random inputs every output leaf is compared with
    the masked network's (1e-5 relative in float32, 1e-10 in float64). The model is left as it is.

    Raises `PruningError` for masks of another model, a layer masked whole, inputs that do not fit,
    a model that cannot be exported, and if the comparison fails.
    """
    _, shrunk = _shrink(model, masks, example_inputs, round_to, groups)
    return shrunk


def shrink_plan(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    example_inputs: Example,
    *,
    round_to: int = 1,
    groups: Groups | None = None,
) -> Plan:
    """Return how `shrink` cuts `model`, as plain data: `apply_plan(model, plan)` cuts it so.

    JSON holds it; with the model's factory and the shrunk weights it rebuilds the network. Checked
    like `shrink`, with the same errors.
    """
    return _shrink(model, masks, example_inputs, round_to, groups)[0]


def _shrink(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    example: Example,
    round_to: int,
    groups: Groups | None,
) -> tuple[Plan, nn.Module]:
    groups = groups or channels(model, example)
    plan, going = plan_for(model, masks, groups, round_to)
    examples = check.inputs(example)
    expected = check.outputs(check.masked(model, masks), examples)
    while True:
        shrunk = apply_plan(model, plan, masks=masks)
        try:
            actual = check.attempt(shrunk, examples)
        except check.Failure as failure:
            held = _written_down(groups, going, failure.path)
            if held is None:
                raise PruningError(
                    f"{type(model).__name__} does not run on fewer channels, in module "
                    f"{(failure.path or [''])[-1]!r}: {failure}"
                ) from failure
        else:
            share = check.difference(expected, actual)
            if share <= 1:
                return plan, shrunk
            held = _written_down(groups, going, None)
            if held is None:
                raise PruningError(
                    f"the shrunk {type(model).__name__} differs from the masked one by "
                    f"{share:.3g} times what is allowed"
                )
        groups = held
        plan, going = plan_for(model, masks, groups, round_to)


def _written_down(groups: Groups, going: Flags, path: list[str] | None) -> Groups | None:
    """Return the groups with what the running modules reshape pinned, or None where nothing is.

    A forward may hold sizes as numbers (`view(-1, 512)`): then what is reshaped there must stay.
    Tried from the innermost module outwards; with no path, everywhere.
    """
    for module in reversed(path) if path is not None else [None]:
        found = [
            resize
            for resize in groups.trace.resizes
            if module in (None, resize.module) and going[groups.classes.label[resize.ids]].any()
        ]
        if found:
            return _pin(groups, found)
    return None


def _pin(groups: Groups, found: list[Resize]) -> Groups:
    ids = np.concatenate([resize.ids.reshape(-1) for resize in found])
    first = found[0]
    return groups.pin(ids, Reason(f"{first.operation} to sizes written as numbers", first.module))
