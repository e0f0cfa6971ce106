"""Weights that learn while a pruned copy of them pulls, ever harder, until both are one."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.during import Course, Training
from pruning.enforcement import enforced
from pruning.errors import PruningError
from pruning.penalties import penalised
from pruning.timetable import Timetable, timetable
from pruning.traits import traits
from pruning.types import Masks


@traits("exact")
@contextmanager
def learning_compression(
    training: Training,
    *,
    mu: float = 1e-3,
    growth: float = 1.1,
    multipliers: bool = True,
    frequency: float = 1,
    end: float | None = None,
    unit: str = "epochs",
) -> Iterator[Course]:
    """All weights train towards a pruned copy of themselves, which is chosen anew and takes over.

    Source: Carreira-Perpinan & Idelbayev 2018, "Learning-Compression Algorithms for Neural Net
    Pruning", the constraint form with l0: minimise L(w) + mu/2 |w - theta|^2 - lambda (w - theta).

    L step: training, the penalty's gradient mu (w - theta) - lambda added after clipping and once a
    step. C step, every `frequency` epochs (or `unit: steps`): theta is w - lambda / mu pruned to
    exactly the target by the pruner's own criterion (which sees that) and allocation, lambda falls
    by mu (w - theta) and mu becomes `growth` times as large. The first theta is the network at the
    start, pruned directly; what earlier rounds pruned competes again. The last C step is at `end`,
    as published that of the run: there w becomes theta. With an earlier one the masks are then held
    and the kept weights train on. Until it the network and its validation are of w, where nothing
    is zero yet; the masks are those of theta. Without `multipliers`, lambda stays 0 (the quadratic
    penalty). With `growth: 1`, an early `end` and allocation `layerwise` this is pruning by ADMM
    (Zhang et al. 2018). The learning rate times mu must stay well below 1; that is the recipe's.
    Departs from the authors' code, which starts every L step with a fresh optimizer.
    """
    _check(mu, growth)
    times = _times(training, frequency, end, unit)
    problem = _Problem(training, mu, growth, multipliers)
    course = Course(training.current(), extra=problem.state)
    with (
        enforced(training.model, training.optimizer, {}) as held,
        penalised(training.optimizer, problem.pull),
    ):

        def settle() -> None:
            problem.settle()
            held.replace(course.masks)

        def hook(step: int, loss: Tensor) -> None:  # noqa: ARG001
            if not problem.settled and times.due(step):
                course.masks = problem.compress()
                if step >= times.end:
                    settle()
                else:
                    problem.tighten()

        course.hook = hook
        if problem.settled:
            held.replace(course.masks)
        elif not training.resumed:
            course.masks = problem.compress()
            if training.start >= times.end:
                settle()
        yield course
        if not problem.settled:
            course.masks = problem.compress()
            settle()
    mask_tools.verify(training.model, course.masks)


class _Problem:
    """The copy theta that is pruned, the multipliers lambda and mu, which tie the weights to it."""

    def __init__(self, training: Training, mu: float, growth: float, multipliers: bool) -> None:
        training.own_weights()  # refuses masks that name no layer
        self.training = training
        self.growth = growth
        self.with_multipliers = multipliers
        self.weights = dict(training.model.named_parameters(remove_duplicate=False))
        self.theta = self._saved("theta/")
        self.multipliers = self._saved("multiplier/")
        self.mu = float(training.state.get("mu", mu))
        self.settled = training.resumed and not self.theta
        self.targets = self._targets()

    def pull(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Yield the gradient of the penalty by parameter: mu (w - theta - lambda / mu)."""
        for name, target in self.targets.items():
            parameter = self.weights[name]
            yield parameter, (parameter - target).mul_(self.mu)

    @torch.no_grad()
    def compress(self) -> Masks:
        """Make theta the pruned w - lambda / mu and return its masks."""
        own = {name: self.weights[name].clone() for name in self.multipliers}
        for name, multiplier in self.multipliers.items():
            self.weights[name].sub_(multiplier / self.mu)
        training = self.training
        masks = training.choose(training.model, training.sparsity, allow_regrowth=True)
        self.theta = {name: _pruned(self.weights[name], mask) for name, mask in masks.items()}
        for name, weight in own.items():
            self.weights[name].copy_(weight)
        self.targets = self._targets()
        return dict(masks)

    @torch.no_grad()
    def tighten(self) -> None:
        """Move the multipliers by what w and theta still differ, and pull harder from now on."""
        if self.with_multipliers:
            for name, copy in self.theta.items():
                moved = (self.weights[name] - copy).mul_(-self.mu)
                self.multipliers[name] = self.multipliers.get(name, 0) + moved
        self.mu *= self.growth
        self.targets = self._targets()

    @torch.no_grad()
    def settle(self) -> None:
        """Put theta in the place of w; nothing pulls any more."""
        for name, copy in self.theta.items():
            self.weights[name].copy_(copy)
        self.theta, self.multipliers, self.targets = {}, {}, {}
        self.settled = True

    def state(self) -> dict[str, Tensor]:
        theta = {f"theta/{name}": copy for name, copy in self.theta.items()}
        multipliers = {f"multiplier/{name}": value for name, value in self.multipliers.items()}
        return theta | multipliers | {"mu": torch.tensor(self.mu, dtype=torch.float64)}

    def _saved(self, prefix: str) -> dict[str, Tensor]:
        found = self.training.saved(prefix)
        return {name: value.to(self.weights[name].device) for name, value in found.items()}

    def _targets(self) -> dict[str, Tensor]:
        """Return what the weights are pulled to: theta + lambda / mu."""
        shifts = {name: value / self.mu for name, value in self.multipliers.items()}
        return {name: copy + shifts.get(name, 0) for name, copy in self.theta.items()}


def _pruned(weight: Tensor, mask: Tensor) -> Tensor:
    return weight.detach().masked_fill(~mask.to(weight.device), 0)


def _times(training: Training, frequency: float, end: float | None, unit: str) -> Timetable:
    whole = training.steps if unit == "steps" else training.steps / training.steps_per_epoch
    return timetable(
        0,
        whole if end is None else end,
        frequency,
        unit=unit,
        steps=training.steps,
        steps_per_epoch=training.steps_per_epoch,
        method="learning_compression",
    )


def _check(mu: float, growth: float) -> None:
    if not mu > 0:
        raise PruningError(f"learning_compression: mu {mu} is not above 0")
    if not growth >= 1:
        raise PruningError(f"learning_compression: growth {growth} is below 1")
