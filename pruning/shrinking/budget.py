"""The sparsity that reaches a budget of parameters, multiply-adds or measured time."""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import nn

from pruning.coupling.copies import Example, arguments, runnable
from pruning.coupling.exporting import check_inputs
from pruning.coupling.groups import Groups, channels
from pruning.errors import PruningError
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
    collapse) counts as too sparse. Raises `PruningError` where no sparsity meets the budget, and
    for inputs that do not fit.
    """
    measure, budget = _budget(macs, parameters, latency)
    check_inputs(model, example_inputs)
    groups = groups or channels(model, example_inputs)
    dense = measure(model, example_inputs)
    low, high, best, reached = 0.0, 1.0, None, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        try:
            shrunk = shrink(
                model, masks_at(middle), example_inputs, round_to=round_to, groups=groups
            )
        except PruningError:
            high = middle
            continue
        share = measure(shrunk, example_inputs) / dense
        reached = min(reached, share)
        if share <= budget:
            high = best = middle
        else:
            low = middle
    if best is None:
        raise PruningError(
            f"no sparsity leaves {budget:.4g} of the dense network's cost: the least that was "
            f"reached, at sparsity {low:.4g}, is {reached:.4g}"
        )
    return best


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
    measures = {"macs": count_macs, "parameters": _parameters, "latency": seconds}
    return measures[name], share


def _parameters(model: nn.Module, example: Example) -> float:  # noqa: ARG001 - one signature
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def seconds(model: nn.Module, example_inputs: Example, *, repeats: int = 7) -> float:
    """Return the median time of an eval-mode forward, after two that warm up."""
    trial = runnable(model)
    args, kwargs = arguments(example_inputs)
    times = []
    for turn in range(repeats + 2):
        start = perf_counter()
        trial(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if turn >= 2:
            times.append(perf_counter() - start)
    return median(times)
