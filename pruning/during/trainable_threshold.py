"""Thresholds that train with the weights and hide what does not exceed them."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isclose
from typing import Any

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.during import Course, Training
from pruning.during._groups import groups_of, settings
from pruning.during.hidden import Hidden
from pruning.errors import PruningError
from pruning.layouts import layouts
from pruning.patterns import Setting, by_layer
from pruning.traits import traits
from pruning.types import Masks

_THRESHOLD, _STATE = "threshold/", "threshold_state/"


@traits("single")
@contextmanager
def trainable_threshold(
    training: Training,
    *,
    alpha: float | Mapping[str, float] = 5e-4,
    max_sparsity: Setting = 0.99,
) -> Iterator[Course]:
    """Dynamic sparse training: each output's threshold is trained and hides all weights below it.

    Source: Liu J. et al. 2020, "Dynamic Sparse Training: Find Efficient Sparse Network From Scratch
    With Trainable Masked Layers", section 3, and the authors' code.

    Every output (neuron, filter) of a layer has a threshold t, at first 0, and the network computes
    with W * M, where M is 1 if |W| > t and else 0. With G the gradient of what the network sees and
    H(x), in place of the derivative of the step, 2 - 4|x| up to |x| = 0.4, 0.4 up to 1 and then 0,
    W gets G * M (performance) and G * |W| * H(|W| - t) (structure), pruned or not; t gets minus the
    sum of G * W * H over its weights, and -`alpha` exp(-t) of the penalty on low thresholds. A
    layer that would lose the share `max_sparsity` or more begins again with thresholds of 0.

    How much goes is what training makes of `alpha`, in the authors' code 5e-4 for the LeNets and
    5e-6 for networks on CIFAR; the target sparsity is only a round's name. In a mapping, {"0.97":
    4e-4, ...}, it chooses the alpha, so that the rounds of a study can have several. Biases are not
    pruned.

    The thresholds have a second optimizer, of the same kind as that of the weights and with the
    settings of their own layer's, weight decay among them, and follow its learning rate. As the
    penalty is no part of the loss that a loop sees, clipping bounds G, and the gradients above are
    made of what it leaves. What earlier rounds zeroed stays so, unless a threshold falls below 0. A
    layer of nothing but zeros is refused, and one that does not train.
    """
    strength = _strength(alpha, training.sparsity)
    thresholds = _Thresholds(training, strength, max_sparsity)
    hidden = thresholds.hidden
    course = Course(hidden.masks, extra=thresholds.state)

    def after() -> None:
        thresholds.step()
        thresholds.mask()
        course.masks = hidden.masks

    if not training.resumed:
        thresholds.mask()
        course.masks = hidden.masks
    with hidden.stepping(training.optimizer, before=thresholds.differentiate, after=after):
        yield course
    mask_tools.verify(training.model, course.masks)


class _Thresholds:
    """The thresholds of all layers, their gradients and their optimizer."""

    def __init__(self, training: Training, alpha: float, max_sparsity: Setting) -> None:
        self.hidden = Hidden(training)
        for name, whole in self.hidden.whole.items():
            if not training.resumed and not whole.any():
                raise PruningError(f"trainable_threshold: layer {name!r} holds nothing but zeros")
        self.alpha = alpha
        self.most = by_layer(max_sparsity, [*self.hidden.whole], "max_sparsity")
        for name, share in self.most.items():
            if not 0 < share <= 1:
                raise PruningError(
                    f"trainable_threshold: max_sparsity of layer {name!r} is {share}, not in (0, 1]"
                )
        self.leader = training.optimizer
        weights = self.hidden.weights
        places = layouts(training.model, weights)
        self.t = {name: _zeros(w, places[name].output) for name, w in weights.items()}
        self.optimizer, self.led = _follower(self.leader, weights, self.t)
        self._take_up(training)

    @torch.no_grad()
    def differentiate(self) -> None:
        """Turn the gradients of what the network sees into those of weights and thresholds."""
        # Fused optimizers undo the loss scaling of float16 within their step, so after this.
        factor = getattr(self.leader, "grad_scale", None)
        for name, t in self.t.items():
            pressure = -self.alpha * torch.exp(-t)
            t.grad = pressure if factor is None else pressure * factor
            weight, whole = self.hidden.weights[name], self.hidden.whole[name]
            if weight.grad is None:  # the layer took no part in the loss
                continue
            structure = _slope(whole.abs().sub_(t)).mul_(whole).mul_(weight.grad)
            t.grad -= structure.sum_to_size(t.shape)
            gone = self.hidden.masks[name].to(weight.device).logical_not()
            weight.grad.masked_fill_(gone, 0).addcmul_(structure, whole.sign())

    def step(self) -> None:
        """Train the thresholds by one step, with what the weights are trained with now."""
        for number, ours in zip(self.led, self.optimizer.param_groups, strict=True):
            ours.update(settings(self.leader.param_groups[number]))
        for name in ("grad_scale", "found_inf"):
            setattr(self.optimizer, name, getattr(self.leader, name, None))
        self.optimizer.step()

    @torch.no_grad()
    def mask(self) -> None:
        """Show what is above the thresholds; let go those that would take a layer whole."""
        masks: Masks = {}
        for name, t in self.t.items():
            size = self.hidden.whole[name].abs()
            kept = (size > t).sum() / size.numel()
            t.masked_fill_(kept <= 1 - self.most[name] + 1e-7, 0)
            masks[name] = size > t
        self.hidden.show(masks)

    def state(self) -> dict[str, Tensor]:
        """Return what resuming needs."""
        found = self.hidden.state()
        for name, t in self.t.items():
            found[f"{_THRESHOLD}{name}"] = t.detach()
            for key, value in self.optimizer.state.get(t, {}).items():
                if isinstance(value, Tensor):
                    found[f"{_STATE}{name}/{key}"] = value
        return found

    @torch.no_grad()
    def _take_up(self, training: Training) -> None:
        for name, saved in training.saved(_THRESHOLD).items():
            self.t[name].copy_(saved)
        members = (t for group in self.optimizer.param_groups for t in group["params"])
        place = {id(t): number for number, t in enumerate(members)}
        state: dict[int, dict[str, Tensor]] = {}
        for path, value in training.saved(_STATE).items():
            name, _, key = path.rpartition("/")
            state.setdefault(place[id(self.t[name])], {})[key] = value.clone()
        if state:
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _slope(x: Tensor) -> Tensor:
    """Return the estimate of the derivative of the step at x, with its long tail."""
    size = x.abs()
    return size.mul(-4).add_(2).clamp_(min=0.4).masked_fill_(size > 1, 0)


def _zeros(weight: nn.Parameter, output: int) -> nn.Parameter:
    shape = [size if dim == output else 1 for dim, size in enumerate(weight.shape)]
    return nn.Parameter(weight.new_zeros(shape))


def _follower(
    leader: torch.optim.Optimizer,
    weights: Mapping[str, nn.Parameter],
    thresholds: Mapping[str, nn.Parameter],
) -> tuple[torch.optim.Optimizer, list[int]]:
    """Return an optimizer of the thresholds, and for each of its groups the one that leads it."""
    led, mine, trained = list[int](), [], set[str]()
    for number, same, names in groups_of(leader, weights):
        led.append(number)
        mine.append(same | {"params": [thresholds[name] for name in names]})
        trained |= {name for name in names if weights[name].requires_grad}
    for name in weights:
        if name not in trained:
            raise PruningError(
                f"trainable_threshold: the optimizer does not train layer {name!r}, so no "
                "threshold of it can be trained"
            )
    kind = type(leader)
    known = inspect.signature(kind).parameters
    try:
        found = kind(mine, **{k: v for k, v in leader.defaults.items() if k in known})
    except (TypeError, ValueError) as error:
        raise PruningError(
            f"trainable_threshold: {kind.__name__} cannot train thresholds: {error}"
        ) from None
    return found, led


def _strength(alpha: float | Mapping[str, float], sparsity: float) -> float:
    """Return the alpha of a run with this target."""
    found: Any = alpha
    if isinstance(alpha, Mapping):
        matches = [each for target, each in alpha.items() if _same(target, sparsity)]
        if not matches:
            raise PruningError(
                f"trainable_threshold: alpha has no value for the target sparsity {sparsity:g}; "
                f"it has {', '.join(map(str, alpha))}"
            )
        found = matches[0]
    if isinstance(found, bool) or not isinstance(found, int | float) or not found >= 0:
        raise PruningError(f"trainable_threshold: alpha {found!r} is no number from 0 upwards")
    return float(found)


def _same(target: str | float, sparsity: float) -> bool:
    try:
        return isclose(float(target), sparsity, abs_tol=1e-9)
    except ValueError:
        raise PruningError(
            f"trainable_threshold: alpha is given for {target!r}, which is no sparsity"
        ) from None
