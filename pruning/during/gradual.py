"""Sparsity that rises while the network trains."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from pruning import masks as mask_tools
from pruning.choices import Choice, resolve
from pruning.during import Course, Training
from pruning.enforcement import enforced
from pruning.errors import PruningError
from pruning.timetable import Timetable, timetable
from pruning.traits import traits


@traits("exact")
@contextmanager
def gradual(
    training: Training,
    *,
    schedule: Choice = "polynomial",
    initial: float | None = None,
    begin: float = 0,
    end: float | None = None,
    frequency: float | None = None,
    unit: str = "steps",
) -> Iterator[Course]:
    """Sparsity rises by a schedule; with the cubic `polynomial` this is AGP.

    Source: Zhu & Gupta 2017, "To prune, or not to prune", equation 1.

    The masks are chosen anew after `begin`, `begin + frequency`, ... and in any case after `end`
    steps (or `unit: epochs`), each within the one before; between two of these times the sparsity
    is that of the first. `initial` is the sparsity at `begin` (that of the masks given), `end`
    three quarters of the run and `frequency` a hundredth of the time between, unless set; one of
    more than that time is refused. Departs from TensorFlow's pruning API, where a span that the
    frequency does not divide ends early.
    """
    times = _times(training, begin, end, frequency, unit)
    first = training.initial if initial is None else initial
    _check(training, first)
    ramp = resolve("schedule", schedule, where="gradual")
    with enforced(training.model, training.optimizer, training.current()) as held:
        course = Course(held.masks)

        def prune_to(step: int) -> None:
            sparsity = ramp(times.progress(step), training.sparsity, initial=first)
            if sparsity > training.initial:
                held.replace(training.choose(training.model, sparsity, previous=course.masks))
                course.masks = held.masks

        def hook(step: int, loss: Tensor) -> None:  # noqa: ARG001
            if times.due(step):
                prune_to(step)

        course.hook = hook
        if not training.resumed and training.start >= times.begin:
            prune_to(training.start)
        yield course


def _times(
    training: Training, begin: float, end: float | None, frequency: float | None, unit: str
) -> Timetable:
    length = training.steps_per_epoch if unit == "epochs" else 1
    last = 0.75 * training.steps / length if end is None else end
    period = max((last - begin) / 100, 1 / length) if frequency is None else frequency
    times = timetable(
        begin,
        last,
        period,
        unit=unit,
        steps=training.steps,
        steps_per_epoch=training.steps_per_epoch,
        method="gradual",
    )
    if times.begin < times.end < times.begin + times.every:
        raise PruningError(
            f"gradual: frequency {period} is longer than the time from begin {begin} to end {last} "
            f"{unit}: all would go at once, at the end"
        )
    return times


def _check(training: Training, initial: float) -> None:
    if not 0 <= initial <= training.sparsity < 1:
        raise PruningError(
            f"gradual: cannot go from sparsity {initial} to {training.sparsity}; it only rises, "
            f"within [0, 1)"
        )
    given = mask_tools.sparsity(training.masks)
    # Halfway, since the share of weights is not quite the share of pieces.
    halfway = (training.initial + training.sparsity) / 2
    if not training.resumed and given > halfway > training.initial:
        raise PruningError(
            f"gradual: the masks it starts from already prune {given:.4g} of the weights, the "
            f"target is {training.sparsity}; give it the masks of before this pruning"
        )
