"""Pieces that are zeroed again and again, and may recover in between."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from pruning import masks as mask_tools
from pruning.choices import Choice, resolve
from pruning.during import Course, Training
from pruning.timetable import timetable


@contextmanager
def soft(
    training: Training,
    *,
    frequency: float = 1,
    unit: str = "epochs",
    schedule: Choice = "one_shot",
) -> Iterator[Course]:
    """After every epoch the least pieces become zero and train on; the last masks are final.

    Source: He et al. 2018, "Soft Filter Pruning", algorithm 1: criterion `lp_norm` with p = 2,
    granularity `filter`, allocation `layerwise`; any other will do.

    Zeroed every `frequency` epochs (or `unit: steps`) and in any case at the end. Neither gradients
    nor the optimizer's state are touched, biases and BatchNorm neither, and what earlier rounds
    pruned competes again. With `schedule` polynomial the share rises to the target
    epoch by epoch, which is the asymptotic variant (He et al. 2019, with another exponential).
    """
    times = timetable(
        0,
        training.steps if unit == "steps" else training.steps / training.steps_per_epoch,
        frequency,
        unit=unit,
        steps=training.steps,
        steps_per_epoch=training.steps_per_epoch,
        method="soft",
    )
    share = resolve("schedule", schedule, where="soft")
    course = Course(training.current())

    pending = not training.resumed

    def zero(progress: float) -> None:
        nonlocal pending
        sparsity = share(progress, training.sparsity)
        course.masks = training.choose(training.model, sparsity, allow_regrowth=True)
        mask_tools.apply(training.model, course.masks)
        pending = False

    def hook(step: int, loss: Tensor) -> None:  # noqa: ARG001
        nonlocal pending
        pending = True
        if times.due(step):
            zero(times.progress(step))

    course.hook = hook
    yield course
    if pending:  # not twice over the same weights: a criterion that draws would choose others
        zero(1.0)
    mask_tools.verify(training.model, course.masks)
