"""Weights that carry noise of a learned size, and go where the noise drowns them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning import distributed
from pruning import masks as mask_tools
from pruning.during import Course, Training
from pruning.during._posterior import Posterior
from pruning.during._variational import divergence_slope
from pruning.errors import PruningError
from pruning.penalties import when_computed
from pruning.timetable import Timetable, steps_in, timetable
from pruning.traits import traits


@traits("exact", "single")
@contextmanager
def variational_dropout(
    training: Training,
    *,
    threshold: float | None = None,
    log_sigma2: float = -10.0,
    strength: float = 1.0,
    begin: float | None = None,
    end: float | None = None,
    unit: str = "epochs",
    samples: int | None = None,
) -> Iterator[Course]:
    """Sparse variational dropout: each weight learns its noise and goes where that is too large.

    Source: Molchanov et al. 2017, "Variational Dropout Sparsifies Deep Neural Networks", equations
    14 and 17; the authors' code for the ramp, the start and what a pruned weight does meanwhile.

    A weight is theta with the variance sigma^2, alpha = sigma^2 / theta^2. In training mode the
    output of a layer is that of theta plus noise of the output's own deviation. The optimizer
    trains theta and log sigma^2 (from `log_sigma2`, in groups of their own with the settings of the
    layers', but without weight decay) by the loss, a mean over the batch, plus `strength` /
    `samples` times the divergence from the log-uniform prior, whose share rises from 0 at `begin`
    to 1 at `end` (in `unit`: steps or epochs; unless set a fortieth and a tenth of the run, the
    authors' epochs 5 and 20 of 200). `samples` are the training samples: unless set, the rows of
    the first batch times the steps of an epoch. The step sizes are those of Adam; plain SGD hardly
    moves log sigma^2.

    A pruned weight is zero in the network, its theta hidden and left to the divergence alone, its
    noise still there, so that it may come back; what earlier rounds zeroed does not. With
    `threshold`, published as 3, a weight goes as long as its log alpha is above that: how much goes
    is what training makes of it. Without, it is exactly the target sparsity: from `begin` to three
    quarters of the run the share rises linearly, after each epoch anew the pieces of the largest
    log alpha under the granularity and allocation of the pruner, whose criterion is not looked at;
    then the masks stay. Departs from the authors' code in that the share of the divergence rises
    with every step, not every epoch, and in that the noise has sigma^2 itself, where theirs limits
    log alpha in it too. Raises `PruningError` for a layer that is neither linear nor a convolution.
    """
    _check(strength, samples)
    times = _times(training, begin, end, unit)
    ranked = None if threshold is not None else _ranked(training, times[0])
    posterior = Posterior(training, threshold, log_sigma2)
    divergence = _Divergence(posterior, times, strength, samples)
    course = Course(dict(posterior.masks))

    def hook(step: int, loss: Tensor) -> None:  # noqa: ARG001
        posterior.at(step)
        if ranked is not None and ranked.due(step):
            posterior.rank(ranked.progress(step))
        course.masks = dict(posterior.masks)

    course.hook = hook
    course.extra = lambda: {**posterior.state(), **divergence.state()}
    with ExitStack() as exits:
        posterior.enter(exits)
        divergence.enter(exits)
        yield course
    mask_tools.verify(training.model, course.masks)


class _Divergence:
    """The slope of the divergence from the prior, added to the gradients of a step."""

    def __init__(
        self,
        posterior: Posterior,
        times: tuple[int, int],
        strength: float,
        samples: int | None,
    ) -> None:
        self.posterior, self.times, self.strength = posterior, times, strength
        found = posterior.training.saved("samples")
        self.samples = int(found[""]) if found else samples
        self.rows = 0

    def enter(self, exits: ExitStack) -> None:
        """Count the rows of the first batch, and add to the gradients from now on."""
        training = self.posterior.training
        count = training.model.register_forward_pre_hook(self._count(), with_kwargs=True)
        exits.callback(count.remove)
        exits.callback(when_computed(training.optimizer, self._add).remove)

    def state(self) -> dict[str, Tensor]:
        """Return the number of training samples, once it is known."""
        return {} if self.samples is None else {"samples": torch.tensor(self.samples)}

    def share(self, step: int) -> float:
        """Return how much of the divergence counts in the step after `step` others."""
        begin, end = self.times
        return 1.0 if step >= end else max(step - begin, 0) / (end - begin)

    def _count(self) -> Callable[..., None]:
        own = self.posterior.training.model

        def count(model: nn.Module, args: Any, kwargs: Any) -> None:
            if model is own and model.training and not self.rows:
                leaves = tree_leaves((args, kwargs))
                self.rows = next((len(x) for x in leaves if isinstance(x, Tensor) and x.ndim), 0)

        return count

    @torch.no_grad()
    def _add(self, optimizer: torch.optim.Optimizer) -> None:
        posterior = self.posterior
        _check_heard(posterior)
        if distributed.processes() > 1:
            distributed.add_gradients(nn.ParameterList(posterior.log_sigma2.values()))
        weight = self.strength * self.share(posterior.now) / self._samples()
        # Fused optimizers undo the loss scaling of float16 within their step, so after this.
        factor = getattr(optimizer, "grad_scale", None)
        for name, parameter in posterior.weights.items() if weight else ():
            slope = divergence_slope(posterior.log_alpha[name])
            slope = slope if factor is None else slope.mul_(factor)
            if (gradient := posterior.log_sigma2[name].grad) is not None:
                gradient.add_(slope, alpha=weight)
            if parameter.grad is not None:  # log alpha falls by 2 / theta
                pull = slope.mul_(posterior.means[name]).div_(posterior.squares[name])
                parameter.grad.sub_(pull.to(parameter.grad.dtype), alpha=2 * weight)
        posterior.uncover()

    def _samples(self) -> int:
        if self.samples is None:
            training = self.posterior.training
            device = next(iter(self.posterior.weights.values())).device
            rows = distributed.total(self.rows, device)
            if not rows:
                raise PruningError(
                    "variational_dropout: the model was given no tensor to count the rows of; "
                    "set samples, the number of training samples"
                )
            self.samples = rows * training.steps_per_epoch
        return self.samples


def _check_heard(posterior: Posterior) -> None:
    """Refuse a layer that trains without noise, because the network uses its weight alone."""
    for name, weight in posterior.weights.items():
        if weight.grad is not None and name not in posterior.heard:
            raise PruningError(
                f"variational_dropout: the layer of {name!r} is never called in training mode, "
                f"only its weight used, so that it has no noise; leave it out with skip"
            )


def _check(strength: float, samples: int | None) -> None:
    if not strength >= 0:
        raise PruningError(f"variational_dropout: strength {strength} is not at least 0")
    if samples is not None and (samples < 1 or samples != int(samples)):
        raise PruningError(f"variational_dropout: samples {samples} is not a count of at least 1")


def _times(
    training: Training, begin: float | None, end: float | None, unit: str
) -> tuple[int, int]:
    length = steps_in(unit, training.steps_per_epoch, "variational_dropout")
    first = round(training.steps / 40 if begin is None else begin * length)
    last = round(training.steps / 10 if end is None else end * length)
    if not 0 <= first <= last:
        raise PruningError(
            f"variational_dropout: the divergence cannot rise from step {first} to step {last}; "
            f"choose 0 <= begin <= end"
        )
    return first, last


def _ranked(training: Training, begin: int) -> Timetable:
    return timetable(
        begin,
        0.75 * training.steps,
        training.steps_per_epoch,
        unit="steps",
        steps=training.steps,
        steps_per_epoch=training.steps_per_epoch,
        method="variational_dropout",
    )
