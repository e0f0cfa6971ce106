"""The sparsity that reaches a budget of parameters, multiply-adds or measured time."""

from collections.abc import Callable

import torch
from torch import nn

from pruning.coupling.copies import Example
from pruning.coupling.exporting import check_inputs
from pruning.coupling.groups import Groups, channels
from pruning.errors import PruningError
from pruning.latency import compare, forward
from pruning.macs import macs as count_macs
from pruning.shrinking.shrink_network import shrink
from pruning.types import Masks

STEPS = 12
"""Halvings of the search: a sparsity within 1 / 4096 of where the budget is crossed."""


def sparsity_for(
    model: nn.Module,
    example_inputs: Example,
    masks_at: Callable[[float], Masks],
    *,
    macs: float | None = None,
    parameters: float | None = None,
    latency: float | None = None,
    round_to: int = 1,
    groups: Groups | None = None,
) -> float:
    """Return the smallest sparsity at which the shrunk network meets a budget, by bisection.

    Exactly one of `macs`, `parameters` and `latency` is given, as the fraction of the dense
    network's that may be left; latency is the median time of a forward on the example inputs, on
    the threads that torch has now. `masks_at(sparsity)` returns masks as `shrink` takes them (with
    `whole`, if filters have biases or norms); a `PruningError` that it or `shrink` raises (layer
    collapse) counts as too sparse. Raises `PruningError` where no sparsity meets the budget, with
    the last of these; where every trial ended in one, that one; and for inputs that do not fit.
    """
    measure, budget = _budget(macs, parameters, latency)
    check_inputs(model, example_inputs)
    groups = groups or channels(model, example_inputs)
    dense = measure(model, example_inputs)
    low, high, best = 0.0, 1.0, None
    shares: list[float] = []
    failures: list[PruningError] = []
    for _ in range(STEPS):
        middle = (low + high) / 2
        try:
            shrunk = shrink(
                model, masks_at(middle), example_inputs, round_to=round_to, groups=groups
            )
        except PruningError as error:
            failures.append(error)
            high = middle
            continue
        shares.append(measure(shrunk, example_inputs) / dense)
        if shares[-1] <= budget:
            high = best = middle
        else:
            low = middle
    if best is not None:
        return best
    failure = failures[-1] if failures else None
    if failure is not None and not shares:
        raise failure
    raise PruningError(
        f"no sparsity leaves {budget:.4g} of the dense network's cost: the least that was "
        f"reached, at sparsity {low:.4g}, is {min(shares):.4g}"
        + ("" if failure is None else f"; beyond it: {failure}")
    ) from failure


def _budget(
    macs: float | None, parameters: float | None, latency: float | None
) -> tuple[Callable[[nn.Module, Example], float], float]:
    """Return how the cost is measured and the fraction of it that may be left."""
    given = {"macs": macs, "parameters": parameters, "latency": latency}
    chosen = {name: share for name, share in given.items() if share is not None}
    if len(chosen) != 1:
        raise PruningError(f"a budget is one of {', '.join(given)}; got {chosen or 'none'}")
    name, share = chosen.popitem()
    if not 0 < share <= 1:
        raise PruningError(f"{name} {share!r}: give the fraction that may be left, in (0, 1]")
    measures = {"macs": count_macs, "parameters": _parameters, "latency": _seconds}
    return measures[name], share


def _parameters(model: nn.Module, example: Example) -> float:  # noqa: ARG001 - one signature
    return sum(parameter.numel() for parameter in model.parameters())


def _seconds(model: nn.Module, example: Example) -> float:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    times = compare(
        {"": forward(model, example)},
        repeats=7,
        warmup=2,
        threads=torch.get_num_threads(),
        device=device,
    )
    return times[""].median
