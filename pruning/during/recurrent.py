"""Weights below a threshold that rises while the network trains."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from pruning.during import Course, Training
from pruning.enforcement import enforced
from pruning.errors import PruningError, unknown
from pruning.patterns import Setting, by_layer
from pruning.threshold_ramp import ThresholdRamp
from pruning.timetable import steps_in
from pruning.traits import traits
from pruning.types import Masks

_Part: TypeAlias = tuple[str, slice]
_POOLS = ("type", "layer", "gate")


@traits("single")
@contextmanager
def rnn(
    training: Training,
    *,
    start: float | None = None,
    ramp: float | None = None,
    end: float | None = None,
    frequency: int | None = None,
    unit: str = "steps",
    ratio: float = 1.5,
    quantile: float | None = None,
    pool: str = "type",
    q: Setting | None = None,
) -> Iterator[Course]:
    """Weights below a rising threshold go: each gate's and the recurrent weights, and any other's.

    Source: Narang et al. 2017, "Exploring Sparsity in Recurrent Neural Networks", algorithm 1.

    The threshold ends near q, the `quantile` (the target sparsity, the paper's 0.9) of |weight| in
    a trained dense network: in `training.trained`, else in the model as it is given. It is taken
    over all layers of one type (`pool`: type, as published: LSTM input weights, LSTM recurrent
    weights, linear ones, ...), each layer alone, or each gate; or set as `q` for each layer.
    Unless set (in `unit`: steps or epochs), `ramp` and `end` are a quarter and half of the run and
    `start` one epoch, or half of `ramp` where that is less; `frequency` is 100 steps, or less for
    twenty updates. The sparsity reached is near the target, never exact; after `end` the masks
    stay. Biases are not pruned.
    """
    times = _times(training, start, ramp, end, unit, frequency, ratio)
    parts = _parts(training, pool if q is None else "layer")
    reached = training.saved("q/")
    goals = (
        [float(v) for v in reached["goals"]] if reached else _goals(training, parts, quantile, q)
    )
    with enforced(training.model, training.optimizer, training.current()) as held:
        course = Course(held.masks)

        def hook(step: int, loss: Tensor) -> None:  # noqa: ARG001
            if times.due(step):
                thresholds = [times.threshold(step, goal) for goal in goals]
                held.replace(_above(training, course.masks, parts, thresholds))
                course.masks = held.masks

        course.hook = hook
        course.extra = lambda: {"q/goals": torch.tensor(goals, dtype=torch.float64)}
        yield course


def _times(
    training: Training,
    start: float | None,
    ramp: float | None,
    end: float | None,
    unit: str,
    frequency: int | None,
    ratio: float,
) -> ThresholdRamp:
    length = steps_in(unit, training.steps_per_epoch, "rnn")

    def step_of(time: float | None, default: float) -> int:
        return round(default if time is None else time * length)

    turn, stop = step_of(ramp, training.steps / 4), step_of(end, training.steps / 2)
    begin = step_of(start, min(training.steps_per_epoch, turn / 2))
    if stop > training.steps:
        raise PruningError(f"rnn: end {stop} is after the last step {training.steps}")
    often = min(100, max((stop - begin) // 20, 1)) if frequency is None else frequency
    return ThresholdRamp(begin, turn, stop, often, ratio)


def _parts(training: Training, pool: str) -> dict[str, list[_Part]]:
    """Return the parts of weights that share one threshold: by layer type, layer or gate."""
    if pool not in _POOLS:
        raise unknown("pool of rnn", pool, _POOLS)
    owners = {
        f"{prefix}.{name}".removeprefix("."): module
        for prefix, module in training.model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    parts: dict[str, list[_Part]] = {}
    for name, weight in training.weights().items():
        kind = re.sub(r"_l\d+(_reverse)?$", "", name.rpartition(".")[2])
        layer_type = f"{type(owners[name]).__name__} {kind}"
        rows = _gate_rows(owners[name], weight) if pool == "gate" else weight.shape[0]
        for first in range(0, weight.shape[0], rows):
            key = {"type": layer_type, "layer": name, "gate": f"{name}[{first}:]"}[pool]
            parts.setdefault(key, []).append((name, slice(first, first + rows)))
    return parts


def _gate_rows(module: nn.Module, weight: Tensor) -> int:
    """Return how many rows of a recurrent weight belong to one gate; all of any other's."""
    recurrent = isinstance(module, nn.RNNBase | nn.RNNCellBase)
    hidden = module.hidden_size if recurrent else 0
    gates, rest = divmod(weight.shape[0], hidden) if isinstance(hidden, int) and hidden else (1, 0)
    return weight.shape[0] // gates if gates and not rest else weight.shape[0]


def _goals(
    training: Training,
    parts: Mapping[str, list[_Part]],
    quantile: float | None,
    q: Setting | None,
) -> list[float]:
    weights = dict(training.weights() if training.trained is None else training.trained)
    if q is not None:
        given = by_layer(q, list(training.weights()), "q of rnn")
        return [given[members[0][0]] for members in parts.values()]
    share = training.sparsity if quantile is None else quantile
    if not 0 < share < 1:
        raise PruningError(f"rnn: quantile {share} of the dense weights is not within (0, 1)")
    return [_quantile(weights, members, key, share) for key, members in parts.items()]


@torch.no_grad()
def _quantile(weights: Mapping[str, Tensor], members: list[_Part], key: str, share: float) -> float:
    missing = [name for name, _ in members if name not in weights]
    if missing:
        raise PruningError(f"rnn: the trained weights have no {missing[0]!r}")
    pooled = torch.cat([weights[name][rows].abs().flatten() for name, rows in members])
    found = float(pooled.kthvalue(max(1, round(share * pooled.numel()))).values)
    if found == 0:
        raise PruningError(f"rnn: the {share} quantile of the weights of {key!r} is 0")
    return found


@torch.no_grad()
def _above(
    training: Training,
    masks: Masks,
    parts: Mapping[str, list[_Part]],
    thresholds: list[float],
) -> Masks:
    weights = training.weights()
    found = {name: mask.clone() for name, mask in masks.items()}
    for members, threshold in zip(parts.values(), thresholds, strict=True):
        for name, rows in members:
            found[name][rows] &= (weights[name][rows].abs() >= threshold).to(found[name].device)
    return found
