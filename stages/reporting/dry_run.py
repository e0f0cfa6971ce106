"""What a round would prune, layer by layer, before anything is written."""

import warnings

import torch

from pruning.coupling.groups import channels
from pruning.errors import PruningError
from pruning.network import Network, load
from pruning.plan import Planned, losses
from pruning.prunables import prunable
from pruning.pruner import LayerCollapse
from pruning.types import Masks
from stages.files import fold_of
from stages.fold import masking, samples, targets
from stages.params import Params, Prune
from stages.reporting.wording import masks_of


def report(study: Params, experiment: str, n: int, fold: int) -> list[str]:
    """Return the lines of a dry run of one fold: matched tensors, their loss, couplings, deaths."""
    sample = samples.of_fold(study, fold)
    network = load(fold_of(targets.source(study, experiment, n), fold), foreign=True)
    model = network.model.to(sample.device)
    start = masking.Beginning(
        study, experiment, n, fold, sample, model, network.masks, on_collapse="warn"
    )
    choices = study.method(study.lender(experiment) or experiment).prune
    goal = masking.goal_of_round(start)
    rows = losses(model, _masks(start, goal, choices), choices.granularity)
    width = max(len(row.layer) for row in rows)
    lines = [f"{experiment}, round {n}, fold {fold}: {_aim(start, goal)}, nothing is written"]
    lines += [_line(row, width, choices.granularity) for row in rows]
    matched = {row.layer for row in rows}
    others = [name for name, _ in model.named_parameters() if name not in matched]
    lines.append(f"not up for pruning: {', '.join(others) or 'nothing'}")
    dead = [row.layer for row in rows if row.dies]
    lines.append(f"would die: {', '.join(dead) or 'no layer'}")
    if choices.granularity in ("filter", "channel"):
        lines += _couplings(network, sample.device)
    return lines


def _aim(start: masking.Beginning, goal: float | None) -> str:
    """Return in words where the masks come from."""
    if targets.stopped(start.study, start.experiment, start.n):
        return "the schedule has stopped, the masks of before"
    if lent := masks_of(start.study, start.experiment):
        return lent
    aim = "no target but its allocation's own" if goal is None else f"target sparsity {goal:g}"
    if start.choices.in_training:
        aim += f"; {start.choices.during['name']} chooses the masks later, while training"
    return aim


def _masks(start: masking.Beginning, goal: float | None, choices: Prune) -> Masks:
    """Return the masks that `prune` would write, of the layers that are up for pruning."""
    masks = dict(start.previous)
    if not targets.stopped(start.study, start.experiment, start.n):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LayerCollapse)
            masks = masking.masks_of_round(start, goal)
    up = prunable(start.model, only=choices.only, skip=choices.skip)
    return {name: masks[name] for name in up}


def _line(row: Planned, width: int, granularity: str) -> str:
    pieces = (
        "" if granularity == "weight" else f", {row.pieces_kept} of {row.pieces} {granularity}s"
    )
    return (
        f"  {row.layer:{width}}  {'x'.join(map(str, row.shape)):>14}  keeps {row.kept} of "
        f"{row.weights} weights{pieces}, sparsity {row.sparsity:.4f}"
    )


def _couplings(network: Network, device: torch.device) -> list[str]:
    """Say which layers' filters go together, and what pins others."""
    example = torch.zeros(2, *network.input_shape, device=device)
    try:
        groups = channels(network.model, (example,))
    except PruningError as error:
        return [f"couplings unknown: {error}"]
    lines = ["coupled (go together or stay together):"]
    trained = {name for name, _ in network.model.named_parameters()}
    seen: dict[tuple[str, ...], int] = {}
    for group in groups:
        members = {f"{each.name}[{each.dim}]" for each in group.members if each.name in trained}
        names = tuple(sorted(members))
        seen[names] = seen.get(names, 0) + 1
    lines += [f"  {count} channels: {', '.join(names)}" for names, count in seen.items()]
    return lines + [
        f"pinned: {held.channels} of {held.of} of {held.parameter}, by {held.reason}"
        for held in groups.pinned
    ]
