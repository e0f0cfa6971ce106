"""The magnitude below which recurrent networks lose weights: a ramp of two slopes."""

from dataclasses import dataclass

from pruning.errors import PruningError


@dataclass(frozen=True)
class ThresholdRamp:
    """Narang's threshold by step: slope theta from `start`, the steeper phi from `ramp` to `end`.

    Source: Narang et al. 2017, "Exploring Sparsity in Recurrent Neural Networks", algorithm 1 and
    equation 1; phi = `ratio` * theta, 1.5 to 2 in the paper.

    Times are in steps. The threshold is computed every `frequency` steps between `start` and `end`,
    both excluded. For `ratio` 1.5 its line meets q at `end`, so the last update falls just short of
    q; for `ratio` 2 it goes beyond.
    """

    start: int
    ramp: int
    end: int
    frequency: int
    ratio: float = 1.5

    def __post_init__(self) -> None:
        """Refuse times out of order and a ramp without an update."""
        if not 0 <= self.start < self.ramp < self.end:
            raise PruningError(
                f"rnn: start {self.start}, ramp {self.ramp} and end {self.end} (in steps) are not "
                f"in this order"
            )
        if self.frequency < 1 or not any(map(self.due, range(self.start + 1, self.end))):
            raise PruningError(
                f"rnn: frequency {self.frequency} gives no update between steps {self.start} and "
                f"{self.end}"
            )
        if self.ratio <= 0:
            raise PruningError(f"rnn: ratio {self.ratio} of the slopes is not above 0")

    def due(self, step: int) -> bool:
        """Return whether weights are pruned after `step` steps."""
        return self.start < step < self.end and step % self.frequency == 0

    def slope(self, q: float) -> float:
        """Return theta for the magnitude `q` that should be reached at the end.

        >>> ThresholdRamp(start=10, ramp=30, end=50, frequency=5).slope(1.0)
        0.1
        """
        return 2 * q * self.frequency / (2 * (self.ramp - self.start) + 3 * (self.end - self.ramp))

    def threshold(self, step: int, q: float) -> float:
        """Return the magnitude below which weights go after `step` steps.

        >>> ramp = ThresholdRamp(start=10, ramp=30, end=50, frequency=5)
        >>> [round(ramp.threshold(step, 1.0), 4) for step in (15, 25, 30, 45)]
        [0.12, 0.32, 0.45, 0.9]
        """
        theta = self.slope(q)
        if step < self.ramp:
            return theta * (step - self.start + 1) / self.frequency
        steep = self.ratio * theta * (step - self.ramp + 1)
        return (theta * (self.ramp - self.start + 1) + steep) / self.frequency
