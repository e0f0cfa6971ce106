"""Weights that are pruned, train on unseen and may be spliced back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pruning import masks as mask_tools
from pruning.during import Course, Training
from pruning.during.hidden import Hidden
from pruning.errors import PruningError
from pruning.traits import traits
from pruning.types import Masks


@traits("exact", "single")
@contextmanager
def splicing(
    training: Training,
    *,
    c: float | None = None,
    gamma: float = 1e-3,
    power: float = 1.0,
    stop: int | None = None,
    low: float = 0.9,
    high: float = 1.1,
) -> Iterator[Course]:
    """Dynamic network surgery: pruned weights are hidden, not stopped, and return when they grow.

    Source: Guo et al. 2016, "Dynamic Network Surgery for Efficient DNNs", equations 3 and 4.

    The network computes with W * mask while the gradient updates all of W. After step k, as long as
    k < `stop` (three quarters of the run), the masks change with probability (1 + gamma k)^-power.
    With `c`: a weight goes where |W| <= low * T, comes back where |W| > high * T and else stays as
    it is; T of a layer is max(mean + c * deviation, 0) of its |W| at the start, zeros left out, so
    how much goes is what training makes of it. Without `c` every change keeps exactly the target
    sparsity under the pruner's own criterion and allocation, and what is pruned is scored with W *
    low / high: it comes back over the same margin. Departs from the authors' Caffe code in that:
    there c is always given, and biases count in and are pruned.
    """
    _check(low, high, gamma)
    end = round(0.75 * training.steps) if stop is None else stop
    surgery = _Surgery(training, c, low, high)
    course = Course(surgery.hidden.masks)

    def change() -> None:
        surgery.update()
        course.masks = surgery.hidden.masks

    def hook(step: int, loss: Tensor) -> None:  # noqa: ARG001
        chance = (1 + gamma * step) ** -power
        drawn = float(torch.rand((), generator=training.generator("splicing", step)))
        if step < end and drawn < chance:
            change()

    course.hook = hook
    course.extra = surgery.state
    if not training.resumed and training.start < end:
        change()
    with surgery.hidden.stepping(training.optimizer):
        yield course
    mask_tools.verify(training.model, course.masks)


class _Surgery:
    """When hidden weights are pruned and spliced back."""

    def __init__(self, training: Training, c: float | None, low: float, high: float) -> None:
        self.training = training
        self.hidden = Hidden(training)
        self.low, self.high = low, high
        limits = training.saved("threshold/")
        self.thresholds: dict[str, float] = {name: float(limit) for name, limit in limits.items()}
        if c is not None and not limits:
            weights = self.hidden.whole.items()
            self.thresholds = {name: _threshold(name, weight, c) for name, weight in weights}

    def update(self) -> None:
        """Prune and splice: by the two thresholds, or exactly as many as the target asks for."""
        self.hidden.show(self._by_threshold() if self.thresholds else self._by_budget())

    def _by_threshold(self) -> Masks:
        found: Masks = {}
        for name, weight in self.hidden.whole.items():
            size, threshold = weight.abs(), self.thresholds[name]
            mask = self.hidden.masks[name].to(weight.device)
            found[name] = (mask & (size > self.low * threshold)) | (size > self.high * threshold)
        return found

    @torch.no_grad()
    def _by_budget(self) -> Masks:
        for name, weight in self.hidden.weights.items():
            whole, mask = self.hidden.whole[name], self.hidden.masks[name].to(weight.device)
            weight.copy_(torch.where(mask, whole, whole * (self.low / self.high)))
        return self.training.chosen_anew(self.training.sparsity)

    def state(self) -> dict[str, Tensor]:
        limits = {
            f"threshold/{name}": torch.tensor(limit, dtype=torch.float64)
            for name, limit in self.thresholds.items()
        }
        return self.hidden.state() | limits


@torch.no_grad()
def _threshold(name: str, weight: Tensor, c: float) -> float:
    size = weight.abs().double()
    size = size[size > 0]
    if size.numel() == 0:
        raise PruningError(f"splicing: layer {name!r} holds nothing but zeros")
    return max(float(size.mean() + c * size.std(correction=0)), 0.0)


def _check(low: float, high: float, gamma: float) -> None:
    if not 0 < low <= high:
        raise PruningError(f"splicing: low {low} and high {high} are not 0 < low <= high")
    if gamma < 0:
        raise PruningError(f"splicing: gamma {gamma} is below 0")
