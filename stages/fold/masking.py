"""The mask-making axes of an experiment, bound to one fold's data: what `prune` is called with."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.choices import resolve
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


@dataclass(frozen=True)
class Beginning:
    """A round of one fold as it begins: the network to prune, and what earlier rounds pruned."""

    study: Params
    experiment: str
    n: int
    fold: int
    sample: Samples
    model: nn.Module
    previous: Mapping[str, Tensor]
    on_collapse: str | None = None
    """What happens where a layer loses all; None for what the row says."""

    @property
    def choices(self) -> Prune:
        """Return the axes of the experiment."""
        return self.study.method(self.experiment).prune

    def chooser(self) -> Callable[..., Masks]:
        """Return what makes the masks of this round."""
        found = self.study, self.experiment, self.fold, self.sample
        return chooser(*found, on_collapse=self.on_collapse)


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


def goal_of_round(start: Beginning) -> float | None:
    """Return the sparsity that a round reaches: the one it names, or that of its budget.

    None where the allocation brings its own targets.
    """
    aim = targets.target(start.study, start.experiment, start.n)
    if not isinstance(aim, Budget):
        return aim
    choose = start.chooser()
    if not isinstance(choose, coupled.Coupled):
        name = start.experiment
        raise PruningError(f"round {start.n} asks for {aim}; {name!r} takes no filters whole")
    return coupled.sparsity_of(aim, choose, _scored(start), start.previous)


def masks_of_round(start: Beginning, goal: float | None) -> Masks:
    """Return the masks that the prune stage hands on.

    Those of the experiment's target, shuffled within layers where the row asks for that control;
    where pruning happens during training, those of before; for a control of another experiment,
    the masks with which that one's round ended.
    """
    choices, previous = start.choices, start.previous
    if of := start.study.lender(start.experiment):
        lent = load(fold_of(tuned(of, start.n), start.fold), foreign=True)
        masks = dict(lent.masks)
    elif choices.in_training:
        kept = {n: weight.new_ones(weight.shape).bool() for n, weight in _up(start.model, choices)}
        return {**kept, **previous}
    else:
        masks = start.chooser()(
            _scored(start),
            goal,
            previous=dict(previous) or None,
            allow_regrowth=choices.allow_regrowth,
        )
    return _shuffled(start, masks) if choices.shuffle else masks


def compensate(model: nn.Module, masks: Masks, choices: Prune, sample: Samples) -> None:
    """Give the kept weights of `model` the values that make up for those that `masks` prune."""
    if not choices.compensates:
        return
    evidence = sample.evidence(choices.evidence.batches, choices.evidence.batch_size)
    changed = resolve("compensation", choices.compensation)(model, masks, evidence)
    model.load_state_dict(changed, strict=False)


def _shuffled(start: Beginning, masks: Masks) -> Masks:
    choices = start.choices
    places = layouts(start.model, dict(_up(start.model, choices)))
    source = generator(start.sample.seed, "shuffle", start.n)
    return shuffle(masks, source, granularity=choices.granularity, layouts=places)


def check_target(masks: Mapping[str, Tensor], goal: float | None, choices: Prune) -> None:
    """Refuse masks that miss their target by more than rounding: half a weight, or one a layer.

    Asked of every mask whose allocation has a budget in single weights; larger pieces and N:M keep
    an exact number of pieces; a threshold, as an allocation or while the network trains, has no
    budget.
    """
    allocation = choices.allocation
    slack = {"global": 0.5, "erk": 0.5, "layerwise": 0.5 * len(masks)}.get(allocation["name"])
    cuts = (choices.during.get("c"), choices.during.get("threshold"))
    budgeted = choices.during_is("exact") and cuts == (None, None)
    exact = choices.granularity == "weight" and budgeted
    if goal is None or slack is None or len(allocation) > 1 or not exact:
        return
    weights = sum(mask.numel() for mask in masks.values())
    kept, wanted = mask_tools.kept(masks), weights * (1 - goal)
    if abs(kept - wanted) > slack + 1e-6:
        raise PruningError(
            f"{kept} of {weights} weights kept where sparsity {goal:g} asks for {wanted:.1f}"
        )


def _scored(start: Beginning) -> nn.Module:
    """Return the network whose weights are scored: the round's own, or rewound as a copy."""
    if start.choices.score_weights != "rewound":
        return start.model
    rewound = deepcopy(start.model)
    folder = fold_of(start_of(start.experiment), start.fold)
    restore(rewound, snapshots.read(folder / "rewind.safetensors"), masks=start.previous)
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
