"""Prune and regrow at constant sparsity, layer by layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import cos, floor, pi
from typing import TypeAlias

import torch
from torch import Tensor

from pruning import masks as mask_tools
from pruning.during import Course, Training
from pruning.enforcement import enforced
from pruning.errors import PruningError
from pruning.selection import keep_largest
from pruning.timetable import steps_in
from pruning.traits import traits

_Move: TypeAlias = Callable[[str, Tensor, Tensor, int], Tensor]
"""(layer, weight, mask, step) -> the layer's next mask."""


@traits("given", "exact")
@contextmanager
def rigl(
    training: Training,
    *,
    fraction: float = 0.3,
    frequency: float | None = None,
    end: float | None = None,
    unit: str = "steps",
) -> Iterator[Course]:
    """Now and then the smallest weights go and as many grow where the gradient is largest.

    Source: Evci et al. 2020, "Rigging the Lottery", algorithm 1 and equation 1.

    Every `frequency` steps before `end` (three quarters of the run; both in `unit`: steps or
    epochs) each layer drops `fraction` / 2 * (1 + cos(pi * step / end)) of its weights, rounded
    down, and grows as many from zero among all others; one that is grown as soon as dropped keeps
    its value. Unless set, `frequency` is 100 steps, or a tenth of `end` where that is less. Random
    masks with allocation `erk` are the published start. Departs from the paper in that the step
    whose gradient decides is done as well, where algorithm 1 leaves it out.
    """
    length = steps_in(unit, training.steps_per_epoch, "rigl")
    last = 0.75 * training.steps if end is None else end * length
    often = min(100, max(round(last) // 10, 1)) / length
    every = often if frequency is None else frequency
    due = _due("rigl", training, every, unit, round(last), fraction)
    with _dense_gradients(training, due) as (gradients, seen):

        def move(name: str, weight: Tensor, mask: Tensor, step: int) -> Tensor:
            if name not in gradients:  # the layer took no part in the loss
                return mask
            share = fraction / 2 * (1 + cos(pi * step / last))
            kept = _largest(weight.abs(), int(mask.sum()) - floor(share * int(mask.sum())), mask)
            growth = gradients[name].abs().nan_to_num(0.0)
            return _regrown(mask, kept, growth)

        with _rewiring(training, due, move, seen) as course:
            yield course


@traits("given", "exact")
@contextmanager
def set_(
    training: Training,
    *,
    fraction: float = 0.3,
    frequency: float | None = None,
    unit: str = "epochs",
) -> Iterator[Course]:
    """After every epoch the weights nearest to zero go and as many grow at random.

    Source: Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive
    sparse connectivity inspired by network science", algorithm 1.

    Each layer drops `fraction` of its positive weights, the smallest, and of its negative ones, the
    largest, rounded down, every `frequency` epochs (or `unit: steps`), and grows as many anywhere.
    Unless set, `frequency` is one epoch, or half of the run where that is less. Nothing happens at
    the end of training, where the paper drops and does not grow: the sparsity stays constant.
    Departs from the paper in that new weights start at zero, as in RigL.
    """
    length = steps_in(unit, training.steps_per_epoch, "set")
    often = min(training.steps_per_epoch, max(training.steps // 2, 1)) / length
    every = often if frequency is None else frequency
    due = _due("set", training, every, unit, training.steps, fraction)

    def move(name: str, weight: Tensor, mask: Tensor, step: int) -> Tensor:
        kept = torch.zeros_like(mask)
        for side in (mask & (weight >= 0), mask & (weight < 0)):
            count = int(side.sum())
            kept |= _largest(weight.abs(), count - floor(fraction * count), side)
        draw = training.generator(f"set {name}", step)
        return _regrown(mask, kept, torch.rand(mask.shape, generator=draw).to(mask.device))

    with _rewiring(training, due, move, lambda step: None) as course:  # noqa: ARG005
        yield course


@contextmanager
def _rewiring(
    training: Training,
    due: Callable[[int], bool],
    move: _Move,
    seen: Callable[[int], None],
) -> Iterator[Course]:
    with enforced(training.model, training.optimizer, training.current()) as held:
        course = Course(held.masks)

        @torch.no_grad()
        def hook(step: int, loss: Tensor) -> None:  # noqa: ARG001
            if due(step):
                weights = training.weights()
                found = {
                    name: move(name, weights[name], mask.to(weights[name].device), step)
                    for name, mask in course.masks.items()
                }
                held.replace(found)
                course.masks = held.masks
            seen(step)

        course.hook = hook
        yield course


@contextmanager
def _dense_gradients(
    training: Training, due: Callable[[int], bool]
) -> Iterator[tuple[dict[str, Tensor], Callable[[int], None]]]:
    """Yield the gradients of all weights, pruned ones too, in the step that ends at a due time.

    They are taken as they arrive, before they are masked. The second value is told of each step.
    """
    gradients: dict[str, Tensor] = {}
    now = training.start

    def seen(step: int) -> None:
        nonlocal now
        now = step
        gradients.clear()

    def capture(name: str) -> Callable[[Tensor], None]:
        def keep(gradient: Tensor) -> None:
            if due(now + 1):
                before = gradients.get(name)
                gradients[name] = gradient.clone() if before is None else before + gradient

        return keep

    trained = [(name, w) for name, w in training.weights().items() if w.requires_grad]
    handles = [w.register_hook(capture(name)) for name, w in trained]  # type: ignore[no-untyped-call]
    try:
        yield gradients, seen
    finally:
        for handle in handles:
            handle.remove()


def _largest(scores: Tensor, count: int, among: Tensor) -> Tensor:
    return keep_largest({"": scores}, count, alive={"": among})[""]


def _regrown(mask: Tensor, kept: Tensor, growth: Tensor) -> Tensor:
    return kept | _largest(growth, int(mask.sum()) - int(kept.sum()), ~kept)


def _due(
    method: str, training: Training, frequency: float, unit: str, end: int, fraction: float
) -> Callable[[int], bool]:
    """Return whether masks move after a step, having refused settings that cannot be."""
    every = round(frequency * steps_in(unit, training.steps_per_epoch, method))
    if every < 1:
        raise PruningError(f"{method}: every {frequency} {unit} is less than one step")
    if not 0 < end <= training.steps:
        raise PruningError(f"{method}: end {end} is not within the run of {training.steps} steps")
    if every >= end:
        raise PruningError(
            f"{method}: every {frequency:g} {unit} is not before the end after {end} steps, so "
            "nothing would ever be regrown"
        )
    if not 0 < fraction <= 1:
        raise PruningError(f"{method}: fraction {fraction} is not within (0, 1]")
    if mask_tools.sparsity(training.current()) == 0:
        raise PruningError(f"{method}: the masks it starts from prune nothing; prune first")
    return lambda step: 0 < step < end and step % every == 0
