"""At which steps something happens: from, until, every so often, in steps or in epochs."""

from dataclasses import dataclass

from pruning.errors import PruningError, unknown


@dataclass(frozen=True)
class Timetable:
    """Steps `begin`, `begin + every`, ... and in any case `end`.

    >>> [step for step in range(12) if Timetable(begin=2, end=9, every=3).due(step)]
    [2, 5, 8, 9]
    """

    begin: int
    end: int
    every: int

    def due(self, step: int) -> bool:
        """Return whether it happens after `step` steps."""
        return step >= self.begin and self.last(step) == step

    def last(self, step: int) -> int:
        """Return the last time that it happened up to `step`, which is not before `begin`."""
        if step >= self.end:
            return self.end
        return step - (step - self.begin) % self.every

    def progress(self, step: int) -> float:
        """Return how much of the way lies behind at the last time up to `step`: 0 to 1."""
        if self.end == self.begin:
            return 1.0
        return (self.last(step) - self.begin) / (self.end - self.begin)


def steps_in(unit: str, steps_per_epoch: int, method: str) -> int:
    """Return how many steps one `unit` (steps or epochs) of `method` is.

    >>> steps_in("epochs", 10, "rigl")
    10
    """
    lengths = {"steps": 1, "epochs": steps_per_epoch}
    if unit not in lengths:
        raise unknown(f"unit of {method}", unit, lengths)
    return lengths[unit]


def timetable(
    begin: float,
    end: float,
    every: float,
    *,
    unit: str,
    steps: int,
    steps_per_epoch: int,
    method: str,
) -> Timetable:
    """Return the timetable of `method` in a run of `steps`, from times in `unit`: steps or epochs.

    A part of an epoch is rounded to the nearest step. Raises `PruningError` for an end before the
    begin, a time outside the run and a period under one step.

    >>> timetable(1, 2.5, 0.5, unit="epochs", steps=40, steps_per_epoch=10, method="gradual")
    Timetable(begin=10, end=25, every=5)
    """
    length = steps_in(unit, steps_per_epoch, method)
    first, last, period = (round(time * length) for time in (begin, end, every))
    if first > last:
        raise PruningError(f"{method}: begins at {begin} {unit}, after its end at {end} {unit}")
    if first < 0 or last > steps:
        raise PruningError(
            f"{method}: from {begin} to {end} {unit} is not within the run of {steps} steps "
            f"({steps / steps_per_epoch:g} epochs)"
        )
    if period < 1:
        raise PruningError(f"{method}: every {every} {unit} is less than one step")
    return Timetable(first, last, period)
