"""The mask-making axes of an experiment, bound to one fold's data: what `prune` is called with."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.controls import shuffle
from pruning.errors import PruningError
from pruning.layouts import layouts
from pruning.network import load
from pruning.prunables import prunable
from pruning.pruner import prune
from pruning.randomness import generator
from pruning.rewind import restore
from pruning.thresholds import sensitivity_thresholds
from pruning.types import Masks
from stages.files import fold_of, start_of, tuned
from stages.fold import coupled, snapshots, targets
from stages.fold.samples import Samples
from stages.params import Params, Prune
from stages.params.export_params import Budget


def chooser(
    study: Params, experiment: str, fold: int, sample: Samples, *, on_collapse: str | None = None
) -> Callable[..., Masks]:
    """Return `prune` with the experiment's axes bound: (model, sparsity, previous=...) -> masks."""
    choices = study.method(experiment).prune
    bound = partial(
        prune,
        criterion=choices.criterion,
        granularity=choices.granularity,
        reduce=choices.reduce,
        allocation=_allocation(choices, experiment, fold),
        evidence=sample.evidence(choices.evidence.batches, choices.evidence.batch_size),
        on_collapse=on_collapse or choices.on_collapse,
        rounds=choices.rounds,
        schedule=choices.schedule,
        only=choices.only,
        skip=choices.skip,
    )
    return bound if choices.coupled is None else coupled.Coupled(bound, choices, sample)


def goal_of_round(
    study: Params,
    experiment: str,
    n: int,
    fold: int,
    sample: Samples,
    model: nn.Module,
    previous: Mapping[str, Tensor],
) -> float | None:
    """Return the sparsity that a round reaches: the one it names, or that of its budget.

    None where the allocation brings its own targets.
    """
    aim = targets.target(study, experiment, n)
    if not isinstance(aim, Budget):
        return aim
    choose = chooser(study, experiment, fold, sample)
    if not isinstance(choose, coupled.Coupled):
        raise PruningError(f"round {n} asks for {aim}; {experiment!r} takes no filters whole")
    scored = _scored(study, experiment, fold, model, previous)
    return coupled.sparsity_of(aim, choose, scored, previous)


def masks_of_round(
    study: Params,
    experiment: str,
    n: int,
    fold: int,
    sample: Samples,
    model: nn.Module,
    previous: Mapping[str, Tensor],
    goal: float | None,
) -> Masks:
    """Return the masks that the prune stage hands on.

    Those of the experiment's target, shuffled within layers where the row asks for that control;
    where pruning happens during training, those of before; for a control of another experiment,
    the masks with which that one's round ended.
    """
    choices = study.method(experiment).prune
    if of := study.lender(experiment):
        masks = dict(load(fold_of(tuned(of, n), fold), foreign=True).masks)
        return _shuffled(masks, model, choices, sample, n) if choices.shuffle else masks
    if choices.in_training:
        kept = {name: weight.new_ones(weight.shape).bool() for name, weight in _up(model, choices)}
        return {**kept, **previous}
    model = _scored(study, experiment, fold, model, previous)
    choose = chooser(study, experiment, fold, sample)
    masks = choose(
        model, goal, previous=dict(previous) or None, allow_regrowth=choices.allow_regrowth
    )
    return _shuffled(masks, model, choices, sample, n) if choices.shuffle else masks


def _shuffled(masks: Masks, model: nn.Module, choices: Prune, sample: Samples, n: int) -> Masks:
    places = layouts(model, dict(_up(model, choices)))
    source = generator(sample.seed, "shuffle", n)
    return shuffle(masks, source, granularity=choices.granularity, layouts=places)


def check_target(masks: Mapping[str, Tensor], goal: float | None, choices: Prune) -> None:
    """Refuse masks that miss their target by more than rounding: half a weight, or one a layer.

    Asked of every mask whose allocation has a budget in single weights; larger pieces and N:M keep
    an exact number of pieces, a threshold and splicing by a given `c` have no budget.
    """
    allocation, during = choices.allocation, choices.during["name"]
    slack = {"global": 0.5, "erk": 0.5, "layerwise": 0.5 * len(masks)}.get(allocation["name"])
    budgeted = (
        during in ("hard", "rigl", "set", "gradual", "splicing") and "c" not in choices.during
    )
    exact = choices.granularity == "weight" and budgeted
    if goal is None or slack is None or len(allocation) > 1 or not exact:
        return
    weights = sum(mask.numel() for mask in masks.values())
    kept, wanted = mask_tools.kept(masks), weights * (1 - goal)
    if abs(kept - wanted) > slack + 1e-6:
        raise PruningError(
            f"{kept} of {weights} weights kept where sparsity {goal:g} asks for {wanted:.1f}"
        )


def _scored(
    study: Params, experiment: str, fold: int, model: nn.Module, previous: Mapping[str, Tensor]
) -> nn.Module:
    """Return the network whose weights are scored: the round's own, or rewound as a copy."""
    if study.method(experiment).prune.score_weights != "rewound":
        return model
    rewound = deepcopy(model)
    snapshot = snapshots.read(fold_of(start_of(experiment), fold) / "rewind.safetensors")
    restore(rewound, snapshot, masks=previous)
    return rewound


def _up(model: nn.Module, choices: Prune) -> list[tuple[str, Tensor]]:
    return list(prunable(model, only=choices.only, skip=choices.skip).items())


def _allocation(choices: Prune, experiment: str, fold: int) -> dict[str, Any]:
    """Give the sensitivity pruner its thresholds: those of the dense network, in every round."""
    allocation = dict(choices.allocation)
    if allocation["name"] == "threshold" and "thresholds" not in allocation:
        dense = load(fold_of(start_of(experiment), fold), foreign=True).model
        s = allocation.pop("s", 1.0)
        found = sensitivity_thresholds(dense, s, only=choices.only, skip=choices.skip)
        allocation["thresholds"] = found
    return allocation
