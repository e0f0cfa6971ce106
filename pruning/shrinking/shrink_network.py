"""Shrink: a smaller network that puts out what the masked one does, proven before it returns."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pruning.coupling.copies import Example
from pruning.coupling.exporting import check_devices, check_inputs
from pruning.coupling.groups import Groups, channels
from pruning.errors import PruningError
from pruning.masks import by_first_name
from pruning.shrinking import check
from pruning.shrinking.plan import Plan, plan_for
from pruning.shrinking.rebuild import apply_plan
from pruning.shrinking.trials import Trial


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
    check_devices(model, example)
    masks = by_first_name(model, masks)
    trial = Trial(groups or channels(model, example))
    examples = check.inputs(example)
    expected = None
    while True:
        plan, going = plan_for(model, masks, trial.groups, round_to)
        plan["modules"] = trial.numbered(plan["modules"], going)
        if expected is None:
            expected = _expected(model, masks, examples)
        shrunk = apply_plan(model, plan, masks=masks)
        try:
            actual = check.attempt(shrunk, examples)
        except check.Failure as failure:
            if not trial.yields(going, failure.path):
                raise PruningError(
                    f"{type(model).__name__} does not run on fewer channels, in module "
                    f"{(failure.path or [''])[-1]!r}: {failure}"
                ) from failure
            continue
        share = check.difference(expected, actual)
        if share <= 1:
            return plan, shrunk
        if not trial.yields(going, None):
            raise PruningError(
                f"the shrunk {type(model).__name__} differs from the masked one by "
                f"{share:.3g} times what is allowed"
            )


def _expected(
    model: nn.Module, masks: Mapping[str, Tensor], examples: list[Example]
) -> list[list[Any]]:
    try:
        return check.outputs(check.masked(model, masks), examples)
    except Exception:
        check_inputs(model, examples[0])
        raise
