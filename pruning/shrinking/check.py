"""The proof: a shrunk network puts out what the masked network does."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pruning.coupling.copies import Example, arguments, runnable, watched
from pruning.errors import PruningError, first_line
from pruning.masks import by_first_name
from pruning.shrinking.rebuild import apply_plan

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
"""The largest difference that passes, relative to the largest value of an output leaf."""

LOOSE = 2e-2
"""The tolerance of half-precision outputs, whose rounding a different order of sums exceeds."""


def masked(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Return the masked network in eval mode; it shares all tensors that no mask touches."""
    named = dict(model.named_parameters())
    replacements = {
        id(named[name]): nn.Parameter(
            named[name].detach().masked_fill(~mask, 0), requires_grad=False
        )
        for name, mask in by_first_name(model, masks).items()
        if not bool(mask.all())
    }
    return runnable(model, replacements)


def inputs(example: Example, *, seed: int = 0) -> list[Example]:
    """Return the example and random inputs like it: normal for floats, shuffled for integers."""
    generator = torch.Generator().manual_seed(seed)

    def random(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_floating_point():
            drawn = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
            return drawn.to(dtype=leaf.dtype, device=leaf.device)
        order = torch.randperm(leaf.numel(), generator=generator).to(leaf.device)
        return leaf.flatten()[order].reshape(leaf.shape)

    return [example, tree_map(random, example)]


@torch.no_grad()
def outputs(model: nn.Module, examples: list[Example]) -> list[list[Any]]:
    """Return the output leaves of a model on each example."""
    found = []
    for example in examples:
        args, kwargs = arguments(example)
        found.append(tree_leaves(model(*args, **kwargs)))
    return found


def difference(expected: list[list[Any]], actual: list[list[Any]]) -> float:
    """Return the largest difference of any leaf, as a share of what its type is allowed.

    1.0 is the tolerance itself; infinite where shapes, non-tensors or non-finite places differ.
    """
    worst = 0.0
    for one, other in zip(expected, actual, strict=True):
        if len(one) != len(other):
            return float("inf")
        for left, right in zip(one, other, strict=True):
            worst = max(worst, _leaf(left, right))
    return worst


def _leaf(left: Any, right: Any) -> float:
    if not isinstance(left, Tensor):
        return 0.0 if left == right else float("inf")
    if not isinstance(right, Tensor) or left.shape != right.shape:
        return float("inf")
    allowed = TOLERANCES.get(left.dtype, LOOSE if left.is_floating_point() else 0.0)
    relative = relative_difference(left, right)
    if relative == 0:
        return 0.0
    return relative / allowed if allowed else float("inf")


def relative_difference(left: Tensor, right: Tensor) -> float:
    """Return max |left - right| / max |left|, infinite where only one of them is finite."""
    if left.numel() == 0:
        return 0.0
    if not left.is_floating_point():
        return 0.0 if bool((left == right).all()) else float("inf")
    finite = torch.isfinite(left)
    if not torch.equal(finite, torch.isfinite(right)):
        return float("inf")
    gap = float((left - right)[finite].abs().max()) if bool(finite.any()) else 0.0
    scale = float(left[finite].abs().max()) if bool(finite.any()) else 1.0
    return gap / scale if scale else (0.0 if gap == 0 else float("inf"))


class Failure(Exception):
    """The shrunk network did not run; `path` lists the modules that ran, outermost first."""

    def __init__(self, path: list[str], message: str) -> None:
        """Keep where and why."""
        super().__init__(message)
        self.path = path


def attempt(shrunk: nn.Module, examples: list[Example]) -> list[list[Any]]:
    """Return the outputs of a shrunk network in eval mode; raises `Failure` where it cannot run."""
    trial = runnable(shrunk)
    with watched(trial) as running:
        try:
            return outputs(trial, examples)
        except Exception as error:
            line = first_line(error)
            raise Failure(list(running), f"{type(error).__name__}: {line}") from error


def prove(model: nn.Module, masks: Mapping[str, Tensor], plan: Any, example: Example) -> float:
    """Return the largest relative difference of outputs between masked and shrunk network."""
    examples = inputs(example)
    expected = outputs(masked(model, masks), examples)
    actual = attempt(apply_plan(model, plan, masks=masks), examples)
    if difference(expected, actual) > 1:
        raise PruningError("the shrunk network's output is not the masked network's")
    return max(
        (
            relative_difference(left, right)
            for one, other in zip(expected, actual, strict=True)
            for left, right in zip(one, other, strict=True)
            if isinstance(left, Tensor)
        ),
        default=0.0,
    )
