"""Masks that stay as they are, and no masks at all."""

from collections.abc import Iterator
from contextlib import contextmanager

from pruning import masks as mask_tools
from pruning.during import Course, Training
from pruning.enforcement import enforced
from pruning.traits import traits


@traits("given", "fixed", "exact")
@contextmanager
def hard(training: Training) -> Iterator[Course]:
    """The masks given, held: a pruned weight never comes back.

    Source: Han et al. 2015, section 3 (retraining the connections that remain).
    """
    with enforced(training.model, training.optimizer, training.current()) as held:
        yield Course(held.masks)


@traits("given", "fixed", "unmasked")
@contextmanager
def none(training: Training) -> Iterator[Course]:
    """Every weight trains, the pruned ones from zero; at the end nothing is pruned.

    Source: Han et al. 2017, "DSD: Dense-Sparse-Dense Training", section 3 (the last phase).
    """
    if not training.resumed:
        mask_tools.apply(training.model, training.masks)
    yield Course(mask_tools.dense(training.masks))
